//! Where the reading commands get their answers: the admin API, of the running server or, when
//! none runs, the same handlers in this process over the ledger's files. One API, one output.
//! Orders go to a running server alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use super::key::Key;
use super::{Common, Failure};
use crate::admin::problem::Problem;
use crate::upstream;

/// For the server to answer one question.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) enum Source {
    Server {
        client: reqwest::Client,
        base: String,
        /// What to do when the server does not let us in.
        advice: String,
    },
    Files(Router),
}

impl Source {
    /// The server that listens at `address`. It is shown the admin token, as far as there is one.
    pub(super) fn server(common: &Common, address: SocketAddr) -> Result<Self, Failure> {
        let Key { header, advice } = Key::find(common, address);
        let header = header.map(|value| (AUTHORIZATION, value));
        let trust = upstream::trust(false, None).map_err(impossible)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(trust)
            .timeout(PATIENCE)
            .default_headers(header.into_iter().collect::<HeaderMap>())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(impossible)?;
        Ok(Self::Server {
            client,
            base: format!("http://{}", reachable(address)),
            advice,
        })
    }

    /// Whether it answers at all: a server may ask for a token that is not there.
    pub(super) async fn is_open(&self) -> Result<bool, Failure> {
        let Self::Server { client, base, .. } = self else {
            return Ok(true);
        };
        let (status, _) = from_server(client.get(format!("{base}/api/v1/status"))).await?;
        Ok(status != StatusCode::UNAUTHORIZED)
    }

    /// `None` when there is no such thing.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        let (status, body) = self.read(path).await?;
        match status {
            StatusCode::OK => Ok(Some(body)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refusal(status, &body)),
        }
    }

    /// The answer, or why there is none: in the words of the server.
    pub(super) async fn ask(&self, path: &str, params: &impl Serialize) -> Result<Bytes, Failure> {
        let (status, body) = self.read(&target(path, params)?).await?;
        answer(status, body)
    }

    async fn read(&self, target: &str) -> Result<(StatusCode, Bytes), Failure> {
        match self {
            Self::Server { client, base, .. } => {
                self.send(client.get(format!("{base}{target}"))).await
            }
            Self::Files(router) => from_files(router.clone(), target).await,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<(StatusCode, Bytes), Failure> {
        let (status, body) = from_server(request).await?;
        match self {
            Self::Server { base, advice, .. } if status == StatusCode::UNAUTHORIZED => {
                Err(Failure::Impossible(format!(
                    "the server at {base} asks for its admin token: {advice}"
                )))
            }
            _ => Ok((status, body)),
        }
    }

    /// What the running server did, or why it did not: in its own words.
    pub(super) async fn post(&self, path: &str, order: &impl Serialize) -> Result<Bytes, Failure> {
        let Self::Server { client, base, .. } = self else {
            let none = "only a running server carries out orders";
            return Err(Failure::Impossible(none.to_owned()));
        };
        let (status, body) = self
            .send(client.post(format!("{base}{path}")).json(order))
            .await?;
        answer(status, body)
    }

    pub(super) async fn list(&self, path: &str, params: &impl Serialize) -> Result<Bytes, Failure> {
        self.get(&target(path, params)?)
            .await?
            .ok_or_else(|| Failure::Impossible(format!("the server does not know {path}")))
    }
}

pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::Impossible(format!("the server's answer is not understood: {error}"))
    })
}

fn target(path: &str, params: &impl Serialize) -> Result<String, Failure> {
    let query = serde_urlencoded::to_string(params).map_err(impossible)?;
    Ok(if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    })
}

fn answer(status: StatusCode, body: Bytes) -> Result<Bytes, Failure> {
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::NOT_FOUND => Err(Failure::Negative(detail(status, &body))),
        _ => Err(refusal(status, &body)),
    }
}

async fn from_server(request: reqwest::RequestBuilder) -> Result<(StatusCode, Bytes), Failure> {
    let response = request.send().await.map_err(impossible)?;
    let status = response.status();
    Ok((status, response.bytes().await.map_err(impossible)?))
}

async fn from_files(router: Router, path: &str) -> Result<(StatusCode, Bytes), Failure> {
    let request = Request::get(path).body(Body::empty()).map_err(impossible)?;
    let Ok(response) = router.oneshot(request).await;
    let status = response.status();
    Ok((
        status,
        response
            .into_body()
            .collect()
            .await
            .map_err(impossible)?
            .to_bytes(),
    ))
}

/// A server on all addresses is asked on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

fn refusal(status: StatusCode, body: &Bytes) -> Failure {
    Failure::Impossible(detail(status, body))
}

fn detail(status: StatusCode, body: &Bytes) -> String {
    serde_json::from_slice::<Problem>(body).map_or_else(
        |_| format!("the server answered {status}"),
        |problem| problem.detail,
    )
}

/// The whole chain of causes in one line.
pub(super) fn impossible(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Impossible(format!("{:#}", error.into()))
}
