//! A fake upstream: a socket that keeps every byte it gets and answers by a script.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;

use super::answer::{Act, Answer, Reply, Step};
use super::http::{Body, Framing, Head};
use super::tls::Identity;
use super::{Driver, within};

/// One request as it was received, perhaps still being received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) connection: usize,
    pub(crate) head: Head,
    pub(crate) body: Body,
    /// The proxy closed the connection this came on.
    pub(crate) closed: bool,
}

type Script = dyn Fn(usize, &Received) -> Answer + Send + Sync;

pub(crate) struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

/// What the upstream saw and wrote.
pub(crate) struct Seen {
    script: Box<Script>,
    manner: Manner,
    requests: Mutex<Vec<Received>>,
    connections: Mutex<usize>,
    written: Mutex<BTreeSet<String>>,
    changed: watch::Sender<()>,
}

/// How an upstream takes a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Whole,
    /// Answers begin when a request's head is there, not its whole body.
    AtHead,
    /// Reads nothing after the first head.
    Deaf,
}

impl Upstream {
    /// The same answer to every request.
    pub(crate) async fn answers(answer: Answer) -> Self {
        Self::with(move |_, _| answer.clone()).await
    }

    /// One answer after the other, then the last one again.
    pub(crate) async fn answers_each(answers: impl Into<Vec<Answer>>) -> Self {
        let answers = answers.into();
        Self::with(move |n, _| answers[n.min(answers.len() - 1)].clone()).await
    }

    /// An answer to the `n`th request, counted from 0.
    pub(crate) async fn with(
        script: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::begin(Manner::Whole, None, script).await
    }

    /// Answers as soon as the head of a request is there.
    pub(crate) async fn answers_at_head(answer: Answer) -> Self {
        Self::begin(Manner::AtHead, None, move |_, _| answer.clone()).await
    }

    /// Takes the head of a request and nothing more, says nothing and stays.
    pub(crate) async fn deaf() -> Self {
        Self::begin(Manner::Deaf, None, |_, _| Answer::nothing()).await
    }

    pub(crate) async fn secure(identity: &Identity, answer: Answer) -> Self {
        Self::begin(Manner::Whole, Some(identity.acceptor()), move |_, _| {
            answer.clone()
        })
        .await
    }

    /// A streamed answer that the test drives.
    pub(crate) async fn streams(head: Reply) -> (Self, Driver) {
        let (answer, driver) = head.driven();
        (Self::answers(answer).await, driver)
    }

    async fn begin(
        manner: Manner,
        tls: Option<tokio_rustls::TlsAcceptor>,
        script: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let seen = Arc::new(Seen {
            script: Box::new(script),
            manner,
            requests: Mutex::default(),
            connections: Mutex::default(),
            written: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let accepting = tokio::spawn(accept(socket, tls, Arc::clone(&seen)));
        Self {
            address,
            seen,
            accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// Everything received so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.seen.requests().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn request(&self) -> Received {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests that reached the upstream");
        requests.remove(0)
    }

    /// Waits until the requests received so far are as `wanted`.
    pub(crate) async fn until(&self, wanted: impl Fn(&[Received]) -> bool) {
        let mut changed = self.seen.changed.subscribe();
        within("what the upstream waits for", async {
            while !wanted(&self.seen.requests()) {
                changed.changed().await.expect("an upstream");
            }
        })
        .await;
    }

    /// Waits until the proxy hung up on every request.
    pub(crate) async fn hung_up(&self) {
        self.until(|requests| !requests.is_empty() && requests.iter().all(|r| r.closed))
            .await;
    }

    /// Waits until the head of the first request is there.
    pub(crate) async fn asked(&self) {
        self.until(|requests| !requests.is_empty()).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Received {
    pub(crate) fn method(&self) -> &str {
        self.head.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body.data).expect("a text")
    }
}

impl Seen {
    /// The names of all headers this upstream ever wrote.
    pub(crate) fn written(&self) -> BTreeSet<String> {
        self.written.lock().unwrap().clone()
    }

    fn requests(&self) -> MutexGuard<'_, Vec<Received>> {
        self.requests.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Received>) -> T) -> T {
        let result = change(&mut self.requests());
        self.changed.send_replace(());
        result
    }
}

/// A connection that can be broken.
trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn tcp(&self) -> &TcpStream;
}

impl Io for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Io for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn accept(socket: TcpListener, tls: Option<tokio_rustls::TlsAcceptor>, seen: Arc<Seen>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let number = {
            let mut count = seen.connections.lock().unwrap();
            *count += 1;
            *count
        };
        seen.changed.send_replace(());
        stream.set_nodelay(true).expect("a socket");
        let (seen, tls) = (Arc::clone(&seen), tls.clone());
        connections.spawn(async move {
            match tls {
                None => converse(stream, number, &seen).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, number, &seen).await;
                    }
                }
            }
        });
    }
}

async fn converse<I: Io>(io: I, connection: usize, seen: &Seen) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let (ready, asked) = mpsc::channel(64);
    let broken = tokio::select! {
        () = listen(&mut reader, connection, seen, ready) => false,
        () = speak(&mut writer, seen, asked) => true,
    };
    let io = reader.unsplit(writer);
    if broken {
        io.tcp().set_zero_linger().expect("a socket");
    }
    drop(io);
    seen.change(|requests| {
        let of_this = requests
            .iter_mut()
            .filter(|request| request.connection == connection);
        of_this.for_each(|request| request.closed = true);
    });
}

/// Keeps what comes; ends when the proxy hangs up.
async fn listen<I: Io>(
    reader: &mut ReadHalf<I>,
    connection: usize,
    seen: &Seen,
    ready: mpsc::Sender<usize>,
) {
    let mut unread = Vec::new();
    let mut current = None;
    loop {
        let index = match current {
            Some(index) => index,
            None => match Head::take(&unread) {
                Some((head, length)) => {
                    unread.drain(..length);
                    let body = Body::new(head.request_framing());
                    let immediate =
                        seen.manner == Manner::AtHead || body.framing == Framing::UntilClose;
                    let index = seen.change(|requests| {
                        requests.push(Received {
                            connection,
                            head,
                            body,
                            closed: false,
                        });
                        requests.len() - 1
                    });
                    current = Some(index);
                    if seen.manner == Manner::Deaf {
                        return std::future::pending().await;
                    }
                    if immediate {
                        let _ = ready.send(index).await;
                    }
                    index
                }
                None if reader.read_buf(&mut unread).await.is_ok_and(|n| n > 0) => continue,
                None => return,
            },
        };
        let (done, immediate) = seen.change(|requests| {
            let body = &mut requests[index].body;
            let used = body.read(&unread);
            unread.drain(..used);
            (
                body.done,
                seen.manner == Manner::AtHead || body.framing == Framing::UntilClose,
            )
        });
        if done {
            current = None;
            if !immediate {
                let _ = ready.send(index).await;
            }
        } else if !reader.read_buf(&mut unread).await.is_ok_and(|n| n > 0) {
            return;
        }
    }
}

/// Answers what was asked, in order; returns only to break the connection.
async fn speak<I: Io>(writer: &mut WriteHalf<I>, seen: &Seen, mut asked: mpsc::Receiver<usize>) {
    while let Some(index) = asked.recv().await {
        let request = seen.requests()[index].clone();
        let answer = (seen.script)(index, &request);
        let mut head = Vec::new();
        for step in answer.steps {
            match step {
                Step::Write(bytes) => write(writer, &bytes, &mut head, seen).await,
                Step::Driven(orders) => {
                    let mut orders = orders.lock().await;
                    while let Some(order) = orders.recv().await {
                        match order.act {
                            Act::Write(bytes) => write(writer, &bytes, &mut head, seen).await,
                            Act::End => break,
                            Act::Close => {
                                let _ = writer.shutdown().await;
                            }
                            Act::Reset => return,
                        }
                        let _ = order.done.send(());
                    }
                }
                Step::Echo => echo(writer, seen, index).await,
                Step::Close => {
                    let _ = writer.shutdown().await;
                    std::future::pending::<()>().await;
                }
                Step::Reset => return,
                Step::Stall => std::future::pending().await,
            }
        }
    }
    std::future::pending::<()>().await;
}

async fn write<I: Io>(writer: &mut WriteHalf<I>, bytes: &[u8], head: &mut Vec<u8>, seen: &Seen) {
    head.extend_from_slice(&bytes[..bytes.len().min(1 << 20)]);
    if let Some((head, _)) = Head::take(head) {
        seen.written.lock().unwrap().extend(head.names());
    }
    let _ = writer.write_all(bytes).await;
    let _ = writer.flush().await;
}

async fn echo<I: Io>(writer: &mut WriteHalf<I>, seen: &Seen, index: usize) {
    let mut changed = seen.changed.subscribe();
    let mut sent = 0;
    loop {
        let data = seen.requests()[index].body.data[sent..].to_vec();
        sent += data.len();
        if writer.write_all(&data).await.is_err() || changed.changed().await.is_err() {
            return;
        }
    }
}
