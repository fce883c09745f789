//! What a fake upstream answers: a script of writes, whole or driven by the test.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

/// One answer: what is written, step by step.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Write(Vec<u8>),
    Driven(Arc<Mutex<mpsc::Receiver<Order>>>),
    /// Sends back what comes after the request's head.
    Echo,
    /// Ends the stream of bytes as an ordinary server does.
    Close,
    /// Breaks the connection.
    Reset,
    /// Says nothing more.
    Stall,
}

/// What a test has a driven answer do, and a word when it is done.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) act: Act,
    pub(super) done: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) enum Act {
    Write(Vec<u8>),
    /// The answer is over and the connection is ready for the next.
    End,
    Close,
    Reset,
}

impl Answer {
    /// These bytes and nothing else.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            steps: vec![Step::Write(bytes.as_ref().to_vec())],
        }
    }

    pub(crate) fn nothing() -> Self {
        Self { steps: Vec::new() }
    }

    pub(crate) fn then_closes(self) -> Self {
        self.then(Step::Close)
    }

    pub(crate) fn then_resets(self) -> Self {
        self.then(Step::Reset)
    }

    pub(crate) fn then_stalls(self) -> Self {
        self.then(Step::Stall)
    }

    pub(crate) fn then_echoes(self) -> Self {
        self.then(Step::Echo)
    }

    pub(crate) fn then_writes(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Write(bytes.as_ref().to_vec()))
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// The head of an answer that is being put together.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    head: Vec<u8>,
}

pub(crate) fn reply(status: u16) -> Reply {
    Reply {
        head: format!("HTTP/1.1 {status} X\r\n").into_bytes(),
    }
}

/// 200 with a JSON body of known length.
pub(crate) fn json(body: impl AsRef<[u8]>) -> Answer {
    reply(200)
        .header("content-type", "application/json")
        .body(body)
}

/// 200 with a stream of events, one chunk each.
pub(crate) fn sse<T: AsRef<[u8]>>(events: impl IntoIterator<Item = T>) -> Answer {
    reply(200)
        .header("content-type", "text/event-stream")
        .chunks(events)
}

impl Reply {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
            self.head.extend_from_slice(part);
        }
        self
    }

    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut whole = self.header("content-length", body.len().to_string());
        whole.head.extend_from_slice(b"\r\n");
        whole.head.extend_from_slice(body);
        Answer::raw(whole.head)
    }

    /// No body, and no word about its length.
    pub(crate) fn bare(mut self) -> Answer {
        self.head.extend_from_slice(b"\r\n");
        Answer::raw(self.head)
    }

    pub(crate) fn chunks<T: AsRef<[u8]>>(self, chunks: impl IntoIterator<Item = T>) -> Answer {
        self.chunks_and_trailers(chunks, "")
    }

    pub(crate) fn chunks_and_trailers<T: AsRef<[u8]>>(
        self,
        chunks: impl IntoIterator<Item = T>,
        trailers: &str,
    ) -> Answer {
        let mut answer = self.header("transfer-encoding", "chunked").bare();
        for chunk in chunks {
            answer = answer.then_writes(framed(chunk.as_ref()));
        }
        answer.then_writes(format!("0\r\n{trailers}\r\n"))
    }

    /// A chunked body that the test writes while the call runs.
    pub(crate) fn driven(self) -> (Answer, Driver) {
        let (orders, receiver) = mpsc::channel(16);
        let answer = self
            .header("transfer-encoding", "chunked")
            .bare()
            .then(Step::Driven(Arc::new(Mutex::new(receiver))));
        (answer, Driver { orders })
    }
}

impl Driver {
    /// An answer of which even the head is written by the test.
    pub(crate) fn of_everything() -> (Answer, Self) {
        let (orders, receiver) = mpsc::channel(16);
        let step = Step::Driven(Arc::new(Mutex::new(receiver)));
        (Answer { steps: vec![step] }, Self { orders })
    }
}

/// The test's hand on a driven answer. Each call returns when the bytes are written.
#[derive(Debug)]
pub(crate) struct Driver {
    orders: mpsc::Sender<Order>,
}

impl Driver {
    pub(crate) async fn chunk(&self, chunk: impl AsRef<[u8]>) {
        self.order(Act::Write(framed(chunk.as_ref()))).await;
    }

    pub(crate) async fn bytes(&self, bytes: impl AsRef<[u8]>) {
        self.order(Act::Write(bytes.as_ref().to_vec())).await;
    }

    /// The last chunk.
    pub(crate) async fn end(&self) {
        self.order(Act::Write(b"0\r\n\r\n".to_vec())).await;
        self.order(Act::End).await;
    }

    /// Closes without the last chunk.
    pub(crate) async fn cut(&self) {
        self.order(Act::Close).await;
    }

    pub(crate) async fn reset(&self) {
        self.order(Act::Reset).await;
    }

    async fn order(&self, act: Act) {
        let (done, finished) = oneshot::channel();
        let sent = self.orders.send(Order { act, done }).await;
        assert!(sent.is_ok(), "the upstream's answer is over");
        let _ = super::within("an order to the upstream", finished).await;
    }
}

fn framed(chunk: &[u8]) -> Vec<u8> {
    let mut size = String::new();
    let _ = write!(size, "{:x}\r\n", chunk.len());
    [size.as_bytes(), chunk, b"\r\n"].concat()
}
