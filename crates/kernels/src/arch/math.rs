//! Elementary functions on a [`Vector`].
//!
//! The coefficients are minimax fits in relative error (Lawson's reweighting of least squares), made for this
//! file; the tests below hold them to the stated bounds against `f64`.
#![expect(
    clippy::missing_safety_doc,
    reason = "the duties are those of the trait: a machine with the instruction set, inlined into code for it"
)]

use super::Vector;

/// p and n for which eˣ = p·2ⁿ: x = n·ln 2 + r with |r| ≤ ln 2 / 2, and p = eʳ = 1 + r + r²·P(r).
#[inline(always)]
unsafe fn exp_parts<V: Vector>(x: V) -> (V, V::Int) {
    // ln 2 in two parts, the first short enough that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let n = V::round_to_int(x.mul(V::splat(std::f32::consts::LOG2_E)));
    let whole = V::from_int(n);
    let r = whole.fnma(V::splat(LN2_LOW), whole.fnma(V::splat(LN2_HIGH), x));
    let p = V::splat(1.979_024_5e-4);
    let p = p.fma(r, V::splat(1.394_475_9e-3));
    let p = p.fma(r, V::splat(8.333_498e-3));
    let p = p.fma(r, V::splat(4.166_629_5e-2));
    let p = p.fma(r, V::splat(1.666_666_6e-1));
    let p = p.fma(r, V::splat(0.5));
    (p.fma(r.mul(r), r).add(V::splat(1.0)), n)
}

/// Below it, eˣ is taken for 0; n of [`exp_parts`] is −125 there.
const EXP_LOW: f32 = -86.9;

/// eˣ, within 2 units in the last place for −87 ≤ x ≤ 88.7; below it is 0, above infinity; NaN stays NaN.
#[inline(always)]
pub unsafe fn exp<V: Vector>(x: V) -> V {
    const HIGH: f32 = 88.722_83;
    let (p, n) = exp_parts(x);
    // 2ⁿ in two steps, for n = 128 has no bits of its own.
    let n = V::add_int(n, V::splat_int(u32::MAX));
    let y = p.add(p).mul(V::pow2(n));
    let y = V::select(x.lt(V::splat(EXP_LOW)), V::zero(), y);
    V::select(V::splat(HIGH).lt(x), V::splat(f32::INFINITY), y)
}

/// [`exp`] for x ≤ 0, to the same bits in fewer steps.
#[inline(always)]
pub unsafe fn exp_of_negative<V: Vector>(x: V) -> V {
    let (p, n) = exp_parts(x);
    V::select(x.lt(V::splat(EXP_LOW)), V::zero(), p.mul(V::pow2(n)))
}

/// The normal distribution function Φ(x) and density φ(x); Φ within 1.5e-7, relative 1e-6 in the lower tail.
///
/// Φ(−|x|) = ½·e^(−x²/2)·t·P(t) with t = 1 / (1 + 0.21·|x|), the shape of Abramowitz & Stegun 7.1.26.
#[inline(always)]
unsafe fn normal<V: Vector>(x: V) -> (V, V) {
    const INV_SQRT_TAU: f32 = 0.398_942_3;
    let e = exp(x.mul(x).mul(V::splat(-0.5)));
    let t = V::splat(1.0).div(x.abs().fma(V::splat(0.21), V::splat(1.0)));
    let p = V::splat(-0.144_067_58);
    let p = p.fma(t, V::splat(0.570_904_97));
    let p = p.fma(t, V::splat(-0.668_375_5));
    let p = p.fma(t, V::splat(0.708_062_9));
    let p = p.fma(t, V::splat(-0.194_488_3));
    let p = p.fma(t, V::splat(0.252_708_94));
    let p = p.fma(t, V::splat(0.137_580_44));
    let p = p.fma(t, V::splat(0.170_258_77));
    let p = p.fma(t, V::splat(0.167_415_41));
    let tail = p.mul(t).mul(e).mul(V::splat(0.5));
    let cumulative = V::select(x.lt(V::zero()), tail, V::splat(1.0).sub(tail));
    (cumulative, e.mul(V::splat(INV_SQRT_TAU)))
}

/// GELU, exact form: x·Φ(x) (Hendrycks & Gimpel, arXiv:1606.08415).
#[inline(always)]
pub unsafe fn gelu<V: Vector>(x: V) -> V {
    x.mul(normal(x).0)
}

/// Derivative of [`gelu`]: Φ(x) + x·φ(x).
#[inline(always)]
pub unsafe fn gelu_derivative<V: Vector>(x: V) -> V {
    let (cumulative, density) = normal(x);
    x.fma(density, cumulative)
}

/// [`gelu`] in a third of the time, for where its derivative is not wanted; within 3e-7 for |x| ≤ 1 and 3e-7·|x| beyond, but
/// without the relative bound of the lower tail.
///
/// Φ(x) − ½ is odd: x·P(x²)/Q(x²), fitted for |x| ≤ 5.3, past which it is ±½.
#[inline(always)]
pub unsafe fn gelu_rational<V: Vector>(x: V) -> V {
    let square = x.mul(x).min(V::splat(5.3 * 5.3));
    let p = V::splat(2.405_031_2e-8);
    let p = p.fma(square, V::splat(6.379_072e-6));
    let p = p.fma(square, V::splat(1.603_349_2e-4));
    let p = p.fma(square, V::splat(4.627_996e-3));
    let p = p.fma(square, V::splat(3.293_581_5e-2));
    let p = p.fma(square, V::splat(0.398_942_26));
    let q = V::splat(1.237_169_5e-6);
    let q = q.fma(square, V::splat(7.135_25e-5));
    let q = q.fma(square, V::splat(1.836_573_8e-3));
    let q = q.fma(square, V::splat(2.813_884_3e-2));
    let q = q.fma(square, V::splat(0.249_224_07));
    let q = q.fma(square, V::splat(1.0));
    let half = V::splat(0.5);
    let rest = x.mul(p).div(q).min(half).max(V::splat(-0.5));
    x.fma(rest, x.mul(half))
}

/// ln(1 + u) for 0 ≤ u ≤ 1, within 2 units in the last place: 2·artanh(s) with s = u / (2 + u) ≤ ⅓, by its series.
#[inline(always)]
unsafe fn ln_1p_of_fraction<V: Vector>(u: V) -> V {
    let s = u.div(u.add(V::splat(2.0)));
    let square = s.mul(s);
    let mut p = V::splat(1.0 / 15.0);
    for odd in [13.0_f32, 11.0, 9.0, 7.0, 5.0, 3.0] {
        p = p.fma(square, V::splat(1.0 / odd));
    }
    let twice = s.add(s);
    p.mul(square).fma(twice, twice)
}

/// Softplus ln(1 + eˣ) = −log sigmoid(−x), and the sigmoid 1 / (1 + e⁻ˣ), its derivative.
#[inline(always)]
pub unsafe fn softplus<V: Vector>(x: V) -> (V, V) {
    let u = exp(V::zero().sub(x.abs()));
    let one = V::splat(1.0);
    let upper = one.div(one.add(u));
    let sigmoid = V::select(x.lt(V::zero()), u.mul(upper), upper);
    (V::zero().max(x).add(ln_1p_of_fraction(u)), sigmoid)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // e of a number that is never positive: nothing overflows.
    let u = exp(V::zero().sub(x.abs()));
    let upper = V::splat(1.0).div(V::splat(1.0).add(u));
    V::select(x.lt(V::zero()), u.mul(upper), upper)
}

/// Hyperbolic tangent, within 4 units in the last place: x·P(x²) near zero, else 1 − 2 / (1 + e²ˣ) with the sign of x.
#[inline(always)]
pub unsafe fn tanh<V: Vector>(x: V) -> V {
    const NEAR: f32 = 0.625;
    let size = x.abs();
    let square = x.mul(x);
    // The odd series of tanh, fitted for |x| ≤ 0.625.
    let p = V::splat(-5.666_96e-3);
    let p = p.fma(square, V::splat(2.060_616e-2));
    let p = p.fma(square, V::splat(-5.373e-2));
    let p = p.fma(square, V::splat(1.333_133_1e-1));
    let p = p.fma(square, V::splat(-3.333_327_8e-1));
    let near = p.mul(square).fma(x, x);
    let e = exp(size.add(size).min(V::splat(40.0)));
    let far = V::splat(1.0).sub(V::splat(2.0).div(e.add(V::splat(1.0))));
    let far = V::select(x.lt(V::zero()), V::zero().sub(far), far);
    V::select(size.lt(V::splat(NEAR)), near, far)
}

/// GELU, tanh form: ½x(1 + tanh(√(2/π)(x + 0.044715x³))) = x·σ(2√(2/π)(x + 0.044715x³)) (Hendrycks & Gimpel,
/// arXiv:1606.08415).
#[inline(always)]
pub unsafe fn gelu_tanh<V: Vector>(x: V) -> V {
    const TWICE: f32 = 1.595_769;
    let cubic = x.mul(x).fma(V::splat(TWICE * 0.044_715), V::splat(TWICE));
    x.mul(sigmoid(x.mul(cubic)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, arch::dispatch, reference};

    #[inline(always)]
    unsafe fn map_body<V: Vector>(which: u32, x: *const f32, y: *mut f32, n: usize) {
        let mut i = 0;
        while i < n {
            let step = V::LANES.min(n - i);
            let v = V::load_up_to(x.add(i), step);
            let v = match which {
                0 => exp(v),
                1 => gelu(v),
                3 => softplus(v).0,
                4 => softplus(v).1,
                5 => tanh(v),
                6 => gelu_tanh(v),
                7 => sigmoid(v),
                8 => gelu_rational(v),
                9 => exp_of_negative(v),
                _ => gelu_derivative(v),
            };
            v.store_up_to(y.add(i), step);
            i += step;
        }
    }
    dispatch! {
        unsafe fn map(which: u32, x: *const f32, y: *mut f32, n: usize) = map_body;
    }

    fn apply(isa: Isa, which: u32, x: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len()];
        // SAFETY: both hold x.len() floats, and only instruction sets of the machine come here.
        unsafe { map(isa, which, x.as_ptr(), y.as_mut_ptr(), x.len()) };
        y
    }

    fn grid(low: f32, high: f32) -> Vec<f32> {
        let n = 200_003;
        (0..n)
            .map(|i| low + (high - low) * i as f32 / (n - 1) as f32)
            .collect()
    }

    fn ulps(y: f32, want: f64) -> f64 {
        let near = want as f32;
        let unit = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
        (f64::from(y) - want).abs() / unit
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for isa in Isa::available() {
            for x in [grid(-86.8, 0.0), grid(-1.0, 1.0), grid(0.0, 88.7)] {
                for (x, y) in x.iter().zip(apply(isa, 0, &x)) {
                    assert!(
                        ulps(y, f64::from(*x).exp()) < 2.0,
                        "{isa:?}: exp({x}) = {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn exp_of_negative_numbers_has_the_bits_of_exp() {
        let outside = [f32::NEG_INFINITY, -1e9, -86.900_01, -86.9, -0.0, 0.0];
        for isa in Isa::available() {
            for x in [grid(-90.0, 0.0), grid(-1.0, 0.0), outside.to_vec()] {
                assert_eq!(apply(isa, 9, &x), apply(isa, 0, &x), "{isa:?}");
            }
            assert!(apply(isa, 9, &[f32::NAN])[0].is_nan(), "{isa:?}");
        }
    }

    #[test]
    fn exp_saturates() {
        let x = [
            f32::NEG_INFINITY,
            -1e9,
            -100.0,
            89.0,
            1e9,
            f32::INFINITY,
            0.0,
        ];
        for isa in Isa::available() {
            let inf = f32::INFINITY;
            assert_eq!(
                apply(isa, 0, &x),
                [0.0, 0.0, 0.0, inf, inf, inf, 1.0],
                "{isa:?}"
            );
            assert!(apply(isa, 0, &[f32::NAN])[0].is_nan(), "{isa:?}");
        }
    }

    #[test]
    fn gelu_is_within_its_bounds() {
        let x = grid(-12.0, 12.0);
        for isa in Isa::available() {
            let (gelus, slopes) = (apply(isa, 1, &x), apply(isa, 2, &x));
            let rational = apply(isa, 8, &x);
            for (i, &x) in x.iter().enumerate() {
                let exact = f64::from(x);
                let off = |y: f32, want: f64| (f64::from(y) - want).abs();
                let gelu = reference::linear::gelu(exact);
                for (y, bound) in [(gelus[i], 2e-7), (rational[i], 3e-7)] {
                    assert!(
                        off(y, gelu) < bound * exact.abs().max(1.0),
                        "{isa:?}: gelu({x}) = {y} not {gelu}"
                    );
                }
                let slope = reference::linear::gelu_derivative(exact);
                assert!(
                    off(slopes[i], slope) < 3e-7,
                    "{isa:?}: gelu'({x}) = {} not {slope}",
                    slopes[i]
                );
            }
        }
    }

    #[test]
    fn the_rational_gelu_is_straight_far_out_and_keeps_what_is_no_number() {
        let x = [-1e30, -5.4, 0.0, 5.4, 1e30, f32::INFINITY];
        for isa in Isa::available() {
            let want = [0.0, 0.0, 0.0, 5.4, 1e30, f32::INFINITY];
            assert_eq!(apply(isa, 8, &x), want, "{isa:?}");
            assert!(apply(isa, 8, &[f32::NAN])[0].is_nan(), "{isa:?}");
        }
    }

    #[test]
    fn softplus_and_sigmoid_are_within_four_units_in_the_last_place() {
        let x = grid(-80.0, 80.0);
        for isa in Isa::available() {
            let (values, slopes) = (apply(isa, 3, &x), apply(isa, 4, &x));
            for (i, &x) in x.iter().enumerate() {
                let exact = f64::from(x);
                assert!(
                    ulps(values[i], exact.exp().ln_1p()) < 4.0,
                    "{isa:?}: softplus({x})"
                );
                assert!(
                    ulps(slopes[i], 1.0 / (1.0 + (-exact).exp())) < 4.0,
                    "{isa:?}: sigmoid({x})"
                );
            }
        }
    }

    #[test]
    fn tanh_sigmoid_and_the_tanh_gelu_are_within_their_bounds() {
        for isa in Isa::available() {
            for x in [grid(-12.0, 12.0), grid(-1.0, 1.0), grid(-90.0, 90.0)] {
                let (tanhs, gelus, sigmoids) =
                    (apply(isa, 5, &x), apply(isa, 6, &x), apply(isa, 7, &x));
                for (i, &x) in x.iter().enumerate() {
                    let exact = f64::from(x);
                    assert!(
                        (f64::from(tanhs[i]) - exact.tanh()).abs() <= 4e-7 * exact.tanh().abs(),
                        "{isa:?}: tanh({x}) = {}",
                        tanhs[i]
                    );
                    let inner =
                        (2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044_715 * exact.powi(3));
                    let gelu = 0.5 * exact * (1.0 + inner.tanh());
                    assert!(
                        (f64::from(gelus[i]) - gelu).abs() < 4e-7 * exact.abs().max(1.0),
                        "{isa:?}: gelu_tanh({x})"
                    );
                    let sigmoid = 1.0 / (1.0 + (-exact).exp());
                    assert!(
                        (f64::from(sigmoids[i]) - sigmoid).abs() < 2e-7,
                        "{isa:?}: sigmoid({x})"
                    );
                }
            }
        }
    }
}
