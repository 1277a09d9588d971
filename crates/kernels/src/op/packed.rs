//! Linear maps of inference: weights packed into panels once, run many times.
//!
//! y = act(x·Wᵀ + b) (+ residual), or, gated, y = act(x·Aᵀ + a) ∘ (x·Bᵀ + b). A block of rows small enough for L2 meets one panel
//! after the other; a panel stays in L1 for the whole block. Few rows are cut by columns too, so that a single short request
//! keeps every thread busy. A row's outputs have the same bits whatever the other rows are.
//!
//! Weights are kept as they compute (`F32`), as 16-bit floats that are widened a panel at a time (`Bf16`, `F16`), or as 8-bit
//! integers (`Int8`, see the notes in `arch/panel_int8.rs`).

use rayon::prelude::*;

use crate::Isa;
use crate::arch::gemm;
use crate::arch::panel::{self, Finish};
use crate::arch::require;
use crate::scratch::{Scratch, Shared};

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
    F32(Scratch),
    Half { bits: Vec<u16>, bf16: bool },
}

/// Bytes of rows that meet a panel: half of a small L2.
const BLOCK_BYTES: usize = 256 << 10;

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
        assert_eq!(weight.len(), all * inputs, "a weight of whole rows");
        assert!(
            !gated || all.is_multiple_of(2),
            "a gated map has two halves"
        );
        let halves = if gated { 2 } else { 1 };
        let outputs = all / halves;
        let width = gemm::tile(isa).1;
        let count = outputs.div_ceil(width);
        let mut panels = Scratch::take(count * halves * width * inputs);
        let mut padded = vec![0.0; count * halves * width];
        if let Some(bias) = bias {
            assert_eq!(bias.len(), all, "a bias for each output");
        }
        panels
            .par_chunks_exact_mut(width * inputs)
            .zip(padded.par_chunks_exact_mut(width))
            .enumerate()
            .for_each(|(index, (panel, padded))| {
                let (first, half) = (index / halves * width, index % halves);
                let row = half * outputs + first;
                let filled = width.min(outputs - first);
                let view = gemm::View {
                    data: weight[row * inputs..].as_ptr(),
                    row: 1,
                    col: inputs,
                };
                // SAFETY: the panel's columns are rows of the weight, and it holds whole columns.
                unsafe { gemm::pack_panel(isa, inputs, filled, view, panel.as_mut_ptr()) };
                if let Some(bias) = bias {
                    padded[..filled].copy_from_slice(&bias[row..row + filled]);
                }
            });
        let panels = match storage {
            Storage::F32 | Storage::Int8 => Panels::F32(panels),
            Storage::Bf16 => Panels::Half {
                bits: panels.iter().map(|&x| to_bf16(x)).collect(),
                bf16: true,
            },
            Storage::F16 => Panels::Half {
                bits: panels.iter().map(|&x| to_f16(x)).collect(),
                bf16: false,
            },
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

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let weights = match &self.panels {
            Panels::F32(panels) => 4 * panels.len(),
            Panels::Half { bits, .. } => 2 * bits.len(),
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
        let rows = x.len() / self.inputs;
        assert_eq!(x.len(), rows * self.inputs, "x has whole rows");
        assert_eq!(
            out.len(),
            rows * self.outputs,
            "out has a row for each of x"
        );
        if let Residual::Add(residual) = residual {
            assert_eq!(residual.len(), out.len(), "residual is as large as out");
        }
        if rows == 0 {
            return;
        }
        let (height, width) = gemm::tile(self.isa);
        let panels = self.outputs.div_ceil(width);
        let threads = rayon::current_num_threads();
        let fit = BLOCK_BYTES / (4 * self.inputs);
        let block = fit.clamp(height, 96).next_multiple_of(height);
        // Even blocks; and enough tasks for every thread to have several.
        let row_tasks = rows.div_ceil(block);
        let block = rows.div_ceil(row_tasks).next_multiple_of(height);
        let row_tasks = rows.div_ceil(block);
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let per_task = panels.div_ceil(wanted.div_ceil(row_tasks)).max(1);
        let column_tasks = panels.div_ceil(per_task);
        let out = Shared::new(out);
        let task = |task: usize| {
            let (row, first) = (task / column_tasks * block, task % column_tasks * per_task);
            let count = block.min(rows - row);
            let column = first * width;
            let columns = (per_task * width).min(self.outputs - column);
            let halves = if self.gated { 2 } else { 1 };
            let at = row * self.outputs + column;
            let finish = Finish {
                out: out.at(at),
                stride: self.outputs,
                columns,
                bias: self.bias[column * halves..].as_ptr(),
                activation: self.activation,
                gated: self.gated,
                residual: match residual {
                    Residual::None => std::ptr::null(),
                    Residual::Add(residual) => residual[at..].as_ptr(),
                    Residual::InPlace => out.at(at).cast_const(),
                },
            };
            let x = &x[row * self.inputs..(row + count) * self.inputs];
            let mut scratch = Scratch::take(panel::scratch(count, self.inputs));
            let panels = column * halves * self.inputs;
            let run = |panels: &[f32], finish: Finish, scratch: &mut Scratch| {
                // SAFETY: the task's rows and columns lie inside x and out, and no other task has them; panels and bias
                // hold whole panels for the columns.
                unsafe {
                    panel::rows(
                        self.isa,
                        count,
                        self.inputs,
                        x.as_ptr(),
                        self.inputs,
                        panels.as_ptr(),
                        finish,
                        scratch.as_mut_ptr(),
                    );
                }
            };
            match &self.panels {
                Panels::F32(all) => run(&all[panels..], finish, &mut scratch),
                Panels::Half { bits, bf16 } => {
                    // One panel at a time, so that the wide copy stays in L1.
                    let len = halves * width * self.inputs;
                    let mut wide = Scratch::take(len);
                    for (index, done) in (0..columns).step_by(width).enumerate() {
                        let from = panels + index * len;
                        widen(&bits[from..from + len], *bf16, &mut wide);
                        let step = |pointer: *const f32| {
                            if pointer.is_null() {
                                pointer
                            } else {
                                pointer.wrapping_add(done)
                            }
                        };
                        let finish = Finish {
                            out: finish.out.wrapping_add(done),
                            columns: width.min(columns - done),
                            bias: finish.bias.wrapping_add(done * halves),
                            residual: step(finish.residual),
                            ..finish
                        };
                        run(&wide, finish, &mut scratch);
                    }
                }
            }
        };
        let tasks = row_tasks * column_tasks;
        // Under about 10 µs of arithmetic, one thread is as fast.
        if tasks == 1 || rows * self.inputs * self.outputs < 1 << 19 {
            (0..tasks).for_each(task);
        } else {
            (0..tasks).into_par_iter().for_each(task);
        }
    }
}

fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    // To the nearest, ties to even.
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn to_f16(x: f32) -> u16 {
    let (sign, size) = ((x.to_bits() >> 16 & 0x8000) as u16, x.abs());
    if size.is_nan() {
        return sign | 0x7e00;
    }
    // 65520 and above round to infinity.
    if size >= 65_520.0 {
        return sign | 0x7c00;
    }
    // Adding 2^(e+13) for a number of exponent e leaves the ten bits that fit; below 2^-14 all share one exponent.
    let exponent = (size.to_bits() >> 23).max(113);
    let magic = f32::from_bits((exponent + 13) << 23);
    let kept = (size + magic).to_bits() - magic.to_bits();
    sign | (((exponent - 113) << 10) + kept) as u16
}

fn widen(bits: &[u16], bf16: bool, wide: &mut [f32]) {
    if bf16 {
        for (wide, &bits) in wide.iter_mut().zip(bits) {
            *wide = f32::from_bits(u32::from(bits) << 16);
        }
    } else {
        for (wide, &bits) in wide.iter_mut().zip(bits) {
            *wide = from_f16(bits);
        }
    }
}

/// Weights are finite: infinities become 65536, and no comparison is needed.
fn from_f16(bits: u16) -> f32 {
    let (sign, size) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // 2^112 moves the exponent's bias from 15 to 127, for subnormal numbers too.
    let value = f32::from_bits(size << 13) * f32::from_bits((112 + 127) << 23);
    f32::from_bits(value.to_bits() | sign)
}
