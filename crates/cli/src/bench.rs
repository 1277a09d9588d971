//! How fast an encoder runs here.

use std::io::Write;
use std::time::Instant;

use anyhow::Context;
use cloze_data::records::length;
use cloze_data::text::Encoding;
use cloze_runtime::cpu::Isa;
use cloze_runtime::model::{Checkpoint, TextEncoder};
use cloze_runtime::{Batch, Engine, Rows, peak};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::json;

use crate::arguments::Bench;
use crate::{source, table};

/// Texts of a file that are measured with.
const TEXTS: usize = 500;
/// Tokens of a batch of such texts.
const BATCH_TOKENS: usize = 8192;
/// Lengths of mixed texts: log-normal, as those of messages and passages mostly are.
const MEDIAN: f64 = 29.0;
const SIGMA: f64 = 0.8;
const LENGTHS: (usize, usize) = (4, 256);
const SEED: u64 = 77551;

/// What is run over and over.
struct Case {
    name: String,
    batches: Vec<Batch>,
}

/// What came out.
struct Measured {
    name: String,
    /// Texts and tokens of going through the case once.
    texts: usize,
    tokens: usize,
    /// Milliseconds of each batch, ascending.
    ms: Vec<f64>,
    texts_per_second: f64,
    tokens_per_second: f64,
    /// None where they are not counted.
    operations_per_second: Option<f64>,
}

pub fn run(args: &Bench) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.seconds >= 0.0,
        "--seconds {}: expected 0 or more",
        args.seconds
    );
    let options = args.engine.options()?;
    let isa = Isa::detect();
    let spinner = spinner();
    let text = args
        .input
        .is_some()
        .then(|| TextEncoder::open(&args.model, options));
    let text = text.transpose()?;
    let bare;
    let engine: &dyn Engine = if let Some(text) = &text {
        text.engine()
    } else {
        bare = Checkpoint::open(&args.model)?.start(options)?.1;
        &*bare
    };
    let (cases, texts_per_second) = match (&text, &args.input) {
        (Some(text), Some(file)) => {
            let texts = source::texts(file, &args.text, TEXTS)?;
            let start = Instant::now();
            let encoded = texts.par_iter().map(|t| text.encode(t, None));
            let encoded: Vec<_> = encoded
                .collect::<Result<_, _>>()
                .with_context(|| file.display().to_string())?;
            let rate = texts.len() as f64 / start.elapsed().as_secs_f64();
            (own(&encoded), Some(rate))
        }
        _ => (random(engine), None),
    };
    spinner.set_message("what the machine can do");
    let most = peak(isa);
    let mut measured = Vec::new();
    for case in &cases {
        spinner.set_message(case.name.clone());
        measured.push(measure(engine, case, args.seconds)?);
    }
    spinner.finish_and_clear();
    let threads = rayon::current_num_threads();
    let mut out = std::io::stdout();
    if args.json {
        let cases: Vec<_> = measured.iter().map(|case| case.json(most)).collect();
        let all = json!({
            "model": args.model,
            "weights": format!("{:?}", args.engine.weights).to_lowercase(),
            "threads": threads,
            "instruction_set": isa.name(),
            "peak_gflops": most / 1e9,
            "texts_tokenised_per_second": texts_per_second,
            "cases": cases,
            "weight_bytes": engine.weight_bytes(),
            "resident_bytes": memory("VmRSS"),
            "resident_bytes_at_most": memory("VmHWM"),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = measured.iter().map(|case| case.row(most)).collect();
    let header = [
        "case", "texts", "tokens", "runs", "ms p50", "ms p99", "texts/s", "tokens/s", "of peak",
    ];
    let weights = format!("{:?}", args.engine.weights).to_lowercase();
    let megabytes = |bytes: Option<u64>| {
        bytes.map_or_else(
            || "unknown".to_owned(),
            |bytes| format!("{:.1} MB", bytes as f64 / 1e6),
        )
    };
    writeln!(
        out,
        "{}: weights as {weights}, {threads} threads, {}, which do {:.1} GFLOP/s at most\n{}",
        args.model.display(),
        isa.name(),
        most / 1e9,
        table::plain(&header, &rows)
    )?;
    if let Some(rate) = texts_per_second {
        writeln!(out, "tokenising  {rate:.0} texts/s, before all this")?;
    }
    writeln!(
        out,
        "memory  weights {}, resident {} now and {} at most",
        megabytes(Some(engine.weight_bytes() as u64)),
        megabytes(memory("VmRSS")),
        megabytes(memory("VmHWM"))
    )?;
    Ok(())
}

/// Runs a case, whole, until the time is over; the first time is not counted.
fn measure(engine: &dyn Engine, case: &Case, seconds: f64) -> anyhow::Result<Measured> {
    let lengths = |batch: &Batch| {
        (0..batch.len())
            .map(|index| batch.range(index).len())
            .collect()
    };
    let lengths: Vec<Vec<usize>> = case.batches.iter().map(lengths).collect();
    let lengths = lengths.concat();
    let (texts, tokens) = (lengths.len(), lengths.iter().sum());
    let operations = lengths.iter().map(|&len| engine.encoder().operations(len));
    let operations = operations.sum::<Option<u64>>();
    let mut vectors = Vec::new();
    for batch in &case.batches {
        engine.run(batch, Rows::All, &mut vectors)?;
    }
    let (mut ms, mut times) = (Vec::new(), 0.0);
    let start = Instant::now();
    while times == 0.0 || start.elapsed().as_secs_f64() < seconds {
        for batch in &case.batches {
            let start = Instant::now();
            engine.run(batch, Rows::All, &mut vectors)?;
            ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times += 1.0;
    }
    let all = ms.iter().sum::<f64>() / 1e3;
    ms.sort_by(f64::total_cmp);
    Ok(Measured {
        name: case.name.clone(),
        texts,
        tokens,
        texts_per_second: times * texts as f64 / all,
        tokens_per_second: times * tokens as f64 / all,
        operations_per_second: operations.map(|operations| times * operations as f64 / all),
        ms,
    })
}

impl Measured {
    /// What a share of the runs did not exceed.
    fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.ms.len() as f64).ceil() as usize;
        self.ms[rank.max(1) - 1]
    }

    fn row(&self, most: f64) -> Vec<String> {
        vec![
            self.name.clone(),
            self.texts.to_string(),
            self.tokens.to_string(),
            self.ms.len().to_string(),
            format!("{:.2}", self.percentile(0.5)),
            format!("{:.2}", self.percentile(0.99)),
            format!("{:.0}", self.texts_per_second),
            format!("{:.0}", self.tokens_per_second),
            self.operations_per_second.map_or_else(
                || "not counted".to_owned(),
                |operations| format!("{:.0} %", 100.0 * operations / most),
            ),
        ]
    }

    fn json(&self, most: f64) -> serde_json::Value {
        json!({
            "case": self.name,
            "texts": self.texts,
            "tokens": self.tokens,
            "runs": self.ms.len(),
            "ms_p50": self.percentile(0.5),
            "ms_p99": self.percentile(0.99),
            "texts_per_second": self.texts_per_second,
            "tokens_per_second": self.tokens_per_second,
            "gflops": self.operations_per_second.map(|operations| operations / 1e9),
            "share_of_peak": self.operations_per_second.map(|operations| operations / most),
        })
    }
}

/// The cases of random tokens, none longer than the model takes.
fn random(engine: &dyn Engine) -> Vec<Case> {
    let encoder = engine.encoder();
    let mut random = Random(SEED);
    let mixed: Vec<usize> = (0..64)
        .map(|_| (MEDIAN * (SIGMA * random.normal()).exp()).round() as usize)
        .map(|len| len.clamp(LENGTHS.0, LENGTHS.1))
        .collect();
    let most = |len: usize| len.min(encoder.max_len);
    let equal = |texts: usize, len: usize| (format!("{texts} x {}", most(len)), vec![len; texts]);
    [
        equal(32, 128),
        equal(1, 16),
        equal(1, 128),
        ("64 mixed".to_owned(), mixed),
    ]
    .into_iter()
    .map(|(name, lengths)| {
        let mut batch = Batch::new();
        for len in lengths {
            let ids: Vec<u32> = (0..most(len))
                .map(|_| (random.next() % encoder.embed.vocab as u64) as u32)
                .collect();
            batch.push(&ids, &[]);
        }
        Case {
            name,
            batches: vec![batch],
        }
    })
    .collect()
}

/// The first texts of a file.
/// The cases of a user's own texts.
fn own(texts: &[Encoding]) -> Vec<Case> {
    let batch = |texts: &[&Encoding]| {
        let mut batch = Batch::new();
        for text in texts {
            batch.push(&text.ids, &[]);
        }
        batch
    };
    let lengths: Vec<usize> = texts.iter().map(Encoding::len).collect();
    let batches = length::batches(&lengths, BATCH_TOKENS)
        .into_iter()
        .map(|indices| {
            let texts: Vec<_> = indices.into_iter().map(|index| &texts[index]).collect();
            batch(&texts)
        });
    vec![
        Case {
            name: "in batches".to_owned(),
            batches: batches.collect(),
        },
        Case {
            name: "one by one".to_owned(),
            batches: texts.iter().map(|text| batch(&[text])).collect(),
        },
    ]
}

/// Bytes that the system says of this process, where it does.
fn memory(what: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("measuring {msg}  {elapsed}");
    // Hidden by itself where there is no terminal.
    ProgressBar::no_length().with_style(style.expect("a valid template"))
}

/// # Source
/// Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, figure 17 (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Box and Muller, A Note on the Generation of Random Normal Deviates, 1958.
    fn normal(&mut self) -> f64 {
        // In (0, 1].
        let mut uniform = || ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let (a, b) = (uniform(), uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}
