//! Which certificates a Redis is trusted by.

use std::path::Path;
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;

/// Those of a file and those of the system, as one PEM: the client takes one in place of the system's.
pub(super) fn roots(file: &Path) -> io::Result<Vec<u8>> {
    let mut pem = fs::read(file)?;
    for certificate in rustls_native_certs::load_native_certs().certs {
        let text = STANDARD.encode(&certificate);
        // One that cannot be used must not keep the others from being used.
        if RootCertStore::empty().add(certificate).is_ok() {
            let block =
                format!("\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            pem.extend_from_slice(block.as_bytes());
        }
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_file_is_trusted_besides_the_system() {
        let file = Path::new("tests/fixtures/config/certificate.pem");
        let all = roots(file).unwrap();
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&all).collect();
        let (all, own) = (all.unwrap(), CertificateDer::from_pem_file(file).unwrap());
        assert!(all.contains(&own));
        let mut store = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs().certs;
        let (usable, _) = store.add_parsable_certificates(system);
        assert_eq!(all.len(), 1 + usable);
        let of_system = all.into_iter().filter(|it| *it != own);
        let found = RootCertStore::empty().add_parsable_certificates(of_system);
        assert_eq!(found, (usable, 0), "all that are there can be used");
    }
}
