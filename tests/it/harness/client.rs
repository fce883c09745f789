//! A client on a bare socket: exact bytes out, exact bytes in. It checks on every response that
//! the proxy added nothing but its own marks.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ask::Ask;
use super::http::{Body, Framing, Head};
use super::upstream::Seen;
use super::{quiet, within};

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(crate) struct Client {
    io: Box<dyn Io>,
    unread: Vec<u8>,
    behind: Vec<Arc<Seen>>,
}

/// A response, perhaps still being received.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Body,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

impl Client {
    /// A client of something that is no proxy.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::through(address, Vec::new()).await
    }

    /// A client of a proxy with these upstreams behind it.
    pub(crate) async fn through(address: SocketAddr, behind: Vec<Arc<Seen>>) -> Self {
        let stream = TcpStream::connect(address).await.expect("a listener");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream, behind)
    }

    /// None when nobody listens any more.
    pub(crate) async fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        Some(Self::over(stream, Vec::new()))
    }

    /// Asks and waits for the whole answer; none when the server went away before its head.
    pub(crate) async fn try_call(&mut self, ask: &Ask) -> Option<Response> {
        self.io.write_all(&ask.bytes()).await.ok()?;
        while Head::take(&self.unread).is_none() {
            if !within("an answer or its end", self.more()).await {
                return None;
            }
        }
        Some(self.response(ask.is_head()).await)
    }

    pub(crate) fn over(io: impl Io + 'static, behind: Vec<Arc<Seen>>) -> Self {
        Self {
            io: Box::new(io),
            unread: Vec::new(),
            behind,
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.io.write_all(bytes.as_ref()))
            .await
            .expect("a connection");
        self.io.flush().await.expect("a connection");
    }

    /// Asks and waits for the whole answer.
    pub(crate) async fn call(&mut self, ask: &Ask) -> Response {
        self.send(ask.bytes()).await;
        self.response(ask.is_head()).await
    }

    pub(crate) async fn response(&mut self, to_head: bool) -> Response {
        let mut response = self.begin(to_head).await;
        self.finish(&mut response).await;
        response
    }

    /// Waits for the head of a response.
    pub(crate) async fn begin(&mut self, to_head: bool) -> Response {
        let head = within("the head of a response", async {
            loop {
                if let Some((head, length)) = Head::take(&self.unread) {
                    self.unread.drain(..length);
                    return head;
                }
                assert!(
                    self.more().await,
                    "no response but {:?}",
                    self.unread.escape_ascii()
                );
            }
        })
        .await;
        self.check(&head);
        let body = Body::new(head.response_framing(to_head));
        Response {
            head,
            body,
            cut: false,
        }
    }

    pub(crate) async fn finish(&mut self, response: &mut Response) {
        while self.progress(response).await {}
    }

    /// Waits until `length` more bytes of the body are there.
    pub(crate) async fn next(&mut self, response: &mut Response, length: usize) -> Vec<u8> {
        let before = response.body.data.len();
        while response.body.data.len() < before + length && self.progress(response).await {}
        response.body.data[before..].to_vec()
    }

    /// Sends `piece` again and again until an answer begins.
    pub(crate) async fn send_until_answered(&mut self, piece: &[u8]) {
        let (mut reader, mut writer) = tokio::io::split(&mut self.io);
        let send = async {
            while writer.write_all(piece).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        within("an answer", async {
            tokio::select! {
                read = reader.read_buf(&mut self.unread) => assert!(read.is_ok_and(|n| n > 0)),
                () = send => {}
            }
        })
        .await;
    }

    /// Says that nothing more is sent.
    pub(crate) async fn close_half(&mut self) {
        within("closing one half", self.io.shutdown())
            .await
            .expect("a connection");
    }

    /// Fails when anything comes while all that can happen without the test does.
    pub(crate) async fn gets_nothing(&mut self) {
        tokio::select! {
            biased;
            _ = self.more() => panic!("too early: {:?}", self.unread.escape_ascii().to_string()),
            () = quiet() => assert!(self.unread.is_empty(), "unread already"),
        }
    }

    /// What comes until the other side closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        within("the end of the connection", async {
            while self.more().await {}
        })
        .await;
        std::mem::take(&mut self.unread)
    }

    /// One step; false when the response is over.
    async fn progress(&mut self, response: &mut Response) -> bool {
        let used = response.body.read(&self.unread);
        self.unread.drain(..used);
        if response.body.done {
            return false;
        }
        if used == 0 && !within("a response", self.more()).await {
            response.cut = response.body.framing != Framing::UntilClose;
            response.body.done = !response.cut;
            return false;
        }
        true
    }

    async fn more(&mut self) -> bool {
        self.io
            .read_buf(&mut self.unread)
            .await
            .is_ok_and(|n| n > 0)
    }

    fn check(&self, head: &Head) {
        if !self.behind.is_empty() {
            check_added(head, &self.behind);
        }
    }
}

/// Fails when a response carries a header that neither an upstream wrote nor we may add.
#[track_caller]
pub(crate) fn check_added(head: &Head, behind: &[Arc<Seen>]) {
    const FRAMING: [&str; 3] = ["transfer-encoding", "content-length", "connection"];
    const OF_FAULTS: [&str; 3] = ["content-type", "retry-after", "x-should-retry"];
    let is_ours = head.header("x-aiops-error").is_some() || head.status() == 431;
    for name in head.names() {
        let allowed = name.starts_with("x-aiops-")
            || FRAMING.contains(&name.as_str())
            || (is_ours && OF_FAULTS.contains(&name.as_str()))
            || behind
                .iter()
                .any(|upstream| upstream.written().contains(&name));
        assert!(allowed, "the proxy added the header {name}");
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body.data).expect("a text")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body.data).expect("a JSON body")
    }

    /// The id of the call, by which its record is found.
    #[track_caller]
    pub(crate) fn call(&self) -> String {
        self.header("x-aiops-call").expect("a call id").to_owned()
    }
}
