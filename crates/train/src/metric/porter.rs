//! Porter's stemmer with the additions of NLTK: `caresses` → `caress`, `happily` → `happili`.
//!
//! # Source
//! Porter, An algorithm for suffix stripping, 1980; `PorterStemmer` of NLTK 3.10 in its default mode
//! `NLTK_EXTENSIONS`, which is what ROUGE scores are reported with.

/// Words with stems of their own.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Endings and what they become after a stem with a vowel and a consonant behind it, in the order they are tried.
const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];
const STEP_3: [(&str, &str); 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];
/// Endings that are cut off stems with two such pairs.
const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
];

/// The stem of a word in small letters.
pub(super) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let word = plural(word);
    let word = past(&word);
    let word = y_to_i(word);
    let word = derived(word);
    let word = step_3(word);
    let word = step_4(word);
    let word = final_e(word);
    match word.strip_suffix('l') {
        Some(shorter) if shorter.ends_with('l') && measure(shorter) > 1 => shorter.to_owned(),
        _ => word,
    }
}

/// Step 1a.
fn plural(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) if stem.len() == 1 => format!("{stem}ie"),
        Some(stem) => format!("{stem}i"),
        None if word.ends_with("sses") => word[..word.len() - 2].to_owned(),
        None if word.ends_with("ss") => word.to_owned(),
        None => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

/// Step 1b.
fn past(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        let ending = if stem.len() == 1 { "ie" } else { "i" };
        return format!("{stem}{ending}");
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 {
            format!("{stem}ee")
        } else {
            word.to_owned()
        };
    }
    let stem = word.strip_suffix("ed").or_else(|| word.strip_suffix("ing"));
    let Some(stem) = stem.filter(|stem| has_vowel(stem)) else {
        return word.to_owned();
    };
    let bytes = stem.as_bytes();
    if ["at", "bl", "iz"]
        .iter()
        .any(|ending| stem.ends_with(ending))
    {
        format!("{stem}e")
    } else if ends_double_consonant(bytes) {
        let keeps = stem.ends_with(['l', 's', 'z']);
        stem[..stem.len() - usize::from(!keeps)].to_owned()
    } else if measure(stem) == 1 && ends_short(bytes) {
        format!("{stem}e")
    } else {
        stem.to_owned()
    }
}

/// Step 1c.
fn y_to_i(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && is_consonant(stem.as_bytes(), stem.len() - 1) => {
            format!("{stem}i")
        }
        _ => word,
    }
}

/// Step 2.
fn derived(word: String) -> String {
    if let Some(stem) = word.strip_suffix("alli")
        && measure(stem) > 0
    {
        return derived(format!("{stem}al"));
    }
    let rule = STEP_2
        .iter()
        .find_map(|(ending, other)| Some((word.strip_suffix(ending)?, *other)));
    match rule {
        Some((stem, other)) if measure(stem) > 0 => format!("{stem}{other}"),
        Some(_) => word,
        // The l counts to the stem, so that `geologi` is treated as `archaeologi` is.
        None => match word.strip_suffix("ogi") {
            Some(stem) if stem.ends_with('l') && measure(stem) > 0 => format!("{stem}og"),
            _ => word,
        },
    }
}

fn step_3(word: String) -> String {
    let rule = STEP_3
        .iter()
        .find_map(|(ending, other)| Some((word.strip_suffix(ending)?, *other)));
    match rule {
        Some((stem, other)) if measure(stem) > 0 => format!("{stem}{other}"),
        _ => word,
    }
}

fn step_4(word: String) -> String {
    let rule = STEP_4
        .iter()
        .find_map(|ending| Some((word.strip_suffix(ending)?, *ending)));
    match rule {
        Some((stem, ending))
            if measure(stem) > 1 && (ending != "ion" || stem.ends_with(['s', 't'])) =>
        {
            stem.to_owned()
        }
        _ => word,
    }
}

/// Step 5a.
fn final_e(word: String) -> String {
    match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || measure(stem) == 1 && !ends_short(stem.as_bytes()) => {
            stem.to_owned()
        }
        _ => word,
    }
}

/// Whether each letter is a consonant: y is one unless another stands before it.
fn consonants(word: &[u8]) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word {
        let is_consonant = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        };
        flags.push(is_consonant);
    }
    flags
}

fn is_consonant(word: &[u8], index: usize) -> bool {
    consonants(&word[..=index])[index]
}

fn has_vowel(word: &str) -> bool {
    consonants(word.as_bytes()).contains(&false)
}

/// How often a consonant follows a vowel.
fn measure(word: &str) -> usize {
    let flags = consonants(word.as_bytes());
    flags.windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn ends_double_consonant(word: &[u8]) -> bool {
    let len = word.len();
    len >= 2 && word[len - 1] == word[len - 2] && is_consonant(word, len - 1)
}

/// Whether it ends with consonant, vowel, consonant, the last not w, x or y; or is a vowel and a consonant.
fn ends_short(word: &[u8]) -> bool {
    let flags = consonants(word);
    match flags.as_slice() {
        [false, true] => true,
        [.., true, false, true] => !matches!(word[word.len() - 1], b'w' | b'x' | b'y'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn words_lose_their_endings() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("dies", "die"),
            ("skies", "sky"),
            ("agreed", "agre"),
            ("feed", "feed"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("enjoy", "enjoy"),
            ("generalizations", "gener"),
            ("oscillators", "oscil"),
            ("geology", "geolog"),
            ("yyyy", "yyyi"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
