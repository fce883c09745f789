//! A fake OpenTelemetry collector: keeps what it is told by HTTP or gRPC, decoded, and answers by a
//! script.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::tls::Identity;
use super::within;

/// What it says to a request that it can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Takes,
    /// Takes all but so many spans.
    Rejects(i64),
    /// Answers this status, or its like in gRPC, and takes nothing.
    Status(u16),
    /// Takes no more spans at once than this.
    AtMost(usize),
    /// Takes no spans or metrics that are longer than so many bytes together.
    AtMostBytes(usize),
}

/// Clones are the same collector.
#[derive(Clone)]
pub(crate) struct Collector {
    scheme: &'static str,
    address: SocketAddr,
    told: Arc<Told>,
    accepting: Arc<JoinHandle<()>>,
}

struct Told {
    reply: Mutex<Reply>,
    spans: Mutex<Vec<Span>>,
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
    metrics: Mutex<Vec<ExportMetricsServiceRequest>>,
    logs: Mutex<Vec<ExportLogsServiceRequest>>,
    heads: Mutex<Vec<(String, HeaderMap)>>,
    changed: watch::Sender<()>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("no panic elsewhere")
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::begin(None).await
    }

    pub(crate) async fn secure(identity: &Identity) -> Self {
        Self::begin(Some(identity.acceptor())).await
    }

    async fn begin(tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let told = Arc::new(Told {
            reply: Mutex::new(Reply::Takes),
            spans: Mutex::default(),
            traces: Mutex::default(),
            metrics: Mutex::default(),
            logs: Mutex::default(),
            heads: Mutex::default(),
            changed: watch::Sender::new(()),
        });
        let accepting = tokio::spawn(accept(socket, tls, Arc::clone(&told)));
        Self {
            scheme,
            address,
            told,
            accepting: Arc::new(accepting),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn says(&self, reply: Reply) {
        *lock(&self.told.reply) = reply;
    }

    /// What it took.
    pub(crate) fn spans(&self) -> Vec<Span> {
        lock(&self.told.spans).clone()
    }

    /// The requests about spans, those that it did not take too.
    pub(crate) fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        lock(&self.told.traces).clone()
    }

    pub(crate) fn logs(&self) -> Vec<ExportLogsServiceRequest> {
        lock(&self.told.logs).clone()
    }

    /// Paths and headers of all requests.
    pub(crate) fn heads(&self) -> Vec<(String, HeaderMap)> {
        lock(&self.told.heads).clone()
    }

    /// Waits until so many spans were taken.
    pub(crate) async fn took(&self, count: usize) -> Vec<Span> {
        self.until("spans", || {
            let spans = self.spans();
            (spans.len() >= count).then_some(spans)
        })
        .await
    }

    pub(crate) async fn until<T>(
        &self,
        what: &'static str,
        mut found: impl FnMut() -> Option<T>,
    ) -> T {
        let mut changes = self.told.changed.subscribe();
        within(what, async {
            loop {
                if let Some(found) = found() {
                    return found;
                }
                changes.changed().await.expect("a collector");
            }
        })
        .await
    }

    /// The metrics of the last request about any.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        self.metrics_of_each().pop().expect("metrics were told")
    }

    /// The metrics of each request about any, as far as it took them.
    pub(crate) fn metrics_of_each(&self) -> Vec<Vec<Metric>> {
        let requests = lock(&self.told.metrics).clone();
        let of = |request: ExportMetricsServiceRequest| {
            let resources = request.resource_metrics.into_iter();
            let scopes = resources.flat_map(|it| it.scope_metrics);
            scopes.flat_map(|it| it.metrics).collect()
        };
        requests.into_iter().map(of).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if Arc::strong_count(&self.accepting) == 1 {
            self.accepting.abort();
        }
    }
}

async fn accept(socket: TcpListener, tls: Option<TlsAcceptor>, told: Arc<Told>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let (told, tls) = (Arc::clone(&told), tls.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, told).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, told).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, told: Arc<Told>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&told)));
    let builder = Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, told: Arc<Told>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(plain(StatusCode::BAD_REQUEST, Bytes::new()));
    };
    let body = body.to_bytes();
    let path = head.uri.path().to_owned();
    let is_grpc = path.starts_with("/opentelemetry.proto.collector.");
    lock(&told.heads).push((path.clone(), head.headers.clone()));
    let body = if is_grpc {
        unframed(&body)
    } else {
        unpacked(&head.headers, &body)
    };
    let (status, answer) = told.hear(&path, &body);
    told.changed.send_replace(());
    Ok(if is_grpc {
        in_grpc(status, &answer)
    } else {
        plain(
            StatusCode::from_u16(status).expect("a status"),
            answer.into(),
        )
    })
}

impl Told {
    /// The status of the answer, and what it says.
    fn hear(&self, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let path = path.to_ascii_lowercase();
        if path.contains("metrics") {
            if matches!(*lock(&self.reply), Reply::AtMostBytes(most) if body.len() > most) {
                return (413, Vec::new());
            }
            lock(&self.metrics).push(Message::decode(body).expect("metrics"));
            return (200, Vec::new());
        }
        if path.contains("logs") {
            lock(&self.logs).push(Message::decode(body).expect("logs"));
            return (200, Vec::new());
        }
        let request = ExportTraceServiceRequest::decode(body).expect("spans");
        lock(&self.traces).push(request.clone());
        let resources = request.resource_spans.into_iter();
        let scopes = resources.flat_map(|it| it.scope_spans);
        let spans: Vec<Span> = scopes.flat_map(|it| it.spans).collect();
        let mut rejected = 0;
        match *lock(&self.reply) {
            Reply::Rejects(count) => rejected = count,
            Reply::Status(status) => return (status, Vec::new()),
            Reply::AtMost(most) if spans.len() > most => return (413, Vec::new()),
            Reply::AtMostBytes(most) if length(&spans) > most => return (413, Vec::new()),
            Reply::Takes | Reply::AtMost(_) | Reply::AtMostBytes(_) => {}
        }
        lock(&self.spans).extend(spans);
        let partial = ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "some are odd".to_owned(),
        };
        let answer = ExportTraceServiceResponse {
            partial_success: (rejected > 0).then_some(partial),
        };
        (200, answer.encode_to_vec())
    }
}

fn unpacked(headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let is_packed = headers
        .get("content-encoding")
        .is_some_and(|it| it == "gzip");
    if is_packed {
        gunzip(body)
    } else {
        body.to_vec()
    }
}

fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(body).read_to_end(&mut plain).expect("gzip");
    plain
}

/// One message of gRPC: a flag, a length, bytes.
fn unframed(body: &[u8]) -> Vec<u8> {
    let (head, message) = body.split_at(5);
    if head[0] == 1 {
        gunzip(message)
    } else {
        message.to_vec()
    }
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(Full::new(body).boxed());
    *answer.status_mut() = status;
    answer
}

fn in_grpc(status: u16, message: &[u8]) -> Response<Body> {
    let (code, words) = match status {
        200 => ("0", ""),
        413 => ("8", "grpc: received message larger than max"),
        400 => ("3", "odd"),
        _ => ("14", "busy"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().expect("a code"));
    trailers.insert("grpc-message", words.parse().expect("words"));
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    framed.extend_from_slice(message);
    let data = (code == "0").then(|| Ok(Frame::data(framed.into())));
    let frames = data.into_iter().chain([Ok(Frame::trailers(trailers))]);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut answer = Response::new(BodyExt::boxed(body));
    let headers = answer.headers_mut();
    headers.insert("content-type", "application/grpc".parse().expect("a type"));
    answer
}

/// The value of an attribute, as text.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|it| it.key == key)?;
    found.value.as_ref().and_then(text)
}

fn text(value: &AnyValue) -> Option<String> {
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        Value::BoolValue(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// How often a metric was measured, or what it comes to, by these attributes.
pub(crate) fn measured(metrics: &[Metric], name: &str, with: &[(&str, &str)]) -> Option<f64> {
    let metric = metrics.iter().find(|it| it.name == name)?;
    let fits = |of: &[KeyValue]| {
        let has = |(key, value): &(&str, &str)| attribute(of, key).as_deref() == Some(*value);
        with.iter().all(has)
    };
    match metric.data.as_ref()? {
        Data::Histogram(of) => of.data_points.iter().find(|it| fits(&it.attributes))?.sum,
        Data::Sum(of) => {
            let point = of.data_points.iter().find(|it| fits(&it.attributes))?;
            match point.value? {
                opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsInt(sum) => {
                    sum.to_string().parse().ok()
                }
                opentelemetry_proto::tonic::metrics::v1::number_data_point::Value::AsDouble(
                    sum,
                ) => Some(sum),
            }
        }
        _ => None,
    }
}

fn length(spans: &[Span]) -> usize {
    spans.iter().map(Message::encoded_len).sum()
}
