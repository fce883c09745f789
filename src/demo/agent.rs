//! Agents as any framework makes them: instructions, a history, a stream of chat completions.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::texts;

/// Why an agent could not go on for a reason that is no part of the play.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the proxy was not reached: {0}")]
    Sent(#[from] reqwest::Error),
    #[error("the proxy answered {0}: {1}")]
    Status(u16, String),
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum Heard {
    Answer(Answer),
    /// The proxy said no, in these words.
    Refused(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tool: Option<Tool>,
}

/// A tool call of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Tool {
    /// A text among the arguments.
    pub(super) fn argument(&self, name: &str) -> String {
        let arguments: Value = serde_json::from_str(&self.arguments).unwrap_or_default();
        arguments[name].as_str().unwrap_or_default().to_owned()
    }
}

/// Makes runs.
pub(super) struct Team {
    client: reqwest::Client,
    proxy: SocketAddr,
}

impl Team {
    pub(super) fn new(proxy: SocketAddr) -> Result<Self, CallError> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { client, proxy })
    }

    pub(super) fn run(&self, run: &str) -> Run {
        Run {
            client: self.client.clone(),
            address: format!("http://{}/run/{run}/v1/chat/completions", self.proxy),
        }
    }
}

/// One run: where its agents send their calls.
pub(super) struct Run {
    client: reqwest::Client,
    address: String,
}

impl Run {
    /// An agent with nothing said yet.
    pub(super) fn agent(&self, role: &'static str, model: &'static str) -> Agent<'_> {
        let system = json!({"role": "system", "content": texts::instructions(role)});
        Agent {
            run: self,
            model,
            tools: texts::tools(role),
            messages: vec![system],
        }
    }
}

/// One agent and its conversation.
pub(super) struct Agent<'a> {
    run: &'a Run,
    model: &'static str,
    tools: Value,
    messages: Vec<Value>,
}

impl Agent<'_> {
    /// Is told something, and answers.
    pub(super) async fn hears(&mut self, text: &str) -> Result<Heard, CallError> {
        self.messages.push(json!({"role": "user", "content": text}));
        self.ask().await
    }

    /// Gets the result of its tool call, and goes on.
    pub(super) async fn gets(&mut self, tool: &Tool, result: &str) -> Result<Heard, CallError> {
        self.messages
            .push(json!({"role": "tool", "tool_call_id": tool.id, "content": result}));
        self.ask().await
    }

    async fn ask(&mut self) -> Result<Heard, CallError> {
        let mut body = json!({
            "model": self.model,
            "messages": self.messages,
            "stream": true,
            "max_completion_tokens": 400,
        });
        if self.tools.as_array().is_some_and(|tools| !tools.is_empty()) {
            body["tools"] = self.tools.clone();
        }
        let request = self.run.client.post(&self.run.address);
        let request = request.header("authorization", "Bearer demo-needs-no-key");
        let mut response = request.json(&body).send().await?;
        let status = response.status().as_u16();
        if status != 200 {
            let told = response.text().await?;
            let problem: Value = serde_json::from_str(&told).unwrap_or_default();
            let message = problem["error"]["message"]
                .as_str()
                .unwrap_or(&told)
                .to_owned();
            return match status {
                429 => Ok(Heard::Refused(message)),
                _ => Err(CallError::Status(status, message)),
            };
        }
        let mut stream = Stream::default();
        while let Some(chunk) = response.chunk().await? {
            stream.push(&chunk);
        }
        if let Some(refused) = stream.refused {
            return Ok(Heard::Refused(refused));
        }
        self.messages.push(stream.answer.message());
        Ok(Heard::Answer(stream.answer))
    }
}

impl Answer {
    fn message(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text});
        if let Some(Tool {
            id,
            name,
            arguments,
        }) = &self.tool
        {
            let function = json!({"name": name, "arguments": arguments});
            message["tool_calls"] = json!([{"id": id, "type": "function", "function": function}]);
        }
        message
    }
}

/// An answer as its chunks come in.
#[derive(Default)]
struct Stream {
    rest: Vec<u8>,
    answer: Answer,
    refused: Option<String>,
}

impl Stream {
    fn push(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data: ") {
                self.event(&serde_json::from_slice(data).unwrap_or_default());
            }
        }
    }

    fn event(&mut self, event: &Value) {
        if let Some(message) = event["error"]["message"].as_str() {
            self.refused = Some(message.to_owned());
        }
        let delta = &event["choices"][0]["delta"];
        self.answer.text += delta["content"].as_str().unwrap_or_default();
        let call = &delta["tool_calls"][0];
        if call.is_null() {
            return;
        }
        let tool = self.answer.tool.get_or_insert_default();
        tool.id += call["id"].as_str().unwrap_or_default();
        tool.name += call["function"]["name"].as_str().unwrap_or_default();
        tool.arguments += call["function"]["arguments"].as_str().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_put_together_however_its_bytes_are_cut() {
        let events = [
            json!({"choices": [{"delta": {"content": "Let me "}}]}),
            json!({"choices": [{"delta": {"content": "look."}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"id": "c1", "function": {"name": "search", "arguments": ""}}]}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{\"q\":\"a\"}"}}]}}]}),
        ];
        let events: Vec<String> = events.iter().map(ToString::to_string).collect();
        let text = format!("data: {}\n\n", events.join("\n\ndata: "));
        for size in [1, 7, 1000] {
            let mut stream = Stream::default();
            text.as_bytes()
                .chunks(size)
                .for_each(|chunk| stream.push(chunk));
            assert_eq!(stream.answer.text, "Let me look.");
            let tool = stream.answer.tool.unwrap();
            assert_eq!(
                (tool.name.as_str(), tool.argument("q")),
                ("search", "a".to_owned())
            );
        }
    }
}
