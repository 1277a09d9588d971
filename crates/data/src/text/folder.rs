//! Which files of a model folder make its tokenizer.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use cloze_spec::hugging_face::{POINTER, is_pointer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
};

use crate::Error;
use crate::error::quoted;

/// What stands in a folder beside the vocabulary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Longest input in tokens.
    pub max_len: Option<usize>,
    /// Whether what does not fit is taken from the start.
    pub cuts_left: bool,
    class: Option<String>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
    split_chinese: Option<bool>,
    prefix_space: Option<bool>,
    /// By role, as `added_tokens` of a `tokenizer.json`.
    specials: BTreeMap<String, Added>,
    /// Tokens beside the vocabulary, by id.
    added: BTreeMap<u32, Added>,
}

#[derive(Clone, Debug, PartialEq)]
struct Added {
    content: String,
    /// `single_word`, `lstrip`, `rstrip`, `normalized`, `special`, where they are named.
    flags: Map<String, Value>,
}

/// A tokenizer's files, read but not yet understood.
pub struct Files {
    /// The one that faults are of.
    pub path: PathBuf,
    pub settings: Settings,
    kind: Kind,
}

enum Kind {
    Json(String),
    Composed(Value),
}

/// How a family without a `tokenizer.json` puts special tokens around texts, and what it calls them.
struct Family {
    names: &'static [&'static str],
    model: Model,
    cls: &'static str,
    sep: &'static str,
    unk: &'static str,
    pad: &'static str,
    mask: &'static str,
    /// Whether two separators stand between two texts.
    two_between: bool,
    /// Segment of the second text.
    second_segment: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    WordPiece,
    BytePairs,
}

const BERT: Family = Family {
    names: &[
        "bert",
        "distilbert",
        "electra",
        "mobilebert",
        "convbert",
        "nomic_bert",
    ],
    model: Model::WordPiece,
    cls: "[CLS]",
    sep: "[SEP]",
    unk: "[UNK]",
    pad: "[PAD]",
    mask: "[MASK]",
    two_between: false,
    second_segment: 1,
};

const MPNET: Family = Family {
    names: &["mpnet"],
    cls: "<s>",
    sep: "</s>",
    pad: "<pad>",
    mask: "<mask>",
    two_between: true,
    ..BERT
};

const ROBERTA: Family = Family {
    names: &["roberta", "longformer"],
    model: Model::BytePairs,
    unk: "<unk>",
    second_segment: 0,
    ..MPNET
};

const DEBERTA: Family = Family {
    names: &["deberta"],
    model: Model::BytePairs,
    ..BERT
};

const FAMILIES: [&Family; 4] = [&BERT, &MPNET, &ROBERTA, &DEBERTA];

/// Reads what makes the tokenizer of `folder`.
pub fn read(folder: &Path) -> Result<Files, Error> {
    let settings = Settings::read(folder)?;
    let path = folder.join("tokenizer.json");
    if let Some(text) = read_text(&path)? {
        return Ok(Files {
            path,
            settings,
            kind: Kind::Json(text),
        });
    }
    let words = folder.join("vocab.txt");
    if let Some(text) = read_text(&words)? {
        let value = word_pieces(&text, &settings).map_err(|message| fault(&words, message))?;
        return Ok(Files {
            path: words,
            settings,
            kind: Kind::Composed(value),
        });
    }
    let [vocab, merges] = ["vocab.json", "merges.txt"].map(|name| folder.join(name));
    if let (Some(words), Some(rules)) = (read_text(&vocab)?, read_text(&merges)?) {
        let rules = merge_rules(&rules).map_err(|message| fault(&merges, message))?;
        let value =
            byte_pairs(&words, &rules, &settings).map_err(|message| fault(&vocab, message))?;
        return Ok(Files {
            path: vocab,
            settings,
            kind: Kind::Composed(value),
        });
    }
    let pieces = [
        "sentencepiece.bpe.model",
        "spm.model",
        "spiece.model",
        "tokenizer.model",
    ];
    let message = match pieces.into_iter().find(|name| folder.join(name).is_file()) {
        Some(name) => format!(
            "expected tokenizer.json, found only {name}; load the folder once with AutoTokenizer of the Python package \
             transformers and save it with save_pretrained, which writes tokenizer.json"
        ),
        None => "expected tokenizer.json, vocab.txt, or vocab.json and merges.txt, found none of them; is it a model \
                 folder?"
            .into(),
    };
    Err(fault(folder, message))
}

impl Files {
    /// What they describe.
    pub fn parse(&self) -> Result<tokenizers::Tokenizer, String> {
        let parsed = match &self.kind {
            Kind::Json(text) => serde_json::from_str(text),
            Kind::Composed(value) => serde_json::from_value(value.clone()),
        };
        let mut tokenizer: tokenizers::Tokenizer = parsed.map_err(|e| {
            let found = match &self.kind {
                Kind::Json(text) => unknown_part(text),
                Kind::Composed(_) => None,
            };
            let found = found.unwrap_or_else(|| e.to_string());
            format!("expected a tokenizer as the tokenizers package writes it, found {found}")
        })?;
        if let Kind::Json(text) = &self.kind {
            check_kinds(text, &tokenizer)?;
            self.settings.overrule(&mut tokenizer)?;
        } else {
            for (&id, added) in &self.settings.added {
                let found = tokenizer.token_to_id(&added.content);
                if found != Some(id) {
                    return Err(format!(
                        "expected {} to be token {id}, as the folder's added tokens say, found {}",
                        quoted(&added.content),
                        found.map_or("none".into(), |found| format!("token {found}"))
                    ));
                }
            }
        }
        Ok(tokenizer)
    }
}

/// The part of a `tokenizer.json` that cannot be read, which the crate does not name.
fn unknown_part(text: &str) -> Option<String> {
    fn reads<T: DeserializeOwned>(part: &Value) -> bool {
        T::deserialize(part).is_ok()
    }
    type Reads = fn(&Value) -> bool;
    let parts: [(&str, Reads); 5] = [
        ("model", reads::<ModelWrapper>),
        ("normalizer", reads::<NormalizerWrapper>),
        ("pre_tokenizer", reads::<PreTokenizerWrapper>),
        ("post_processor", reads::<PostProcessorWrapper>),
        ("decoder", reads::<DecoderWrapper>),
    ];
    let value: Value = serde_json::from_str(text).ok()?;
    let is_unknown = |&&(name, reads): &&(&str, Reads)| {
        let part = value.get(name).filter(|part| !part.is_null());
        part.is_some_and(|part| !reads(part))
    };
    let (name, _) = parts.iter().find(is_unknown)?;
    let part = &value[name];
    Some(match part.get("type") {
        Some(Value::String(kind)) => {
            format!(
                "a {name} of type {} that is unknown or not whole",
                quoted(kind)
            )
        }
        _ => format!("{name} {}", quoted(&part.to_string())),
    })
}

/// Refuses what was read as of another kind than it says: the crate guesses where it knows no such kind.
fn check_kinds(text: &str, read: &tokenizers::Tokenizer) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Kinds {
        model: Kind,
        normalizer: Option<Value>,
        pre_tokenizer: Option<Value>,
        post_processor: Option<Value>,
        decoder: Option<Value>,
    }
    #[derive(Deserialize)]
    struct Kind {
        r#type: Option<String>,
    }
    let stated: Kinds = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let model = match read.get_model() {
        ModelWrapper::BPE(_) => "BPE",
        ModelWrapper::WordPiece(_) => "WordPiece",
        ModelWrapper::WordLevel(_) => "WordLevel",
        ModelWrapper::Unigram(_) => "Unigram",
    };
    let unknown = |name: &str, kind: &str| {
        Err(format!(
            "expected a {name} of a kind that is known, found {}",
            quoted(kind)
        ))
    };
    if let Some(kind) = stated.model.r#type.filter(|kind| kind != model) {
        return unknown("model", &kind);
    }
    let parts = [
        (
            "normalizer",
            stated.normalizer,
            json!(read.get_normalizer()),
        ),
        (
            "pre_tokenizer",
            stated.pre_tokenizer,
            json!(read.get_pre_tokenizer()),
        ),
        (
            "post_processor",
            stated.post_processor,
            json!(read.get_post_processor()),
        ),
        ("decoder", stated.decoder, json!(read.get_decoder())),
    ];
    for (name, stated, read) in parts {
        let [stated, read] = [&stated.unwrap_or_default(), &read].map(|part| {
            let mut kinds = Vec::new();
            collect_kinds(part, &mut kinds);
            kinds
        });
        let mut pairs = stated.iter().zip(&read);
        // Old files do not name every kind.
        if stated.len() >= read.len()
            && let Some((kind, _)) = pairs.find(|(stated, read)| stated != read)
        {
            return unknown(name, kind);
        }
    }
    Ok(())
}

fn collect_kinds(value: &Value, kinds: &mut Vec<String>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| collect_kinds(value, kinds)),
        Value::Object(all) => {
            kinds.extend(all.get("type").and_then(Value::as_str).map(str::to_owned));
            all.values().for_each(|value| collect_kinds(value, kinds));
        }
        _ => {}
    }
}

/// Refuses replacements that make texts so long that memory would end before the text does.
pub fn check_growth(tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    const MOST: usize = 1 << 12;
    let value = serde_json::to_value(tokenizer.get_normalizer()).map_err(|e| e.to_string())?;
    let growth = growth(&value);
    if growth > MOST {
        return Err(format!(
            "expected replacements that make texts at most {MOST} times as long, found {growth} times"
        ));
    }
    Ok(())
}

/// By how much the replacements in `value` can multiply a text's length, one after the other.
fn growth(value: &Value) -> usize {
    match value {
        Value::Array(all) => all.iter().map(growth).fold(1, usize::saturating_mul),
        Value::Object(all) => {
            let replacement = all.get("type").is_some_and(|kind| kind == "Replace");
            let content = all.get("content").and_then(Value::as_str);
            let content = content.filter(|text| replacement && !text.is_empty());
            let own = content.map_or(1, |content| {
                match value["pattern"]["String"].as_str().map_or(0, str::len) {
                    // Nothing at all, or a regular expression, may match between any two characters.
                    0 => content.len() + 1,
                    replaced => content.len().div_ceil(replaced),
                }
            });
            all.values().map(growth).fold(own, usize::saturating_mul)
        }
        _ => 1,
    }
}

/// Byte-pair encoding that gives the same tokens every time.
pub fn without_dropout(tokenizer: &mut tokenizers::Tokenizer) {
    if let ModelWrapper::BPE(model) = tokenizer.get_model()
        && model.dropout.is_some()
    {
        let mut model = model.clone();
        model.dropout = None;
        tokenizer.with_model(model);
    }
}

impl Settings {
    /// The token of a role such as `mask_token`, if named.
    pub fn special(&self, role: &str) -> Option<&str> {
        self.specials.get(role).map(|added| &*added.content)
    }

    /// What `tokenizer_config.json` names overrules the `tokenizer.json` of the family of BERT, as in `transformers`.
    fn overrule(&self, tokenizer: &mut tokenizers::Tokenizer) -> Result<(), String> {
        let Some(NormalizerWrapper::BertNormalizer(found)) = tokenizer.get_normalizer() else {
            return Ok(());
        };
        if self.class.is_none() || self.family(Model::WordPiece).is_err() {
            return Ok(());
        }
        let mut wanted = *found;
        wanted.lowercase = self.lowercase.unwrap_or(found.lowercase);
        wanted.strip_accents = self.strip_accents.or(found.strip_accents);
        wanted.handle_chinese_chars = self.split_chinese.unwrap_or(found.handle_chinese_chars);
        let set = tokenizer.with_normalizer(Some(wanted));
        set.map(|_| ()).map_err(|e| e.to_string())
    }

    fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("tokenizer_config.json");
        let config = read_object(&path)?;
        let map_path = folder.join("special_tokens_map.json");
        let map = read_object(&map_path)?;
        let flag = |name: &str| match config.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(expected(&path, name, "true or false", other)),
        };
        let max_len = match config.get("model_max_length") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) => number
                .as_f64()
                // A very large number stands for none.
                .filter(|number| (1.0..f64::from(i32::MAX)).contains(number))
                .map(|number| number as usize),
            Some(other) => return Err(expected(&path, "model_max_length", "a number", other)),
        };
        let mut settings = Self {
            max_len,
            cuts_left: config
                .get("truncation_side")
                .is_some_and(|side| side == "left"),
            class: config
                .get("tokenizer_class")
                .and_then(Value::as_str)
                .map(str::to_owned),
            lowercase: flag("do_lower_case")?,
            strip_accents: flag("strip_accents")?,
            split_chinese: flag("tokenize_chinese_chars")?,
            prefix_space: flag("add_prefix_space")?,
            ..Self::default()
        };
        if settings.class.is_none() {
            // Damaged or absent, it is the model's to complain.
            let config = read_object(&folder.join("config.json")).unwrap_or_default();
            let kind = config.get("model_type").and_then(Value::as_str);
            settings.class = kind.map(str::to_owned);
        }
        // Newer folders say everything in tokenizer_config.json; in older ones the map has the last word.
        let newer = config
            .get("added_tokens_decoder")
            .is_some_and(Value::is_object);
        let mut sources = [(&path, &config), (&map_path, &map)];
        if newer {
            sources.reverse();
        }
        for (path, source) in sources {
            for (role, value) in source {
                if ROLES.contains(&&**role) && !value.is_null() {
                    let added =
                        Added::read(value).ok_or_else(|| expected(path, role, TOKEN, value))?;
                    settings.specials.insert(role.clone(), added);
                }
            }
        }
        settings.read_added(folder, &path, &config)?;
        Ok(settings)
    }

    fn read_added(
        &mut self,
        folder: &Path,
        path: &Path,
        config: &Map<String, Value>,
    ) -> Result<(), Error> {
        if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
            for (id, value) in decoder {
                let id_number = id.parse().map_err(|_| {
                    let found = Value::String(id.clone());
                    expected(path, "added_tokens_decoder", "ids", &found)
                })?;
                let added = Added::read(value).ok_or_else(|| expected(path, id, TOKEN, value))?;
                self.added.insert(id_number, added);
            }
            return Ok(());
        }
        let path = folder.join("added_tokens.json");
        for (content, id) in read_object(&path)? {
            let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let number = number.ok_or_else(|| expected(&path, &content, "an id", &id))?;
            let added = Added {
                content,
                flags: Map::new(),
            };
            self.added.insert(number, added);
        }
        Ok(())
    }

    fn family(&self, model: Model) -> Result<&'static Family, String> {
        let of_kind = || FAMILIES.into_iter().filter(|family| family.model == model);
        let Some(class) = &self.class else {
            return Ok(of_kind().next().expect("there is a family of each kind"));
        };
        let name = class.strip_suffix("Fast").unwrap_or(class);
        let name = name
            .strip_suffix("Tokenizer")
            .unwrap_or(name)
            .to_lowercase();
        let mut known = of_kind();
        known
            .find(|family| {
                family
                    .names
                    .iter()
                    .any(|known| known.replace('_', "") == name.replace(['_', '-'], ""))
            })
            .ok_or_else(|| {
                let names: Vec<_> = of_kind().flat_map(|family| family.names).copied().collect();
                format!(
                    "expected a tokenizer of {}, found that of {}; it needs a tokenizer.json",
                    names.join(", "),
                    quoted(class)
                )
            })
    }

    fn or<'a>(&'a self, role: &str, default: &'a str) -> &'a str {
        self.special(role).unwrap_or(default)
    }

    /// `added_tokens` of a `tokenizer.json`: the special tokens, then what stands beside the vocabulary.
    fn added_tokens(&self, family: &Family, ids: &HashMap<String, u32>) -> Vec<Value> {
        let roles = [
            ("pad_token", family.pad),
            ("unk_token", family.unk),
            ("cls_token", family.cls),
            ("sep_token", family.sep),
            ("mask_token", family.mask),
        ];
        let mut all: Vec<Value> = Vec::new();
        let mut add = |added: &Added, special: bool, id: u32| {
            // A hidden word is written after a blank, which belongs to it where blanks belong to words.
            let takes_blank = family.sep == "</s>" && added.content == family.mask;
            let flag = |name: &str, default: bool| {
                let named = added.flags.get(name).and_then(Value::as_bool);
                named.unwrap_or(default)
            };
            if all.iter().all(|token| token["content"] != *added.content) {
                all.push(json!({
                    "id": id,
                    "content": added.content,
                    "single_word": flag("single_word", false),
                    "lstrip": flag("lstrip", takes_blank),
                    "rstrip": flag("rstrip", false),
                    "normalized": flag("normalized", !special),
                    "special": special || flag("special", false),
                }));
            }
        };
        for (role, default) in roles {
            let plain = Added {
                content: default.to_owned(),
                flags: Map::new(),
            };
            let added = self.specials.get(role).unwrap_or(&plain);
            if let Some(&id) = ids.get(&added.content) {
                let detailed = self
                    .added
                    .get(&id)
                    .filter(|more| more.content == added.content);
                add(detailed.unwrap_or(added), true, id);
            }
        }
        for (&id, added) in &self.added {
            add(added, false, id);
        }
        all
    }
}

impl Added {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(content) => Some(Self {
                content: content.clone(),
                flags: Map::new(),
            }),
            Value::Object(flags) => Some(Self {
                content: flags.get("content")?.as_str()?.to_owned(),
                flags: flags.clone(),
            }),
            _ => None,
        }
    }
}

const TOKEN: &str = "a token, or an object with its content";
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

fn word_pieces(text: &str, settings: &Settings) -> Result<Value, String> {
    const CONTINUES: &str = "##";
    let family = settings.family(Model::WordPiece)?;
    let ids: HashMap<String, u32> = text.lines().map(str::to_owned).zip(0..).collect();
    if ids.is_empty() {
        return Err("expected word pieces, one a line, found an empty file; fetch it again".into());
    }
    if !ids.keys().any(|word| word.starts_with(CONTINUES)) {
        return Err(format!(
            "expected word pieces, some of which begin with {CONTINUES:?}, found none that does; this vocabulary has a \
             tokenizer of its own: write its tokenizer.json, or give ids instead of texts"
        ));
    }
    let unk = settings.or("unk_token", family.unk);
    let frame = post_processor(family, settings, &ids, &[unk])?;
    Ok(json!({
        "version": "1.0",
        "added_tokens": settings.added_tokens(family, &ids),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings.split_chinese.unwrap_or(true),
            "strip_accents": settings.strip_accents,
            "lowercase": settings.lowercase.unwrap_or(true),
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": frame,
        "decoder": { "type": "WordPiece", "prefix": CONTINUES, "cleanup": true },
        "model": {
            "type": "WordPiece",
            "unk_token": unk,
            "continuing_subword_prefix": CONTINUES,
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }))
}

fn byte_pairs(words: &str, merges: &[[&str; 2]], settings: &Settings) -> Result<Value, String> {
    let family = settings.family(Model::BytePairs)?;
    let ids: HashMap<String, u32> = serde_json::from_str(words)
        .map_err(|e| format!("expected an object of tokens and their ids, found {e}"))?;
    let prefix_space = settings.prefix_space.unwrap_or(false);
    let frame = post_processor(family, settings, &ids, &[])?;
    let trim = json!({
        "type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": true,
    });
    Ok(json!({
        "version": "1.0",
        "added_tokens": settings.added_tokens(family, &ids),
        "pre_tokenizer": trim,
        "post_processor": { "type": "Sequence", "processors": [trim, frame] },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "vocab": ids,
            "merges": merges,
        },
    }))
}

fn merge_rules(text: &str) -> Result<Vec<[&str; 2]>, String> {
    let lines = text.lines().zip(1..);
    let rules = lines.filter(|(line, number)| {
        !(line.is_empty() || *number == 1 && line.starts_with("#version"))
    });
    rules
        .map(|(line, number): (_, usize)| match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok([left, right]),
            _ => Err(format!(
                "line {number}: expected two tokens with a blank between them, found {}",
                quoted(line)
            )),
        })
        .collect()
}

/// The special tokens around texts; an error if they, or those `needed` besides, are not in the vocabulary.
fn post_processor(
    family: &Family,
    settings: &Settings,
    ids: &HashMap<String, u32>,
    needed: &[&str],
) -> Result<Value, String> {
    let cls = settings.or("cls_token", family.cls);
    let sep = settings.or("sep_token", family.sep);
    let wanted = needed.iter().chain([&cls, &sep]);
    let missing: Vec<_> = wanted
        .filter(|token| !ids.contains_key(**token))
        .map(|token| quoted(token))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "expected the special tokens {} in the vocabulary, found {} tokens without them",
            missing.join(", "),
            ids.len()
        ));
    }
    let special =
        |token: &str, segment: u32| json!({ "SpecialToken": { "id": token, "type_id": segment } });
    let text = |name: &str, segment: u32| json!({ "Sequence": { "id": name, "type_id": segment } });
    let single = vec![special(cls, 0), text("A", 0), special(sep, 0)];
    let mut pair = single.clone();
    if family.two_between {
        pair.push(special(sep, 0));
    }
    pair.push(text("B", family.second_segment));
    pair.push(special(sep, family.second_segment));
    let mut tokens = Map::new();
    for token in [cls, sep] {
        let entry = json!({ "id": token, "ids": [ids[token]], "tokens": [token] });
        tokens.insert(token.to_owned(), entry);
    }
    Ok(json!({
        "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens,
    }))
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    if is_pointer(&bytes) {
        return Err(fault(path, POINTER.to_owned()));
    }
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let place = e.utf8_error().valid_up_to();
        fault(
            path,
            format!("expected UTF-8, found other bytes from byte {place} on; write the file anew"),
        )
    })
}

/// The object in a file; empty where there is no file.
fn read_object(path: &Path) -> Result<Map<String, Value>, Error> {
    match read_text(path)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|e| fault(path, format!("expected a JSON object, found {e}"))),
        None => Ok(Map::new()),
    }
}

fn expected(path: &Path, name: &str, expected: &str, found: &Value) -> Error {
    let found = quoted(&found.to_string());
    fault(
        path,
        format!("{}: expected {expected}, found {found}", quoted(name)),
    )
}

fn fault(path: &Path, message: String) -> Error {
    Error::Tokenizer {
        path: path.to_owned(),
        message,
    }
}
