//! Requests to the collector, by HTTP or gRPC, and what is made of its answers.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use reqwest::redirect::Policy;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::OtelError;
use crate::config::{Compression, OtelConfig, OtelProtocol};
use crate::upstream::trust;

const USER_AGENT: &str = concat!("open-aiops/", env!("CARGO_PKG_VERSION"));
/// Bytes of one request: gRPC takes 4 MiB by default.
pub(super) const MAX_BYTES: usize = 3 << 20;
/// What a collector answers is short.
const MAX_ANSWER: usize = 64 << 10;
/// Its own words that are passed on to people.
const MAX_WORDS: usize = 200;

/// The way to one collector.
pub(super) struct Transport {
    way: Way,
    timeout: Duration,
}

enum Way {
    Http {
        client: reqwest::Client,
        base: String,
        gzip: bool,
    },
    Grpc {
        line: Box<Line>,
        headers: HeaderMap,
        gzip: bool,
    },
}

/// One connection, and how it is made.
struct Line {
    channel: ArcSwap<Channel>,
    endpoint: Endpoint,
    connector: HttpsConnector<HttpConnector>,
}

impl Line {
    fn new(endpoint: Endpoint, connector: HttpsConnector<HttpConnector>) -> Self {
        let channel = endpoint.connect_with_connector_lazy(connector.clone());
        Self {
            channel: ArcSwap::from_pointee(channel),
            endpoint,
            connector,
        }
    }

    fn channel(&self) -> Channel {
        Channel::clone(&self.channel.load())
    }

    /// What comes next goes over another connection. Pings that find out whether one is dead are no
    /// way: servers close connections that are pinged more than every five minutes.
    fn renew(&self) {
        let channel = self
            .endpoint
            .connect_with_connector_lazy(self.connector.clone());
        self.channel.store(Arc::new(channel));
    }
}

/// What became of what the collector took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// So much of it, it took not.
    pub(super) rejected: u64,
    pub(super) words: String,
}

/// Why the collector took nothing. Never holds the endpoint's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may take the same later; not before the given time, where it says so.
    Later(Option<Duration>),
    /// It may take parts of it.
    TooLarge,
    /// It never takes this.
    Never,
}

/// A request to the collector.
pub(super) trait Export: Message + Clone + 'static {
    type Answer: Message + Default + 'static;
    const PATH: &'static str;
    const METHOD: &'static str;
    fn taken(answer: Self::Answer) -> Taken;
}

macro_rules! export {
    ($request:ty, $answer:ty, $path:literal, $method:literal, $rejected:ident) => {
        impl Export for $request {
            type Answer = $answer;
            const PATH: &'static str = $path;
            const METHOD: &'static str =
                concat!("/opentelemetry.proto.collector.", $method, "/Export");

            fn taken(answer: $answer) -> Taken {
                let partial = answer.partial_success.unwrap_or_default();
                Taken {
                    rejected: u64::try_from(partial.$rejected).unwrap_or(0),
                    words: brief(&partial.error_message),
                }
            }
        }
    };
}

export!(
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
    "/v1/traces",
    "trace.v1.TraceService",
    rejected_spans
);
export!(
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
    "/v1/metrics",
    "metrics.v1.MetricsService",
    rejected_data_points
);
export!(
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
    "/v1/logs",
    "logs.v1.LogsService",
    rejected_log_records
);

impl Transport {
    /// Connects when there is something to send.
    pub(super) fn new(config: &OtelConfig) -> Result<Self, OtelError> {
        let endpoint = config.endpoint.as_ref().ok_or(OtelError::NoEndpoint)?;
        let gzip = config.compression == Compression::Gzip;
        let headers = headers(config)?;
        let is_secure = endpoint.scheme_str() == Some("https");
        let tls = trust(is_secure, config.extra_ca_file.as_ref())?;
        let way = match config.protocol {
            OtelProtocol::Http => Way::Http {
                client: reqwest::Client::builder()
                    .tls_backend_preconfigured(tls)
                    .default_headers(headers)
                    .redirect(Policy::none())
                    .no_proxy()
                    .timeout(config.timeout)
                    .user_agent(USER_AGENT)
                    .build()
                    .map_err(|error| OtelError::Client(root_cause(&error)))?,
                base: endpoint.to_string().trim_end_matches('/').to_owned(),
                gzip,
            },
            OtelProtocol::Grpc => {
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                let connector = HttpsConnectorBuilder::new()
                    .with_tls_config(tls)
                    .https_or_http()
                    .enable_http2()
                    .wrap_connector(tcp);
                let endpoint = Endpoint::from(endpoint.clone())
                    .user_agent(USER_AGENT)
                    .map_err(|error| OtelError::Client(root_cause(&error)))?
                    .connect_timeout(config.timeout);
                Way::Grpc {
                    line: Box::new(Line::new(endpoint, connector)),
                    headers,
                    gzip,
                }
            }
        };
        Ok(Self {
            way,
            timeout: config.timeout,
        })
    }

    /// One attempt.
    pub(super) async fn send<R: Export>(&self, request: R) -> Result<Taken, Failure> {
        let sent = async {
            match &self.way {
                Way::Http { client, base, gzip } => {
                    http(client, &format!("{base}{}", R::PATH), *gzip, &request).await
                }
                Way::Grpc {
                    line,
                    headers,
                    gzip,
                } => grpc(line.channel(), headers, *gzip, request).await,
            }
        };
        if let Ok(answer) = tokio::time::timeout(self.timeout, sent).await {
            return answer;
        }
        if let Way::Grpc { line, .. } = &self.way {
            line.renew();
        }
        Err(Failure {
            kind: Kind::Later(None),
            text: format!("no answer within {} ms", self.timeout.as_millis()),
        })
    }
}

fn headers(config: &OtelConfig) -> Result<HeaderMap, OtelError> {
    let mut headers = HeaderMap::new();
    let unusable = |error: http::header::InvalidHeaderValue| OtelError::Client(error.to_string());
    for (name, text) in &config.headers {
        headers.insert(name, HeaderValue::from_str(text).map_err(unusable)?);
    }
    for (name, secret) in &config.secret_headers {
        let mut value = HeaderValue::from_str(secret.expose()).map_err(unusable)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

async fn http<R: Export>(
    client: &reqwest::Client,
    url: &str,
    gzip: bool,
    request: &R,
) -> Result<Taken, Failure> {
    let body = request.encode_to_vec();
    let mut post = client
        .post(url)
        .header(CONTENT_TYPE, "application/x-protobuf");
    let packed = if gzip { packed(&body) } else { None };
    if packed.is_some() {
        post = post.header(CONTENT_ENCODING, "gzip");
    }
    let answer = post.body(packed.unwrap_or(body)).send().await;
    let answer = answer.map_err(|error| Failure {
        kind: Kind::Later(None),
        text: unreached(error),
    })?;
    let (status, after) = (answer.status(), retry_after(answer.headers()));
    let body = body_of(answer).await;
    if status.is_success() {
        return Ok(R::taken(R::Answer::decode(body).unwrap_or_default()));
    }
    Err(Failure {
        kind: kind_of(status, after),
        text: format!("answered {status}"),
    })
}

/// Standing in the way of a collector, redirects and proxies answer with what it never would: that is
/// no word about what was sent.
fn kind_of(status: StatusCode, after: Option<Duration>) -> Kind {
    match status.as_u16() {
        413 => Kind::TooLarge,
        401 | 403 | 404 | 405 | 407 | 408 | 429 | 502 | 503 | 504 => Kind::Later(after),
        300..=399 => Kind::Later(None),
        _ => Kind::Never,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse();
    seconds.ok().map(Duration::from_secs)
}

/// The front of what it says.
async fn body_of(mut answer: reqwest::Response) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Bytes::new();
        }
        body.extend_from_slice(&chunk);
    }
    body.freeze()
}

fn packed(body: &[u8]) -> Option<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Level::fast());
    packer.write_all(body).ok()?;
    packer.finish().ok()
}

async fn grpc<R: Export>(
    channel: Channel,
    headers: &HeaderMap,
    gzip: bool,
    request: R,
) -> Result<Taken, Failure> {
    let mut client = Grpc::new(channel).accept_compressed(CompressionEncoding::Gzip);
    if gzip {
        client = client.send_compressed(CompressionEncoding::Gzip);
    }
    client.ready().await.map_err(|error| Failure {
        kind: Kind::Later(None),
        text: format!("cannot be reached: {}", root_cause(&error)),
    })?;
    let metadata = MetadataMap::from_headers(headers.clone());
    let request = Request::from_parts(metadata, Extensions::new(), request);
    let codec: ProstCodec<R, R::Answer> = ProstCodec::default();
    let path = PathAndQuery::from_static(R::METHOD);
    let answer = client.unary(request, path, codec).await;
    answer
        .map(|answer| R::taken(answer.into_inner()))
        .map_err(|status| Failure {
            kind: kind_of_status(&status),
            text: words_of(&status),
        })
}

fn kind_of_status(status: &Status) -> Kind {
    let is_size = || {
        let words = status.message().to_ascii_lowercase();
        words.contains("larger than") || words.contains("too large")
    };
    match status.code() {
        Code::ResourceExhausted | Code::OutOfRange if is_size() => Kind::TooLarge,
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::ResourceExhausted
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::Unimplemented => Kind::Later(None),
        // The connection broke off, or what answers speaks no gRPC.
        Code::Unknown | Code::Internal if status.source().is_some() => Kind::Later(None),
        _ => Kind::Never,
    }
}

fn words_of(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("cannot be reached: {}", root_cause(source)),
        None => format!("answered {:?}: {}", status.code(), brief(status.message())),
    }
}

fn unreached(error: reqwest::Error) -> String {
    let error = error.without_url();
    let what = if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    };
    format!("{what}: {}", root_cause(&error))
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The front of what somebody else says, fit for one line.
fn brief(words: &str) -> String {
    let plain: String = words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    crate::core::text::front(&plain, MAX_WORDS).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_something_of_the_data_drops_it() {
        let kind = |code: u16| kind_of(StatusCode::from_u16(code).unwrap(), None);
        for code in [301, 401, 403, 404, 405, 408, 429, 502, 503, 504] {
            assert_eq!(kind(code), Kind::Later(None), "{code}");
        }
        for code in [400, 415, 422, 500, 501] {
            assert_eq!(kind(code), Kind::Never, "{code}");
        }
        assert_eq!(kind(413), Kind::TooLarge);
        let of = |code, words: &str| kind_of_status(&Status::new(code, words));
        assert_eq!(of(Code::Unavailable, ""), Kind::Later(None));
        assert_eq!(of(Code::InvalidArgument, ""), Kind::Never);
        assert_eq!(of(Code::ResourceExhausted, "slow down"), Kind::Later(None));
        let large = "grpc: received message larger than max (5 vs. 4)";
        assert_eq!(of(Code::ResourceExhausted, large), Kind::TooLarge);
    }

    #[test]
    fn a_collector_that_is_busy_says_for_how_long() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(" 7 "));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("soon"));
        assert_eq!(retry_after(&headers), None);
    }

    #[test]
    fn words_of_others_fit_into_a_line() {
        assert_eq!(brief("a\nb\u{1b}[0m"), "a b [0m");
        assert_eq!(brief(&"x".repeat(500)).len(), MAX_WORDS);
    }
}
