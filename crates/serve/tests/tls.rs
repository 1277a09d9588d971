//! Encrypted connections.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloze_runtime::cpu::Options;
use cloze_serve::{Limits, Listener, Model, Server, Settings, Tls};
use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A certificate, its PEM and its key's.
struct Identity(TlsConnector, String, String);

impl Identity {
    fn new() -> Self {
        let names = vec!["localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = Arc::new(config).into();
        Self(connector, cert.pem(), signing_key.serialize_pem())
    }

    fn tls(&self) -> Tls {
        Tls::new(self.1.as_bytes(), self.2.as_bytes()).unwrap()
    }

    async fn connect(&self, address: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = "localhost".try_into().unwrap();
        self.0.connect(name, stream).await
    }
}

/// Asks once more over a connection that stays.
async fn is_well(stream: &mut TlsStream<TcpStream>) -> bool {
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    let is_well = &answer == b"HTTP/1.1 200 OK";
    let mut rest = [0; 1024];
    assert!(stream.read(&mut rest).await.unwrap() > 0);
    is_well
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_certificates_change_under_way() {
    let (old, new) = (Identity::new(), Identity::new());
    let tls = old.tls();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden/sentence-v6");
    let model = Model::open(
        "tiny".into(),
        &folder,
        Options::default(),
        Limits::default(),
    );
    let settings = Settings {
        tls: Some(tls.clone()),
        patience: Duration::from_millis(300),
        connections: 3,
        ..Settings::default()
    };
    let server = Server::new(vec![model.unwrap()], settings).unwrap();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.place().trim_start_matches("http://").to_owned();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(listener, async {
        let _ = stopped.await;
    }));

    assert!(is_well(&mut old.connect(&address).await.unwrap()).await);
    assert!(
        new.connect(&address).await.is_err(),
        "an unknown certificate"
    );

    // Neither plain text nor silence is answered, and neither holds a place for long.
    for _ in 0..4 {
        let mut plain = TcpStream::connect(&address).await.unwrap();
        plain
            .write_all(b"GET /health HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"));
    }
    let silent: Vec<_> = [(); 4].map(|()| TcpStream::connect(&address)).into();
    let mut held = Vec::new();
    for stream in silent {
        held.push(stream.await.unwrap());
    }
    assert!(is_well(&mut old.connect(&address).await.unwrap()).await);

    // Half a change is none.
    assert!(tls.replace(new.1.as_bytes(), old.2.as_bytes()).is_err());
    assert!(tls.replace(b"", b"").is_err());
    let mut kept = old.connect(&address).await.unwrap();
    assert!(is_well(&mut kept).await);
    tls.replace(new.1.as_bytes(), new.2.as_bytes()).unwrap();
    assert!(is_well(&mut new.connect(&address).await.unwrap()).await);
    assert!(old.connect(&address).await.is_err());
    assert!(is_well(&mut kept).await, "a connection stays as it was");

    drop(held);
    stop.send(()).unwrap();
    drop(kept);
    assert!(running.await.unwrap());
}
