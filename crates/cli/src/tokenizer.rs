use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use cloze_data::source::ReadReport;
use cloze_data::text::train::{Counts, Language, Model, Settings, Trainer, Unify};
use cloze_data::text::{self, Encoding, Limit, Long, Report, Tokenizer};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::arguments::{
    Accents, ArabicLetter, ReportTokenizer, ShowTokenizer, Tokenizer as Arguments,
    TokenizerCommand, TokenizerLanguage, TokenizerModel, TrainTokenizer, set_threads,
};
use crate::table;

pub fn run(args: &Arguments) -> anyhow::Result<()> {
    match &args.command {
        TokenizerCommand::Train(args) => train(args),
        TokenizerCommand::Show(args) => show(args),
        TokenizerCommand::Report(args) => report(args),
    }
}

fn train(args: &TrainTokenizer) -> anyhow::Result<()> {
    anyhow::ensure!(
        !args.output.exists(),
        "{}: expected a folder that does not exist yet; remove it or name another with --output",
        args.output.display()
    );
    set_threads(args.threads)?;
    let sources: Vec<Source> = args
        .data
        .iter()
        .map(|data| Source::new(data))
        .collect::<anyhow::Result<_>>()?;
    let least = args
        .min_frequency
        .unwrap_or(Settings::default().min_frequency);
    let trainer = match &args.extend {
        Some(folder) => Trainer::extend(folder, args.vocab_size, least)?,
        None => Trainer::new(settings(args, least)?)?,
    };
    let counts = count(&trainer, &sources, args)?;
    let bar = spinner("learning {spinner} {msg}  {elapsed}");
    let trained = trainer.train(&counts, &mut |tokens| {
        if tokens % 100 == 0 {
            bar.set_message(format!("{tokens} tokens"));
        }
    });
    bar.finish_and_clear();
    let trained = trained?;
    trained.write(&args.output)?;
    eprintln!(
        "{} texts, {} different words",
        counts.texts(),
        counts.distinct()
    );
    if trained.vocabulary_len() < args.vocab_size {
        eprintln!(
            "the texts give {} tokens, not the {} asked for; more texts{} give more",
            trained.vocabulary_len(),
            args.vocab_size,
            if args.model == TokenizerModel::Unigram {
                ""
            } else {
                " or a lower --min-frequency"
            }
        );
    }
    eprintln!(
        "{} tokens, in {}",
        trained.vocabulary_len(),
        args.output.display()
    );
    Ok(())
}

fn settings(args: &TrainTokenizer, min_frequency: u64) -> anyhow::Result<Settings> {
    let mut unify = Unify::default();
    for letter in &args.unify {
        match letter {
            ArabicLetter::Alef => unify.alef = true,
            ArabicLetter::Ya => unify.ya = true,
            ArabicLetter::TaMarbuta => unify.ta_marbuta = true,
        }
    }
    anyhow::ensure!(
        args.unify.is_empty() || args.language == Some(TokenizerLanguage::Arabic),
        "--unify is about Arabic letters; add --language arabic or leave it out"
    );
    anyhow::ensure!(
        args.min_frequency.is_none() || args.model != TokenizerModel::Unigram,
        "--min-frequency is about merged pairs, which a unigram model has none of; leave it out"
    );
    let language = args.language.map(|language| match language {
        TokenizerLanguage::Turkish => Language::Turkish,
        TokenizerLanguage::Arabic => Language::Arabic(unify),
        TokenizerLanguage::Serbian => Language::Serbian,
        TokenizerLanguage::Japanese => Language::Japanese,
        TokenizerLanguage::JapaneseCharacters => Language::JapaneseCharacters,
    });
    Ok(Settings {
        model: match args.model {
            TokenizerModel::WordPiece => Model::WordPiece,
            TokenizerModel::BytePairs => Model::BytePairs,
            TokenizerModel::WordLevel => Model::WordLevel,
            TokenizerModel::Unigram => Model::Unigram,
        },
        vocabulary_len: args.vocab_size,
        min_frequency,
        alphabet_len: args.limit_alphabet,
        language,
        lowercase: args.lowercase,
        strip_accents: args.accents.map(|accents| accents == Accents::Strip),
        specials: args.specials.clone(),
        max_len: args.max_length,
    })
}

/// Texts to learn from, and how much they weigh.
struct Source {
    path: PathBuf,
    weight: Weight,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Times(u64),
    Balance,
}

impl Source {
    /// A file, and what follows its last colon if that is a weight.
    fn new(data: &str) -> anyhow::Result<Self> {
        let (path, weight) = match data.rsplit_once(':') {
            Some((path, "balance")) => (path, Weight::Balance),
            Some((path, times))
                if times.bytes().all(|byte| byte.is_ascii_digit()) && !times.is_empty() =>
            {
                let times = times.parse().ok().filter(|&times| times > 0);
                let times = times
                    .with_context(|| format!("--data {data}: expected a weight of at least 1"))?;
                (path, Weight::Times(times))
            }
            _ => (data, Weight::Times(1)),
        };
        let path = path.into();
        Ok(Self { path, weight })
    }
}

/// Words of all sources, each as often as its weight says.
fn count(trainer: &Trainer, sources: &[Source], args: &TrainTokenizer) -> anyhow::Result<Counts> {
    let sizes = sources
        .iter()
        .map(|source| std::fs::metadata(&source.path).map_or(0, |file| file.len()));
    let bar = bar(sizes.sum());
    let mut all = Counts::default();
    let mut to_balance = Vec::new();
    let mut done = 0;
    for source in sources {
        let input = args.rows.input(&source.path, vec![args.text.clone()])?;
        let mut records = input.read(0);
        let mut own = Counts::default();
        while let Some(chunk) = records.next() {
            let texts: Vec<String> = chunk?.into_iter().flat_map(|record| record.texts).collect();
            let counts = trainer
                .count(&texts)
                .with_context(|| source.path.display().to_string())?;
            match source.weight {
                Weight::Times(times) => all.add(counts, times),
                Weight::Balance => own.add(counts, 1),
            }
            bar.set_position(done + records.read_bytes());
        }
        done += records.read_bytes();
        skipped(records.report());
        if source.weight == Weight::Balance {
            to_balance.push((&source.path, own));
        }
    }
    bar.finish_and_clear();
    let largest = to_balance.iter().map(|(_, own)| own.chars()).max();
    let weight = match all.chars() {
        0 => largest.unwrap_or(0),
        chars => chars,
    };
    for (path, own) in to_balance {
        let times = weight.div_ceil(own.chars().max(1)).max(1);
        eprintln!("{} counts {times} times", path.display());
        all.add(own, times);
    }
    Ok(all)
}

fn show(args: &ShowTokenizer) -> anyhow::Result<()> {
    let tokenizer = Tokenizer::open(&args.folder)?;
    let input = text::Input {
        first: &args.text,
        second: args.second.as_deref(),
        prompt: None,
    };
    let whole = Limit {
        max_len: usize::MAX,
        long: Long::Error,
    };
    let mut out = std::io::stdout();
    for encoding in tokenizer.encode(input, whole)? {
        let tokens = tokens(&tokenizer, &encoding, args);
        if args.json {
            writeln!(out, "{:#}", json!({ "tokens": tokens }))?;
            continue;
        }
        let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
        writeln!(
            out,
            "{}",
            table::plain(
                &["id", "token", "characters", "text", "word", "segment", ""],
                &rows
            )
        )?;
    }
    Ok(())
}

/// The tokens of `encoding`, each an object.
fn tokens(tokenizer: &Tokenizer, encoding: &Encoding, args: &ShowTokenizer) -> Vec<Value> {
    let second = encoding.second.clone().unwrap_or_default();
    let token = |place: usize| {
        let (start, end) = encoding.offsets[place];
        let text = match &args.second {
            Some(text) if second.contains(&place) => text,
            _ => &args.text,
        };
        let chars = text
            .chars()
            .skip(start as usize)
            .take((end - start) as usize);
        json!({
            "id": encoding.ids[place],
            "token": tokenizer.token(encoding.ids[place]),
            "start": start,
            "end": end,
            "text": chars.collect::<String>(),
            "word": encoding.words[place],
            "segment": encoding.segments[place],
            "special": encoding.is_special[place],
            "unknown": Some(encoding.ids[place]) == tokenizer.unknown(),
        })
    };
    (0..encoding.len()).map(token).collect()
}

fn row(token: &Value) -> Vec<String> {
    let is = |name: &str| token[name] == true;
    let text = |name: &str| visible(token[name].as_str().unwrap_or_default());
    let number = |name: &str| {
        token[name]
            .as_u64()
            .map_or_else(String::new, |number| number.to_string())
    };
    let (chars, note) = match (is("special"), is("unknown")) {
        (true, _) => (String::new(), "special"),
        (false, unknown) => (
            format!("{}-{}", number("start"), number("end")),
            if unknown { "unknown" } else { "" },
        ),
    };
    vec![
        number("id"),
        text("token"),
        chars,
        text("text"),
        number("word"),
        number("segment"),
        note.to_owned(),
    ]
}

/// The same in one line: what controls terminals is written out.
fn visible(text: &str) -> String {
    let escaped = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escaped).collect()
}

/// The start of a word: without blanks between words, a word may be a page.
fn shortened(word: &str) -> String {
    const CHARS: usize = 40;
    match word.char_indices().nth(CHARS) {
        Some((end, _)) => visible(&word[..end]) + "…",
        None => visible(word),
    }
}

fn report(args: &ReportTokenizer) -> anyhow::Result<()> {
    set_threads(args.threads)?;
    let folders = || std::iter::once(&args.folder).chain(&args.others);
    let mut all = folders()
        .map(|folder| {
            let tokenizer = Tokenizer::open(folder)?;
            let max_len = args.max_length.or(tokenizer.max_len());
            Ok((tokenizer, max_len, Report::default()))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let input = args.rows.input(&args.input, vec![args.text.clone()])?;
    let mut records = input.read(0);
    for chunk in &mut records {
        let texts: Vec<String> = chunk?.into_iter().flat_map(|record| record.texts).collect();
        for ((tokenizer, _, report), folder) in all.iter_mut().zip(folders()) {
            report
                .add(tokenizer, &texts)
                .with_context(|| folder.display().to_string())?;
        }
    }
    skipped(records.report());
    let names: Vec<String> = folders()
        .map(|folder| folder.display().to_string())
        .collect();
    anyhow::ensure!(
        all[0].2.texts > 0,
        "{}: expected texts, found none",
        args.input.display()
    );
    let mut out = std::io::stdout();
    if args.json {
        let measured = all
            .iter()
            .zip(names)
            .map(|((tokenizer, max_len, report), name)| {
                let mut value = report.to_json(*max_len);
                value["tokenizer"] = name.into();
                value["vocabulary"] = tokenizer.vocabulary_len().into();
                value
            });
        writeln!(out, "{:#}", Value::Array(measured.collect()))?;
        return Ok(());
    }
    let header: Vec<&str> = std::iter::once("")
        .chain(names.iter().map(String::as_str))
        .collect();
    let first = &all[0].2;
    writeln!(
        out,
        "{} texts, {} words, {} characters\n",
        first.texts, first.words, first.chars
    )?;
    writeln!(out, "{}", table::plain(&header, &measures(&all)))?;
    for ((.., report), name) in all.iter().zip(&names) {
        let words: Vec<String> = report
            .longest()
            .map(|(word, tokens)| format!("{} ({tokens})", shortened(word)))
            .collect();
        writeln!(
            out,
            "\nwords of most tokens, {name}\n  {}",
            words.join(", ")
        )?;
    }
    Ok(())
}

/// A row for each measure, a column for each tokenizer.
fn measures(all: &[(Tokenizer, Option<usize>, Report)]) -> Vec<Vec<String>> {
    type Measured = (Tokenizer, Option<usize>, Report);
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let row = |name: &str, cell: &dyn Fn(&Measured) -> String| {
        std::iter::once(name.to_owned())
            .chain(all.iter().map(cell))
            .collect()
    };
    vec![
        row("vocabulary", &|(tokenizer, ..)| {
            tokenizer.vocabulary_len().to_string()
        }),
        row("tokens", &|(.., report)| report.tokens.to_string()),
        row("tokens for each word", &|(.., report)| {
            format!("{:.3}", report.fertility())
        }),
        row("words kept whole", &|(.., report)| percent(report.whole())),
        row("tokens unknown", &|(.., report)| percent(report.unknown())),
        row("characters for each token", &|(.., report)| {
            format!("{:.3}", report.chars_per_token())
        }),
        row("length, mean", &|(.., report)| {
            format!("{:.1}", report.mean_len())
        }),
        row("length, median", &|(.., report)| {
            report.percentile(50).to_string()
        }),
        row("length, 90 % at most", &|(.., report)| {
            report.percentile(90).to_string()
        }),
        row("length, 99 % at most", &|(.., report)| {
            report.percentile(99).to_string()
        }),
        row("length, longest", &|(.., report)| {
            report.percentile(100).to_string()
        }),
        row("fits", &|(_, max_len, _)| {
            max_len.map_or_else(|| "no limit".into(), |most| most.to_string())
        }),
        row("texts too long", &|(_, max_len, report)| {
            max_len.map_or_else(String::new, |most| percent(report.longer_than(most)))
        }),
    ]
}

fn skipped(report: Option<&ReadReport>) {
    if let Some(report) = report
        && report.skipped > 0
    {
        eprintln!("{} bad rows skipped", report.skipped);
    }
}

/// How far the files have been read.
fn bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("counting words {bar:30} {bytes}/{total_bytes}  {eta} left");
    ProgressBar::new(bytes).with_style(style.expect("a valid template"))
}

fn spinner(template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("a valid template");
    let bar = ProgressBar::no_length().with_style(style);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
