//! One webhook on the wire: a request, what is made of its answer, and when to try again.

use std::error::Error;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::redirect::Policy;

use super::HookError;
use crate::config::{Secret, WebhookConfig};
use crate::upstream::trust;

/// A webhook that asks for more patience than this does not get it.
const MOST_PATIENCE: Duration = Duration::from_secs(60);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 5;

/// Sends to one webhook.
pub(super) struct Post {
    client: reqwest::Client,
    config: WebhookConfig,
}

/// What became of one attempt. Never holds the URL or what the other side wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) is_ok: bool,
    pub(super) text: String,
    /// None where trying again is of no use.
    again: Option<Again>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Again {
    /// What the other side asked for.
    after: Option<Duration>,
}

impl Post {
    pub(super) fn new(config: &WebhookConfig) -> Result<Self, HookError> {
        let fail = |cause: String| HookError::Unusable {
            name: config.name.clone(),
            cause,
        };
        let is_secure = config.url.expose().starts_with("https:");
        let trust = trust(is_secure, None).map_err(|error| fail(error.to_string()))?;
        let headers = headers(config).map_err(|error| fail(error.to_string()))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(trust)
            .default_headers(headers)
            .redirect(Policy::none())
            .no_proxy()
            .timeout(config.timeout)
            .user_agent(concat!("open-aiops/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| fail(root_cause(&error.without_url())))?;
        Ok(Self {
            client,
            config: config.clone(),
        })
    }

    pub(super) fn config(&self) -> &WebhookConfig {
        &self.config
    }

    /// Sends until it is taken, or there is no hope. Bounded: five attempts.
    pub(super) async fn send(&self, body: &str) -> Answer {
        let mut attempt = 1;
        loop {
            let answer = self.attempt(body).await;
            let pause = answer.pause(attempt, jitter(body, attempt));
            let Some(pause) = pause else {
                return answer.after(attempt);
            };
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    pub(super) async fn attempt(&self, body: &str) -> Answer {
        let request = self.client.post(self.config.url.expose());
        let request = request.body(body.to_owned());
        match request.send().await {
            Ok(answered) => Answer::of(answered.status(), answered.headers()),
            Err(error) => Answer {
                is_ok: false,
                text: self.fault(error),
                again: Some(Again { after: None }),
            },
        }
    }

    fn fault(&self, error: reqwest::Error) -> String {
        let error = error.without_url();
        if error.is_timeout() {
            return format!("no answer within {} ms", self.config.timeout.as_millis());
        }
        let what = if error.is_connect() {
            "cannot be reached"
        } else {
            "broke off"
        };
        format!("{what}: {}", root_cause(&error))
    }
}

impl Answer {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let is_late = matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error();
        let seconds = headers.get(header::RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Self {
            is_ok: status.is_success(),
            text: status.to_string(),
            again: is_late.then(|| Again {
                after: seconds.map(Duration::from_secs),
            }),
        }
    }

    /// How long to wait before the next attempt; none where there is to be none.
    fn pause(&self, attempt: u32, jitter: u32) -> Option<Duration> {
        let again = self.again.filter(|_| !self.is_ok && attempt < ATTEMPTS)?;
        let backoff = FIRST_BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(8));
        // Half of it at least, so that those who failed together do not come together again.
        let own = backoff / 2 + backoff / 2 * (jitter % 1000) / 1000;
        Some(
            again
                .after
                .map_or(own, |asked| asked.min(MOST_PATIENCE).max(own)),
        )
    }

    fn after(mut self, attempts: u32) -> Self {
        if attempts > 1 {
            self.text = format!("{} after {attempts} attempts", self.text);
        }
        self
    }
}

/// Differs from message to message; nothing secret hangs on it.
fn jitter(body: &str, attempt: u32) -> u32 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(body.as_bytes(), u64::from(attempt));
    u32::try_from(hash >> 32).unwrap_or_default()
}

fn headers(config: &WebhookConfig) -> Result<HeaderMap, header::InvalidHeaderValue> {
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text)?;
        value.set_sensitive(true);
        Ok::<_, header::InvalidHeaderValue>(value)
    };
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    if let Some(token) = &config.bearer {
        let bearer = format!("Bearer {}", token.expose());
        headers.insert(header::AUTHORIZATION, secret(&bearer)?);
    }
    for (name, value) in &config.headers {
        headers.insert(name.clone(), secret(Secret::expose(value))?);
    }
    Ok(headers)
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, retry_after: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
        }
        Answer::of(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(answer(status, None).pause(1, 0).is_some(), "{status}");
        }
        for status in [200, 204, 301, 302, 400, 401, 403, 404, 410, 413] {
            assert_eq!(answer(status, None).pause(1, 0), None, "{status}");
        }
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_minute() {
        let pause = |value| answer(429, Some(value)).pause(1, 0).unwrap();
        assert_eq!(pause("7"), Duration::from_secs(7));
        assert_eq!(pause("86400"), MOST_PATIENCE);
        assert!(pause("soon") <= FIRST_BACKOFF);
    }

    proptest! {
        #[test]
        fn pauses_grow_are_bounded_and_end(jitter: u32) {
            let pauses: Vec<_> = (1..10).map(|n| answer(503, None).pause(n, jitter)).collect();
            prop_assert_eq!(pauses.iter().flatten().count(), 4);
            for (n, pause) in pauses.iter().flatten().enumerate() {
                let whole = FIRST_BACKOFF * (1 << n);
                prop_assert!(*pause >= whole / 2 && *pause <= whole, "{n}: {pause:?}");
            }
        }
    }
}
