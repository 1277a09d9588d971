//! Recordings of spoken words as texts of units of sound: frames of a spectrum, put into groups of which each is a word.

use std::f64::consts::PI;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::make::Draws;

/// Which utterances to make of recordings named `LABEL_SPEAKER_NUMBER.wav`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sounds {
    /// Groups of frames.
    pub units: usize,
    /// Speakers whose frames the groups are found from.
    pub learn: Vec<String>,
    /// Speakers of the utterances, each of which is one speaker's.
    pub of: Vec<String>,
    /// Recordings that make an utterance.
    pub together: usize,
    /// Utterances.
    pub count: usize,
    /// What they are drawn from.
    pub seed: u64,
}

/// A recording.
struct Recording {
    label: String,
    speaker: String,
    /// Cepstral coefficients, frame by frame.
    frames: Vec<[f64; COEFFICIENTS]>,
}

/// Samples a second.
const RATE: f64 = 8000.0;
/// Samples of a frame: 25 ms.
const FRAME: usize = 200;
/// Samples from one frame to the next: 10 ms.
const HOP: usize = 80;
/// Length of the transform, which a frame is filled up to.
const LENGTH: usize = 256;
const BANDS: usize = 26;
const COEFFICIENTS: usize = 13;

impl Sounds {
    /// Texts of units, and the labels of the recordings in order, parted by commas.
    ///
    /// # Errors
    /// When the archive cannot be read, holds something else, or lacks a speaker.
    pub fn utterances(&self, archive: &Path) -> Result<Vec<(String, String)>> {
        let mut all = recordings(archive)?;
        for speaker in self.learn.iter().chain(&self.of) {
            if !all.iter().any(|one| one.speaker == *speaker) {
                bail!("there is no recording of {speaker:?}");
            }
        }
        normalize(&mut all);
        let known: Vec<_> = all
            .iter()
            .filter(|one| self.learn.contains(&one.speaker))
            .flat_map(|one| one.frames.iter().copied())
            .collect();
        let mut draws = Draws(self.seed);
        let groups = groups(&known, self.units, &mut draws);
        let texts: Vec<String> = all.iter().map(|one| text(&one.frames, &groups)).collect();
        let utterances = (0..self.count).map(|_| {
            let speaker = &self.of[draws.below(self.of.len())];
            let own: Vec<usize> = (0..all.len())
                .filter(|&at| all[at].speaker == *speaker)
                .collect();
            let drawn: Vec<usize> = (0..self.together)
                .map(|_| own[draws.below(own.len())])
                .collect();
            let joined = |of: &dyn Fn(usize) -> String, with: &str| {
                drawn
                    .iter()
                    .map(|&at| of(at))
                    .collect::<Vec<_>>()
                    .join(with)
            };
            (
                joined(&|at| texts[at].clone(), " "),
                joined(&|at| all[at].label.clone(), ","),
            )
        });
        Ok(utterances.collect())
    }
}

/// The recordings of a gzipped tape archive, in the order of their names.
fn recordings(archive: &Path) -> Result<Vec<Recording>> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(std::fs::File::open(archive)?).read_to_end(&mut bytes)?;
    let bands = bands();
    let mut all = Vec::new();
    let mut rest = &bytes[..];
    // A block of 512 bytes that says a file's name and size, then the file, filled up to such blocks.
    while let Some((head, after)) = rest.split_at_checked(512).filter(|(head, _)| head[0] != 0) {
        let text = |range: std::ops::Range<usize>| {
            let field = head[range]
                .split(|&byte| byte == 0)
                .next()
                .unwrap_or_default();
            String::from_utf8_lossy(field).trim().to_owned()
        };
        let name = text(0..100);
        let size = usize::from_str_radix(&text(124..136), 8)
            .with_context(|| format!("{name}: its size in the archive"))?;
        let file = after
            .get(..size)
            .with_context(|| format!("{name}: cut off"))?;
        rest = after.get(size.next_multiple_of(512)..).unwrap_or_default();
        let Some(stem) = name
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(".wav"))
        else {
            continue;
        };
        let mut parts = stem.split('_').map(str::to_owned);
        let (Some(label), Some(speaker)) = (parts.next(), parts.next()) else {
            bail!("{name}: expected a name such as seven_anna_3.wav");
        };
        let samples = samples(file).with_context(|| name.clone())?;
        all.push((
            name,
            Recording {
                label,
                speaker,
                frames: frames(&samples, &bands),
            },
        ));
    }
    if all.is_empty() {
        bail!("there is no recording in the archive");
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all.into_iter().map(|(_, one)| one).collect())
}

/// The samples of a WAV file of one channel, 16 bits and [`RATE`].
fn samples(file: &[u8]) -> Result<Vec<f64>> {
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = file.get(at..at + bytes)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
        )
    };
    let mut at = 12;
    while let (Some(kind), Some(size)) = (file.get(at..at + 4), number(at + 4, 4)) {
        let body = at + 8;
        if kind == b"fmt " {
            let found =
                [(0, 2), (2, 2), (4, 4), (14, 2)].map(|(from, bytes)| number(body + from, bytes));
            if found != [1, 1, RATE as usize, 16].map(Some) {
                bail!(
                    "expected uncompressed sound of one channel, 8000 samples a second and 16 bits, found {found:?}"
                );
            }
        }
        if kind == b"data" {
            let data = &file[body..file.len().min(body + size)];
            let pairs = data.chunks_exact(2);
            return Ok(pairs
                .map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])) / 32768.0)
                .collect());
        }
        at = body + size.next_multiple_of(2);
    }
    bail!("expected a WAV file with sound in it, found none")
}

/// Cepstral coefficients of mel bands (Davis and Mermelstein, IEEE TASSP 28(4), 1980).
fn frames(samples: &[f64], bands: &[Vec<f64>]) -> Vec<[f64; COEFFICIENTS]> {
    let raised: Vec<f64> = (0..samples.len().max(FRAME))
        .map(|at| {
            let sample = |at: usize| samples.get(at).copied().unwrap_or(0.0);
            sample(at) - if at > 0 { 0.97 * sample(at - 1) } else { 0.0 }
        })
        .collect();
    let count = (raised.len() - FRAME) / HOP + 1;
    (0..count)
        .map(|frame| {
            let own = raised[frame * HOP..].iter().take(FRAME).enumerate();
            let own: Vec<f64> = own
                .map(|(at, x)| {
                    x * (0.54 - 0.46 * (2.0 * PI * at as f64 / (FRAME - 1) as f64).cos())
                })
                .collect();
            let power: Vec<f64> = (0..=LENGTH / 2).map(|tone| power(&own, tone)).collect();
            let logs: Vec<f64> = bands
                .iter()
                .map(|band| {
                    let sum: f64 = band
                        .iter()
                        .zip(&power)
                        .map(|(weight, power)| weight * power)
                        .sum();
                    (sum + 1e-6).ln()
                })
                .collect();
            std::array::from_fn(|place| {
                let wave =
                    |band: usize| (PI / BANDS as f64 * place as f64 * (band as f64 + 0.5)).cos();
                logs.iter()
                    .enumerate()
                    .map(|(band, log)| log * wave(band))
                    .sum()
            })
        })
        .collect()
}

/// The power of one tone of a frame (Goertzel, 1958).
fn power(frame: &[f64], tone: usize) -> f64 {
    let turn = 2.0 * (2.0 * PI * tone as f64 / LENGTH as f64).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for x in frame {
        (last, before) = (x + turn * last - before, last);
    }
    last * last + before * before - turn * last * before
}

/// What each tone counts in each band: triangles at equal distances of mel.
fn bands() -> Vec<Vec<f64>> {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let hertz = |mel: f64| 700.0 * (10_f64.powf(mel / 2595.0) - 1.0);
    let (low, high) = (mel(60.0), mel(3800.0));
    let corner = |at: usize| {
        let place = low + (high - low) * at as f64 / (BANDS + 1) as f64;
        hertz(place) / RATE * LENGTH as f64
    };
    (0..BANDS)
        .map(|band| {
            let [from, top, to] = [0, 1, 2].map(|side| corner(band + side));
            (0..=LENGTH / 2)
                .map(|tone| {
                    let tone = tone as f64;
                    ((tone - from) / (top - from))
                        .min((to - tone) / (to - top))
                        .max(0.0)
                })
                .collect()
        })
        .collect()
}

/// Brings each coefficient of each speaker to mean 0 and deviation 1.
fn normalize(all: &mut [Recording]) {
    let speakers: std::collections::BTreeSet<String> =
        all.iter().map(|one| one.speaker.clone()).collect();
    for speaker in speakers {
        for place in 0..COEFFICIENTS {
            let of = || all.iter().filter(|one| one.speaker == speaker);
            let values: Vec<f64> = of()
                .flat_map(|one| &one.frames)
                .map(|frame| frame[place])
                .collect();
            let count = values.len().max(1) as f64;
            let mean = values.iter().sum::<f64>() / count;
            let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let own = all.iter_mut().filter(|one| one.speaker == speaker);
            for frame in own.flat_map(|one| &mut one.frames) {
                frame[place] = (frame[place] - mean) / square.sqrt().max(1e-9);
            }
        }
    }
}

/// The centres of so many groups (Lloyd, 1982), from frames drawn at random.
fn groups(
    frames: &[[f64; COEFFICIENTS]],
    count: usize,
    draws: &mut Draws,
) -> Vec<[f64; COEFFICIENTS]> {
    let mut centres: Vec<_> = (0..count)
        .map(|_| frames[draws.below(frames.len())])
        .collect();
    for _ in 0..15 {
        let mut sums = vec![([0.0; COEFFICIENTS], 0.0); count];
        for frame in frames {
            let (sum, own) = &mut sums[nearest(frame, &centres)];
            *own += 1.0;
            for (sum, x) in sum.iter_mut().zip(frame) {
                *sum += x;
            }
        }
        for (centre, (sum, own)) in centres.iter_mut().zip(sums) {
            if own > 0.0 {
                *centre = sum.map(|x| x / own);
            }
        }
    }
    centres
}

fn nearest(frame: &[f64; COEFFICIENTS], centres: &[[f64; COEFFICIENTS]]) -> usize {
    let far = |centre: &[f64; COEFFICIENTS]| -> f64 {
        centre.iter().zip(frame).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let best = (0..centres.len()).min_by(|&a, &b| far(&centres[a]).total_cmp(&far(&centres[b])));
    best.expect("there are groups")
}

/// A word for each frame, those alike in a row once.
fn text(frames: &[[f64; COEFFICIENTS]], groups: &[[f64; COEFFICIENTS]]) -> String {
    let mut units: Vec<usize> = frames.iter().map(|frame| nearest(frame, groups)).collect();
    units.dedup();
    let words: Vec<String> = units.iter().map(|unit| format!("u{unit}")).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A recording of one tone.
    fn wav(hertz: f64, samples: usize) -> Vec<u8> {
        let mut file =
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data"
                .to_vec();
        file.extend((2 * samples as u32).to_le_bytes());
        for at in 0..samples {
            let x = (2.0 * PI * hertz * at as f64 / RATE).sin() * 8000.0;
            file.extend((x as i16).to_le_bytes());
        }
        file
    }

    fn archive(files: &[(&str, Vec<u8>)]) -> tempfile::NamedTempFile {
        let mut out = tempfile::NamedTempFile::new().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        for (name, file) in files {
            let mut head = [0; 512];
            head[..name.len()].copy_from_slice(name.as_bytes());
            head[124..136].copy_from_slice(format!("{:011o} ", file.len()).as_bytes());
            encoder.write_all(&head).unwrap();
            encoder.write_all(file).unwrap();
            encoder
                .write_all(&vec![0; file.len().next_multiple_of(512) - file.len()])
                .unwrap();
        }
        encoder.write_all(&[0; 1024]).unwrap();
        out.write_all(&encoder.finish().unwrap()).unwrap();
        out
    }

    fn sounds(of: &str) -> Sounds {
        Sounds {
            units: 8,
            learn: vec!["a".to_owned()],
            of: vec![of.to_owned()],
            together: 2,
            count: 20,
            seed: 3,
        }
    }

    #[test]
    fn tones_that_are_alike_have_units_alike() {
        let files = [
            ("low_a_0.wav", wav(300.0, 1600)),
            ("high_a_0.wav", wav(2500.0, 1600)),
            ("low_b_0.wav", wav(300.0, 1600)),
            ("high_b_0.wav", wav(2500.0, 1600)),
        ];
        let archive = archive(&files);
        let utterances = sounds("b").utterances(archive.path()).unwrap();
        assert_eq!(utterances.len(), 20);
        let of = |label: &str| {
            let mut texts: Vec<&String> = utterances
                .iter()
                .filter(|one| one.1 == label)
                .map(|one| &one.0)
                .collect();
            texts.sort();
            texts.dedup();
            assert_eq!(texts.len(), 1, "{label}: {texts:?}");
            texts[0].clone()
        };
        assert_ne!(of("low,low"), of("high,high"));
        assert_ne!(of("low,high"), of("high,low"));
        assert_eq!(sounds("b").utterances(archive.path()).unwrap(), utterances);
        assert!(
            sounds("c")
                .utterances(archive.path())
                .unwrap_err()
                .to_string()
                .contains("\"c\"")
        );
    }

    #[test]
    fn what_is_no_recording_is_told() {
        let mut stereo = wav(300.0, 400);
        stereo[22] = 2;
        for (name, file, expected) in [
            ("low_a_0.wav", stereo, "one channel"),
            ("low_a_0.wav", b"RIFF".to_vec(), "found none"),
            ("low.wav", wav(300.0, 400), "seven_anna_3.wav"),
            ("notes.txt", vec![1], "no recording"),
        ] {
            let archive = archive(&[(name, file)]);
            let found = format!("{:#}", sounds("a").utterances(archive.path()).unwrap_err());
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn the_power_of_a_tone_is_that_of_its_sum() {
        let frame: Vec<f64> = (0..FRAME)
            .map(|at| (at as f64 * 0.37).sin() + 0.2)
            .collect();
        for tone in [0, 1, 40, LENGTH / 2] {
            let part = |wave: fn(f64) -> f64| -> f64 {
                let angle = |at: usize| 2.0 * PI * (tone * at) as f64 / LENGTH as f64;
                frame
                    .iter()
                    .enumerate()
                    .map(|(at, x)| x * wave(angle(at)))
                    .sum()
            };
            let expected = part(f64::cos).powi(2) + part(f64::sin).powi(2);
            assert!((power(&frame, tone) - expected).abs() < 1e-8 * expected.max(1.0));
        }
    }
}
