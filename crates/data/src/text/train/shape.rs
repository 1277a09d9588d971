//! What stands around the vocabulary of a new tokenizer.

use serde_json::{Map, Value, json};

use super::{Language, Model, Settings};

/// Where a special token stands in [`Model::specials`], by its role.
const ROLES: [(&str, usize); 7] = [
    ("cls_token", CLS),
    ("sep_token", SEP),
    ("pad_token", PAD),
    ("unk_token", UNK),
    ("mask_token", MASK),
    ("bos_token", CLS),
    ("eos_token", SEP),
];
/// Only RoBERTa has these two.
const BERT_ROLES: usize = 5;

const PAD: usize = 0;
const UNK: usize = 1;
const CLS: usize = 2;
const SEP: usize = 3;
const MASK: usize = 4;

impl Model {
    /// Special tokens in the order of their ids.
    pub(super) fn specials(self) -> [&'static str; 5] {
        match self {
            Self::WordPiece | Self::WordLevel => ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            Self::BytePairs => ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            Self::Unigram => ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
        }
    }

    fn special(self, role: usize) -> &'static str {
        let place = match self {
            Self::WordPiece | Self::WordLevel | Self::Unigram => role,
            Self::BytePairs => [1, 3, 0, 2, 4][role],
        };
        self.specials()[place]
    }

    pub(super) fn unknown(self) -> &'static str {
        self.special(UNK)
    }

    fn id(self, role: usize) -> usize {
        let token = self.special(role);
        let mut all = self.specials().into_iter();
        all.position(|special| special == token)
            .expect("a special token is one of them")
    }
}

/// A `tokenizer.json` with `model` for its model, of which all but the special tokens and this may be empty.
pub fn compose(settings: &Settings, model: &Value) -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(settings),
        "normalizer": normalizer(settings),
        "pre_tokenizer": pre_tokenizer(settings),
        "post_processor": post_processor(settings.model),
        "decoder": decoder(settings.model),
        "model": model,
    })
}

/// Special tokens and the user's own, in the order of their ids.
pub fn specials(settings: &Settings) -> Vec<&str> {
    let own = settings.specials.iter().map(String::as_str);
    settings.model.specials().into_iter().chain(own).collect()
}

/// Most characters of a word that is not unknown.
pub const MAX_WORD_CHARS: usize = 100;
/// What continues a word.
pub const CONTINUES: &str = "##";

/// The model with these pieces in the order of their ids.
pub fn word_pieces<T: AsRef<str>>(pieces: &[T], unknown: &str) -> Value {
    json!({
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": MAX_WORD_CHARS,
        "vocab": ids(pieces),
    })
}

pub fn byte_pairs<T: AsRef<str>>(pieces: &[T], merges: &[[&str; 2]]) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "vocab": ids(pieces),
        "merges": merges,
    })
}

pub fn words<T: AsRef<str>>(words: &[T], unknown: &str) -> Value {
    json!({ "type": "WordLevel", "unk_token": unknown, "vocab": ids(words) })
}

pub fn unigram(pieces: &[(String, f64)], unknown: usize) -> Value {
    json!({ "type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": false })
}

/// An object of `pieces` and their places; those that are empty are left out.
pub fn ids<T: AsRef<str>>(pieces: &[T]) -> Value {
    let pieces = pieces.iter().map(|piece| piece.as_ref().to_owned());
    let used = pieces.enumerate().filter(|(_, piece)| !piece.is_empty());
    Value::Object(used.map(|(id, piece)| (piece, json!(id))).collect())
}

/// `tokenizer_config.json` and `special_tokens_map.json`.
pub fn configs(settings: &Settings) -> [Value; 2] {
    let model = settings.model;
    let mut map = Map::new();
    let roles = if model == Model::BytePairs {
        ROLES.len()
    } else {
        BERT_ROLES
    };
    for (role, place) in ROLES.into_iter().take(roles) {
        map.insert(role.to_owned(), json!(model.special(place)));
    }
    if !settings.specials.is_empty() {
        map.insert(
            "additional_special_tokens".to_owned(),
            json!(settings.specials),
        );
    }
    let mut config = map.clone();
    // The mask's blank is said in full here, and in the map for readers of nothing else.
    map.insert(
        "mask_token".to_owned(),
        added_token(settings, model.special(MASK)),
    );
    let mut set = |name: &str, value: Value| config.insert(name.to_owned(), value);
    set("model_max_length", json!(settings.max_len));
    set("clean_up_tokenization_spaces", json!(false));
    let tokens = specials(settings);
    let tokens = (0..)
        .zip(&tokens)
        .map(|(id, token): (u32, _)| (id.to_string(), added_token(settings, token)));
    set("added_tokens_decoder", Value::Object(tokens.collect()));
    // These classes put a normalizer of their own into the tokenizer they read.
    let class = match (model, settings.normalizes()) {
        (Model::WordPiece, false) => {
            set("do_lower_case", json!(settings.lowercase));
            set("strip_accents", json!(settings.strip_accents));
            set("tokenize_chinese_chars", json!(true));
            "BertTokenizer"
        }
        (Model::BytePairs, false) => {
            set("add_prefix_space", json!(false));
            set("trim_offsets", json!(true));
            "RobertaTokenizer"
        }
        _ => "PreTrainedTokenizerFast",
    };
    set("tokenizer_class", json!(class));
    [Value::Object(config), Value::Object(map)]
}

impl Settings {
    /// Whether texts are changed in other ways than the model's own class does it.
    fn normalizes(&self) -> bool {
        let also = self.lowercase || self.strip_accents == Some(true);
        self.language.is_some() || self.model == Model::BytePairs && also
    }

    fn strips_accents(&self) -> bool {
        self.strip_accents.unwrap_or(false)
    }
}

fn added_tokens(settings: &Settings) -> Vec<Value> {
    let tokens = specials(settings);
    let numbered = tokens.iter().enumerate().map(|(id, token)| {
        let mut added = added_token(settings, token);
        added["id"] = json!(id);
        added
    });
    numbered.collect()
}

fn added_token(settings: &Settings, token: &str) -> Value {
    // A hidden word is written after a blank, which belongs to it where blanks belong to words.
    let has_blanks = matches!(settings.model, Model::BytePairs | Model::Unigram);
    let takes_blank = has_blanks && token == settings.model.special(MASK);
    json!({
        "content": token,
        "single_word": false,
        "lstrip": takes_blank,
        "rstrip": false,
        "normalized": false,
        "special": true,
    })
}

fn normalizer(settings: &Settings) -> Value {
    let language = settings.language;
    let mut all = language.map_or_else(Vec::new, |language| {
        language.normalizers(settings.lowercase)
    });
    match settings.model {
        Model::WordPiece => {
            let splits_kanji = !matches!(
                language,
                Some(Language::Japanese | Language::JapaneseCharacters)
            );
            all.push(json!({
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": splits_kanji,
                // Marks are letters of these languages.
                "strip_accents": if language.is_some() { Some(settings.strips_accents()) } else { settings.strip_accents },
                "lowercase": settings.lowercase,
            }));
        }
        Model::BytePairs | Model::WordLevel | Model::Unigram => {
            if settings.model == Model::Unigram {
                all.extend([json!({ "type": "Nmt" }), json!({ "type": "NFKC" })]);
            }
            if settings.strips_accents() {
                all.extend([json!({ "type": "NFD" }), json!({ "type": "StripAccents" })]);
            }
            if settings.lowercase {
                all.push(json!({ "type": "Lowercase" }));
            }
        }
    }
    one_of(all, "normalizers")
}

fn pre_tokenizer(settings: &Settings) -> Value {
    let splitter = settings.language.and_then(Language::splitter);
    let all: Vec<Value> = match settings.model {
        Model::WordPiece => [json!({ "type": "BertPreTokenizer" })]
            .into_iter()
            .chain(splitter)
            .collect(),
        Model::BytePairs => splitter.into_iter().chain([byte_level()]).collect(),
        Model::WordLevel => [json!({ "type": "WhitespaceSplit" })]
            .into_iter()
            .chain(splitter)
            .collect(),
        Model::Unigram => {
            let blanks = [json!({ "type": "WhitespaceSplit" }), metaspace()];
            blanks.into_iter().chain(splitter).collect()
        }
    };
    one_of(all, "pretokenizers")
}

/// The one there is, or all of them in a row.
fn one_of(mut all: Vec<Value>, name: &str) -> Value {
    match all.len() {
        0 => Value::Null,
        1 => all.remove(0),
        _ => json!({ "type": "Sequence", name: all }),
    }
}

fn post_processor(model: Model) -> Value {
    let [cls, sep] = [CLS, SEP].map(|role| (model.special(role), model.id(role)));
    if model == Model::BytePairs {
        return json!({
            "type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": true, "add_prefix_space": false,
        });
    }
    let special = |token: (&str, usize), segment: u32| json!({ "SpecialToken": { "id": token.0, "type_id": segment } });
    let text = |name: &str, segment: u32| json!({ "Sequence": { "id": name, "type_id": segment } });
    let tokens = [cls, sep].map(|(token, id)| {
        (
            token.to_owned(),
            json!({ "id": token, "ids": [id], "tokens": [token] }),
        )
    });
    json!({
        "type": "TemplateProcessing",
        "single": [special(cls, 0), text("A", 0), special(sep, 0)],
        "pair": [special(cls, 0), text("A", 0), special(sep, 0), text("B", 1), special(sep, 1)],
        "special_tokens": Map::from_iter(tokens),
    })
}

fn decoder(model: Model) -> Value {
    match model {
        Model::WordPiece => json!({ "type": "WordPiece", "prefix": CONTINUES, "cleanup": true }),
        Model::BytePairs => byte_level(),
        // Words with blanks between them, as it is without one.
        Model::WordLevel => Value::Null,
        Model::Unigram => metaspace(),
    }
}

fn byte_level() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true })
}

fn metaspace() -> Value {
    json!({ "type": "Metaspace", "replacement": super::BLANK, "prepend_scheme": "always", "split": true })
}
