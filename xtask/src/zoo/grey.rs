//! Images as texts: a word for the grey of each block of pixels, row after row.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

/// How words are made of pixels.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grey {
    /// Pixels of a block along each side; what does not fill one is left out.
    pub block: usize,
    /// Levels of grey, 2 to 256, each a word of its own.
    pub levels: u32,
}

impl Grey {
    /// Texts and labels of two files in MNIST's format, IDX in gzip: images of bytes, and a byte for each of them.
    ///
    /// # Errors
    /// When a file cannot be read, is not of that format, or they do not belong together.
    pub fn texts(self, images: &Path, labels: &Path) -> Result<Vec<(String, String)>> {
        let bytes = |path: &Path| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let file = fs::File::open(path).with_context(|| path.display().to_string())?;
            MultiGzDecoder::new(file)
                .read_to_end(&mut bytes)
                .with_context(|| path.display().to_string())?;
            Ok(bytes)
        };
        self.texts_of(&bytes(images)?, &bytes(labels)?)
    }

    fn texts_of(self, images: &[u8], labels: &[u8]) -> Result<Vec<(String, String)>> {
        ensure!(
            self.block > 0 && (2..=256).contains(&self.levels),
            "grey: expected a block of at least 1 and 2 to 256 levels, found {self:?}"
        );
        let ([count, height, width], pixels) = idx(images)?;
        let ([labelled], labels) = idx(labels)?;
        ensure!(
            count == labelled,
            "expected as many labels as there are images, {count}, found {labelled}"
        );
        let size = (height * width).max(1);
        let image = |pixels: &[u8]| {
            let mut words = Vec::new();
            for top in (0..=height.saturating_sub(self.block)).step_by(self.block) {
                for left in (0..=width.saturating_sub(self.block)).step_by(self.block) {
                    words.push(self.word(pixels, width, top, left));
                }
            }
            words.join(" ")
        };
        let texts = pixels.chunks_exact(size).zip(labels);
        Ok(texts
            .map(|(pixels, label)| (image(pixels), label.to_string()))
            .collect())
    }

    /// The level of a block: its mean.
    fn word(self, pixels: &[u8], width: usize, top: usize, left: usize) -> String {
        let rows = (top..top + self.block).map(|y| &pixels[y * width + left..][..self.block]);
        let sum: u32 = rows.flatten().map(|&pixel| u32::from(pixel)).sum();
        let mean = sum / (self.block * self.block) as u32;
        (mean * self.levels / 256).to_string()
    }
}

/// The sizes and values of a file of bytes in `D` dimensions.
fn idx<const D: usize>(bytes: &[u8]) -> Result<([usize; D], &[u8])> {
    /// Unsigned bytes, in the format's numbers of types.
    const BYTES: u8 = 8;
    ensure!(
        bytes.get(..4) == Some(&[0, 0, BYTES, D as u8]) && bytes.len() >= 4 + 4 * D,
        "expected a file of bytes in {D} dimensions, as MNIST's are"
    );
    let (head, values) = bytes.split_at(4 + 4 * D);
    let mut sizes = [0; D];
    for (size, four) in sizes.iter_mut().zip(head[4..].chunks_exact(4)) {
        *size = four
            .iter()
            .fold(0, |sum, &byte| 256 * sum + usize::from(byte));
    }
    let wanted = sizes
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size));
    ensure!(
        wanted == Some(values.len()),
        "expected {sizes:?} bytes, found {}",
        values.len()
    );
    Ok((sizes, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sizes: &[u8], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|&size| [0, 0, 0, size]));
        bytes.extend(values);
        bytes
    }

    const GREY: Grey = Grey {
        block: 2,
        levels: 8,
    };

    #[test]
    fn blocks_of_pixels_are_words_row_after_row() {
        let image = [
            0, 0, 255, 255, 9, //
            0, 0, 255, 255, 9, //
            128, 128, 0, 4, 9, //
            128, 128, 100, 24, 9, //
            9, 9, 9, 9, 9,
        ];
        let two: Vec<u8> = image.iter().chain(&image).copied().collect();
        let texts = GREY
            .texts_of(&file(&[2, 5, 5], &two), &file(&[2], &[7, 3]))
            .unwrap();
        let text = |label: &str| ("0 7 4 1".to_owned(), label.to_owned());
        assert_eq!(texts, [text("7"), text("3")]);
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let (images, labels) = (file(&[1, 2, 2], &[0; 4]), file(&[1], &[1]));
        assert!(GREY.texts_of(&images, &labels).is_ok());
        for (images, labels) in [
            (&images[..19], &labels[..]),
            (&images, &file(&[2], &[1, 2])),
            (&labels, &labels),
            (&images, &[]),
            (&file(&[1, 255, 255], &[0; 4]), &labels),
        ] {
            assert!(GREY.texts_of(images, labels).is_err());
        }
    }
}
