//! The upstream side: where calls go, over which connections, with which trust.

mod body;
mod silence;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

pub use self::body::{RequestBody, Upload, UploadEnd};
pub use self::silence::Silence;
use crate::config::UpstreamConfig;

/// Idle connections are given up before a server's usual keep-alive ends, since a request that
/// meets a closing connection is lost. Local model servers keep 5 s; reconnecting to them is
/// cheap. Behind TLS, keep-alive is a minute or more and reconnecting is not.
const IDLE_PLAIN: Duration = Duration::from_secs(4);
const IDLE_TLS: Duration = Duration::from_secs(55);
const IDLE_PER_HOST: usize = 256;

/// One configured endpoint with its connection pool.
pub struct Upstream {
    config: UpstreamConfig,
    scheme: Scheme,
    authority: Authority,
    base_path: String,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, RequestBody>,
    /// Cleared when the upstream turns out to reject `stream_options`.
    takes_usage_option: AtomicBool,
}

/// Why an upstream cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("upstream {name}: base_url has no host")]
    NoHost { name: String },
    #[error("upstream {name}: its key cannot be sent in a header")]
    Key { name: String },
    #[error("extra_ca_file {path}: {cause}")]
    CaFile { path: PathBuf, cause: String },
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why a request got no response head.
#[derive(Debug)]
pub enum SendError {
    Connect(String),
    Closed(String),
    Timeout(Duration),
}

impl Upstream {
    pub fn new(config: &UpstreamConfig) -> Result<Self, UpstreamError> {
        let name = config.name.to_string();
        let authority = config
            .base_url
            .authority()
            .cloned()
            .ok_or_else(|| UpstreamError::NoHost { name: name.clone() })?;
        let scheme = config.base_url.scheme().cloned().unwrap_or(Scheme::HTTPS);
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| UpstreamError::NoHost { name: name.clone() })?;
        let authorization = config
            .api_key
            .as_ref()
            .map(|key| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                    .map_err(|_| UpstreamError::Key { name })?;
                value.set_sensitive(true);
                Ok::<_, UpstreamError>(value)
            })
            .transpose()?;
        Ok(Self {
            base_path: config.base_url.path().trim_end_matches('/').to_owned(),
            client: client(config, scheme == Scheme::HTTPS)?,
            takes_usage_option: AtomicBool::new(true),
            config: config.clone(),
            scheme,
            authority,
            host,
            authorization,
        })
    }

    pub fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The upstream's own credential, which takes the place of the client's.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    pub fn serves(&self, model: &str) -> bool {
        self.config.models.iter().any(|glob| glob.matches(model))
    }

    pub fn asks_for_usage(&self) -> bool {
        self.config.ask_for_usage && self.takes_usage_option.load(Ordering::Relaxed)
    }

    pub fn stop_asking_for_usage(&self) {
        self.takes_usage_option.store(false, Ordering::Relaxed);
    }

    /// `/v1/<rest>` goes to `<base_url>/<rest>`, any other path to the same place at the origin.
    pub fn uri_for(&self, target: &str) -> Option<Uri> {
        let rest = match target.strip_prefix("/v1") {
            Some(rest) if rest.is_empty() || rest.starts_with(['/', '?']) => Some(rest),
            _ => None,
        };
        let path: PathAndQuery = match rest {
            Some(rest) => format!("{}{rest}", self.base_path).parse().ok()?,
            None => target.parse().ok()?,
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }

    /// Sends one request and waits for the response head. No retry after the first byte, no
    /// redirects. The time a client takes over a streamed body is not the upstream's.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let limit = self.config.response_timeout;
        let upload = request.body().upload();
        let overdue = async {
            match upload {
                None => tokio::time::sleep(limit).await,
                Some(upload) => upload.overdue(limit).await,
            }
        };
        tokio::select! {
            biased;
            answered = self.client.request(request) => answered.map_err(|error| {
                let cause = root_cause(&error);
                if error.is_connect() {
                    SendError::Connect(cause)
                } else {
                    SendError::Closed(cause)
                }
            }),
            () = overdue => Err(SendError::Timeout(limit)),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn root_cause(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn client(
    config: &UpstreamConfig,
    secure: bool,
) -> Result<Client<HttpsConnector<HttpConnector>, RequestBody>, UpstreamError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.connect_timeout));
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(trust(secure, config.extra_ca_file.as_ref())?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(if secure { IDLE_TLS } else { IDLE_PLAIN })
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .http1_max_headers(256)
        .set_host(false)
        .build(connector))
}

/// The cryptography of HTTP clients that are not given any, for the whole process.
pub fn set_cryptography() {
    // Whoever came first has set the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Trust: the platform's roots, the bundled ones where the platform has none, and the user's.
pub fn trust(secure: bool, extra: Option<&PathBuf>) -> Result<ClientConfig, UpstreamError> {
    let mut roots = RootCertStore::empty();
    if secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    if let Some(path) = extra {
        let fail = |cause: String| UpstreamError::CaFile {
            path: path.clone(),
            cause,
        };
        let certificates = CertificateDer::pem_file_iter(path)
            .map_err(|error| fail(error.to_string()))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| fail(error.to_string()))?;
        if certificates.is_empty() {
            return Err(fail("holds no certificate".to_owned()));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| fail(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
