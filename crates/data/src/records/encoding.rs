//! Vectors in fewer bytes.

use half::f16;

/// How a vector's numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Single precision.
    #[default]
    F32,
    /// Half precision, rounded to the nearest, ties to even.
    F16,
    /// Bytes from -127 to 127 and a scale for each vector, in the column `<name>_scale`: value ≈ byte · scale, where
    /// scale = max |value| / 127.
    Int8,
    /// One bit a number, set if it is above zero, packed eight to a byte, the first one highest, filled up with zeros:
    /// as `numpy.packbits(x > 0)`, and the precision `ubinary` of sentence-transformers.
    Binary,
}

impl Encoding {
    /// Its name in options and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Binary => "binary",
        }
    }

    /// Values stored for a vector of `width` numbers.
    pub fn stored_width(self, width: usize) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Int8 => width,
            Self::Binary => width.div_ceil(8),
        }
    }
}

pub(super) fn halves(values: &[f32]) -> impl Iterator<Item = f16> {
    values.iter().map(|&value| f16::from_f32(value))
}

/// Bytes and scale of one vector. A vector of zeros has the scale 0.
pub(super) fn int8(vector: &[f32], bytes: &mut Vec<i8>) -> f32 {
    let scale = vector.iter().fold(0.0_f32, |max, x| max.max(x.abs())) / 127.0;
    bytes.extend(vector.iter().map(|x| {
        if scale > 0.0 {
            (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8
        } else {
            0
        }
    }));
    scale
}

pub(super) fn bits(vector: &[f32], bytes: &mut Vec<u8>) {
    bytes.extend(vector.chunks(8).map(|eight| {
        eight.iter().enumerate().fold(0, |byte, (place, &x)| {
            byte | (u8::from(x > 0.0) << (7 - place))
        })
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_times_scale_are_within_half_a_step() {
        let vector = [0.5, -1.0, 0.003, 0.0, 0.9961];
        let mut bytes = Vec::new();
        let scale = int8(&vector, &mut bytes);
        assert_eq!(bytes[1], -127);
        for (x, byte) in vector.iter().zip(&bytes) {
            assert!((x - f32::from(*byte) * scale).abs() <= scale * 0.501);
        }
        assert!(int8(&[0.0, 0.0], &mut bytes).abs() <= f32::MIN_POSITIVE);
        assert_eq!(bytes[5..], [0, 0]);
    }

    #[test]
    fn bits_are_packed_as_numpy_packs_them() {
        // numpy.packbits(numpy.array([1, -1, 0, 1, 1, 1, 1, 1, -1, 1]) > 0)
        let vector = [1.0, -1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0];
        let mut bytes = Vec::new();
        bits(&vector, &mut bytes);
        assert_eq!(bytes, [0b1001_1111, 0b0100_0000]);
    }
}
