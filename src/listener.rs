//! The downstream side: accepts connections, bounds them, and hands requests to the proxy.

mod guarded;
mod head_guard;
mod seat;
mod tls;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use self::guarded::Guarded;
use self::seat::Seat;
use crate::config::ProxyConfig;
use crate::metrics::Metrics;
use crate::proxy::{Proxy, handle};

pub use self::tls::{CertificateError, acceptor};

/// Streams of one HTTP/2 connection at once.
const H2_STREAMS: u32 = 512;

/// The proxy's listener with what it needs for every connection.
pub struct Listener {
    pub socket: TcpListener,
    pub tls: Option<TlsAcceptor>,
    pub config: ProxyConfig,
    pub proxy: Arc<Proxy>,
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// Serves until `stop` turns true; then takes no new connections, lets running calls end
    /// within the drain timeout, and cuts what is left.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(self.config.max_connections));
        let graceful = GracefulShutdown::new();
        let server = Arc::new(server(&self.config));
        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&room).acquire_owned() => permit,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Ok(permit) = permit else { break };
            let stream = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match stream {
                Ok((stream, _)) => self.spawn(stream, permit, Arc::clone(&server), &graceful),
                Err(error) => pause_after(&error).await,
            }
        }
        drop(self.socket);
        let cut = tokio::time::timeout(self.proxy.drain_timeout(), graceful.shutdown()).await;
        if cut.is_err() {
            self.proxy.cut_running_calls();
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        server: Arc<auto::Builder<TokioExecutor>>,
        graceful: &GracefulShutdown,
    ) {
        let watcher = graceful.watcher();
        let connection = Connection {
            server,
            proxy: Arc::clone(&self.proxy),
            max_line: self.config.max_head_bytes,
            head_timeout: self.config.head_timeout,
            watcher,
            seat: Seat::take(permit, Arc::clone(&self.metrics)),
        };
        let tls = self.tls.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut cut = connection.proxy.cut_signal();
            let serve = async move {
                match tls {
                    None => connection.serve(stream).await,
                    Some(tls) => {
                        let handshake =
                            tokio::time::timeout(connection.head_timeout, tls.accept(stream));
                        if let Ok(Ok(stream)) = handshake.await {
                            connection.serve(stream).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = serve => {}
                _ = cut.wait_for(|cut| *cut) => {}
            }
        });
    }
}

struct Connection {
    server: Arc<auto::Builder<TokioExecutor>>,
    proxy: Arc<Proxy>,
    max_line: usize,
    head_timeout: Duration,
    watcher: hyper_util::server::graceful::Watcher,
    seat: Seat,
}

impl Connection {
    async fn serve<I>(self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let upgraded = Arc::new(AtomicBool::new(false));
        let io = Guarded::new(
            io,
            self.seat,
            self.max_line,
            self.head_timeout,
            Arc::clone(&upgraded),
        );
        let proxy = self.proxy;
        let service = service_fn(move |request| {
            let proxy = Arc::clone(&proxy);
            let upgraded = Arc::clone(&upgraded);
            async move {
                let response = handle(&proxy, request).await;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    upgraded.store(true, Ordering::Release);
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = self
            .server
            .serve_connection_with_upgrades(TokioIo::new(io), service)
            .into_owned();
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "connection ended");
        }
    }
}

fn server(config: &ProxyConfig) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // A client that closes its half cannot be told from one that left: it is taken to have.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.head_timeout)
        .auto_date_header(false)
        .max_headers(config.max_headers)
        .max_buf_size(config.max_head_bytes.max(8192))
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(H2_STREAMS)
        .adaptive_window(true)
        .keep_alive_interval(Duration::from_secs(30));
    server
}

/// Errors of one client are its own; when we ran out of descriptors, a moment may free some.
async fn pause_after(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    ) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
