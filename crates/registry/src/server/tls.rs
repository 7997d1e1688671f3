//! TLS: a certificate and its key from files, which are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::watched::{Notice, Watched};
use crate::error::{Error, Result};

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM: the server's certificate, then those of the authorities between it and the root.
    pub certificate: PathBuf,
    /// PEM: the key of the first certificate.
    pub key: PathBuf,
}

struct Resolver(Watched<CertifiedKey>);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

/// Reads the files.
pub(super) fn acceptor(files: &TlsFiles, notice: &Notice) -> Result<TlsAcceptor> {
    let (certificate, key) = (files.certificate.clone(), files.key.clone());
    let watched = Watched::open(&[&files.certificate, &files.key], notice.clone(), move |contents| {
        certified(&certificate, &contents[0], &key, &contents[1])
    })?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for the default versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(watched)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Messages never contain parts of a damaged key.
fn certified(cert_path: &Path, cert_pem: &[u8], key_path: &Path, key_pem: &[u8]) -> Result<CertifiedKey> {
    let wrong = |path: &Path, reason: &str| Error::File { path: path.into(), reason: reason.to_string() };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert_pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| wrong(cert_path, "damaged PEM"))?;
    if chain.is_empty() {
        return Err(wrong(cert_path, "no certificate in PEM form (BEGIN CERTIFICATE)"));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| {
        wrong(key_path, "no private key in PEM form (BEGIN PRIVATE KEY); it must not be encrypted")
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            wrong(key_path, &format!("not the key of the certificate in {}", cert_path.display()))
        }
        _ => {
            wrong(key_path, &format!("the key or the certificate in {} cannot be used", cert_path.display()))
        }
    })
}
