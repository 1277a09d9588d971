//! A server under more load than it can take, while clients misbehave, keys and models change, and it is told to end.
//!
//! Every answer is compared with what the library says; a request that was not refused is answered, by one model. The short form
//! runs with the other tests; the long one with
//! `CLOZE_SOAK_SECONDS=1800 cargo test --release -p cloze --test soak -- --ignored --nocapture`. There, clients of tiny models ask
//! again as soon as they are answered. With `CLOZE_SOAK_MODEL` naming a sentence-transformers folder, what a server can do of it
//! is measured when it has started, and half as much again is asked from then on, whether answers come or not.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may stop, and a long one says how it goes"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use cloze_runtime::cpu::Options;
use cloze_runtime::model::TextEncoder;

/// What a server may grow by from a third of its life to its end: in a minute a leak of a request's kilobyte shows; in three
/// seconds, which a busy machine spends on warming up, only a gross one.
const MINUTE_GROWTH_KIB: usize = 24 << 10;
const SECONDS_GROWTH_KIB: usize = 128 << 10;
/// Of a real model: what a swap leaves with the allocator until it is used again; not what a dozen swaps would leave that
/// kept a model each.
const SWAP_GROWTH_KIB: usize = 128 << 10;

/// How long clients keep a connection that they do not use: half of what servers wait for another request.
const IDLE: Duration = Duration::from_secs(5);

/// How much is asked where that is measured, of what a server can do.
const LOAD: f64 = 1.5;

/// What is served, and how it is tried.
struct Form {
    length: Duration,
    /// Of one server.
    life: Duration,
    growth_kib: usize,
    models_dir: PathBuf,
    models: [&'static str; 2],
    texts: Vec<String>,
    clients: usize,
    threads: usize,
    waiting_tokens: usize,
    swap_every: Duration,
    /// Clients that ask without a pause while it is measured what they get, and how long that takes; if none, all always do.
    measure: Option<(usize, Duration)>,
}

impl Form {
    /// Tiny models, and clients that never pause.
    fn tiny(length: Duration, life: Duration, growth_kib: usize) -> Self {
        let text = |n: usize| {
            let word = ["dog", "query", "passage"][n % 3];
            format!("the {word} cat {}", "sat ".repeat(n / 3))
        };
        Self {
            length,
            life,
            growth_kib,
            models_dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/golden"),
            models: ["sentence-v6", "sentence"],
            texts: (0..40).map(text).collect(),
            clients: 24,
            threads: 1,
            waiting_tokens: 300,
            swap_every: Duration::from_millis(70),
            measure: None,
        }
    }

    /// The model of a folder and one that pools otherwise, both below `models_dir`, which is filled; asked for more than they
    /// can do.
    fn real(length: Duration, model: &Path, models_dir: &Path) -> Self {
        let models = ["as-it-is", "of-first-tokens"];
        for name in models {
            copy(model, &models_dir.join(name));
        }
        let pooling = models_dir.join(models[1]).join("1_Pooling/config.json");
        let settings = std::fs::read(&pooling).unwrap();
        let mut settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
        settings["pooling_mode_mean_tokens"] = false.into();
        settings["pooling_mode_cls_token"] = true.into();
        std::fs::write(&pooling, settings.to_string()).unwrap();
        let words = "time year people way day man thing woman life child world school state family group country problem hand";
        let words: Vec<_> = words.split(' ').collect();
        let mut chance = Chance(7);
        let mut text = |n: usize| {
            let count = match n % 10 {
                0 => 80 + chance.below(150),
                _ => 3 + chance.below(38),
            };
            let words: Vec<_> = (0..count)
                .map(|_| words[chance.below(words.len())])
                .collect();
            words.join(" ")
        };
        Self {
            life: Duration::from_secs(150),
            models_dir: models_dir.to_owned(),
            models,
            texts: (0..200).map(&mut text).collect(),
            clients: 128,
            threads: 2,
            waiting_tokens: 4096,
            swap_every: Duration::from_secs(10),
            measure: Some((16, Duration::from_secs(15))),
            ..Self::tiny(length, length, SWAP_GROWTH_KIB)
        }
    }
}

/// Copies a folder with the folders in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Numbers without a pattern that matters here (Knuth's MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

/// The server of the moment, and how many there were.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(folder: &Path, form: &Form) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_cloze"))
            .args(["serve", "--port", "0", "--log", "warn,cloze=info"])
            .args(["--threads", &form.threads.to_string()])
            .args(["--max-waiting-tokens", &form.waiting_tokens.to_string()])
            .args(["--cache-bytes", "20000"])
            .args(["--admin-token", "operator", "--api-key-file"])
            .arg(folder.join("keys"))
            .arg("--models-dir")
            .arg(&form.models_dir)
            .arg(format!(
                "tiny={}",
                form.models_dir.join(form.models[0]).display()
            ))
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.trim_end().trim_end_matches('"').to_owned();
            }
        };
        // Else it would wait for somebody to read its log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address }
    }

    /// Memory in KiB and open files, the least of moments up to halfway to another swap, which has two models for one.
    fn size(&self, swap_every: Duration) -> (usize, usize) {
        let between = (swap_every / 40).max(Duration::from_millis(25));
        let home = PathBuf::from(format!("/proc/{}", self.child.id()));
        let moments = (0..20).map(|_| {
            thread::sleep(between);
            let status = std::fs::read_to_string(home.join("status")).unwrap();
            let mut lines = status.lines();
            let line = lines.find(|line| line.starts_with("VmRSS:")).unwrap();
            let memory: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            (memory, std::fs::read_dir(home.join("fd")).unwrap().count())
        });
        moments
            .reduce(|(kib, files), (k, f)| (kib.min(k), files.min(f)))
            .unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Requests at their moments, whatever becomes of them.
struct Pace {
    start: Instant,
    every: Duration,
    taken: AtomicUsize,
}

impl Pace {
    /// Waits for the next moment that nobody has taken.
    fn wait(&self) {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let moment = self.start + self.every.mul_f64(number as f64);
        thread::sleep(moment.saturating_duration_since(Instant::now()));
    }
}

struct Battle {
    address: RwLock<String>,
    /// Counts up before a server is told to end and after the next one has started: odd in between.
    restarts: AtomicUsize,
    is_over: AtomicBool,
    form: Form,
    pace: RwLock<Option<Arc<Pace>>>,
    /// What each model says of each text.
    known: [Vec<Vec<f32>>; 2],
    sent: AtomicUsize,
    answered: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
    swaps: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

impl Battle {
    fn address(&self) -> String {
        self.address.read().unwrap().clone()
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed) && self.faults.lock().unwrap().is_empty()
    }

    fn fault(&self, told: String) {
        self.faults.lock().unwrap().push(told);
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect(self.address()).ok()?;
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        Some(stream)
    }
}

fn request(method: &str, path: &str, key: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A whole answer, its status and body: nothing if the connection ended before it began, an error if it ended within.
fn answer(stream: &mut TcpStream) -> Result<Option<(u16, Vec<u8>)>, String> {
    let mut found = Vec::new();
    let mut chunk = [0; 1 << 14];
    loop {
        if let Some(end) = found.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&found[..end]).to_lowercase();
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
            let status = status.ok_or_else(|| format!("no status: {head}"))?;
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            let body = &found[end + 4..];
            if body.len() >= length {
                return Ok(Some((status, body.to_vec())));
            }
        }
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => found.extend_from_slice(&chunk[..read]),
            _ if found.is_empty() => return Ok(None),
            _ => return Err(format!("it ended after {} bytes of an answer", found.len())),
        }
    }
}

/// Asks without a pause, and compares.
fn client(battle: &Battle, number: usize) {
    let mut chance = Chance(number as u64);
    let mut stream = None;
    let texts = &battle.form.texts;
    while battle.goes_on() {
        let pace = battle.pace.read().unwrap().clone();
        match (pace, battle.form.measure) {
            (Some(pace), _) => pace.wait(),
            (None, Some((clients, _))) if number >= clients => {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            (None, _) => {}
        }
        let before = battle.restarts.load(Ordering::SeqCst);
        // One that was kept from before a restart leads to a server that is no more, and an idle one may be closed any time.
        let is_good =
            |kept: &(TcpStream, usize, Instant)| kept.1 == before && kept.2.elapsed() < IDLE;
        let kept = stream.take().filter(is_good).map(|(stream, ..)| stream);
        let Some(mut open) = kept.or_else(|| battle.connect()) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let asked: Vec<usize> = (0..=chance.below(5))
            .map(|_| chance.below(texts.len()))
            .collect();
        let texts: Vec<_> = asked.iter().map(|&text| &texts[text]).collect();
        let body = serde_json::json!({"inputs": texts}).to_string();
        let sent = open.write_all(request("POST", "/embed", "steady", &body).as_bytes());
        battle.sent.fetch_add(1, Ordering::Relaxed);
        let found = if sent.is_ok() {
            answer(&mut open)
        } else {
            Ok(None)
        };
        match found {
            Ok(Some((200, body))) => {
                let found: Vec<Vec<f32>> = serde_json::from_slice(&body).unwrap();
                let is_of = |known: &Vec<Vec<f32>>| {
                    let known = asked.iter().map(|&text| &known[text]);
                    found.len() == asked.len() && found.iter().eq(known)
                };
                if !battle.known.iter().any(is_of) {
                    battle.fault(format!("a wrong answer to {asked:?}: {found:?}"));
                }
                battle.answered.fetch_add(1, Ordering::Relaxed);
                stream = Some((open, before, Instant::now()));
            }
            Ok(Some((429, _))) => {
                battle.refused.fetch_add(1, Ordering::Relaxed);
                stream = Some((open, before, Instant::now()));
            }
            Ok(Some((status, body))) => {
                let body = String::from_utf8_lossy(&body);
                battle.fault(format!("status {status}: {body}"));
            }
            // A connection that a server which is ending had not read from is closed, and asked again elsewhere.
            Ok(None) => {
                let after = battle.restarts.load(Ordering::SeqCst);
                if before == after && before.is_multiple_of(2) {
                    battle.fault("a request without an answer".to_owned());
                }
                battle.cut.fetch_add(1, Ordering::Relaxed);
            }
            Err(told) => battle.fault(told),
        }
    }
}

/// Sends what is no request, half a request, or hangs up.
fn vandal(battle: &Battle) {
    let mut chance = Chance(99);
    let whole = |body: &str| request("POST", "/embed", "steady", body);
    let many = format!(
        "{{\"inputs\": [{}]}}",
        vec!["\"the cat sat\""; 32].join(",")
    );
    while battle.goes_on() {
        let Some(mut stream) = battle.connect() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let kind = chance.below(8);
        let noise: Vec<u8> = (0..300).map(|_| chance.below(256) as u8).collect();
        let sent = match kind {
            0 => noise,
            1 => whole("{\"inputs\": \"\\ud800\"}").into_bytes(),
            2 => whole(&"[".repeat(10_000)).into_bytes(),
            3 => format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).into_bytes(),
            4 => request("POST", "/embed", "nobody", "{}").into_bytes(),
            5 => whole("{\"inputs\": [[4294967295]]}").into_bytes(),
            // Half of it, and all of it.
            6 => whole(&many).as_bytes()[..400].to_vec(),
            _ => whole(&many).into_bytes(),
        };
        // It may be closed before all is sent.
        let _ = stream.write_all(&sent);
        if kind < 6 {
            let _ = stream.shutdown(Shutdown::Write);
            if let Ok(Some((200, body))) = answer(&mut stream) {
                battle.fault(format!(
                    "an answer to no request: {:?}",
                    String::from_utf8_lossy(&body)
                ));
            }
        }
    }
}

/// Changes keys, perhaps to what is none, and tells the server.
fn locksmith(battle: &Battle, folder: &Path, process: &Mutex<Process>) {
    let mut round = 0;
    while battle.goes_on() {
        round += 1;
        let keys = match round % 3 {
            0 => "steady requests/s=never\n".to_owned(),
            _ => format!("steady name=soak\nother-{round} requests/s=1\n"),
        };
        // Not while a server ends and the next one starts, which would refuse to with a file that has a fault.
        if let Ok(process) = process.try_lock() {
            std::fs::write(folder.join("new"), keys).unwrap();
            std::fs::rename(folder.join("new"), folder.join("keys")).unwrap();
            process.signal("-HUP");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Swaps one model for the other.
fn swapper(battle: &Battle) {
    let mut round = 0;
    while battle.goes_on() {
        round += 1;
        let before = battle.restarts.load(Ordering::SeqCst);
        if let Some(mut stream) = battle.connect() {
            let body = format!("{{\"folder\": {:?}}}", battle.form.models[round % 2]);
            let sent = stream
                .write_all(request("PUT", "/admin/models/tiny", "operator", &body).as_bytes());
            match if sent.is_ok() {
                answer(&mut stream)
            } else {
                Ok(None)
            } {
                Ok(Some((200, _))) => {
                    battle.swaps.fetch_add(1, Ordering::Relaxed);
                }
                other => {
                    let after = battle.restarts.load(Ordering::SeqCst);
                    if before == after && before.is_multiple_of(2) {
                        battle.fault(format!("no swap: {other:?}"));
                    }
                }
            }
        }
        thread::sleep(battle.form.swap_every);
    }
}

fn soak(form: Form) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys"), "steady\n").unwrap();
    let known = form.models.map(|name| {
        let model = TextEncoder::open(&form.models_dir.join(name), Options::default()).unwrap();
        let one = |text: &String| model.embed(&[&model.encode(text, None).unwrap()]).unwrap();
        form.texts.iter().map(one).collect()
    });
    let process = Process::start(folder.path(), &form);
    let battle = Battle {
        address: process.address.clone().into(),
        restarts: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        form,
        pace: RwLock::default(),
        known,
        sent: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        cut: AtomicUsize::new(0),
        swaps: AtomicUsize::new(0),
        faults: Mutex::default(),
    };
    let process = Mutex::new(process);
    let start = Instant::now();
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let battle = &battle;
        let form = &battle.form;
        for number in 0..form.clients {
            scope.spawn(move || client(battle, number));
        }
        scope.spawn(|| vandal(battle));
        scope.spawn(|| locksmith(battle, folder.path(), &process));
        scope.spawn(|| swapper(battle));
        while start.elapsed() < form.length && battle.goes_on() {
            let born = Instant::now();
            let rest = |share: f64| form.life.mul_f64(share).saturating_sub(born.elapsed());
            if let Some((_, time)) = form.measure {
                thread::sleep(Duration::from_secs(2));
                let (before, from) = (count(&battle.answered), Instant::now());
                thread::sleep(time);
                let most = (count(&battle.answered) - before) as f64 / from.elapsed().as_secs_f64();
                eprint!("{most:.1} requests/s answered at most; ");
                *battle.pace.write().unwrap() = Some(Arc::new(Pace {
                    start: Instant::now(),
                    every: Duration::from_secs_f64(1.0 / (LOAD * most.max(1.0))),
                    taken: AtomicUsize::new(0),
                }));
            }
            let (asked, from) = (count(&battle.sent), Instant::now());
            thread::sleep(rest(1.0 / 3.0));
            let (before, _) = process.lock().unwrap().size(form.swap_every);
            thread::sleep(rest(1.0));
            let offered = (count(&battle.sent) - asked) as f64 / from.elapsed().as_secs_f64();
            let (after, files) = process.lock().unwrap().size(form.swap_every);
            eprintln!(
                "{offered:.1} requests/s asked; {:5} s: {} answered, {} refused, {} cut, {} swaps, {before} -> {after} KiB, {files} files",
                start.elapsed().as_secs(),
                count(&battle.answered),
                count(&battle.refused),
                count(&battle.cut),
                count(&battle.swaps),
            );
            if after > before + form.growth_kib {
                battle.fault(format!("memory went from {before} to {after} KiB"));
            }
            // Connections, and some that were hung up on and not yet let go.
            if files > 4 * form.clients {
                battle.fault(format!("{files} files are open"));
            }
            battle.restarts.fetch_add(1, Ordering::SeqCst);
            let mut process = process.lock().unwrap();
            std::fs::write(folder.path().join("keys"), "steady\n").unwrap();
            process.signal("-TERM");
            let status = process.child.wait().unwrap();
            if !status.success() {
                battle.fault(format!("it ended with {status}"));
            }
            *process = Process::start(folder.path(), form);
            *battle.pace.write().unwrap() = None;
            battle.address.write().unwrap().clone_from(&process.address);
            battle.restarts.fetch_add(1, Ordering::SeqCst);
        }
        battle.is_over.store(true, Ordering::Relaxed);
    });
    let faults = battle.faults.lock().unwrap();
    assert!(
        faults.is_empty(),
        "{} faults: {:#?}",
        faults.len(),
        &faults[..faults.len().min(5)]
    );
    assert!(count(&battle.answered) > 100, "some are answered");
    assert!(
        count(&battle.refused) > 100,
        "some are refused: it is too much"
    );
    assert!(count(&battle.swaps) > 5);
}

#[test]
fn a_server_under_fire_answers_right_or_refuses() {
    soak(Form::tiny(
        Duration::from_secs(6),
        Duration::from_secs(3),
        SECONDS_GROWTH_KIB,
    ));
}

#[test]
#[ignore = "takes as long as it is told to"]
fn a_server_under_fire_for_long_stays_as_it_was() {
    let seconds = std::env::var("CLOZE_SOAK_SECONDS");
    let seconds = seconds.map_or(1800, |seconds| seconds.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let models_dir = tempfile::tempdir().unwrap();
    soak(match std::env::var_os("CLOZE_SOAK_MODEL") {
        Some(model) => Form::real(length, Path::new(&model), models_dir.path()),
        None => Form::tiny(length, Duration::from_mins(1), MINUTE_GROWTH_KIB),
    });
}
