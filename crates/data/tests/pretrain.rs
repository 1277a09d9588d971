//! Examples to pre-train on: what each epoch makes of documents, and that nothing of them is lost.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cloze_data::text::Tokenizer;
use cloze_data::text::batch::TextBatch;
use cloze_data::text::examples::{Growth, TextPlan};
use cloze_data::text::learn::{Ask, TextData};
use cloze_data::text::store::Place;
use cloze_spec::batch::Batch;
use cloze_spec::text::{BatchWarmup, Objective, Texts};

const MAX_LEN: usize = 24;
const BATCH: Batch = Batch {
    max_tokens: 64,
    max_sequences: None,
};

fn tokenizer() -> Tokenizer {
    Tokenizer::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text/bert")).unwrap()
}

/// What is read of `text`, for an objective of masked tokens of which `more` is set.
fn prepare(text: &str, objective: &str) -> TextData {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("documents.txt");
    fs::write(&file, text).unwrap();
    let texts: Texts = toml::from_str(&format!(
        "kind = \"text\"\ndocuments = \"paragraphs\"\nfiles = ['{0}']\nvalidation = ['{0}']",
        file.display()
    ))
    .unwrap();
    let objective: Objective = toml::from_str(objective).unwrap();
    TextData::prepare(&Ask {
        texts: &texts,
        objective: &objective,
        tokenizer: &tokenizer(),
        max_len: MAX_LEN,
        seed: 5,
        place: Place {
            folder: folder.path(),
            tokenizer: &[],
        },
    })
    .unwrap()
}

fn masked(more: &str) -> String {
    format!("kind = \"masked-token\"\nmask_prob = 0.15\nreplace = {{ kind = \"always\" }}\n{more}")
}

/// The batches of an epoch, with what was hidden put back.
fn epoch(data: &TextData, epoch: u64) -> Vec<TextBatch> {
    use cloze_data::text::batch::Wanted;
    let plan = TextPlan::shuffled(
        &data.train,
        data.blanks.as_ref(),
        None,
        BATCH,
        None,
        (5, epoch),
    );
    let whole = |index| {
        let mut batch = plan.build(index);
        if let Wanted::Tokens(hidden) = &batch.wanted {
            for (&row, &id) in batch.rows.iter().flatten().zip(hidden) {
                batch.tokens[row as usize] = id;
            }
        }
        batch
    };
    (0..plan.len()).map(whole).collect()
}

/// The two segments of each text, without special tokens, and its class.
fn pairs(batches: &[TextBatch]) -> Vec<([Vec<u32>; 2], u32)> {
    let mut pairs = Vec::new();
    for batch in batches {
        assert!(batch.tokens.len() <= BATCH.max_tokens);
        let classes = batch.pairs.as_ref().unwrap();
        assert_eq!(classes.len(), batch.len());
        for (ends, &class) in batch.offsets.windows(2).zip(classes) {
            let range = ends[0] as usize..ends[1] as usize;
            assert!(range.len() <= MAX_LEN);
            let (tokens, segments) = (&batch.tokens[range.clone()], &batch.segments[range]);
            let second = segments.iter().position(|&segment| segment == 1).unwrap();
            assert!(segments[second..].iter().all(|&segment| segment == 1));
            // [CLS] a [SEP] b [SEP]
            let first = tokens[1..second - 1].to_vec();
            let second = tokens[second..tokens.len() - 1].to_vec();
            assert!(!first.is_empty() && !second.is_empty());
            pairs.push(([first, second], class));
        }
    }
    pairs
}

/// Documents of lines of words, numbered so that each token says where it stands: the tokens of each document.
fn corpus() -> (String, Vec<Vec<u32>>) {
    let tokenizer = tokenizer();
    let mut text = String::new();
    let mut number = 1000;
    for document in 0..40 {
        for line in 0..=document % 7 {
            // Some lines are longer than a text.
            let words = [3, 11, 40, 1][(document + line) % 4];
            let words: Vec<String> = (0..words)
                .map(|_| {
                    number += 1;
                    number.to_string()
                })
                .collect();
            text.push_str(&words.join(" "));
            text.push('\n');
        }
        text.push('\n');
    }
    let tokens = text.split("\n\n").filter(|of| !of.trim().is_empty());
    let tokens = tokens.map(|of| {
        let whole = tokenizer.encode_whole(&of.replace('\n', " ")).unwrap();
        whole.ids[whole.first.clone()].to_vec()
    });
    (text.clone(), tokens.collect())
}

/// Whether `part` stands in `whole`.
fn holds(whole: &[u32], part: &[u32]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

#[test]
fn second_segments_follow_or_come_from_another_document() {
    let (text, documents) = corpus();
    let data = prepare(&text, &masked("pair = { kind = \"next-sentence\" }"));
    let pairs = pairs(&epoch(&data, 0));
    let (mut counts, mut apart) = ([0, 0], 0);
    for ([first, second], class) in &pairs {
        counts[*class as usize] += 1;
        let both = [&first[..], &second[..]].concat();
        let of = |part: &[u32]| documents.iter().position(|whole| holds(whole, part));
        if *class == 0 {
            assert!(documents.iter().any(|whole| holds(whole, &both)));
        } else {
            assert!(of(first).is_some() && of(second).is_some());
            apart += usize::from(of(&both).is_none());
        }
    }
    let [follow, others] = counts;
    assert!(follow > 30 && others > 30, "{counts:?}");
    // A few tokens at the end of a document may stand after the first segment by chance.
    assert!(apart > others * 4 / 5, "{apart} of {others}");
}

#[test]
fn a_pair_of_an_epoch_is_drawn_anew_in_the_next_and_the_same_in_the_same() {
    let (text, _) = corpus();
    let data = prepare(&text, &masked("pair = { kind = \"sentence-order\" }"));
    assert_eq!(epoch(&data, 3), epoch(&data, 3));
    let mut epochs = [3, 4].map(|number| pairs(&epoch(&data, number)));
    for pairs in &mut epochs {
        pairs.sort_unstable();
    }
    assert_ne!(epochs[0], epochs[1]);
}

#[test]
fn pairs_in_order_or_swapped_lose_nothing_of_their_documents() {
    let (text, documents) = corpus();
    let data = prepare(
        &text,
        &masked("pair = { kind = \"sentence-order\", short_prob = 0.3 }"),
    );
    let mut seen: HashMap<u32, usize> = HashMap::new();
    let mut swapped = 0;
    for ([mut first, mut second], class) in pairs(&epoch(&data, 0)) {
        if class == 1 {
            swapped += 1;
            std::mem::swap(&mut first, &mut second);
        }
        let both = [first, second].concat();
        assert!(documents.iter().any(|whole| holds(whole, &both)));
        for id in both {
            *seen.entry(id).or_default() += 1;
        }
    }
    let mut all: HashMap<u32, usize> = HashMap::new();
    for id in documents.iter().flatten() {
        *all.entry(*id).or_default() += 1;
    }
    let [seen, all] = [&seen, &all].map(|counts| counts.values().sum::<usize>());
    // A single token at the end of a document makes no pair.
    assert!(all - seen <= documents.len(), "{seen} of {all}");
    assert!(swapped > 20, "{swapped}");
}

#[test]
fn long_texts_become_segments_and_nothing_of_them_is_lost() {
    let (text, documents) = corpus();
    let data = prepare(&text, &masked(""));
    assert_eq!(data.cut, 0);
    let mut seen: Vec<u32> = Vec::new();
    for batch in epoch(&data, 0) {
        assert!(batch.tokens.len() <= BATCH.max_tokens && batch.pairs.is_none());
        for ends in batch.offsets.windows(2) {
            let text = &batch.tokens[ends[0] as usize..ends[1] as usize];
            assert!(text.len() <= MAX_LEN);
            // Each begins and ends as a text does, and is of one document.
            let own = &text[1..text.len() - 1];
            assert!(documents.iter().any(|whole| holds(whole, own)));
            seen.extend(own);
        }
    }
    let mut all = documents.concat();
    all.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, all);
}

#[test]
fn tokens_have_no_position_but_the_one_to_say_and_few_are_seen() {
    use cloze_data::text::batch::Wanted;
    let (text, documents) = corpus();
    let data = prepare(&text, "kind = \"position\"\nhidden_share = 0.75");
    let batches = epoch(&data, 0);
    let mut tokens = 0;
    for batch in &batches {
        let Wanted::Places(places) = &batch.wanted else {
            panic!("{batch:?}");
        };
        let keys = batch.keys.as_ref().unwrap();
        assert_eq!(batch.rows, None);
        for ends in batch.offsets.windows(2) {
            let range = ends[0] as usize..ends[1] as usize;
            tokens += range.len();
            let own = &batch.tokens[range.clone()];
            assert!(documents.iter().any(|whole| holds(whole, own)));
            assert!(
                places[range.clone()]
                    .iter()
                    .copied()
                    .eq(0..own.len() as u32)
            );
            let seen = keys[range].iter().filter(|seen| **seen).count();
            assert_eq!(seen, (own.len() - (own.len() * 3 + 2) / 4).max(1));
        }
    }
    assert_eq!(tokens, documents.concat().len());
    assert_eq!(epoch(&data, 0), batches);
    let all = prepare(&text, "kind = \"position\"\nhidden_share = 0.0");
    assert!(epoch(&all, 0).iter().all(|batch| batch.keys.is_none()));
}

#[test]
fn batches_grow_over_a_share_of_the_run() {
    let (text, _) = corpus();
    let data = prepare(&text, &masked(""));
    let warmup = BatchWarmup {
        from_tokens: MAX_LEN,
        share: 0.25,
    };
    let of = |epoch| {
        let growth = Some(Growth { warmup, epochs: 4 });
        let limits = Batch {
            max_tokens: 240,
            max_sequences: None,
        };
        let blanks = data.blanks.as_ref();
        let plan = TextPlan::shuffled(&data.train, blanks, None, limits, growth, (5, epoch));
        let sizes = (0..plan.len()).map(|at| plan.build(at).tokens.len());
        sizes.collect::<Vec<usize>>()
    };
    let (first, second) = (of(0), of(1));
    assert!(first[0] <= MAX_LEN, "{first:?}");
    let middle = first[first.len() * 2 / 3];
    assert!(middle > 2 * MAX_LEN && middle < 220, "{first:?}");
    // All but the last.
    assert!(
        second[..second.len() - 1]
            .iter()
            .all(|&tokens| tokens > 200),
        "{second:?}"
    );
    assert_eq!(first.iter().sum::<usize>(), second.iter().sum::<usize>());
}
