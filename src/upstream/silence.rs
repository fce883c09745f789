//! How long a body has been silent.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Measures silence. The timer is armed only when there is nothing to read.
#[derive(Debug)]
pub struct Silence {
    limit: Duration,
    timer: Option<(Pin<Box<Sleep>>, bool)>,
}

impl Silence {
    pub fn of(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Something came.
    pub fn end(&mut self) {
        if let Some((_, armed)) = &mut self.timer {
            *armed = false;
        }
    }

    /// Nothing came yet: resolves to the limit when that lasts.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let limit = self.limit;
        let (timer, armed) = self
            .timer
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(limit)), true));
        if !*armed {
            timer.as_mut().reset(Instant::now() + limit);
            *armed = true;
        }
        timer.as_mut().poll(cx).map(|()| limit)
    }
}
