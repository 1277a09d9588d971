use serde_json::{Value, json};

/// What a language needs before its words are counted or looked up.
///
/// All of it is said in the normalizers and pre-tokenizers of `tokenizer.json`, so other programs that read the file do
/// the same. Offsets still point into the text as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Turkish or Azerbaijani: `I` is lower-cased to `ı` and `İ` to `i`.
    Turkish,
    /// Arabic script: tatweel and diacritics are left out, and letters that are often confused become one where asked.
    Arabic(Unify),
    /// Serbian: Cyrillic is written in Latin letters, `Љ` as `Lj`, or as `LJ` among capitals.
    Serbian,
    /// Japanese: NFKC; runs of kanji, of hiragana and of katakana are words of their own.
    ///
    /// # Departures
    /// Published Japanese encoders split words with a morphological analyser and its dictionary, which a
    /// `tokenizer.json` cannot hold.
    Japanese,
    /// The same, with every character a word of its own.
    JapaneseCharacters,
}

/// Letters of the Arabic script that are made one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unify {
    /// `أ`, `إ`, `آ` and `ٱ` become `ا`.
    pub alef: bool,
    /// `ى` becomes `ي`.
    pub ya: bool,
    /// `ة` becomes `ه`.
    pub ta_marbuta: bool,
}

/// Serbian letters in both scripts, small; Serbian Cyrillic has one letter for each sound.
const SERBIAN: [(&str, &str); 30] = [
    ("а", "a"),
    ("б", "b"),
    ("в", "v"),
    ("г", "g"),
    ("д", "d"),
    ("ђ", "đ"),
    ("е", "e"),
    ("ж", "ž"),
    ("з", "z"),
    ("и", "i"),
    ("ј", "j"),
    ("к", "k"),
    ("л", "l"),
    ("љ", "lj"),
    ("м", "m"),
    ("н", "n"),
    ("њ", "nj"),
    ("о", "o"),
    ("п", "p"),
    ("р", "r"),
    ("с", "s"),
    ("т", "t"),
    ("ћ", "ć"),
    ("у", "u"),
    ("ф", "f"),
    ("х", "h"),
    ("ц", "c"),
    ("ч", "č"),
    ("џ", "dž"),
    ("ш", "š"),
];

/// Kanji with their marks of repetition, as a class of a regular expression; then hiragana, then katakana. The mark of a
/// long vowel goes with the kana before it.
const KANJI: &str = "一-鿿㐀-䶿豈-﫿𠀀-𪛟々〆〇";
const HIRAGANA: &str = "ぁ-ゟー";
const KATAKANA: &str = "゠-ヿㇰ-ㇿ";

impl Language {
    /// Normalizers, in the order of their use.
    pub(super) fn normalizers(self, lowercase: bool) -> Vec<Value> {
        let mut all = vec![json!({ "type": "NFC" })];
        match self {
            Self::Turkish if lowercase => {
                all.extend([replace("İ", "i"), replace("I", "ı")]);
            }
            Self::Turkish => {}
            Self::Arabic(unify) => {
                let marks = "[\u{610}-\u{61a}\u{64b}-\u{65f}\u{670}\u{6d6}-\u{6dc}\u{6df}-\u{6e8}\u{6ea}-\u{6ed}\u{640}]";
                all.push(replace_all(marks, ""));
                if unify.alef {
                    all.push(replace_all("[أإآٱ]", "ا"));
                }
                if unify.ya {
                    all.push(replace("ى", "ي"));
                }
                if unify.ta_marbuta {
                    all.push(replace("ة", "ه"));
                }
            }
            Self::Serbian => {
                for (one, two) in [("Љ", "LJ"), ("Њ", "NJ"), ("Џ", "DŽ")] {
                    let among_capitals =
                        format!(r"{one}(?=\p{{Lu}})|(?<=\p{{Lu}}){one}(?!\p{{Ll}})");
                    all.push(replace_all(&among_capitals, two));
                }
                for (cyrillic, latin) in SERBIAN {
                    let mut letters = latin.chars();
                    let first = letters.next().into_iter().flat_map(char::to_uppercase);
                    let capital: String = first.chain(letters).collect();
                    all.push(replace(&cyrillic.to_uppercase(), &capital));
                    all.push(replace(cyrillic, latin));
                }
            }
            Self::Japanese | Self::JapaneseCharacters => all = vec![json!({ "type": "NFKC" })],
        }
        all
    }

    /// What splits words that white space does not.
    pub(super) fn splitter(self) -> Option<Value> {
        let pattern = match self {
            Self::Turkish | Self::Arabic(_) | Self::Serbian => return None,
            Self::Japanese => format!("[{KANJI}]+|[{HIRAGANA}]+|[{KATAKANA}]+"),
            Self::JapaneseCharacters => format!("[{KANJI}{HIRAGANA}{KATAKANA}]"),
        };
        Some(json!({
            "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false,
        }))
    }
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content })
}

/// The same for a regular expression.
fn replace_all(pattern: &str, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": { "Regex": pattern }, "content": content })
}
