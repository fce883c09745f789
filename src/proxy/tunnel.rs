//! Upgraded connections: both sides joined, bytes passed through and counted, one call.

use std::io;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::call::OpenCall;
use crate::core::call::Outcome;

const BUFFER_BYTES: usize = 16 * 1024;

/// The two connections of a tunnel, once both sides have switched.
pub(super) struct Ends {
    client: OnUpgrade,
    upstream: OnUpgrade,
}

/// One side broke the tunnel.
struct Broken {
    by: Outcome,
    error: String,
}

impl Ends {
    pub(super) fn new(client: OnUpgrade, upstream: OnUpgrade) -> Self {
        Self { client, upstream }
    }

    /// Runs until both sides have closed, one breaks off, a run of the call is stopped, or running
    /// calls are cut.
    pub(super) async fn join(self, mut call: OpenCall) {
        let mut cut = call.cut_signal();
        let stopped = call.stopped();
        let (mut from_client, mut from_upstream) = (0, 0);
        let joined = tokio::select! {
            joined = self.pass(&mut from_client, &mut from_upstream) => joined,
            _ = cut.wait_for(|cut| *cut) => Err(Broken::by(Outcome::Cut)("the proxy was stopped")),
            why = stopped => Err(Broken::by(Outcome::Cut)(why)),
        };
        call.tunnelled(from_client, from_upstream);
        match joined {
            Ok(()) => call.complete(),
            Err(broken) => call.broke_off(broken.by, broken.error),
        }
    }

    async fn pass(self, from_client: &mut u64, from_upstream: &mut u64) -> Result<(), Broken> {
        let client = Broken::by(Outcome::ClientGone);
        let upstream = Broken::by(Outcome::UpstreamCut);
        let ends = tokio::try_join!(async { self.client.await.map_err(client) }, async {
            self.upstream.await.map_err(upstream)
        },)?;
        let (client_reader, client_writer) = tokio::io::split(TokioIo::new(ends.0));
        let (upstream_reader, upstream_writer) = tokio::io::split(TokioIo::new(ends.1));
        let (client, upstream) = (Outcome::ClientGone, Outcome::UpstreamCut);
        tokio::try_join!(
            one_way(
                (client_reader, client),
                (upstream_writer, upstream),
                from_client
            ),
            one_way(
                (upstream_reader, upstream),
                (client_writer, client),
                from_upstream
            ),
        )?;
        Ok(())
    }
}

impl Broken {
    fn by<E: ToString>(by: Outcome) -> impl Fn(E) -> Self {
        move |error| Self {
            by,
            error: error.to_string(),
        }
    }
}

/// Passes on what one side sends, up to its end and with it, and counts it.
async fn one_way(
    (mut from, sender): (impl AsyncRead + Unpin, Outcome),
    (mut to, receiver): (impl AsyncWrite + Unpin, Outcome),
    count: &mut u64,
) -> Result<(), Broken> {
    let (by_sender, by_receiver) = (Broken::by::<io::Error>(sender), Broken::by(receiver));
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await.map_err(&by_sender)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            return to.shutdown().await.map_err(by_receiver);
        };
        *count += read as u64;
        to.write_all(piece).await.map_err(&by_receiver)?;
        to.flush().await.map_err(&by_receiver)?;
    }
}
