//! The variables from which clients read where to send their calls, and which endpoints speak the
//! API that they expect there.

use http::Uri;

/// Clients of one API.
#[derive(Debug)]
pub(super) struct Family {
    pub variables: &'static [Variable],
    /// More headers for each request, one a line, as `Name: value`.
    pub headers: Option<&'static str>,
    /// What every client speaks that takes an endpoint of its own, and so whatever the default
    /// upstream is, unless that is known to be something else.
    pub is_usual: bool,
    speaks: fn(host: &str, path: &str) -> bool,
}

/// One variable, and what clients expect at the end of its value.
#[derive(Debug)]
pub(super) struct Variable {
    pub name: &'static str,
    pub end: &'static str,
}

const fn v1(name: &'static str) -> Variable {
    Variable { name, end: "/v1" }
}

/// For clients that add the version themselves.
const fn bare(name: &'static str) -> Variable {
    Variable { name, end: "" }
}

/// Each has an upstream only where one is its own endpoint: a key must not come to another company.
pub(super) static FAMILIES: [Family; 10] = [
    Family {
        variables: &[v1("OPENAI_BASE_URL"), v1("OPENAI_API_BASE")],
        headers: Some("OPENAI_CUSTOM_HEADERS"),
        is_usual: true,
        speaks: |host, _| host == "api.openai.com",
    },
    Family {
        variables: &[bare("ANTHROPIC_BASE_URL"), bare("ANTHROPIC_API_BASE")],
        headers: Some("ANTHROPIC_CUSTOM_HEADERS"),
        is_usual: false,
        // Clients add `/v1/messages`, which is `/messages` at the base URL of the upstream.
        speaks: |host, path| host == "api.anthropic.com" && path == "/v1",
    },
    Family {
        variables: &[bare("GOOGLE_GEMINI_BASE_URL")],
        headers: None,
        is_usual: false,
        speaks: |host, _| host == "generativelanguage.googleapis.com",
    },
    Family {
        variables: &[bare("AZURE_OPENAI_ENDPOINT"), bare("AZURE_API_BASE")],
        headers: None,
        is_usual: false,
        speaks: |host, _| {
            ["openai", "cognitiveservices", "services.ai"]
                .iter()
                .any(|of| host.ends_with(&format!(".{of}.azure.com")))
        },
    },
    Family {
        variables: &[v1("OPENROUTER_BASE_URL"), v1("OPENROUTER_API_BASE")],
        headers: None,
        is_usual: false,
        speaks: |host, _| host == "openrouter.ai",
    },
    Family {
        variables: &[bare("GROQ_BASE_URL"), v1("GROQ_API_BASE")],
        headers: None,
        is_usual: false,
        speaks: |host, _| host == "api.groq.com",
    },
    Family {
        variables: &[v1("MISTRAL_API_BASE")],
        headers: None,
        is_usual: false,
        speaks: |host, _| host == "api.mistral.ai",
    },
    Family {
        variables: &[v1("DEEPSEEK_API_BASE")],
        headers: None,
        is_usual: false,
        speaks: |host, _| host == "api.deepseek.com",
    },
    Family {
        variables: &[v1("XAI_API_BASE")],
        headers: None,
        is_usual: false,
        speaks: |host, _| host == "api.x.ai",
    },
    // A gateway of the user's own, which no host name gives away: where they say it is.
    Family {
        variables: &[v1("LITELLM_PROXY_API_BASE")],
        headers: None,
        is_usual: false,
        speaks: |_, _| false,
    },
];

/// Where clients look for their keys, without which they do not begin.
pub(super) const KEYS: [&str; 14] = [
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "AZURE_API_KEY",
    "OPENROUTER_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "DEEPSEEK_API_KEY",
    "XAI_API_KEY",
    "LITELLM_API_KEY",
    "LITELLM_PROXY_API_KEY",
];

/// Whether clients read a key of this variable.
pub(super) fn is_key(variable: &str) -> bool {
    KEYS.contains(&variable)
}

impl Family {
    /// Whether `base_url` is the endpoint of this API.
    pub(super) fn is_spoken_by(&self, base_url: &Uri) -> bool {
        let host = base_url.host().unwrap_or_default().to_ascii_lowercase();
        (self.speaks)(&host, base_url.path().trim_end_matches('/'))
    }
}

/// Whether an endpoint speaks, as far as is known, an API of its own instead of OpenAI's.
pub(super) fn is_no_openai(base_url: &Uri) -> bool {
    let host = base_url.host().unwrap_or_default().to_ascii_lowercase();
    let path = base_url.path().trim_end_matches('/');
    match host.as_str() {
        "api.anthropic.com" => true,
        "generativelanguage.googleapis.com" => !path.ends_with("/openai"),
        _ => false,
    }
}
