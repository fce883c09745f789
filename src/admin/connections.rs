//! The connections of the admin listener: how many there are, and how long each may keep its place.
//!
//! A client that is slow to ask or to listen loses its connection, so that places come free again
//! by themselves. Whoever finds none is told so at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;

/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// The answer to one connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\n\
    content-length: 130\r\n\
    connection: close\r\n\
    retry-after: 1\r\n\
    \r\n\
    {\"status\":503,\"title\":\"Service Unavailable\",\"detail\":\"too many connections to the admin \
    listener: close some, or try again later\"}";

/// Who asks, as far as the connection says: something in front may ask for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(pub(super) IpAddr);

impl Peer {
    /// Of a request; those that came by no connection are of one.
    pub(super) fn of(known: Option<&Self>) -> Self {
        known.map_or(Self(Ipv4Addr::UNSPECIFIED.into()), |peer| *peer)
    }
}

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Open at once.
    pub(super) connections: usize,
    /// For the head of a request to come, from the connection's start or the answer before.
    pub(super) head_timeout: Duration,
    /// For the client to take some more of an answer.
    pub(super) stall_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 64,
            head_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// Answers until `shutdown` resolves and running answers have gone out.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let graceful = GracefulShutdown::new();
    let service = TowerToHyperService::new(router);
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    tokio::pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => (stream, Peer(from.ip())),
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        let io = TokioIo::new(Patient::new(stream, bounds.stall_timeout));
        let service = service.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            service.call(request)
        });
        let connection = graceful.watch(server.serve_connection(io, service));
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// A new connection has room for this in its buffer, so that nobody needs to wait for it.
fn refuse(stream: &TcpStream) {
    tracing::debug!("admin connection refused: too many");
    let _ = stream.try_write(FULL);
}

/// Most likely there are no descriptors left: a moment may free some.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "cannot accept admin connections");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// A connection that fails when its client takes nothing of what is written for too long.
struct Patient<I> {
    io: I,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Patient<I> {
    fn new(io: I, patience: Duration) -> Self {
        let stalled = None;
        Self {
            io,
            patience,
            stalled,
        }
    }

    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(50);
    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    struct Server {
        address: std::net::SocketAddr,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Server {
        /// Answers every request with `body`.
        async fn start(bounds: Bounds, body: Vec<u8>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = Router::new().route("/", get(move || async move { body }));
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(serve(listener, router, bounds, async {
                stopped.await.unwrap();
            }));
            Self {
                address,
                stop,
                task,
            }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }
    }

    fn bounds() -> Bounds {
        Bounds {
            connections: 2,
            head_timeout: LONG,
            stall_timeout: LONG,
        }
    }

    /// What comes until the server closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let _ = tokio::time::timeout(Duration::from_secs(30), read)
            .await
            .expect("closed by the server");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_costs_the_connection() {
        let head_timeout = SHORT;
        let bounds = Bounds {
            head_timeout,
            ..bounds()
        };
        let server = Server::start(bounds, b"hello".to_vec()).await;
        for beginning in [&b""[..], b"GET / HT", &[ASK, b"GET"].concat()] {
            let mut slow = server.connect().await;
            slow.write_all(beginning).await.unwrap();
            let answered = beginning.starts_with(ASK);
            assert_eq!(rest(&mut slow).await.ends_with("hello"), answered);
        }
    }

    #[tokio::test]
    async fn one_connection_too_many_is_told_so_and_the_next_finds_room_again() {
        let server = Server::start(bounds(), b"hello".to_vec()).await;
        let mut taken = Vec::new();
        for _ in 0..2 {
            let mut client = server.connect().await;
            client.write_all(ASK).await.unwrap();
            let mut first = [0; 12];
            client.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            taken.push(client);
        }
        let refusal = rest(&mut server.connect().await).await;
        let (head, body) = refusal.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        let problem: super::super::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.status, 503);
        assert!(problem.detail.contains("too many connections"));

        drop(taken);
        loop {
            let mut client = server.connect().await;
            let _ = client.write_all(&[ASK, b"\r\n"].concat()).await;
            let mut first = [0; 12];
            if client.read_exact(&mut first).await.is_ok() && &first == b"HTTP/1.1 200" {
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_listen_loses_its_connection() {
        let stall_timeout = SHORT;
        let bounds = Bounds {
            stall_timeout,
            ..bounds()
        };
        let large = 64 << 20;
        let server = Server::start(bounds, vec![b'x'; large]).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut deaf = socket.connect(server.address).await.unwrap();
        deaf.write_all(ASK).await.unwrap();
        deaf.read_exact(&mut [0; 12]).await.unwrap();
        // Ends only once the connection that it waits for has ended.
        server.stop.send(()).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), server.task);
        ended.await.unwrap().unwrap();
        assert!(rest(&mut deaf).await.len() < large);
    }

    #[tokio::test]
    async fn a_head_too_large_is_answered_and_not_kept() {
        let server = Server::start(bounds(), b"hello".to_vec()).await;
        let mut client = server.connect().await;
        let value = "x".repeat(2 * MAX_HEAD_BYTES);
        let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {value}\r\n\r\n");
        let _ = client.write_all(request.as_bytes()).await;
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 431");
    }
}
