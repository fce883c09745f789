//! A conversation as chat clients hold it: each request repeats all that was said and adds to it.

use serde_json::{Value, json as object};

use super::ask::{Ask, post};
use super::client::Response;

#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) messages: Vec<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Talk {
    /// Begins with the agent's instructions and a question.
    pub(crate) fn new(system: &str, question: &str) -> Self {
        let talk = Self {
            messages: vec![object!({"role": "system", "content": system})],
            headers: Vec::new(),
        };
        talk.user(question)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn user(mut self, text: &str) -> Self {
        self.messages
            .push(object!({"role": "user", "content": text}));
        self
    }

    /// Goes on with what was answered.
    #[track_caller]
    pub(crate) fn heard(mut self, response: &Response) -> Self {
        assert_eq!(response.status(), 200, "{}", response.text());
        let message = response.json()["choices"][0]["message"].clone();
        self.messages.push(message);
        self
    }

    /// The result of the tool call that was answered last.
    #[track_caller]
    pub(crate) fn result(mut self, text: &str) -> Self {
        let last = self.messages.last().unwrap();
        let id = last["tool_calls"][0]["id"].clone();
        let result = object!({"role": "tool", "tool_call_id": id, "content": text});
        self.messages.push(result);
        self
    }

    pub(crate) fn ask(&self) -> Ask {
        let body = object!({"model": "gpt-4o-mini", "messages": self.messages});
        let ask = post("/v1/chat/completions", body.to_string());
        let headers = self.headers.iter();
        headers.fold(ask, |ask, (name, value)| ask.header(name, value))
    }
}

/// A completion that says something.
pub(crate) fn saying(text: &str) -> Value {
    answer(&object!({"role": "assistant", "content": text}))
}

/// A completion that calls a tool.
pub(crate) fn calling(id: &str, tool: &str, arguments: &Value) -> Value {
    answer(
        &object!({"role": "assistant", "content": null, "tool_calls": [{
            "id": id, "type": "function",
            "function": {"name": tool, "arguments": arguments.to_string()},
        }]}),
    )
}

fn answer(message: &Value) -> Value {
    object!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 70, "completion_tokens": 30},
    })
}
