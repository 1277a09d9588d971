//! The CPU engine: weights packed once into a plan, then packed batches through fused kernels.
//!
//! A batch is run in slices of whole sequences, so that what is between two layers stays in cache and memory never grows with
//! the batch. Every row of every kernel is computed the same way whatever the other rows are.

mod arena;
mod attention;
mod layer;
mod plan;

use std::sync::Mutex;

use cloze_spec::Encoder;

use crate::cpu::arena::Arena;
use crate::cpu::plan::Plan;
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
}

/// Runs pretrained encoders on the CPU.
///
/// Memory between runs is kept and reused: after the largest batch has been seen, running allocates nothing.
pub struct CpuEngine {
    encoder: Encoder,
    plan: Plan,
    pool: Option<rayon::ThreadPool>,
    /// One for each run that is under way at the same time.
    arenas: Mutex<Vec<Arena>>,
}

/// Tokens of a slice for each thread: enough rows for every thread's share of a matrix product.
const SLICE_TOKENS: usize = 512;

impl CpuEngine {
    /// Makes the plan of `encoder` from its parameters.
    ///
    /// # Errors
    /// What `parameters` says, or if the system gives no threads.
    pub fn new(
        encoder: Encoder,
        options: Options,
        parameters: &dyn Parameters,
    ) -> Result<Self, Error> {
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

    /// Bytes of the weights as they lie in memory, a table that stays in its file included.
    pub fn weight_bytes(&self) -> usize {
        self.plan.bytes()
    }

    /// Runs `work` on the engine's threads, with memory to work in.
    fn with<T: Send>(&self, work: impl FnOnce(&mut Arena) -> T + Send) -> T {
        let lock = || self.arenas.lock().expect("nothing panics while it is held");
        let mut arena = lock().pop().unwrap_or_default();
        let result = match &self.pool {
            Some(pool) => pool.install(|| work(&mut arena)),
            None => work(&mut arena),
        };
        lock().push(arena);
        result
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

    fn run(&self, batch: &Batch, rows: Rows<'_>, output: &mut Vec<f32>) -> Result<(), Error> {
        check(&self.encoder, batch)?;
        let width = self.encoder.width;
        let count = match rows {
            Rows::All => batch.tokens.len(),
            Rows::Some(rows) => rows.len(),
        };
        output.resize(count * width, 0.0);
        self.with(|arena| {
            if rows == Rows::All && !batch.is_empty() && slice(batch, 0) == batch.len() {
                // What is between layers becomes the output in place.
                std::mem::swap(&mut arena.x, output);
                arena.take_slice(batch, 0..batch.len(), None);
                self.plan.run(&self.encoder, arena, None);
                std::mem::swap(&mut arena.x, output);
                return;
            }
            let (mut from, mut rest) = (0, output.as_mut_slice());
            let mut left = match rows {
                Rows::All => &[],
                Rows::Some(rows) => rows,
            };
            while from < batch.len() {
                let to = slice(batch, from);
                let (first, end) = (batch.offsets[from], batch.offsets[to]);
                let wanted;
                let selected = match rows {
                    Rows::All => {
                        wanted = (end - first) as usize;
                        None
                    }
                    Rows::Some(_) => {
                        wanted = left.partition_point(|&row| row < end);
                        let (here, after) = left.split_at(wanted);
                        left = after;
                        Some(here)
                    }
                };
                let (here, after) = rest.split_at_mut(wanted * width);
                rest = after;
                if wanted > 0 {
                    arena.take_slice(batch, from..to, selected);
                    self.plan.run(&self.encoder, arena, None);
                    here.copy_from_slice(arena.output(wanted * width));
                }
                from = to;
            }
        });
        Ok(())
    }

    fn trace(&self, batch: &Batch, see: &mut (dyn FnMut(&[f32]) + Send)) -> Result<(), Error> {
        check(&self.encoder, batch)?;
        if !batch.is_empty() {
            self.with(|arena| {
                arena.take_slice(batch, 0..batch.len(), None);
                self.plan.run(&self.encoder, arena, Some(see));
                see(arena.output(batch.tokens.len() * self.encoder.width));
            });
        }
        Ok(())
    }

    fn head(&self, vectors: &[f32], output: &mut Vec<f32>) -> Result<(), Error> {
        if self.encoder.head.is_none() {
            return Err(Error::Batch("this encoder has no head".to_owned()));
        }
        let width = self.encoder.width;
        self.with(|arena| self.plan.head(vectors, width, arena, output));
        Ok(())
    }
}

/// Sequences `from..` of a batch up to the returned one, about as many tokens as the threads keep busy.
fn slice(batch: &Batch, from: usize) -> usize {
    let tokens = SLICE_TOKENS * rayon::current_num_threads().clamp(2, 16);
    let limit = batch.offsets[from] as usize + tokens;
    let fits = batch.offsets[from + 1..].partition_point(|&end| end as usize <= limit);
    from + fits.max(1)
}
