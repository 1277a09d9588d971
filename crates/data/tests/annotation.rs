//! Annotated texts are read as they are meant, and what contradicts itself is told with its place.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write;
use std::path::PathBuf;

use cloze_data::annotation::{Conll, Scheme, Sentence, Span, Squad};
use cloze_data::source::BadRows;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;
use tempfile::TempDir;

fn file(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, content).unwrap();
    (folder, path)
}

fn sentences(content: &str, change: impl Fn(&mut Conll)) -> Result<Vec<Sentence>, String> {
    let (_folder, path) = file(content);
    let mut conll = Conll::new(&path);
    change(&mut conll);
    let read = conll.read().and_then(Iterator::collect);
    read.map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))
}

fn shown(sentence: &Sentence) -> String {
    let mut out = sentence.words.join(" ");
    for span in &sentence.spans {
        write!(
            out,
            " {}:{}",
            span.label,
            sentence.words[span.words.clone()].join("_")
        )
        .unwrap();
    }
    out
}

fn stretches() -> impl Strategy<Value = (usize, Vec<Span>)> {
    let label = prop::sample::select(vec!["PER", "LOC", "x-y", ""]);
    let part = (0_usize..3, 1_usize..4, label);
    (prop::collection::vec(part, 0..6), 0_usize..3).prop_map(|(parts, rest)| {
        let mut at = 0;
        let mut spans = Vec::new();
        for (gap, len, label) in parts {
            let start = at + gap;
            at = start + len;
            spans.push(Span {
                label: label.to_owned(),
                words: start..at,
            });
        }
        (at + rest, spans)
    })
}

fn scheme() -> impl Strategy<Value = Scheme> {
    prop::sample::select(Scheme::ALL.to_vec())
}

fn borrowed(tags: &[String]) -> Vec<&str> {
    tags.iter().map(String::as_str).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn stretches_come_back_from_every_scheme((words, spans) in stretches(), from in scheme(), to in scheme()) {
        let tags = from.tags(words, &spans);
        prop_assert_eq!(from.spans(&borrowed(&tags)).unwrap(), spans);
        let there = from.convert(&borrowed(&tags), to).unwrap();
        prop_assert_eq!(to.convert(&borrowed(&there), from).unwrap(), tags);
    }

    #[test]
    fn tags_that_are_accepted_are_those_that_would_be_written(
        tags in prop::collection::vec("O|[BIES](-(A|B))?|-|B-|X-A|", 0..8),
        scheme in scheme(),
    ) {
        let tags = borrowed(&tags);
        match scheme.spans(&tags) {
            Ok(spans) => prop_assert_eq!(scheme.tags(tags.len(), &spans), tags),
            Err(fault) => prop_assert!(fault.word < tags.len()),
        }
    }

    #[test]
    fn files_of_every_layout_give_their_sentences(
        all in prop::collection::vec(stretches().prop_filter("sentences have words", |(words, _)| *words > 0), 1..5),
        scheme in scheme(),
        has_tabs in any::<bool>(),
        between in 0_usize..3,
    ) {
        let separator = if has_tabs { "\t" } else { " " };
        let mut content = String::from("-DOCSTART- -X- O\n\n# made by hand, not a word\n");
        for (words, spans) in &all {
            for (word, tag) in scheme.tags(*words, spans).iter().enumerate() {
                let middle = format!("{separator}_").repeat(between);
                let hash = if word % 2 == 1 { "#" } else { "" };
                writeln!(content, "{hash}{word}{middle}{separator}{tag}").unwrap();
            }
            content.push_str(if has_tabs { "\t\n" } else { "\r\n\n" });
        }
        let read = sentences(&content, |_| {}).unwrap();
        prop_assert_eq!(read.len(), all.len());
        for (sentence, (words, spans)) in read.iter().zip(&all) {
            prop_assert_eq!(sentence.words.len(), *words);
            prop_assert_eq!(&sentence.spans, spans);
            prop_assert_eq!(sentence.document, 1);
        }
    }
}

#[test]
fn documents_comments_and_columns_are_told_apart() {
    let content = "-DOCSTART-\tO\n\n1\t#win\tB-X\tO\n2\tit\tO\tB-Y\n\n-DOCSTART-\tO\n# source\tof it\n1\tthat\tO\tO\n";
    let read = sentences(content, |conll| conll.word = 1).unwrap();
    let all: Vec<_> = read
        .iter()
        .map(|s| (shown(s), s.document, s.line))
        .collect();
    assert_eq!(all, [("#win it Y:it".into(), 1, 3), ("that".into(), 2, 8)]);
    let outer = sentences(content, |conll| (conll.word, conll.tag) = (1, Some(2))).unwrap();
    assert_eq!(shown(&outer[0]), "#win it X:#win");
    let words = sentences("one\ntwo\n\nthree", |_| {}).unwrap();
    assert_eq!(
        words.iter().map(shown).collect::<Vec<_>>(),
        ["one two", "three"]
    );
    assert!(words[0].spans.is_empty());
}

#[test]
fn the_scheme_is_told_from_the_whole_file() {
    for (content, scheme, expected) in [
        ("a I-X\nb I-X\nc B-X\n", Scheme::Iob1, "a b c X:a_b X:c"),
        ("a B-X\nb I-X\nc B-X\n", Scheme::Iob2, "a b c X:a_b X:c"),
        ("a B-X\nb E-X\nc S-X\n", Scheme::Bioes, "a b c X:a_b X:c"),
        ("a B\nb I\nc O\n", Scheme::Iob2, "a b c :a_b"),
        ("a O\nb O\nc O\n", Scheme::Iob2, "a b c"),
    ] {
        let (_folder, path) = file(content);
        let mut read = Conll::new(path).read().unwrap();
        assert_eq!(read.scheme(), Some(scheme), "{content}");
        assert_eq!(shown(&read.next().unwrap().unwrap()), expected);
    }
}

#[test]
fn faults_of_a_conll_file_say_where_and_what_was_found() {
    type Change<'a> = &'a dyn Fn(&mut Conll);
    let iob2 = |conll: &mut Conll| conll.scheme = Some(Scheme::Iob2);
    let iob1 = |conll: &mut Conll| conll.scheme = Some(Scheme::Iob1);
    let bioes = |conll: &mut Conll| conll.scheme = Some(Scheme::Bioes);
    let as_is = |_: &mut Conll| {};
    let cases: [(&str, Change, &str); 14] = [
        (
            "",
            &as_is,
            "F: expected a word a line, found no words; is it the right file?",
        ),
        (
            "a O\nb\n",
            &as_is,
            "F: line 2: expected 2 columns with blanks between, found 1 in \"b\"; fix the row",
        ),
        (
            "a\tO\nb c\n",
            &as_is,
            "F: line 2: expected 2 columns with tabs between, found 1 in \"b c\"",
        ),
        (
            "a\tO\n\tO\n",
            &as_is,
            "F: line 2, column \"0\": expected a word, found \"\"",
        ),
        (
            "a O\n\nb I-X\n",
            &iob2,
            "F: line 3, column \"1\": expected B-X (IOB2), found \"I-X\"",
        ),
        (
            "a B-X\nb I-Y\n",
            &iob2,
            "F: line 2, column \"1\": expected B-Y (IOB2), found \"I-Y\"",
        ),
        (
            "a S-X\n",
            &iob2,
            "expected O, or B or I with - and a label (IOB2), found \"S-X\"",
        ),
        (
            "a B-X\n",
            &iob1,
            "expected I-X, as B stands only between two stretches of a label (IOB1), found \"B-X\"",
        ),
        (
            "a B-X\nb O\n",
            &bioes,
            "line 2, column \"1\": expected I-X or E-X, as the stretch before has no end (BIOES), found \"O\"",
        ),
        (
            "a B-X\n",
            &bioes,
            "expected E or S for the last word of a stretch of \"X\" (BIOES), found \"B-X\"",
        ),
        (
            "a I-X\n",
            &bioes,
            "expected B-X or S-X (BIOES), found \"I-X\"",
        ),
        ("a E-X\n", &bioes, "expected S-X (BIOES), found \"E-X\""),
        (
            "a O\nb PER\n",
            &as_is,
            "expected O, or B or I with - and a label (IOB2), found \"PER\"",
        ),
        (
            "a O\n",
            &|conll| conll.tag = Some(3),
            "F: expected at least 4 columns, found 2 in \"a O\"; name other columns",
        ),
    ];
    for (content, change, expected) in cases {
        let found = sentences(content, change).unwrap_err();
        assert!(
            found.contains(expected),
            "{found}\ndoes not say\n{expected}"
        );
    }
    let (_folder, path) = file("a O\n\nb I-X\n\nc\n\nd B-X\n");
    let mut conll = Conll::new(path);
    (conll.scheme, conll.bad_rows) = (Some(Scheme::Iob2), BadRows::Skip);
    let mut read = conll.read().unwrap();
    let kept: Vec<_> = read
        .by_ref()
        .map(|sentence| shown(&sentence.unwrap()))
        .collect();
    assert_eq!(kept, ["a", "d X:d"]);
    assert_eq!((read.report().rows, read.report().skipped), (4, 2));
}

#[test]
fn words_of_conll_u_have_labels_of_their_own() {
    let row = |number: &str, form: &str, upos: &str| {
        format!("{number}\t{form}\t_\t{upos}\t_\t_\t_\t_\t_\t_\n")
    };
    let rows = [
        "# sent_id = 1\n# text = vám\tto dal on\n".to_owned(),
        row("1-2", "vámto", "_"),
        row("1", "vám", "PRON"),
        row("2", "to", "DET"),
        row("2.1", "dal", "VERB"),
        row("3", "10 000", "NUM"),
        "\n".to_owned(),
        row("1", "#", "SYM"),
    ];
    let (_folder, path) = file(&rows.concat());
    let mut read = Conll::universal(&path, 3).read().unwrap();
    assert_eq!(read.scheme(), Some(Scheme::Words));
    let all: Vec<_> = read.by_ref().map(|sentence| sentence.unwrap()).collect();
    assert_eq!(shown(&all[0]), "vám to 10 000 PRON:vám DET:to NUM:10 000");
    assert_eq!((shown(&all[1]), all[1].line), ("# SYM:#".to_owned(), 9));
    let tags = Scheme::Words.tags(3, &all[0].spans);
    assert_eq!(tags, ["PRON", "DET", "NUM"]);
    for (content, expected) in [
        (
            row("1", "a", ""),
            "F: line 1, column \"3\": expected a tag, found \"\"",
        ),
        (
            "1\ta\tb\n".to_owned(),
            "F: expected at least 4 columns, found 3",
        ),
        (
            format!("{}2\tb\n", row("1", "a", "X")),
            "F: line 2: expected 10 columns with tabs between, found 2",
        ),
        (
            format!("{}3\tb\tX", row("1-2", "ab", "_")),
            "F: line 2: expected 10 columns with tabs between, found 3",
        ),
    ] {
        let (_folder, path) = file(&content);
        let read = Conll::universal(&path, 3).read();
        let found = read.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let found = found.unwrap_err().to_string();
        let found = found.replace(&path.display().to_string(), "F");
        assert!(
            found.contains(expected),
            "{found}\ndoes not say\n{expected}"
        );
    }
}

fn squad(value: &serde_json::Value) -> Result<Vec<String>, String> {
    let (_folder, path) = file(&format!("\u{feff}{value}"));
    let read = Squad::new(&path).read();
    let (questions, _) =
        read.map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))?;
    let text = |chars: &std::ops::Range<u32>, context: &str| {
        let chars = chars.start as usize..chars.end as usize;
        context
            .chars()
            .skip(chars.start)
            .take(chars.len())
            .collect::<String>()
    };
    let answers = questions.iter().map(|question| {
        let all = question.answers.iter();
        let all: Vec<_> = all
            .map(|answer| text(&answer.chars, &question.context))
            .collect();
        let title = question.title.as_deref().unwrap_or("-");
        format!("{title} {} {}", question.id, all.join("|"))
    });
    Ok(answers.collect())
}

fn one(asked: &serde_json::Value) -> serde_json::Value {
    json!({ "data": [{ "title": "T", "paragraphs": [{ "context": "Ein \u{1f375} für täglich für", "qas": [asked] }] }] })
}

#[test]
fn answers_stand_where_squad_says_in_characters() {
    let two = json!([{ "text": "für", "answer_start": 6 }, { "text": " \u{1f375}\n", "answer_start": "4" }]);
    let found = squad(&one(&json!({ "id": 7, "question": "?", "answers": two })));
    assert_eq!(found.unwrap(), ["T 7 für|\u{1f375}"]);
    let none = one(
        &json!({ "id": "a", "question": "?", "answers": [], "is_impossible": true,
        "plausible_answers": [{ "text": "Ein", "answer_start": 0 }] }),
    );
    assert_eq!(squad(&none).unwrap(), ["T a "]);
    assert_eq!(
        squad(&json!({ "version": "1.1", "data": [] })).unwrap(),
        [""; 0]
    );
}

#[test]
fn faults_of_a_squad_file_say_where_and_what_was_found() {
    let asked = |answers: serde_json::Value| {
        one(&json!({ "id": "q", "question": "?", "answers": answers }))
    };
    for (value, expected) in [
        (
            json!([]),
            "F: expected questions as SQuAD has them (data, paragraphs, qas, answers), found invalid length 0",
        ),
        (
            json!({ "data": [{}] }),
            "found missing field `paragraphs` at line 1",
        ),
        (
            asked(json!([{ "text": "täglich", "answer_start": 11 }])),
            "F: question 1, column \"answer_start\": expected answer \"täglich\" to question \"q\" at character 11 of its context, \
             found \"äglich \", and the answer at 10; fix the row or pass --skip-bad-rows",
        ),
        (
            asked(json!([{ "text": "für", "answer_start": 16 }])),
            "and the answer at 18",
        ),
        (
            asked(json!([{ "text": "nie", "answer_start": 0 }])),
            "found \"Ein\", and the answer nowhere",
        ),
        (
            asked(json!([{ "text": "für", "answer_start": 99 }])),
            "found a context of 21 characters",
        ),
        (
            asked(json!([{ "text": "für", "answer_start": -1 }])),
            "expected a place in the context, found \"-1\"",
        ),
        (
            asked(json!([{ "text": "", "answer_start": 0 }])),
            "expected an answer to question \"q\", found \"\"",
        ),
        (
            asked(json!([])),
            "column \"answers\": expected an answer to question \"q\", or is_impossible, found none",
        ),
        (
            one(
                &json!({ "id": "q", "question": "?", "answers": [{ "text": "für", "answer_start": 6 }], "is_impossible": true }),
            ),
            "expected no answer to question \"q\", which is_impossible, found \"für\"",
        ),
        (
            one(&json!({ "id": [], "question": "?" })),
            "column \"id\": expected a text or a number, found \"[]\"",
        ),
    ] {
        let found = squad(&value).unwrap_err();
        assert!(
            found.contains(expected),
            "{found}\ndoes not say\n{expected}"
        );
    }
    let both = json!([
        { "id": 1, "question": "?", "answers": [{ "text": "b", "answer_start": 0 }] },
        { "id": 2, "question": "?", "answers": [{ "text": "a", "answer_start": 0 }] },
    ]);
    let (_folder, path) =
        file(&json!({ "data": [{ "paragraphs": [{ "context": "a", "qas": both }] }] }).to_string());
    let squad = Squad {
        path,
        bad_rows: BadRows::Skip,
    };
    let (questions, report) = squad.read().unwrap();
    assert_eq!((questions.len(), &*questions[0].id), (1, "2"));
    assert_eq!((report.rows, report.skipped), (2, 1));
}
