use super::*;

#[track_caller]
fn check(method: &Method, path: &str, operation: Operation, dialect: Dialect) -> Route {
    let route = route(method, path);
    assert_eq!(
        (route.operation, route.dialect),
        (operation, dialect),
        "{method} {path}"
    );
    route
}

#[test]
fn chat_is_found_under_every_prefix() {
    for path in [
        "/chat/completions",
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions?api-version=2024-10-21",
        "/openai/v1/chat/completions",
        "/api/v1/chat/completions",
        "/v1beta/openai/chat/completions",
        "/api/paas/v4/chat/completions",
        "/compatible-mode/v1/chat/completions",
        "/client/v4/accounts/abc/ai/v1/chat/completions",
        "/models/chat/completions",
    ] {
        let route = check(&Method::POST, path, Operation::Chat, Dialect::Chat);
        assert_eq!(route.reading, Reading::Json, "{path}");
        assert_eq!(route.path_model, None, "{path}");
        assert!(!route.fetch, "{path}");
    }
}

#[test]
fn a_path_is_what_any_server_may_take_it_for() {
    for path in [
        "/v1/chat/%63ompletions",
        "/v1/%63%68at/%63ompletions?a=b",
        "/v1/chat%2Fcompletions",
        "/v1%2fchat%2Fcompletions%2f",
        "//v1///chat//completions//",
        "/v1/./chat/completions/.",
        "/v1/models/../chat/completions",
        "/v1/models/%2e%2E/chat/completions/%2e",
        "/v1/responses/..%2fchat/completions",
        "/v1/chat/completions/id/..",
        "/v1/chat/completions/id%2F%2e%2e",
        "/../v1/chat/completions",
        "/V1/Chat/COMPLETIONS",
        "/openai/Deployments/My%2DGpt/chat/completions",
    ] {
        let route = check(&Method::POST, path, Operation::Chat, Dialect::Chat);
        assert_eq!(
            (route.reading, route.fetch),
            (Reading::Json, false),
            "{path}"
        );
        let model = path.contains("Gpt").then_some("My-Gpt");
        assert_eq!(route.path_model.as_deref(), model, "{path}");
    }
    for path in [
        "/v1beta/models/Gemini%2D3:generateContent",
        "/v1beta/models/Gemini-3%3AgenerateContent",
        "/v1beta/models%2FGemini-3:GENERATECONTENT",
    ] {
        let (operation, dialect) = (Operation::GenerateContent, Dialect::Gemini);
        let route = check(&Method::POST, path, operation, dialect);
        assert_eq!(route.path_model.as_deref(), Some("Gemini-3"), "{path}");
    }
}

#[test]
fn what_no_server_takes_for_a_call_is_none() {
    for path in [
        "/v1/chat/completions/..",
        "/v1/chat/%2563ompletions",
        "/v1/chat/completions%3F",
        "/v1/chat/%ff",
        "/v1/chat completions",
        "/%",
        "/..",
    ] {
        check(&Method::POST, path, Operation::Other, Dialect::Other);
    }
    let path = "/v1/responses/resp%2F1/cancel";
    let route = check(
        &Method::POST,
        path,
        Operation::Responses,
        Dialect::Responses,
    );
    assert!(route.fetch, "an id may have a slash");
}

#[test]
fn json_endpoints_are_read() {
    use Dialect as D;
    use Operation as O;
    for (path, operation, dialect) in [
        ("/v1/completions", O::TextCompletion, D::Completions),
        ("/completions", O::TextCompletion, D::Completions),
        ("/v1/fim/completions", O::TextCompletion, D::Completions),
        ("/completion", O::TextCompletion, D::LlamaCpp),
        ("/v1/responses", O::Responses, D::Responses),
        ("/responses/compact", O::Responses, D::Responses),
        ("/v1/decisions", O::Other, D::Responses),
        ("/v1/embeddings", O::Embeddings, D::Embeddings),
        ("/v1/messages", O::Messages, D::Messages),
        ("/v1/messages?beta=true", O::Messages, D::Messages),
        ("/v1/moderations", O::Moderation, D::Moderation),
        ("/v1/images/generations", O::Image, D::Images),
        ("/v1/audio/speech", O::Speech, D::Speech),
        ("/v1/batches", O::Batch, D::Batch),
        ("/api/chat", O::Chat, D::Ollama),
        ("/api/generate", O::TextCompletion, D::Ollama),
        ("/api/embed", O::Embeddings, D::Ollama),
    ] {
        let route = check(&Method::POST, path, operation, dialect);
        assert_eq!(route.reading, Reading::Json, "{path}");
    }
}

#[test]
fn uploads_are_metered_but_streamed_through() {
    for (path, operation) in [
        ("/v1/audio/transcriptions", Operation::Transcription),
        ("/v1/audio/translations", Operation::Translation),
    ] {
        let route = check(&Method::POST, path, operation, Dialect::Transcription);
        assert_eq!(route.reading, Reading::Opaque, "{path}");
    }
    let route = check(
        &Method::POST,
        "/v1/images/edits",
        Operation::Image,
        Dialect::Images,
    );
    assert_eq!(route.reading, Reading::Opaque);
}

#[test]
fn a_deployment_in_the_path_is_the_model() {
    let path = "/openai/deployments/my-gpt/chat/completions?api-version=2025-01-01";
    let route = check(&Method::POST, path, Operation::Chat, Dialect::Chat);
    assert_eq!(route.path_model.as_deref(), Some("my-gpt"));
    let path = "/openai/deployments/v2/embeddings";
    let route = check(
        &Method::POST,
        path,
        Operation::Embeddings,
        Dialect::Embeddings,
    );
    assert_eq!(route.path_model.as_deref(), Some("v2"));
}

#[test]
fn a_model_before_a_verb_is_the_model() {
    for path in [
        "/v1beta/models/gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:generateContent",
    ] {
        let route = check(
            &Method::POST,
            path,
            Operation::GenerateContent,
            Dialect::Gemini,
        );
        assert_eq!(
            route.path_model.as_deref(),
            Some("gemini-2.5-pro"),
            "{path}"
        );
        assert_eq!(route.reading, Reading::Json);
    }
    let path = "/v1/projects/p/locations/l/publishers/anthropic/models/claude@1:streamRawPredict";
    let route = check(&Method::POST, path, Operation::Messages, Dialect::Messages);
    assert_eq!(route.path_model.as_deref(), Some("claude@1"));
    let path = "/v1beta/models/gemini-2.5-pro:countTokens";
    check(&Method::POST, path, Operation::Other, Dialect::Other);
}

#[test]
fn what_an_earlier_call_made_is_fetched_not_made() {
    for (method, path, operation) in [
        (Method::GET, "/v1/responses/resp_1", Operation::Responses),
        (
            Method::GET,
            "/v1/responses/resp_1?stream=true&starting_after=4",
            Operation::Responses,
        ),
        (
            Method::POST,
            "/v1/responses/resp_1/cancel",
            Operation::Responses,
        ),
        (
            Method::GET,
            "/v1/chat/completions/chatcmpl-1",
            Operation::Chat,
        ),
        (Method::GET, "/v1/batches/batch_1", Operation::Batch),
        (Method::POST, "/v1/batches/batch_1/cancel", Operation::Batch),
    ] {
        let route = route(&method, path);
        assert_eq!(route.operation, operation, "{path}");
        assert!(route.fetch, "{path}");
        assert_eq!(route.reading, Reading::Opaque, "{path}");
    }
}

#[test]
fn anything_else_is_passed_through() {
    for (method, path) in [
        (Method::GET, "/v1/models"),
        (Method::GET, "/v1/models/gpt-4o"),
        (Method::GET, "/v1/batches"),
        (Method::GET, "/v1/chat/completions"),
        (Method::DELETE, "/v1/responses/resp_1"),
        (Method::OPTIONS, "/v1/chat/completions"),
        (Method::GET, "/v1/responses/resp_1/input_items"),
        (Method::POST, "/v1/responses/input_tokens"),
        (Method::POST, "/v1/messages/count_tokens"),
        (Method::POST, "/v1/messages/batches"),
        (Method::POST, "/v1/threads/thread_1/messages"),
        (Method::POST, "/v1/files"),
        (Method::POST, "/"),
        (Method::POST, ""),
    ] {
        let route = check(&method, path, Operation::Other, Dialect::Other);
        assert_eq!(route.reading, Reading::Opaque, "{path}");
        assert!(!route.fetch, "{path}");
    }
}

#[test]
fn upgrades_are_told_from_fetches() {
    check(
        &Method::GET,
        "/v1/responses",
        Operation::WebSocket,
        Dialect::Responses,
    );
    check(
        &Method::GET,
        "/v1/realtime?model=x",
        Operation::WebSocket,
        Dialect::Other,
    );
}
