//! TLS for the proxy's listener: a certificate chain and its key, HTTP/2 and HTTP/1.1.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct CertificateError {
    path: PathBuf,
    cause: String,
}

/// Reads the files and builds what accepts TLS connections.
pub fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, CertificateError> {
    let certificate = |cause: String| CertificateError {
        path: config.certificate.clone(),
        cause,
    };
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| certificate(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| CertificateError {
        path: config.key.clone(),
        cause: error.to_string(),
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| certificate(error.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}
