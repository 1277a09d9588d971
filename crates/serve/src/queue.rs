//! Texts of all requests, waiting in one line for the encoder.
//!
//! A worker thread takes batches of at most so many tokens. Nothing is padded, so a batch costs what its tokens cost and
//! needs no texts of like length; order is free to be fair: a text's turn comes when the encoder has done as many tokens
//! since it came as its own request has before it (start-time fair queueing, Goyal, Vin and Cheng, SIGCOMM 1996, by a clock
//! of what is done rather than of whose turn it is: that one stands still while newcomers keep coming, and the rest of a
//! request would wait for ever). A short request passes the rest of a long one, and no text waits for more than what
//! came before its turn did.
//!
//! A request is let in whole or refused at once, by tokens under way. What nobody waits for any more, or cannot be in time,
//! is dropped before it costs anything. Equal texts of a batch are computed once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloze_data::text::Encoding;
use tokio::sync::oneshot;

use crate::recommend::Choice;
use crate::watch;

/// What is wanted of a text, or of a history, whose items stand in the place of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// One vector, not normalised.
    Pooled,
    /// The vector of each token.
    Tokens,
    /// The head's outputs; of every token where the head is of tokens.
    Logits,
    /// The tokens that the text is about: of each its id and its weight.
    Sparse,
    /// The likeliest tokens of each mask: of each its id and its probability.
    Fills(Arc<Fills>),
    /// The best items for the history: of each its place in the vocabulary and its score.
    Items(Arc<Choice>),
}

impl Wanted {
    /// Bytes of the lists that say what is wanted.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Pooled | Self::Tokens | Self::Logits | Self::Sparse => 0,
            Self::Fills(fills) => size_of_val(&*fills.candidates),
            Self::Items(choice) => {
                size_of_val(choice.allow.as_deref().unwrap_or_default())
                    + size_of_val(&*choice.deny)
            }
        }
    }
}

/// Which tokens may stand behind masks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fills {
    /// Most tokens for a mask.
    pub top: usize,
    /// Nothing but these; all tokens if none.
    pub candidates: Vec<u32>,
}

/// What an answer depends on: texts that look the same to the encoder have the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    ids: Box<[u32]>,
    segments: Box<[u32]>,
    is_special: Box<[bool]>,
    /// Some models do not pool over their prompt: the same tokens give another answer as a text of their own.
    prompt: usize,
}

impl Sight {
    /// What the encoder sees of a text.
    pub fn of(text: &Encoding) -> Self {
        Self {
            ids: text.ids.as_slice().into(),
            segments: text.segments.as_slice().into(),
            is_special: text.is_special.as_slice().into(),
            prompt: text.prompt,
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.ids) + size_of_val(&*self.segments) + size_of_val(&*self.is_special)
    }
}

/// Computes what is wanted of some texts: an answer for each, or a reason why there is none.
pub type Compute = dyn Fn(Wanted, &[&Encoding]) -> Result<Vec<Vec<f32>>, String> + Send + Sync;

/// What a queue lets in and takes together.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most tokens of a batch; a longer text is a batch of its own.
    pub batch_tokens: usize,
    /// Most tokens under way, waiting or being computed; a request that finds nothing under way is let in whatever its size.
    pub waiting_tokens: usize,
}

/// An answer, and how long it took.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The values.
    pub values: Arc<Vec<f32>>,
    /// Time in line.
    pub queued: Duration,
    /// Time of the batch.
    pub computed: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Too much is under way; after about so long there may be room.
    #[error("model is overloaded")]
    Overloaded {
        /// Estimated from the tokens under way and the speed of late.
        retry_after: Duration,
    },
    /// The deadline passed before its turn came.
    #[error(
        "the deadline passed before the text's turn came; send less at once or allow more time"
    )]
    Late,
    /// The encoder refused.
    #[error("{0}")]
    Refused(String),
    /// The encoder panicked; the worker goes on.
    #[error("the encoder failed on this batch; the server goes on")]
    Panicked,
    /// The queue is closed.
    #[error("the server is stopping")]
    Closed,
}

type Reply = oneshot::Sender<Result<Answer, Lost>>;

struct Job {
    encoding: Encoding,
    wanted: Wanted,
    came: Instant,
    deadline: Instant,
    reply: Reply,
}

/// A job's turn: by virtual time, then by order of arrival.
struct Turn {
    start: u64,
    number: u64,
    job: Job,
}

impl Turn {
    fn key(&self) -> (u64, u64) {
        (self.start, self.number)
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Default)]
struct State {
    line: BinaryHeap<Reverse<Turn>>,
    /// Tokens waiting or being computed.
    under_way: usize,
    /// Tokens done so far.
    clock: u64,
    arrivals: u64,
    is_closed: bool,
    /// Since when a batch is being computed.
    busy_since: Option<Instant>,
    /// Tokens a second, of late.
    speed: f64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bounds: Bounds,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while the state is held")
    }
}

/// The line, and the thread that serves it.
pub struct Queue {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Queue {
    /// A line served by a thread that calls `compute`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(bounds: Bounds, compute: Arc<Compute>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            bounds,
        });
        let worker = std::thread::Builder::new().name("encoder".into());
        let worker = worker.spawn({
            let shared = shared.clone();
            move || work(&shared, &*compute)
        })?;
        Ok(Self {
            shared,
            worker: Mutex::new(Some(worker)),
        })
    }

    /// Puts the texts of a request in line: a place for the answer to each, in order.
    ///
    /// # Errors
    /// [`Lost::Overloaded`] or [`Lost::Closed`]; then none of them is in line.
    pub fn submit(
        &self,
        encodings: Vec<Encoding>,
        wanted: Wanted,
        deadline: Instant,
    ) -> Result<Vec<oneshot::Receiver<Result<Answer, Lost>>>, Lost> {
        let tokens: usize = encodings.iter().map(Encoding::len).sum();
        let came = Instant::now();
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(Lost::Closed);
        }
        if state.under_way > 0 && state.under_way + tokens > self.shared.bounds.waiting_tokens {
            let seconds = state.under_way as f64 / state.speed.max(1.0);
            return Err(Lost::Overloaded {
                retry_after: Duration::from_secs_f64(seconds.clamp(1.0, 60.0)),
            });
        }
        state.under_way += tokens;
        let mut start = state.clock;
        let answers = encodings
            .into_iter()
            .zip(std::iter::repeat(wanted))
            .map(|(encoding, wanted)| {
                let (reply, answer) = oneshot::channel();
                let number = state.arrivals;
                state.arrivals += 1;
                let len = encoding.len() as u64;
                state.line.push(Reverse(Turn {
                    start,
                    number,
                    job: Job {
                        encoding,
                        wanted,
                        came,
                        deadline,
                        reply,
                    },
                }));
                start += len;
                answer
            })
            .collect();
        watch::queue(state.line.len());
        drop(state);
        self.shared.changed.notify_one();
        Ok(answers)
    }

    /// Whether the worker lives and has not been at one batch for longer than `patience`.
    pub fn is_healthy(&self, patience: Duration) -> bool {
        let lives = self
            .worker()
            .as_ref()
            .is_some_and(|worker| !worker.is_finished());
        let busy = self.shared.lock().busy_since;
        lives && busy.is_none_or(|since| since.elapsed() < patience)
    }

    /// Tokens waiting or being computed.
    pub fn under_way(&self) -> usize {
        self.shared.lock().under_way
    }

    fn worker(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.worker
            .lock()
            .expect("nothing panics while the worker is held")
    }
}

impl Drop for Queue {
    /// Answers what is in line, then ends the worker.
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
        if let Some(worker) = self.worker().take() {
            // It catches the panics of what it calls; one of its own was told by `is_healthy`.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, compute: &Compute) {
    loop {
        let mut state = shared.lock();
        while state.line.is_empty() {
            if state.is_closed {
                return;
            }
            state = shared
                .changed
                .wait(state)
                .expect("nothing panics while the state is held");
        }
        let taken = Instant::now();
        let batch = take(&mut state, shared.bounds.batch_tokens, taken);
        watch::queue(state.line.len());
        if batch.is_empty() {
            continue;
        }
        state.busy_since = Some(taken);
        drop(state);

        let tokens: usize = batch.iter().map(|job| job.encoding.len()).sum();
        watch::batch(batch.len(), tokens);
        let mut kinds: Vec<&Wanted> = Vec::new();
        for job in &batch {
            if !kinds.contains(&&job.wanted) {
                kinds.push(&job.wanted);
                answer(&batch, &job.wanted, compute, taken);
            }
        }
        let computed = taken.elapsed();

        let mut state = shared.lock();
        state.busy_since = None;
        state.under_way -= tokens;
        state.clock += tokens as u64;
        let speed = tokens as f64 / computed.as_secs_f64().max(1e-6);
        state.speed = if state.speed == 0.0 {
            speed
        } else {
            0.9 * state.speed + 0.1 * speed
        };
        drop(state);
        for job in batch {
            job.finish();
        }
    }
}

/// The jobs whose turn it is.
fn take(state: &mut State, batch_tokens: usize, now: Instant) -> Vec<Taken> {
    let (mut batch, mut tokens) = (Vec::new(), 0);
    while let Some(Reverse(turn)) = state.line.peek() {
        let len = turn.job.encoding.len();
        let is_dead = turn.job.reply.is_closed() || turn.job.deadline <= now;
        if !is_dead && tokens > 0 && tokens + len > batch_tokens {
            break;
        }
        let Some(Reverse(Turn { job, .. })) = state.line.pop() else {
            break;
        };
        if is_dead {
            state.under_way -= len;
            // Whoever hung up does not read this.
            let _ = job.reply.send(Err(Lost::Late));
            continue;
        }
        tokens += len;
        batch.push(Taken {
            encoding: job.encoding,
            wanted: job.wanted,
            queued: now - job.came,
            reply: job.reply,
            result: std::cell::OnceCell::new(),
        });
    }
    batch
}

/// A job of the batch, and what came of it.
struct Taken {
    encoding: Encoding,
    wanted: Wanted,
    queued: Duration,
    reply: Reply,
    result: std::cell::OnceCell<Result<Answer, Lost>>,
}

impl Taken {
    /// Answers only now that its tokens count as done: who is answered may ask again at once.
    fn finish(self) {
        let result = self.result.into_inner();
        // Whoever hung up does not read this.
        let _ = self
            .reply
            .send(result.expect("each job of a batch has a result"));
    }
}

/// Computes the jobs of one kind, equal texts once, and keeps what came of each.
fn answer(batch: &[Taken], wanted: &Wanted, compute: &Compute, taken: Instant) {
    let mut places: HashMap<Sight, usize> = HashMap::new();
    let mut texts: Vec<&Encoding> = Vec::new();
    let jobs: Vec<(&Taken, usize)> = batch
        .iter()
        .filter(|job| job.wanted == *wanted)
        .map(|job| {
            let text = &job.encoding;
            let place = *places.entry(Sight::of(text)).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            });
            (job, place)
        })
        .collect();
    let result = catch_unwind(AssertUnwindSafe(|| compute(wanted.clone(), &texts)));
    let computed = taken.elapsed();
    let values = match result {
        Ok(Ok(values)) => Ok(values.into_iter().map(Arc::new).collect::<Vec<_>>()),
        Ok(Err(message)) => Err(Lost::Refused(message)),
        Err(_) => {
            watch::panicked();
            Err(Lost::Panicked)
        }
    };
    for (job, place) in jobs {
        let result = values.as_ref().map_err(Clone::clone).map(|values| Answer {
            values: values[place].clone(),
            queued: job.queued,
            computed,
        });
        let _ = job.result.set(result);
    }
}
