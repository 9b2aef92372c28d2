//! TLS as rustls with ring does it.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// With the certificates of a PEM file. Those that rustls cannot use are passed over.
pub(crate) fn config(file: &Path) -> Result<ClientConfig, String> {
    let certificates = CertificateDer::pem_file_iter(file).map_err(|_| {
        format!(
            "there are no certificates to trust: the operator has given no {}",
            file.display()
        )
    })?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    of(roots)
}

pub(crate) fn of(roots: RootCertStore) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
