//! A connection whose bytes pass the [`HeadGuard`] before anything else reads them, and which is
//! given up when its first bytes do not come.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::head_guard::HeadGuard;
use super::seat::Seat;

/// What the HTTP library gets to read in place of the line that was refused. It is no HTTP
/// wherever in a head, a chunk's frame or trailers it lands - CR is followed by LF everywhere -
/// so that the library answers 400 and closes. It never lands in a body's data: only lines are
/// refused, and all that came before them is delivered first.
const POISON: &[u8] = b"\r\0\r\n\r\n";

/// How long a client may go on sending what nobody reads any more.
const LINGER: Duration = Duration::from_secs(5);
const WASTE_BYTES: usize = 16 * 1024;

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct Guarded<I> {
    io: I,
    guard: HeadGuard,
    upgraded: Arc<AtomicBool>,
    poison: Option<&'static [u8]>,
    first: Option<FirstBytes>,
    linger: Option<Pin<Box<Sleep>>>,
    /// Kept here because this outlives the HTTP connection when a tunnel takes it over.
    _seat: Seat,
}

impl<I> Guarded<I> {
    /// `upgraded` is set by the service when it switches protocols.
    pub(super) fn new(
        io: I,
        seat: Seat,
        max_line: usize,
        head_timeout: Duration,
        upgraded: Arc<AtomicBool>,
    ) -> Self {
        Self {
            io,
            guard: HeadGuard::new(max_line),
            upgraded,
            poison: None,
            first: Some(FirstBytes::within(head_timeout)),
            linger: None,
            _seat: seat,
        }
    }

    /// Lets the guard see what was just read, and takes back the line that it refuses with all
    /// that follows.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if self.upgraded.load(Ordering::Acquire) {
            self.guard.open();
        }
        let piece = buf.filled().get(before..).unwrap_or_default();
        if let Some(first) = &mut self.first
            && first.are_complete_with(piece)
        {
            self.first = None;
        }
        if let Err(violation) = self.guard.read(piece) {
            tracing::info!(
                reason = violation.reason,
                "request refused: ambiguous framing"
            );
            buf.set_filled(before + violation.at);
            self.poison = Some(POISON);
            if violation.at == 0 {
                // Nothing read would mean the end of the stream.
                self.put_poison(buf);
            }
        }
    }

    /// Puts what fits of the poison, if there is any: false when the connection is still good.
    /// Once all is put, the reader sees the end of the stream.
    fn put_poison(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(poison) = &mut self.poison else {
            return false;
        };
        let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
        buf.put_slice(now);
        *poison = later;
        true
    }
}

/// The time a client has to show whether it speaks HTTP/1 or HTTP/2. The HTTP library's own
/// timers run only once it knows.
struct FirstBytes {
    deadline: Pin<Box<Sleep>>,
    /// How much of HTTP/2's preface has come.
    preface: usize,
}

impl FirstBytes {
    fn within(timeout: Duration) -> Self {
        Self {
            deadline: Box::pin(tokio::time::sleep(timeout)),
            preface: 0,
        }
    }

    fn are_complete_with(&mut self, piece: &[u8]) -> bool {
        let left = H2_PREFACE.get(self.preface..).unwrap_or_default();
        self.preface += piece.len();
        piece.len() >= left.len() || !left.starts_with(piece)
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> Guarded<I> {
    /// Lets a client that was answered early go on sending for a while. Were its bytes left
    /// unread, the system would reset the connection, and the client might lose the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let linger = self
            .linger
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut waste = [MaybeUninit::uninit(); WASTE_BYTES];
        loop {
            let mut buf = ReadBuf::uninit(&mut waste);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.put_poison(buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if Pin::new(&mut this.io).poll_read(cx, buf)?.is_pending() {
            return match &mut this.first {
                Some(first) => first.poll_overdue(cx),
                None => Poll::Pending,
            };
        }
        this.inspect(buf, before);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        if this.poison.is_some() || this.guard.is_within_request() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
