//! Requests as bytes.

/// A request of HTTP/1.1 that is being put together.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    start: String,
    headers: Vec<u8>,
    body: Vec<u8>,
    sized: bool,
}

/// The body of a small chat.
pub(crate) const CHAT: &str =
    r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;

pub(crate) fn get(target: &str) -> Ask {
    Ask::new("GET", target)
}

/// A JSON body of known length.
pub(crate) fn post(target: &str, body: impl AsRef<[u8]>) -> Ask {
    Ask::new("POST", target)
        .header("content-type", "application/json")
        .body(body)
}

impl Ask {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            start: format!("{method} {target} HTTP/1.1\r\nHost: proxy.test\r\n"),
            headers: Vec::new(),
            body: Vec::new(),
            sized: false,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
            self.headers.extend_from_slice(part);
        }
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self.sized = true;
        self
    }

    /// A body in chunks, with its trailers.
    pub(crate) fn chunks(mut self, chunks: &[&[u8]], trailers: &str) -> Self {
        self = self.header("Transfer-Encoding", "chunked");
        for chunk in chunks {
            self.body
                .extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            self.body.extend_from_slice(chunk);
            self.body.extend_from_slice(b"\r\n");
        }
        self.body
            .extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        self
    }

    pub(crate) fn is_head(&self) -> bool {
        self.start.starts_with("HEAD ")
    }

    /// The head alone, as if the body were still to come.
    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        let length = if self.sized {
            format!("Content-Length: {}\r\n", self.body.len())
        } else {
            String::new()
        };
        [
            self.start.as_bytes(),
            &self.headers,
            length.as_bytes(),
            b"\r\n",
        ]
        .concat()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head_bytes(), self.body.clone()].concat()
    }
}
