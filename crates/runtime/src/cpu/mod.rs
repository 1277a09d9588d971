//! The CPU engine: weights packed once into a plan, then packed batches through fused kernels.
//!
//! A batch is run in slices of whole sequences, so that what is between two layers stays in cache and memory never grows with
//! the batch. Each thread takes slices through all layers, so that threads seldom wait for each other; those that find no
//! slice left help with the steps of others', as all do where there is one slice. Every row of every kernel is computed the
//! same way whatever the other rows are.

mod arena;
mod attention;
mod layer;
mod plan;

use std::ops::Range;
use std::sync::Mutex;

use cloze_spec::Encoder;

use crate::cpu::arena::Arena;
use crate::cpu::plan::Plan;
use crate::model::Start;
use crate::{Batch, Engine, Error, Rows, check};

pub use cloze_kernels::Isa;
pub use cloze_kernels::op::packed::Storage;
pub use plan::Parameters;
pub(crate) use plan::activation_of;

/// How the engine is to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Threads of a pool of its own; the caller's pool if none.
    pub threads: Option<usize>,
    /// How the weights of linear maps are kept.
    pub storage: Storage,
    /// Instruction set; the machine's best if none.
    pub isa: Option<Isa>,
    /// Starts another engine for the encoder of a text model, such as one on a GPU; this one if none.
    pub other: Option<Start>,
    /// Starts an engine for encoders that this one does not run: those are refused if none.
    pub further: Option<Start>,
}

impl Options {
    /// What starts another engine for `encoder`; this one runs it if none.
    pub fn start(&self, encoder: &Encoder) -> Option<Start> {
        let further = || self.further.filter(|_| !CpuEngine::runs(encoder));
        self.other.or_else(further)
    }
}

/// Runs pretrained encoders on the CPU.
///
/// Memory between runs is kept and reused: once every thread has had the largest slice, running allocates nothing.
pub struct CpuEngine {
    encoder: Encoder,
    plan: Plan,
    pool: Option<rayon::ThreadPool>,
    /// One for each run that is under way at the same time.
    arenas: Mutex<Vec<Arena>>,
}

/// Tokens of a slice of several sequences: from as many as are worth passing the weights for, to what stays in cache.
const SLICE_TOKENS: Range<usize> = 128..512;

impl CpuEngine {
    /// Whether it runs an encoder: one whose layers have attention as pretrained families have it.
    pub fn runs(encoder: &Encoder) -> bool {
        let mut layers = encoder.layers.iter();
        layers.all(|layer| layer.attention().is_some())
    }

    /// Makes the plan of `encoder` from its parameters.
    ///
    /// # Errors
    /// If it does not run the encoder, what `parameters` says, or if the system gives no threads.
    pub fn new(
        encoder: Encoder,
        options: Options,
        parameters: &dyn Parameters,
    ) -> Result<Self, Error> {
        if !Self::runs(&encoder) {
            return Err(Error::Input(
                "expected an encoder of attention as pretrained families have it, found mixers of the recipes, which Burn runs"
                    .to_owned(),
            ));
        }
        let isa = options.isa.unwrap_or_else(Isa::detect);
        let plan = Plan::new(&encoder, isa, options.storage, parameters)?;
        let pool = options
            .threads
            .map(|threads| {
                thread_pool(Some(threads))
                    .build()
                    .map_err(|e| Error::Threads(e.to_string()))
            })
            .transpose()?;
        Ok(Self {
            encoder,
            plan,
            pool,
            arenas: Mutex::default(),
        })
    }

    /// Runs `work` on the engine's threads.
    fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs `work` with memory to work in, for so many tokens.
    fn with<T>(&self, tokens: usize, work: impl FnOnce(&mut Arena) -> T) -> T {
        let lock = || self.arenas.lock().expect("nothing panics while it is held");
        let mut arena = {
            // Smallest first: the first that has room, else the largest, which then grows.
            let mut free = lock();
            let fits = free.iter().position(|one| one.tokens.capacity() >= tokens);
            fits.map(|at| free.remove(at))
                .or_else(|| free.pop())
                .unwrap_or_default()
        };
        let result = work(&mut arena);
        let mut free = lock();
        let at = free.partition_point(|one| one.tokens.capacity() < arena.tokens.capacity());
        free.insert(at, arena);
        result
    }

    /// Runs sequences of a batch in slices of up to `most` tokens, each on whatever thread is free.
    ///
    /// # Shapes
    /// `output: [N, D]`, or `[M, D]` for `M` rows that are `selected` of them
    fn run_slices(
        &self,
        batch: &Batch,
        sequences: Range<usize>,
        most: usize,
        selected: Option<&[u32]>,
        output: &mut [f32],
    ) {
        if output.is_empty() {
            return;
        }
        let width = self.encoder.width;
        let offsets = &batch.offsets[sequences.start..=sequences.end];
        let (first, end) = (offsets[0], offsets[sequences.len()]);
        let tokens = (end - first) as usize;
        if tokens <= most || sequences.len() == 1 {
            self.with(tokens, |arena| {
                arena.take_slice(batch, sequences, selected);
                self.plan.run(&self.encoder, arena, None);
                output.copy_from_slice(arena.output(output.len()));
            });
            return;
        }
        // As nearly halves as sequences allow.
        let before = offsets.partition_point(|&at| at <= first + (end - first) / 2) - 1;
        let before = before.clamp(1, sequences.len() - 1);
        let cut = offsets[before];
        let (here, there) = match selected {
            None => (None, None),
            Some(rows) => {
                let (here, there) = rows.split_at(rows.partition_point(|&row| row < cut));
                (Some(here), Some(there))
            }
        };
        let rows = here.map_or((cut - first) as usize, <[u32]>::len);
        let (left, right) = output.split_at_mut(rows * width);
        let middle = sequences.start + before;
        rayon::join(
            || self.run_slices(batch, sequences.start..middle, most, here, left),
            || self.run_slices(batch, middle..sequences.end, most, there, right),
        );
    }
}

/// A pool for engines: of so many threads, or of one a core.
///
/// With as many threads as there are cores for the process, each keeps to a core of its own. Left to themselves, two threads
/// that wake for a single request may share a core while another idles, and take twice as long.
pub fn thread_pool(threads: Option<usize>) -> rayon::ThreadPoolBuilder {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores.len() != available || threads.unwrap_or(available) != available {
        return pool;
    }
    pool.start_handler(move |index| {
        // Where the system refuses, the thread runs wherever it likes.
        if let Some(&core) = cores.get(index) {
            core_affinity::set_for_current(core);
        }
    })
}

impl Engine for CpuEngine {
    fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn weight_bytes(&self) -> usize {
        self.plan.bytes()
    }

    fn run(&self, batch: &Batch, rows: Rows<'_>, output: &mut Vec<f32>) -> Result<(), Error> {
        check(&self.encoder, batch)?;
        let width = self.encoder.width;
        let count = match rows {
            Rows::All => batch.tokens.len(),
            Rows::Some(rows) => rows.len(),
        };
        output.resize(count * width, 0.0);
        self.install(|| {
            let tokens = batch.tokens.len();
            let threads = rayon::current_num_threads();
            let most = (tokens / threads).clamp(SLICE_TOKENS.start, SLICE_TOKENS.end);
            if rows == Rows::All && (batch.len() == 1 || (1..=most).contains(&tokens)) {
                // What is between layers becomes the output in place.
                self.with(tokens, |arena| {
                    std::mem::swap(&mut arena.x, output);
                    arena.take_slice(batch, 0..batch.len(), None);
                    self.plan.run(&self.encoder, arena, None);
                    std::mem::swap(&mut arena.x, output);
                });
                return;
            }
            let (mut from, mut rest) = (0, output.as_mut_slice());
            let mut left = match rows {
                Rows::All => None,
                Rows::Some(rows) => Some(rows),
            };
            while from < batch.len() {
                // Long sequences one by one: side by side they would take as much memory each.
                let is_long = |at: &usize| batch.range(*at).len() > SLICE_TOKENS.end;
                let to = (from..batch.len()).find(is_long).unwrap_or(batch.len());
                let to = to.max(from + 1);
                let end = batch.offsets[to];
                let mut wanted = (end - batch.offsets[from]) as usize;
                let mut selected = None;
                if let Some(rows) = left {
                    wanted = rows.partition_point(|&row| row < end);
                    let (here, after) = rows.split_at(wanted);
                    (selected, left) = (Some(here), Some(after));
                }
                let (here, after) = rest.split_at_mut(wanted * width);
                rest = after;
                self.run_slices(batch, from..to, most, selected, here);
                from = to;
            }
        });
        Ok(())
    }

    fn trace(&self, batch: &Batch, see: &mut (dyn FnMut(&[f32]) + Send)) -> Result<(), Error> {
        check(&self.encoder, batch)?;
        if !batch.is_empty() {
            let tokens = batch.tokens.len();
            self.install(|| {
                self.with(tokens, |arena| {
                    arena.take_slice(batch, 0..batch.len(), None);
                    self.plan.run(&self.encoder, arena, Some(see));
                    see(arena.output(tokens * self.encoder.width));
                });
            });
        }
        Ok(())
    }

    fn head(&self, vectors: &[f32], output: &mut Vec<f32>) -> Result<(), Error> {
        if self.encoder.head.is_none() {
            return Err(Error::Batch("this encoder has no head".to_owned()));
        }
        let width = self.encoder.width;
        self.install(|| self.with(0, |arena| self.plan.head(vectors, width, arena, output)));
        Ok(())
    }
}
