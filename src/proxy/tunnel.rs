//! Upgraded connections: both sides joined, bytes passed through and counted, one call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::call::OpenCall;
use crate::core::call::Outcome;

const BUFFER_BYTES: usize = 16 * 1024;

/// The two connections of a tunnel, once both sides have switched.
pub(super) struct Ends {
    client: OnUpgrade,
    upstream: OnUpgrade,
}

impl Ends {
    pub(super) fn new(client: OnUpgrade, upstream: OnUpgrade) -> Self {
        Self { client, upstream }
    }

    /// Runs until either side closes both ways, or running calls are cut.
    pub(super) async fn join(self, mut call: OpenCall) {
        let mut cut = call.cut_signal();
        let (client, upstream) = match tokio::try_join!(self.client, self.upstream) {
            Ok(ends) => ends,
            Err(error) => return call.broke_off(Outcome::ClientGone, error.to_string()),
        };
        let mut client = Counted::new(TokioIo::new(client));
        let mut upstream = Counted::new(TokioIo::new(upstream));
        let copied = tokio::select! {
            copied = tokio::io::copy_bidirectional_with_sizes(
                &mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES,
            ) => Some(copied),
            _ = cut.wait_for(|cut| *cut) => None,
        };
        call.tunnelled(client.read, upstream.read);
        match copied {
            Some(Ok(_)) => call.complete(),
            Some(Err(error)) => call.broke_off(Outcome::UpstreamCut, error.to_string()),
            None => call.end(Outcome::Cut),
        }
    }
}

/// Counts what is read, so that a tunnel that breaks still knows what went through it.
struct Counted<I> {
    io: I,
    read: u64,
}

impl<I> Counted<I> {
    fn new(io: I) -> Self {
        Self { io, read: 0 }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.read += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
