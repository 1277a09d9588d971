use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::auth::{self, Keys};
use crate::registry::{Admin, Live, Registry};
use crate::route::{self, Shared, admin};
use crate::trace::{self, Collect};
use crate::{Model, StartError, Tls, watch};

/// How a server treats connections.
pub struct Settings {
    /// Keys that let requests in.
    pub keys: Keys,
    /// Encrypts connections, if given.
    pub tls: Option<Tls>,
    /// Prints the metrics, if they are kept.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// Takes what requests did, if anybody wants to know.
    pub traces: Option<Collect>,
    /// Lets an operator change models, if given.
    pub admin: Option<Admin>,
    /// Most connections at the same time; further ones wait to be taken.
    pub connections: usize,
    /// Time for a connection to be encrypted, for the head of a request, and between two parts of a body.
    pub patience: Duration,
    /// Time for what is under way when the server stops.
    pub drain: Duration,
    /// Most bytes of a body.
    pub payload_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            tls: None,
            metrics: None,
            traces: None,
            admin: None,
            connections: 1024,
            patience: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            payload_bytes: 2_000_000,
        }
    }
}

/// Where requests come from.
pub enum Listener {
    /// The network.
    Tcp(TcpListener),
    /// A socket of the file system, and its path.
    #[cfg(unix)]
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on an address.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn tcp(address: SocketAddr) -> Result<Self, StartError> {
        let listener = TcpListener::bind(address).await;
        listener.map(Self::Tcp).map_err(|source| StartError::Io {
            what: address.to_string(),
            source,
        })
    }

    /// Listens on a socket file, which must not exist yet and is removed in the end.
    ///
    /// # Errors
    /// If the system refuses.
    #[cfg(unix)]
    pub fn unix(path: PathBuf) -> Result<Self, StartError> {
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(Self::Unix(listener, path)),
            Err(source) => Err(StartError::Io {
                what: path.display().to_string(),
                source,
            }),
        }
    }

    /// Where that is, for a person.
    pub fn place(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(
                |_| "an unknown address".to_owned(),
                |a| format!("http://{a}"),
            ),
            #[cfg(unix)]
            Self::Unix(_, path) => path.display().to_string(),
        }
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            #[cfg(unix)]
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Self::Unix(_, path) = self {
            // Another server finds out by itself that it is in the way.
            let _ = std::fs::remove_file(path);
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Models behind routes.
pub struct Server {
    is_stopping: Arc<AtomicBool>,
    router: Router,
    settings: Settings,
}

impl Server {
    /// Puts models behind routes; the first answers where a request names none.
    ///
    /// # Errors
    /// If two have one name.
    ///
    /// # Panics
    /// If there is no model.
    pub fn new(models: Vec<Model>, mut settings: Settings) -> Result<Self, StartError> {
        assert!(!models.is_empty(), "a server has a model");
        for (index, model) in models.iter().enumerate() {
            if models[..index]
                .iter()
                .any(|other| other.name() == model.name())
            {
                return Err(StartError::SameName(model.name().to_owned()));
            }
        }
        watch::start();
        let is_stopping = Arc::<AtomicBool>::default();
        let live = Live::new(Shared {
            models: models.into_iter().map(Arc::new).collect(),
            is_stopping: is_stopping.clone(),
            metrics: settings.metrics.take(),
        });
        let router = router(live, &mut settings);
        Ok(Self {
            is_stopping,
            router,
            settings,
        })
    }

    /// The routes, to be called without a network.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Serves until `stop` is done; then takes no more connections, and answers what is under way.
    ///
    /// Returns whether all of that was answered in time.
    pub async fn run(self, listener: Listener, stop: impl Future<Output = ()>) -> bool {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.patience);
        let connections = Arc::new(Semaphore::new(self.settings.connections));
        let graceful = GracefulShutdown::new();
        let mut stop = pin!(stop);
        loop {
            let permit = tokio::select! {
                permit = connections.clone().acquire_owned() => permit,
                () = &mut stop => break,
            };
            let stream = tokio::select! {
                stream = listener.accept() => stream,
                () = &mut stop => break,
            };
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    // Out of file descriptors, say: existing connections may give some back.
                    tracing::warn!(%error, "no connection could be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(self.router.clone());
            let (builder, watcher) = (builder.clone(), graceful.watcher());
            let tls = self.settings.tls.as_ref().map(Tls::acceptor);
            let patience = self.settings.patience;
            tokio::spawn(async move {
                // Not while others wait to be taken: a client may take its time for this.
                let stream = match tls {
                    None => stream,
                    Some(tls) => match tokio::time::timeout(patience, tls.accept(stream)).await {
                        Ok(Ok(stream)) => Box::new(stream),
                        Ok(Err(error)) => {
                            tracing::debug!(%error, "a connection was not encrypted");
                            return;
                        }
                        Err(_) => return,
                    },
                };
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(permit);
            });
        }
        self.is_stopping.store(true, Ordering::Relaxed);
        drop(listener);
        let drained = tokio::time::timeout(self.settings.drain, graceful.shutdown());
        drained.await.is_ok()
    }
}

fn router(live: Live, settings: &mut Settings) -> Router {
    let (asked, open, mut description) = route::router();
    let admin = settings.admin.take().map(|admin| {
        let (router, routes) = admin::router(Registry::new(live.clone(), admin));
        description.merge(routes);
        router
    });
    let keys = settings.keys.clone();
    let mut asked = asked.route_layer(from_fn_with_state(keys, auth::require));
    if let Some(collect) = settings.traces.take() {
        asked = asked.route_layer(from_fn_with_state(collect, trace::follow));
    }
    let mut description = serde_json::to_value(description).expect("a description is plain data");
    any_of(&mut description);
    let description = format!("{description:#}");
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    let id = HeaderName::from_static("x-request-id");
    let span = |request: &Request<_>| {
        let id = request.extensions().get::<RequestId>();
        let id = id.and_then(|id| id.header_value().to_str().ok());
        tracing::info_span!(
            "request", method = %request.method(), path = request.uri().path(), id = id.unwrap_or("")
        )
    };
    asked
        .merge(open)
        .with_state(live)
        .merge(admin.unwrap_or_default())
        .route(
            "/api-doc/openapi.json",
            get(move || async move { (json, description) }),
        )
        .layer(DefaultBodyLimit::max(settings.payload_bytes))
        .layer(CatchPanicLayer::custom(|_| {
            axum::response::IntoResponse::into_response(StatusCode::INTERNAL_SERVER_ERROR)
        }))
        .layer(RequestBodyTimeoutLayer::new(settings.patience))
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_request(())
                .on_response(
                    tower_http::trace::DefaultOnResponse::new().level(tracing::Level::INFO),
                ),
        )
        .layer(SetRequestIdLayer::new(id, Numbers::default()))
}

/// Requests of a server by number, where clients send no id.
#[derive(Clone, Default)]
struct Numbers(Arc<AtomicU64>);

impl MakeRequestId for Numbers {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Some(RequestId::new(HeaderValue::from(number)))
    }
}

/// Says that a value is any of several, where it is said to be one of them alone: an empty list is of no entities of a text, and of
/// those of no texts.
fn any_of(description: &mut serde_json::Value) {
    match description {
        serde_json::Value::Object(fields) => {
            if let Some(several) = fields.remove("oneOf") {
                fields.insert("anyOf".to_owned(), several);
            }
            fields.values_mut().for_each(any_of);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(any_of),
        _ => {}
    }
}
