use std::fmt;
use std::sync::{Arc, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::StartError;

/// A certificate and its key, which may be replaced at any time; connections keep what they began with.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    /// Of a chain of certificates, the server's own first, and its private key, both as PEM.
    ///
    /// # Errors
    /// If they are not that, or do not belong together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, StartError> {
        let config = config(chain, key)?;
        Ok(Self(Arc::new(RwLock::new(config))))
    }

    /// Takes others for connections from now on.
    ///
    /// # Errors
    /// As [`Self::new`]; then everything stays as it was.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), StartError> {
        let config = config(chain, key)?;
        *self.0.write().expect("nothing panics while it is held") = config;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.read().expect("nothing panics while it is held");
        config.clone().into()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn config(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, StartError> {
    let fail = |what: &str, error: &dyn fmt::Display| {
        StartError::Tls(format!(
            "{what}: expected PEM, found what cannot be read: {error}"
        ))
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| fail("certificate", &error))?;
    if chain.is_empty() {
        return Err(StartError::Tls(
            "certificate: expected PEM with one at least, found none".to_owned(),
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| fail("private key", &error))?;
    let refuse = |error: rustls::Error| {
        StartError::Tls(format!("certificate and private key do not do: {error}"))
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refuse)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refuse)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
