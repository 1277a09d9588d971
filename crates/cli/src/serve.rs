use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use cloze_runtime::cpu::Options;
use cloze_serve::{Admin, Key, Keys, Limits, Listener, Model, Server, Settings, StartError, Tls};
use cloze_spec::hugging_face::Folder;
use cloze_train::Place;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Serve, here};
use crate::{hub, otlp, recommender};

/// How often the files of keys and certificates are looked at.
const FILES_EVERY: Duration = Duration::from_secs(5);

/// How long the collector of traces has for the last of them.
const LAST_TRACES: Duration = Duration::from_secs(2);

pub fn run(args: &Serve) -> anyhow::Result<()> {
    log(args)?;
    anyhow::ensure!(
        !args.models.is_empty(),
        "no model: name one on the command line, or some under `models` in the file of --config"
    );
    let keys = Keys::default();
    read_keys(args, &keys)?;
    let limits = limits(args);
    let options = args.options()?;
    let place = here(args.device.place())?;
    let models: Vec<Model> = args
        .models
        .iter()
        .map(|model| {
            let (name, folder) = named(model);
            let folder = hub::folder(folder, &args.by_name)?;
            tracing::info!(model = name, "loading");
            open(name.to_owned(), &folder, options, place, limits)
        })
        .collect::<anyhow::Result<_>>()?;
    let tls = tls_files(args)?
        .map(|paths| anyhow::Ok((with_certificate(&paths, Tls::new)?, paths)))
        .transpose()?;
    let traces = args
        .otlp_endpoint
        .as_ref()
        .map(|endpoint| otlp::Collector::new(endpoint, &args.otlp_service_name))
        .transpose()?;
    let recorder = recorder()?;
    let (collect, sending) = traces.map(otlp::exporter).unzip();
    let printer = recorder.clone();
    let settings = Settings {
        keys: keys.clone(),
        tls: tls.as_ref().map(|(tls, _)| tls.clone()),
        metrics: Some(Arc::new(move || printer.render())),
        traces: collect,
        admin: admin(args, options, place, limits)?,
        connections: args.max_connections,
        patience: Duration::from_secs(10),
        drain: Duration::from_secs(args.drain),
        payload_bytes: args.payload_limit,
    };
    let server = Server::new(models, settings)?;
    let files = Files {
        keys: args.api_key_file.clone().map(|path| (path, keys)),
        tls: tls.map(|(tls, paths)| (paths, tls)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads to serve on")?;
    let drained = runtime.block_on(async {
        let listener = listener(args).await?;
        let mut place = listener.place();
        if files.tls.is_some() {
            place = place.replace("http:", "https:");
        }
        tracing::info!(at = place, "serving");
        tokio::spawn(upkeep(files, recorder));
        let sending = sending.map(tokio::spawn);
        let drained = server.run(listener, stopped()).await;
        if let Some(sending) = sending {
            // What the last requests did; a collector that does not take it is not waited for.
            let _ = tokio::time::timeout(LAST_TRACES, sending).await;
        }
        anyhow::Ok(drained)
    })?;
    // A model that is being loaded or drained is not waited for.
    runtime.shutdown_background();
    anyhow::ensure!(
        drained,
        "not everything under way was answered within {} s (--drain)",
        args.drain
    );
    tracing::info!("stopped");
    Ok(())
}

/// `NAME=FOLDER`, or a folder that is called by its own name.
fn named(model: &str) -> (&str, &Path) {
    match model.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !name.contains('/') => {
            (name, Path::new(folder))
        }
        _ => {
            let name = Path::new(model).file_name().and_then(|name| name.to_str());
            (name.unwrap_or(model), Path::new(model))
        }
    }
}

/// A model of texts, or one of items that `cloze train` wrote; ready for requests.
fn open(
    name: String,
    folder: &Path,
    options: Options,
    place: Place,
    limits: Limits,
) -> anyhow::Result<Model> {
    let model = if Folder::is_at(folder) {
        Model::open(name, folder, options, limits)?
    } else {
        Model::recommender(name, recommender::open(folder, place)?, limits)?
    };
    if place != Place::Cpu {
        model.warm_up()?;
    }
    Ok(model)
}

fn limits(args: &Serve) -> Limits {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Limits {
        batch_tokens: args.max_batch_tokens,
        waiting_tokens: args.max_waiting_tokens,
        client_batch_size: args.max_client_batch_size,
        auto_truncate: args.auto_truncate,
        timeout: Duration::from_millis(args.request_timeout),
        payload_bytes: args.payload_limit,
        tokenizers: args.tokenization_workers.unwrap_or(cores),
        cache_bytes: args.cache_bytes,
    }
}

fn admin(
    args: &Serve,
    options: Options,
    place: Place,
    limits: Limits,
) -> anyhow::Result<Option<Admin>> {
    let Some(token) = &args.admin_token else {
        return Ok(None);
    };
    anyhow::ensure!(
        !token.is_empty(),
        "--admin-token: expected a token, found none"
    );
    let models_dir = args.models_dir.clone();
    let models_dir = models_dir
        .context("--admin-token: expected --models-dir too, below which models may be loaded")?;
    anyhow::ensure!(
        models_dir.is_dir(),
        "--models-dir: expected a folder, found {}",
        models_dir.display()
    );
    Ok(Some(Admin {
        token: token.clone(),
        models_dir,
        open: Box::new(move |name, folder| {
            open(name, folder, options, place, limits).map_err(|error| format!("{error:#}"))
        }),
        available_bytes: Box::new(available_bytes),
    }))
}

/// Memory that can be had: what the machine has left, or the container, whichever is less; on Linux.
fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("MemAvailable:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib << 10)
    });
    let container = number("/sys/fs/cgroup/memory.max").and_then(|most| {
        let used = number("/sys/fs/cgroup/memory.current")?;
        Some(most.saturating_sub(used))
    });
    machine.into_iter().chain(container).min()
}

async fn listener(args: &Serve) -> anyhow::Result<Listener> {
    #[cfg(unix)]
    if let Some(path) = &args.unix_socket {
        anyhow::ensure!(
            args.tls_cert.is_none(),
            "--unix-socket is not encrypted; leave --tls-cert and --tls-key out"
        );
        return Ok(Listener::unix(path.clone())?);
    }
    Ok(Listener::tcp(SocketAddr::new(args.hostname, args.port)).await?)
}

/// Done when the process is asked to end.
async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("the signal is a usual one");
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = interrupt.await;
    tracing::info!("stopping: what is under way is answered first");
}

fn read_keys(args: &Serve, keys: &Keys) -> anyhow::Result<()> {
    if let Some(path) = &args.api_key_file {
        keys.replace(keys_in(path)?);
    } else if let Some(key) = &args.api_key {
        anyhow::ensure!(!key.is_empty(), "--api-key: expected a key, found none");
        keys.replace(vec![key.as_str().into()]);
    }
    Ok(())
}

/// The keys of a file, one a line, perhaps with a name and limits; a line may begin with `#`.
fn keys_in(path: &Path) -> anyhow::Result<Vec<Key>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = (1..).zip(text.lines().map(str::trim));
    let keys = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let key = Key::parse(line);
            key.map_err(|error| anyhow::anyhow!("{}: line {number}: {error}", path.display()))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(
        !keys.is_empty(),
        "{}: expected keys, one a line, found none",
        path.display()
    );
    Ok(keys)
}

/// The certificate and the key that encrypt, as `use_them` takes them.
fn with_certificate<T>(
    (certificate, key): &(PathBuf, PathBuf),
    use_them: impl FnOnce(&[u8], &[u8]) -> Result<T, StartError>,
) -> anyhow::Result<T> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let (chain, secret) = (read(certificate)?, read(key)?);
    use_them(&chain, &secret)
        .with_context(|| format!("{}, {}", certificate.display(), key.display()))
}

fn tls_files(args: &Serve) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    match (&args.tls_cert, &args.tls_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate.clone(), key.clone()))),
        _ => anyhow::bail!("expected --tls-cert and --tls-key together, found one of them"),
    }
}

/// What is read anew when it changes.
struct Files {
    keys: Option<(PathBuf, Keys)>,
    tls: Option<((PathBuf, PathBuf), Tls)>,
}

impl Files {
    /// When they were changed.
    fn changes(&self) -> [Option<SystemTime>; 3] {
        let keys = self.keys.as_ref().map(|(path, _)| path);
        let tls = self.tls.as_ref().map(|(paths, _)| paths);
        [keys, tls.map(|tls| &tls.0), tls.map(|tls| &tls.1)]
            .map(|path| path?.metadata().ok()?.modified().ok())
    }

    fn read_keys(&self) {
        let Some((path, keys)) = &self.keys else {
            return;
        };
        match keys_in(path) {
            Ok(new) => {
                tracing::info!(count = new.len(), "keys read anew");
                keys.replace(new);
            }
            Err(error) => tracing::warn!("keys stay as they were: {error:#}"),
        }
    }

    fn read_tls(&self) {
        let Some((paths, tls)) = &self.tls else {
            return;
        };
        match with_certificate(paths, |chain, key| tls.replace(chain, key)) {
            Ok(()) => tracing::info!("certificate read anew"),
            Err(error) => tracing::warn!("the certificate stays as it was: {error:#}"),
        }
    }
}

/// Reads changed files anew, all of them when the process is told to, and lets the metrics forget what is old.
async fn upkeep(files: Files, recorder: PrometheusHandle) {
    let mut seen = files.changes();
    let mut ticks = tokio::time::interval(FILES_EVERY);
    #[cfg(unix)]
    let mut told = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).expect("the signal is a usual one")
    };
    loop {
        #[cfg(unix)]
        let is_told = tokio::select! {
            _ = ticks.tick() => false,
            _ = told.recv() => true,
        };
        #[cfg(not(unix))]
        let is_told = {
            ticks.tick().await;
            false
        };
        recorder.run_upkeep();
        let now = files.changes();
        if is_told || now[0] != seen[0] {
            files.read_keys();
        }
        if is_told || now[1..] != seen[1..] {
            files.read_tls();
        }
        seen = now;
    }
}

/// Keeps metrics for the whole process.
fn recorder() -> anyhow::Result<PrometheusHandle> {
    let seconds: Vec<f64> = (0..18).map(|power| 1e-4 * f64::from(1 << power)).collect();
    let counts: Vec<f64> = (0..16).map(|power| f64::from(1 << power)).collect();
    let builder = PrometheusBuilder::new()
        .set_buckets(&seconds)?
        .set_buckets_for_metric(Matcher::Prefix("te_batch_next".to_owned()), &counts)?
        .set_buckets_for_metric(Matcher::Suffix("input_length".to_owned()), &counts)?;
    Ok(builder.install_recorder()?)
}

fn log(args: &Serve) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log).context("--log")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let result = if args.json_output {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    result.map_err(|error| anyhow::anyhow!("no log: {error}"))
}
