//! Linear maps of inference: weights packed into panels once, run many times.
//!
//! y = act(x·Wᵀ + b) (+ residual), or, gated, y = act(x·Aᵀ + a) ∘ (x·Bᵀ + b). A block of rows small enough for L2 meets one panel
//! after the other; a panel stays in L1 for the whole block. Few rows are cut by columns too, so that a single short request
//! keeps every thread busy. A row's outputs have the same bits whatever the other rows are.
//!
//! Weights are kept as they compute (`F32`), as 16-bit floats that are widened a panel at a time (`Bf16`, `F16`), or as 8-bit
//! integers (`Int8`, see the notes in `arch/panel_int8.rs`).

use std::ops::Range;

use rayon::prelude::*;

use crate::Isa;
use crate::arch::gemm::{self, View};
use crate::arch::panel::{self, Finish, Weights};
use crate::arch::panel_int8::{self, Bytes, Dot, Quantised, quantise_weights};
use crate::arch::require;
use crate::scratch::{Aligned, Scratch, Shared};

/// What follows a linear map, elementwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x·Φ(x)`, exact (Hendrycks & Gimpel, arXiv:1606.08415).
    Gelu,
    /// GELU by tanh.
    GeluTanh,
    /// `x·σ(1.702x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `x·σ(x)`
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1/(1 + e⁻ˣ)`
    Sigmoid,
}

/// How weights are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: the upper half of a 32-bit float, rounded to the nearest.
    Bf16,
    /// IEEE half precision, rounded to the nearest.
    F16,
    /// 8-bit integers, a scale for each output.
    Int8,
}

/// What is added to the outputs.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// Another matrix of the outputs' shape.
    Add(&'a [f32]),
    /// What the outputs were.
    InPlace,
}

/// A linear map with packed weights.
pub struct PackedLinear {
    isa: Isa,
    inputs: usize,
    /// Outputs; gated ones count once.
    outputs: usize,
    activation: Activation,
    gated: bool,
    panels: Panels,
    /// Whole panels, as they are packed.
    bias: Vec<f32>,
}

enum Panels {
    F32(Aligned),
    Half {
        bits: Vec<u16>,
        storage: Storage,
    },
    Int8 {
        /// Bytes, four to a float.
        bytes: Aligned,
        /// What each output's sums begin at.
        totals: Vec<i32>,
        scales: Vec<f32>,
        dot: Dot,
    },
}

/// Bytes of rows that meet a panel: half of a small L2.
const BLOCK_BYTES: usize = 256 << 10;
/// Most rows of a block.
const BLOCK_ROWS: usize = 96;

impl PackedLinear {
    /// Packs a map.
    ///
    /// # Shapes
    /// `weight: [O, I]`, `bias: [O]`; gated, `[2·O, I]` and `[2·O]`, the half that is activated first
    /// # Panics
    /// If a length does not fit, `inputs` is 0, or the machine lacks `isa`.
    pub fn new(
        isa: Isa,
        inputs: usize,
        weight: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        gated: bool,
        storage: Storage,
    ) -> Self {
        require(isa);
        let all = weight.len() / inputs;
        assert_eq!(
            weight.len(),
            all * inputs,
            "weight must hold whole rows of {inputs} floats"
        );
        let halves = 1 + usize::from(gated);
        let outputs = all / halves;
        assert_eq!(all, outputs * halves, "a gated map has two equal halves");
        if let Some(bias) = bias {
            assert_eq!(bias.len(), all, "bias must hold a float for each output");
        }
        let width = gemm::tile(isa).1;
        let count = outputs.div_ceil(width) * halves;
        // Each panel's first row of the weight, and how many of its columns are filled.
        let place = |index: usize| {
            let (first, half) = (index / halves * width, index % halves);
            (half * outputs + first, width.min(outputs - first))
        };
        let mut padded = vec![0.0; count * width];
        if let Some(bias) = bias {
            for (index, padded) in padded.chunks_exact_mut(width).enumerate() {
                let (row, filled) = place(index);
                padded[..filled].copy_from_slice(&bias[row..row + filled]);
            }
        }
        let panels = if storage == Storage::Int8 {
            quantised(isa, inputs, weight, count, place)
        } else {
            let mut panels = Aligned::zeros(count * width * inputs);
            panels
                .par_chunks_exact_mut(width * inputs)
                .enumerate()
                .for_each(|(index, panel)| {
                    let (row, filled) = place(index);
                    let view = View {
                        data: weight[row * inputs..].as_ptr(),
                        row: 1,
                        col: inputs,
                    };
                    // SAFETY: the panel's columns are rows of the weight, and it holds whole columns.
                    unsafe { gemm::pack_panel(isa, inputs, filled, view, panel.as_mut_ptr()) };
                });
            let narrow = match storage {
                Storage::F32 | Storage::Int8 => None,
                Storage::Bf16 => Some(to_bf16 as fn(f32) -> u16),
                Storage::F16 => Some(to_f16 as fn(f32) -> u16),
            };
            match narrow {
                None => Panels::F32(panels),
                Some(narrow) => Panels::Half {
                    bits: panels.iter().map(|&x| narrow(x)).collect(),
                    storage,
                },
            }
        };
        Self {
            isa,
            inputs,
            outputs,
            activation,
            gated,
            panels,
            bias: padded,
        }
    }

    /// Outputs of the map; gated ones count once.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs of the map.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs that lie together; see [`Self::forward_columns`].
    pub fn panel(&self) -> usize {
        gemm::tile(self.isa).1
    }

    /// Bytes of the packed weights and what goes with them.
    pub fn bytes(&self) -> usize {
        let weights = match &self.panels {
            Panels::F32(panels) => 4 * panels.len(),
            Panels::Half { bits, .. } => 2 * bits.len(),
            Panels::Int8 {
                bytes,
                totals,
                scales,
                ..
            } => 4 * (bytes.len() + totals.len() + scales.len()),
        };
        weights + 4 * self.bias.len()
    }

    /// Runs the map.
    ///
    /// # Shapes
    /// `x: [N, I]` → `out: [N, O]`
    /// # Panics
    /// If a length does not fit.
    pub fn forward(&self, x: &[f32], residual: Residual<'_>, out: &mut [f32]) {
        self.forward_then(x, residual, out, |_, _| ());
    }

    /// Some outputs only, written side by side: `columns` begin at multiples of [`Self::panel`], and end at one or at O.
    ///
    /// # Shapes
    /// `x: [N, I]` → `out: [N, C]`, where `columns` are C together
    /// # Panics
    /// If a length does not fit, or a range begins or ends elsewhere.
    pub fn forward_columns(&self, x: &[f32], columns: &[Range<usize>], out: &mut [f32]) {
        let width = self.panel();
        for part in columns {
            let ends = part.end == self.outputs || part.end.is_multiple_of(width);
            assert!(
                part.start.is_multiple_of(width) && part.end <= self.outputs && ends,
                "columns {part:?} are not whole panels of {width}, of {}",
                self.outputs
            );
        }
        self.run(x, columns, Residual::None, out, |_, _| ());
    }

    /// Runs the map, and `then` on blocks of whole rows of its output while they are in cache: a norm, say.
    ///
    /// `then(first, rows)` is called once for every row, on any thread, with the number of the block's first row. How
    /// rows are blocked depends on the number of threads: `then` must treat each row for itself.
    ///
    /// # Shapes
    /// `x: [N, I]` → `out: [N, O]`
    /// # Panics
    /// If a length does not fit.
    pub fn forward_then(
        &self,
        x: &[f32],
        residual: Residual<'_>,
        out: &mut [f32],
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let all = 0..self.outputs;
        self.run(x, std::slice::from_ref(&all), residual, out, then);
    }

    /// [`Self::forward_then`] for some columns.
    fn run(
        &self,
        x: &[f32],
        columns: &[Range<usize>],
        residual: Residual<'_>,
        out: &mut [f32],
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let outputs: usize = columns.iter().map(Range::len).sum();
        let rows = x.len() / self.inputs;
        assert_eq!(
            x.len(),
            rows * self.inputs,
            "x must hold whole rows of {} floats",
            self.inputs
        );
        assert_eq!(
            out.len(),
            rows * outputs,
            "out must hold {rows}×{outputs} floats"
        );
        if let Residual::Add(residual) = residual {
            assert_eq!(residual.len(), out.len(), "residual must be as long as out");
        }
        if out.is_empty() {
            return;
        }
        let width = gemm::tile(self.isa).1;
        let panels = columns.iter().map(|part| part.len().div_ceil(width)).sum();
        let cut = Cut::new(self.isa, rows, self.inputs, panels);
        let out = Shared::new(out);
        let then = |rows: Range<usize>| {
            // SAFETY: the rows lie inside out, are finished, and no other task has them.
            let block = unsafe {
                std::slice::from_raw_parts_mut(out.at(rows.start * outputs), rows.len() * outputs)
            };
            then(rows.start, block);
        };
        let quantised = match &self.panels {
            Panels::Int8 { dot, .. } => Some(Rows::new(self.isa, *dot, x, self.inputs, &cut)),
            Panels::F32(_) | Panels::Half { .. } => None,
        };
        each(cut.serial, cut.row_tasks * cut.column_tasks, |task| {
            let block = cut.rows(task / cut.column_tasks, rows);
            let x = match &quantised {
                Some(rows) => Input::Int8(rows.from(block.start)),
                None => Input::F32(&x[block.start * self.inputs..]),
            };
            let mine = cut.panels(task % cut.column_tasks);
            // Panels, and columns of `out`, of the parts before.
            let (mut passed, mut done) = (0, 0);
            for part in columns {
                let first = part.start / width;
                let all = part.end.div_ceil(width) - first;
                let panels = mine.start.clamp(passed, passed + all) - passed
                    ..mine.end.clamp(passed, passed + all) - passed;
                let to = done + panels.start * width;
                let count =
                    part.len().min(panels.end * width) - part.len().min(panels.start * width);
                passed += all;
                done += part.len();
                if count == 0 {
                    continue;
                }
                let at = block.start * outputs + to;
                let finish = Finish {
                    out: out.at(at),
                    stride: outputs,
                    columns: count,
                    bias: std::ptr::null(),
                    activation: self.activation,
                    gated: self.gated,
                    residual: match residual {
                        Residual::None => std::ptr::null(),
                        Residual::Add(residual) => residual[at..].as_ptr(),
                        Residual::InPlace => out.at(at).cast_const(),
                    },
                };
                let panels = first + panels.start..first + panels.end;
                self.task(x, block.len(), panels, finish);
            }
            if cut.column_tasks == 1 {
                then(block);
            }
        });
        if cut.column_tasks > 1 {
            each(cut.serial, cut.row_tasks, |task| then(cut.rows(task, rows)));
        }
    }

    /// The first rows of `x` by some panels.
    fn task(&self, x: Input<'_>, rows: usize, panels: Range<usize>, finish: Finish) {
        let (isa, inputs) = (self.isa, self.inputs);
        let (height, width) = gemm::tile(isa);
        let first = panels.start * finish.halves() * width;
        let finish = Finish {
            bias: self.bias[first..].as_ptr(),
            ..finish
        };
        let weights = match &self.panels {
            Panels::F32(all) => Weights::F32(all[first * inputs..].as_ptr()),
            Panels::Half { bits, storage } => {
                let bits = bits[first * inputs..].as_ptr();
                if *storage == Storage::Bf16 {
                    Weights::Bf16(bits)
                } else {
                    Weights::F16(bits)
                }
            }
            Panels::Int8 {
                bytes,
                totals,
                scales,
                dot,
            } => {
                let Input::Int8(x) = x else {
                    unreachable!("bytes meet bytes")
                };
                let words = inputs.div_ceil(dot.word);
                let panels = bytes.as_ptr().cast::<i8>();
                let weights = Bytes {
                    panels: panels.wrapping_add(first * words * dot.word),
                    totals: totals[first..].as_ptr(),
                    scales: scales[first..].as_ptr(),
                    dot: *dot,
                };
                let mut scratch = Scratch::take(panel_int8::scratch(height, width));
                // SAFETY: `new` packed whole panels, their scales and bias; the caller gives an output for the rows and the
                // panels' columns.
                unsafe {
                    panel_int8::rows(isa, rows, words, x, weights, finish, scratch.as_mut_ptr());
                }
                return;
            }
        };
        let Input::F32(x) = x else {
            unreachable!("floats meet floats")
        };
        let mut scratch = Scratch::take(panel::scratch(rows, inputs, width));
        // SAFETY: as above.
        unsafe {
            let scratch = scratch.as_mut_ptr();
            panel::rows(
                isa,
                rows,
                inputs,
                x.as_ptr(),
                inputs,
                weights,
                finish,
                scratch,
            );
        }
    }
}

/// Rows of the input, from those of a task on.
#[derive(Clone, Copy)]
enum Input<'a> {
    F32(&'a [f32]),
    Int8(Quantised),
}

/// The whole input in 8 bits.
struct Rows {
    /// Words of every row, see `arch/panel_int8.rs`, then the scale of each row, then the offset of each.
    all: Scratch,
    words: usize,
    count: usize,
}

impl Rows {
    fn new(isa: Isa, dot: Dot, x: &[f32], inputs: usize, cut: &Cut) -> Self {
        let (words, rows) = (inputs.div_ceil(dot.word), x.len() / inputs);
        let mut all = Scratch::take(rows * (words + 2));
        let shared = Shared::new(&mut all);
        each(cut.serial, cut.row_tasks, |task| {
            for row in cut.rows(task, rows) {
                let x = &x[row * inputs..(row + 1) * inputs];
                // SAFETY: there is a place for every row, its scale and its offset, and no other task has these.
                unsafe {
                    let place = shared.at(row * words).cast();
                    let (scale, offset) = dot.quantise(isa, inputs, x.as_ptr(), place);
                    *shared.at(rows * words + row) = scale;
                    *shared.at(rows * (words + 1) + row).cast::<i32>() = offset;
                }
            }
        });
        Self {
            all,
            words,
            count: rows,
        }
    }

    /// Those from `row` on.
    fn from(&self, row: usize) -> Quantised {
        Quantised {
            words: self.all[row * self.words..].as_ptr().cast(),
            scales: self.all[self.count * self.words + row..].as_ptr(),
            offsets: self.all[self.count * (self.words + 1) + row..]
                .as_ptr()
                .cast(),
        }
    }
}

/// Panels of bytes, see `arch/panel_int8.rs`.
fn quantised(
    isa: Isa,
    inputs: usize,
    weight: &[f32],
    count: usize,
    place: impl Fn(usize) -> (usize, usize) + Sync,
) -> Panels {
    let dot = Dot::best(isa);
    let (width, words) = (gemm::tile(isa).1, inputs.div_ceil(dot.word));
    // `width` is a multiple of two.
    let floats = width * words * dot.word / 4;
    let mut bytes = Aligned::zeros(count * floats);
    let mut totals = vec![0_i32; count * width];
    let mut scales = vec![0.0; count * width];
    bytes
        .par_chunks_exact_mut(floats)
        .zip(totals.par_chunks_exact_mut(width))
        .zip(scales.par_chunks_exact_mut(width))
        .enumerate()
        .for_each(|(index, ((panel, totals), scales))| {
            let (first, filled) = place(index);
            let mut values = vec![0_i8; inputs];
            let panel = panel.as_mut_ptr().cast::<i8>();
            for column in 0..filled {
                let row = &weight[(first + column) * inputs..][..inputs];
                scales[column] = quantise_weights(row, &mut values);
                for (at, &value) in values.iter().enumerate() {
                    let (word, part) = (at / dot.word, at % dot.word);
                    // SAFETY: every place is inside the panel.
                    unsafe { *panel.add((word * width + column) * dot.word + part) = value };
                }
                totals[column] = values.iter().copied().map(i32::from).sum();
            }
        });
    Panels::Int8 {
        bytes,
        totals,
        scales,
        dot,
    }
}

/// How a product is cut into tasks. No output's sum depends on it.
struct Cut {
    /// Rows of a tile, and tiles of the product.
    height: usize,
    tiles: usize,
    row_tasks: usize,
    /// Panels of the output (gated, pairs).
    panels: usize,
    column_tasks: usize,
    serial: bool,
}

impl Cut {
    fn new(isa: Isa, rows: usize, inputs: usize, panels: usize) -> Self {
        let (height, width) = gemm::tile(isa);
        let threads = rayon::current_num_threads();
        let fit = (BLOCK_BYTES / (4 * inputs)).clamp(height, BLOCK_ROWS) / height;
        let tiles = rows.div_ceil(height);
        let mut row_tasks = tiles.div_ceil(fit);
        if row_tasks > threads {
            // As many for each thread.
            row_tasks = row_tasks.next_multiple_of(threads).min(tiles);
        }
        // Four tasks for each thread, so that one that is late leaves little to wait for.
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let column_tasks = wanted.div_ceil(row_tasks).min(panels);
        Self {
            height,
            tiles,
            row_tasks,
            panels,
            column_tasks,
            // Under about 10 µs of arithmetic, one thread is as fast.
            serial: row_tasks * column_tasks == 1 || rows * inputs * panels * width < 1 << 19,
        }
    }

    /// A task's rows: whole tiles, as many for each to within one.
    fn rows(&self, task: usize, rows: usize) -> Range<usize> {
        let start = |task| rows.min(task * self.tiles / self.row_tasks * self.height);
        start(task)..start(task + 1)
    }

    /// A task's panels, as many for each to within one.
    fn panels(&self, task: usize) -> Range<usize> {
        let start = |task| task * self.panels / self.column_tasks;
        start(task)..start(task + 1)
    }
}

/// Calls `f` for each of `0..n`, on the current rayon pool unless `serial`.
fn each(serial: bool, n: usize, f: impl Fn(usize) + Sync + Send) {
    if serial {
        (0..n).for_each(f);
    } else {
        (0..n).into_par_iter().for_each(f);
    }
}

/// The elementwise function on every number, in place.
///
/// # Panics
/// If the machine lacks `isa`.
pub fn activate(isa: Isa, activation: Activation, x: &mut [f32]) {
    const PIECE: usize = 4096;
    require(isa);
    x.par_chunks_mut(PIECE).for_each(|piece| {
        // SAFETY: a slice, and the instruction set was checked.
        unsafe { panel::activate_floats(isa, activation, piece.as_mut_ptr(), piece.len()) };
    });
}

/// The nearest bfloat16, ties to even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The nearest half-precision number, ties to even.
fn to_f16(x: f32) -> u16 {
    let (sign, size) = ((x.to_bits() >> 16 & 0x8000) as u16, x.abs());
    if size.is_nan() {
        return sign | 0x7e00;
    }
    // 65520 and above round to infinity.
    if size >= 65_520.0 {
        return sign | 0x7c00;
    }
    // Adding 2^(e+13) to a number of exponent e leaves the ten bits that fit; below 2^-14 all share one exponent.
    let exponent = (size.to_bits() >> 23).max(113);
    let magic = f32::from_bits((exponent + 13) << 23);
    let kept = (size + magic).to_bits() - magic.to_bits();
    sign | (((exponent - 113) << 10) + kept) as u16
}
