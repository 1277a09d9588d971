//! Texts become the tokens, windows and labelled stretches that the Python packages make of them.
//!
//! `tests/golden/text` is made by `tools/golden/text.py`.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use cloze_data::text::{
    Agreement, Answers, Encoding, Input, Limit, Long, SECTION, Shorten, Tokenizer, answers,
};
use cloze_spec::text::{ChunkPool, Chunked, Chunks};
use serde::Deserialize;

const WHOLE: Limit = Limit {
    max_len: usize::MAX,
    long: Long::Error,
};
const CUT: Long = Long::Truncate(Shorten::LongestFirst);

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/text")
        .join(name)
}

fn open(name: &str) -> Tokenizer {
    Tokenizer::open(&golden(name)).unwrap()
}

fn lines<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let text = fs::read_to_string(golden(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn whole(tokenizer: &Tokenizer, text: &str) -> Encoding {
    tokenizer.encode(text.into(), WHOLE).unwrap().remove(0)
}

fn chunks(max_len: usize, overlap: usize, whole_words: bool) -> Limit {
    let long = Long::Chunk {
        overlap,
        whole_words,
    };
    Limit { max_len, long }
}

/// Where in `text` each of `spans` is.
fn texts(text: &str, spans: &[(u32, u32)]) -> Vec<String> {
    let cut = |&(start, end): &(u32, u32)| {
        let upto = text.chars().take(end as usize);
        upto.skip(start as usize).collect()
    };
    spans.iter().map(cut).collect()
}

#[derive(Deserialize)]
struct Case {
    folder: String,
    texts: Vec<String>,
    long: String,
    max_len: usize,
    overlap: usize,
    /// None where Python refuses.
    windows: Option<Vec<Window>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Window {
    ids: Vec<u32>,
    segments: Vec<u32>,
    offsets: Vec<(u32, u32)>,
    words: Vec<Option<u32>>,
    special: Vec<u32>,
}

impl From<Encoding> for Window {
    fn from(encoding: Encoding) -> Self {
        Self {
            ids: encoding.ids,
            segments: encoding.segments,
            offsets: encoding.offsets,
            words: encoding.words,
            special: encoding.is_special.into_iter().map(u32::from).collect(),
        }
    }
}

#[test]
fn tokens_offsets_and_windows_are_those_of_the_python_package() {
    let cases: Vec<Case> = lines("tokens.jsonl");
    assert!(cases.iter().any(|case| case.windows.is_none()));
    let mut tokenizer: Option<(String, Tokenizer)> = None;
    for case in cases {
        if tokenizer
            .as_ref()
            .is_none_or(|(name, _)| *name != case.folder)
        {
            tokenizer = Some((case.folder.clone(), open(&case.folder)));
        }
        let (_, tokenizer) = tokenizer.as_ref().unwrap();
        let long = match &*case.long {
            "error" => Long::Error,
            "longest_first" => CUT,
            "only_first" => Long::Truncate(Shorten::OnlyFirst),
            "only_second" => Long::Truncate(Shorten::OnlySecond),
            _ => chunks(0, case.overlap, false).long,
        };
        let limit = Limit {
            max_len: case.max_len,
            long,
        };
        let input = Input {
            first: &case.texts[0],
            second: case.texts.get(1).map(String::as_str),
            prompt: None,
        };
        let found = tokenizer.encode(input, limit).ok().map(|windows| {
            let windows = windows.into_iter().map(Window::from);
            windows.collect::<Vec<_>>()
        });
        assert_eq!(
            found, case.windows,
            "{}: {:?}, {} within {}",
            case.folder, case.texts, case.long, case.max_len
        );
    }
}

#[derive(Deserialize)]
struct Labels {
    tokenizer: String,
    text: String,
    max_len: usize,
    overlap: usize,
    strategy: String,
    logits: Vec<Vec<f32>>,
    entities: Vec<(String, f32, u32, u32)>,
}

#[test]
fn labelled_stretches_are_those_of_the_pipeline() {
    let labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"].map(str::to_owned);
    let cases: Vec<Labels> = lines("labels.jsonl");
    assert!(cases.iter().any(|case| case.logits.len() > 1));
    for case in cases {
        let tokenizer = open(&case.tokenizer);
        let limit = chunks(case.max_len, case.overlap, false);
        let encodings = tokenizer.encode((&*case.text).into(), limit).unwrap();
        assert_eq!(encodings.len(), case.logits.len());
        let logits = case.logits.iter().map(Vec::as_slice);
        let windows: Vec<_> = encodings.iter().zip(logits).collect();
        let agreement = match &*case.strategy {
            "simple" => Agreement::Simple,
            "first" => Agreement::First,
            "average" => Agreement::Average,
            _ => Agreement::Max,
        };
        let found = tokenizer.entities(&case.text, &windows, &labels, agreement);
        let place = format!("{} {} {}", case.tokenizer, case.strategy, case.text);
        assert_eq!(found.len(), case.entities.len(), "{place}: {found:?}");
        for (found, (label, score, start, end)) in found.into_iter().zip(case.entities) {
            assert_eq!(
                (&found.label, found.chars.clone()),
                (&label, start..end),
                "{place}"
            );
            assert!(
                (found.score - score).abs() < 1e-6,
                "{place}: {found:?}, {score}"
            );
            assert_eq!(found.text, texts(&case.text, &[(start, end)])[0]);
        }
    }
}

#[test]
fn windows_know_where_in_the_text_they_start() {
    let tokenizer = open("bert");
    let all = whole(&tokenizer, "the old mill stood near the river");
    for input in [
        Input::from("the old mill stood near the river"),
        Input::from(("the", "the old mill stood near the river")),
    ] {
        let windows = tokenizer.encode(input, chunks(7, 1, false)).unwrap();
        assert!(windows.len() > 1 && windows[0].start == 0);
        for window in windows {
            let tokens = &all.ids[all.body()][window.start..][..window.body().len()];
            assert_eq!(window.ids[window.body()], *tokens);
        }
    }
}

#[test]
fn a_word_is_one_token_as_it_stands_in_a_text() {
    let tokenizer = open("bert");
    let mill = tokenizer.single("Mill").unwrap();
    assert_eq!(mill, tokenizer.id("mill"));
    assert_eq!(tokenizer.single("the mill").unwrap(), None);
    let mut ids = 0..tokenizer.vocabulary_len() as u32;
    let continuing = ids.find(|&id| tokenizer.token(id).unwrap().starts_with("##"));
    let (letters, begins) = tokenizer.written(continuing.unwrap()).unwrap();
    assert!(!begins && !letters.contains('#'), "{letters}");
    assert_eq!(
        tokenizer.written(mill.unwrap()).unwrap(),
        ("mill".to_owned(), true)
    );

    // Here a token of its own stands for the word without the blank.
    let bytes = open("roberta");
    let [after_blank, bare] = ["Ġold", "old"].map(|token| bytes.id(token).unwrap());
    assert_eq!(bytes.single("old").unwrap(), Some(after_blank));
    let old = "old".to_owned();
    assert_eq!(bytes.written(after_blank).unwrap(), (old.clone(), true));
    assert_eq!(bytes.written(bare).unwrap(), (old, false));
}

#[test]
fn what_is_cut_is_counted_and_can_be_refused() {
    let tokenizer = open("bert");
    let text = "the old mill stood near the river";
    let cut = tokenizer
        .encode(
            text.into(),
            Limit {
                max_len: 5,
                long: CUT,
            },
        )
        .unwrap();
    assert_eq!((cut.len(), cut[0].len(), cut[0].cut), (1, 5, 4));
    assert_eq!(whole(&tokenizer, text).cut, 0);
    let refuse = Limit {
        max_len: 8,
        long: Long::Error,
    };
    let error = tokenizer.encode(text.into(), refuse).unwrap_err();
    assert_eq!(
        error.to_string(),
        "text of 9 tokens, 8 fit; shorten it, or ask for truncation or chunks"
    );
    let error = tokenizer
        .encode(
            text.into(),
            Limit {
                max_len: 1,
                long: CUT,
            },
        )
        .unwrap_err();
    assert!(error.to_string().contains("2 special tokens"), "{error}");
    let error = tokenizer
        .encode(text.into(), chunks(6, 4, true))
        .unwrap_err();
    assert!(
        error.to_string().contains("leave 4 of 6 for a window"),
        "{error}"
    );
}

#[test]
fn the_side_that_is_cut_is_the_folders_choice() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("bert/vocab.txt"), folder.path().join("vocab.txt")).unwrap();
    let config = folder.path().join("tokenizer_config.json");
    fs::write(config, r#"{"truncation_side": "left"}"#).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let text = "the old mill stood";
    let cut = tokenizer
        .encode(
            text.into(),
            Limit {
                max_len: 4,
                long: CUT,
            },
        )
        .unwrap();
    assert_eq!(texts(text, &cut[0].offsets), ["", "mill", "stood", ""]);
}

#[test]
fn chunks_of_whole_words_cover_the_text_and_say_where_they_are() {
    let tokenizer = open("bert");
    let text = "Tea, unbelievably vintage paperweights: the old mill stood near the river";
    let all = whole(&tokenizer, text);
    let windows = tokenizer.encode(text.into(), chunks(13, 3, true)).unwrap();
    assert!(windows.len() > 2);
    let mut covered = 0;
    for window in &windows {
        assert!(window.len() <= 13 && window.cut == 0);
        let chars = window.chars();
        assert!(chars.start <= covered && chars.end > covered);
        covered = chars.end + 1;
        let part = &texts(text, &[(chars.start, chars.end)])[0];
        assert_eq!(whole(&tokenizer, part).ids, window.ids, "{part:?}");
    }
    assert_eq!(windows[windows.len() - 1].chars().end, all.chars().end);
    assert_eq!(all.chars(), 0..text.len() as u32);
}

#[test]
fn parts_of_one_pass_are_the_chunks_of_several() {
    let tokenizer = open("roberta");
    let text = "The old mill stood near the river, until Anna Bruns sold every small wooden lamp";
    let all = whole(&tokenizer, text);
    let windows = tokenizer.encode(text.into(), chunks(10, 3, true)).unwrap();
    let parts = all.parts(8, 3);
    assert!(parts.len() > 2 && parts.len() == windows.len());
    for (part, window) in parts.iter().zip(&windows) {
        assert_eq!(part.chars, window.chars());
        assert_eq!(all.ids[part.tokens.clone()], window.ids[window.body()]);
    }
}

#[test]
fn a_prompt_stands_in_every_window_and_has_no_place_in_the_text() {
    let tokenizer = open("bert").with_strip(true);
    let prompt = tokenizer.prompt("white tea: ").unwrap();
    let text = "  the old mill stood near the river";
    let input = Input {
        prompt: Some(&prompt),
        ..text.into()
    };
    let windows = tokenizer.encode(input, chunks(9, 1, true)).unwrap();
    let start = &whole(&tokenizer, "white tea:").ids[..4];
    assert!(windows.len() > 1);
    let plain = tokenizer.encode(text.into(), WHOLE).unwrap();
    for window in &windows {
        assert_eq!((&window.ids[..4], window.prompt), (start, 4));
        assert_eq!(window.offsets[..4], [(0, 0); 4]);
        let at = plain[0]
            .offsets
            .iter()
            .position(|&o| o == window.offsets[4])
            .unwrap();
        assert_eq!(plain[0].ids[at], window.ids[4]);
    }
    assert_eq!(plain[0].prompt, 0);
    assert_eq!(windows[0].chars().start, 2);
}

#[test]
fn lower_casing_by_setting_keeps_places_in_the_text() {
    let tokenizer = open("bert-cased").with_lowercase(true);
    let text = "İ TEA Cup";
    let encoding = whole(&tokenizer, text);
    let cased = whole(&open("bert-cased"), "tea cup");
    assert_eq!(encoding.ids[encoding.len() - 3..], cased.ids[1..]);
    assert_eq!(
        texts(text, &encoding.offsets[encoding.len() - 3..]),
        ["TEA", "Cup", ""]
    );
}

#[test]
fn many_texts_are_the_same_as_each_alone_and_faults_stay_with_their_text() {
    let tokenizer = open("roberta");
    let texts: Vec<String> = (0..500)
        .map(|n| format!("the {n} tea {}", "lamp ".repeat(n % 20)))
        .collect();
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| (&**text).into()).collect();
    let limit = Limit {
        max_len: 20,
        long: Long::Error,
    };
    let together = tokenizer.encode_all(&inputs, limit);
    assert_eq!(together.len(), 500);
    let mut refused = 0_usize;
    for (input, found) in inputs.iter().zip(together) {
        let alone = tokenizer.encode(*input, limit);
        refused += usize::from(found.is_err());
        assert_eq!(found.ok(), alone.ok());
    }
    assert!((1..500).contains(&refused));
}

#[test]
fn ids_from_elsewhere_get_their_special_tokens() {
    let tokenizer = open("mpnet");
    let ids = whole(&tokenizer, "the white lamp").ids;
    let encoding = tokenizer.encode_ids(&ids[1..4], 5).unwrap();
    assert_eq!((encoding.ids, encoding.first), (ids.clone(), 1..4));
    assert!(tokenizer.encode_ids(&ids, 5).is_err());
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "the white lamp");
}

#[test]
fn a_folder_names_its_longest_input_and_its_tokens() {
    let lens = ["bert", "bert-cased", "mpnet", "roberta"].map(|name| open(name).max_len());
    assert_eq!(lens, [None, Some(512), None, Some(512)]);
    for (name, mask, pad) in [("bert", "[MASK]", "[PAD]"), ("roberta", "<mask>", "<pad>")] {
        let tokenizer = open(name);
        assert_eq!(tokenizer.mask(), tokenizer.id(mask));
        assert_eq!(
            tokenizer.pad().and_then(|id| tokenizer.token(id)).unwrap(),
            pad
        );
    }
    assert_eq!(open("mpnet").specials(true).unwrap(), 4);
}

const QUESTION: &str = "who sold flour?";
const CONTEXT: &str = "the mill stood; Annabel Bruns, the miller, sold flour";

/// Logits that are `high` at the start and end of the words of `answer` in each window that has them.
fn pointing(windows: &[Encoding], context: &str, answer: &str, high: f32) -> Vec<Vec<f32>> {
    let start = context.find(answer).unwrap() as u32;
    let end = start + answer.len() as u32;
    let row = |window: &Encoding, token: usize| {
        let inside = window.body().contains(&token);
        let (first, last) = window.offsets[token];
        let at = |hit: bool| if inside && hit { high } else { 0.0 };
        [at(first == start), at(last == end)]
    };
    let of_window = |window: &Encoding| {
        (0..window.len())
            .flat_map(|token| row(window, token))
            .collect()
    };
    windows.iter().map(of_window).collect()
}

#[test]
fn answers_are_found_in_whichever_window_has_them() {
    let tokenizer = open("bert");
    let pair = (QUESTION, CONTEXT).into();
    let windows = tokenizer.encode(pair, chunks(14, 4, false)).unwrap();
    assert!(windows.len() > 1);
    let logits = pointing(&windows, CONTEXT, "Annabel Bruns", 9.0);
    let both: Vec<_> = windows
        .iter()
        .zip(logits.iter().map(Vec::as_slice))
        .collect();
    let found = answers(
        CONTEXT,
        &both,
        &Answers {
            count: 3,
            ..Answers::default()
        },
    );
    assert_eq!(
        (&*found[0].text, found[0].chars.clone()),
        ("Annabel Bruns", 16..29)
    );
    assert!(found[0].score > 0.9 && found.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let distinct: std::collections::HashSet<_> =
        found.iter().map(|answer| answer.chars.clone()).collect();
    assert_eq!(distinct.len(), found.len());
}

#[test]
fn answers_neither_run_backwards_nor_longer_than_allowed_nor_into_the_question() {
    let tokenizer = open("bert");
    let windows = tokenizer.encode((QUESTION, CONTEXT).into(), WHOLE).unwrap();
    let window = &windows[0];
    let body = window.body();
    let mut logits = vec![0.0; 2 * window.len()];
    // The best start is after the best end, and better ones are in the question.
    logits[2 * (body.end - 1)] = 5.0;
    logits[2 * body.start + 1] = 5.0;
    logits[2 * 2] = 50.0;
    logits[2 * 3 + 1] = 50.0;
    let settings = Answers {
        count: usize::MAX,
        max_tokens: 3,
        whole_words: false,
        nothing: false,
    };
    let found = answers(CONTEXT, &[(window, &logits)], &settings);
    let n = body.len();
    assert_eq!(found.len(), 3 * n - 3);
    assert!(
        found
            .iter()
            .all(|answer| answer.chars.start < answer.chars.end)
    );
    // Softmax over the context and the first token: of the two tokens with a high score only one can be in an answer.
    let weight = 5.0_f32.exp();
    let expected = weight / (weight + n as f32).powi(2);
    assert!(
        (found[0].score - expected).abs() < 1e-6,
        "{} {expected}",
        found[0].score
    );
}

#[test]
fn nothing_is_an_answer_where_it_is_asked_for() {
    let tokenizer = open("bert");
    let windows = tokenizer.encode((QUESTION, CONTEXT).into(), WHOLE).unwrap();
    let mut logits = vec![0.0; 2 * windows[0].len()];
    logits[..2].fill(8.0);
    let ask = |nothing| {
        let settings = Answers {
            nothing,
            ..Answers::default()
        };
        answers(CONTEXT, &[(&windows[0], &logits)], &settings).remove(0)
    };
    assert_eq!((ask(true).chars, &*ask(true).text), (0..0, ""));
    assert!(ask(true).score > 0.9 && ask(false).score < 0.1);
    assert!(!ask(false).text.is_empty());
}

#[test]
fn answers_grow_to_whole_words() {
    let tokenizer = open("bert");
    let windows = tokenizer.encode((QUESTION, CONTEXT).into(), WHOLE).unwrap();
    let window = &windows[0];
    let inside = window
        .offsets
        .iter()
        .position(|&(start, _)| start == 20)
        .unwrap();
    assert_eq!(
        window.words[inside],
        window.words[inside - 1],
        "Annabel is several tokens"
    );
    let mut logits = vec![0.0; 2 * window.len()];
    logits[2 * inside..][..2].fill(20.0);
    let best = |whole_words| {
        let settings = Answers {
            whole_words,
            ..Answers::default()
        };
        answers(CONTEXT, &[(window, &logits)], &settings)
            .remove(0)
            .text
    };
    assert_eq!((&*best(true), &*best(false)), ("Annabel", "b"));
}

fn fault(files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let error = Tokenizer::open(folder.path()).unwrap_err().to_string();
    error.replace(&*folder.path().to_string_lossy(), "F")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn faults_of_a_folder_say_where_and_what_to_do() {
    let bert = fs::read_to_string(golden("bert/vocab.txt")).unwrap();
    let json = fs::read_to_string(golden("json/tokenizer.json")).unwrap();
    let pairs = fs::read_to_string(golden("roberta/vocab.json")).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 17082730\n";
    let bomb = r#"{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}"#;
    let bombs = format!(
        r#""normalizer":{{"type":"Sequence","normalizers":[{}]}},"pre_tokenizer""#,
        [bomb; 4].join(",")
    );
    let (before, after) = json.split_once("\"normalizer\"").unwrap();
    let bombs = format!(
        "{before}{bombs}{}",
        after.split_once("\"pre_tokenizer\"").unwrap().1
    );
    let repeats = r#""pre_tokenizer":{"type":"Split","pattern":{"Regex":"([a-c]{999}){999}"},"behavior":"Isolated","invert":false},"post_processor""#;
    let (before, after) = json.split_once("\"pre_tokenizer\"").unwrap();
    let after = after.split_once("\"post_processor\"").unwrap().1;
    let repeats = format!("{before}{repeats}{after}");
    for (files, message) in [
        (
            vec![("tokenizer.json", &*repeats)],
            "F/tokenizer.json: expected a tokenizer as",
        ),
        (
            vec![],
            "F: expected tokenizer.json, vocab.txt, or vocab.json and merges.txt",
        ),
        (
            vec![("spm.model", "")],
            "found only spm.model; load the folder once",
        ),
        (
            vec![("tokenizer.json", "{")],
            "F/tokenizer.json: expected a tokenizer as",
        ),
        (
            vec![("tokenizer.json", &json[..json.len() / 2])],
            "F/tokenizer.json: expected a tokenizer as",
        ),
        (
            vec![("tokenizer.json", &*bombs)],
            "at most 4096 times as long, found 10000 times",
        ),
        (
            vec![("vocab.txt", "[CLS]\n[SEP]\nC\n(\n>>\n")],
            "F/vocab.txt: expected word pieces",
        ),
        (
            vec![("vocab.txt", "tea\n##s\n")],
            r#"the special tokens "[UNK]", "[CLS]", "[SEP]" in the vocabulary"#,
        ),
        (
            vec![
                ("vocab.txt", &*bert),
                (
                    "tokenizer_config.json",
                    r#"{"tokenizer_class": "BertJapaneseTokenizer"}"#,
                ),
            ],
            r#"found that of "BertJapaneseTokenizer"; it needs a tokenizer.json"#,
        ),
        (
            vec![
                ("vocab.txt", &*bert),
                ("tokenizer_config.json", r#"{"do_lower_case": "yes"}"#),
            ],
            r#"F/tokenizer_config.json: "do_lower_case": expected true or false, found"#,
        ),
        (
            vec![
                ("vocab.txt", &*bert),
                ("added_tokens.json", r#"{"[NEW]": 7777}"#),
            ],
            r#"expected "[NEW]" to be token 7777"#,
        ),
        (
            vec![
                ("vocab.json", &*pairs),
                ("merges.txt", "#version: 0.2\nt h\nthe\n"),
            ],
            r#"F/merges.txt: line 3: expected two tokens with a blank between them, found "the""#,
        ),
        (
            vec![("vocab.json", &*pairs), ("merges.txt", "t 茶\n")],
            "F/vocab.json: expected a tokenizer as",
        ),
        (
            vec![("vocab.json", "[]"), ("merges.txt", "")],
            "F/vocab.json: expected an object of tokens",
        ),
        (
            vec![("vocab.json", "{}"), ("merges.txt", "")],
            r#"F/vocab.json: expected the special tokens "<s>", "</s>" in the vocabulary, found 0 tokens"#,
        ),
        (
            vec![("vocab.txt", "")],
            "F/vocab.txt: expected word pieces, one a line, found an empty file",
        ),
        (
            vec![("tokenizer.json", pointer)],
            "F/tokenizer.json: is what Git leaves in place of a large file; run git lfs pull in the folder",
        ),
        (
            vec![(
                "tokenizer.json",
                &*json.replace("\"WordPiece\"", "\"CharPiece\""),
            )],
            r#""CharPiece""#,
        ),
        (
            vec![(
                "tokenizer.json",
                &*json.replace("BertNormalizer", "Translate"),
            )],
            r#"expected a normalizer of a kind that is known, found "Translate""#,
        ),
        (
            vec![("tokenizer.json", &*json.replace("\"vocab\"", "\"words\""))],
            r#"found a model of type "WordPiece" that is unknown or not whole"#,
        ),
        (
            vec![
                ("vocab.txt", &*bert),
                ("tokenizer_config.json", r#"{"model_max_length": "long"}"#),
            ],
            r#"F/tokenizer_config.json: "model_max_length": expected a number, found"#,
        ),
    ] {
        let found = fault(&files);
        assert!(found.contains(message), "{found}\ndoes not say\n{message}");
    }
}

#[test]
fn settings_of_the_family_overrule_its_tokenizer_json() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        golden("json/tokenizer.json"),
        folder.path().join("tokenizer.json"),
    )
    .unwrap();
    let known_with = |class: &str| {
        let config = format!(r#"{{"tokenizer_class": {class:?}, "do_lower_case": false}}"#);
        fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        whole(&tokenizer, "TEA").ids.get(1) != tokenizer.unknown().as_ref()
    };
    assert!(!known_with("BertTokenizer"));
    assert!(known_with("PreTrainedTokenizerFast"));
}

#[test]
fn tokens_beside_the_vocabulary_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = fs::read_to_string(golden("bert/vocab.txt")).unwrap();
    let next = vocabulary.lines().count();
    fs::write(folder.path().join("vocab.txt"), vocabulary).unwrap();
    let added = format!(r#"{{"teapot": {next}}}"#);
    fs::write(folder.path().join("added_tokens.json"), added).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(whole(&tokenizer, "a teapot").ids[2], next as u32);
    assert_eq!(tokenizer.vocabulary_len(), next + 1);
}

#[test]
fn a_word_that_stands_twice_has_its_last_id_and_absurd_lengths_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ntea\ntea\n##s\n";
    fs::write(folder.path().join("vocab.txt"), words).unwrap();
    for length in ["-1", "0", "1e30", "1000000000000000019884624838656"] {
        let settings = format!("{{\"model_max_length\": {length}}}");
        fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        assert_eq!(tokenizer.max_len(), None, "{length}");
        assert_eq!(whole(&tokenizer, "teas").ids, [2, 6, 7, 3]);
    }
}

#[test]
fn sections_share_no_window_and_are_cut_together() {
    let tokenizer = open("bert");
    let chunks = |text: &str, most| {
        let chunks = Chunks {
            pool: ChunkPool::Max,
            overlap: 1,
            most,
        };
        tokenizer
            .chunks(text, Chunked { max_len: 6, chunks })
            .unwrap()
    };
    let bodies = |windows: &[Encoding]| -> Vec<Vec<u32>> {
        let body = |window: &Encoding| window.ids[window.body()].to_vec();
        windows.iter().map(body).collect()
    };
    let (first, second) = ("the red tea pot of the old mill", "a lamp");
    let apart = [bodies(&chunks(first, 9)), bodies(&chunks(second, 9))].concat();
    assert!(apart.len() > 2);
    let together = format!("{first}{SECTION} {SECTION}{second}");
    assert_eq!(bodies(&chunks(&together, 9)), apart);
    // What does not fit is counted once, be it of a section's end or of whole sections.
    let few = chunks(&together, 2);
    assert_eq!(bodies(&few), apart[..2]);
    let end = few[1].start + few[1].body().len();
    let all = [first, second].map(|text| tokenizer.encode_whole(text).unwrap().first.len());
    assert_eq!(few[1].cut, all[0] - end + all[1]);
    for empty in ["", " ", "\u{c}", " \u{c} "] {
        assert_eq!(bodies(&chunks(empty, 3)), [[0; 0]]);
    }
}
