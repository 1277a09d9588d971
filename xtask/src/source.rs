//! Rust source as the structure rules see it: code without comments and without what strings say.

/// The text with comments and the insides of string and character literals turned to spaces; lines keep their numbers.
///
/// Line and nested block comments, escapes, raw strings with any number of `#`, byte and C strings, and the
/// difference between a character and a lifetime are understood; nothing is expanded.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                Some(find(bytes, at, b"\n").unwrap_or(bytes.len()))
            }
            b'/' if bytes[at..].starts_with(b"/*") => Some(end_of_block_comment(bytes, at)),
            b'"' => Some(end_of_string(bytes, at)),
            b'r' if starts_word(bytes, at) => end_of_raw_string(bytes, at),
            b'\'' => end_of_char(bytes, at),
            _ => None,
        };
        let Some(end) = end else {
            at += 1;
            continue;
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("only whole literals and comments were replaced")
}

/// Line numbers, from 1, on which `word` stands by itself.
pub fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    code.lines()
        .enumerate()
        .filter(|(_, line)| {
            line.match_indices(word).any(|(start, _)| {
                let (bytes, end) = (line.as_bytes(), start + word.len());
                !(start > 0 && is_part(bytes[start - 1])
                    || end < bytes.len() && is_part(bytes[end]))
            })
        })
        .map(|(index, _)| index + 1)
        .collect()
}

/// What an including macro names: `(line, path)` of each literal `include*!` argument in the text.
pub fn included(text: &str) -> Vec<(usize, String)> {
    let visible = code(text);
    let mut found = Vec::new();
    for name in ["include!", "include_str!", "include_bytes!"] {
        for (start, _) in visible.match_indices(name) {
            let end = find(text.as_bytes(), start, b";").unwrap_or(text.len());
            let path: String = text[start..end]
                .split('"')
                .skip(1)
                .step_by(2)
                .filter(|part| part.contains('/') || part.contains('.'))
                .collect();
            found.push((text[..start].matches('\n').count() + 1, path));
        }
    }
    found
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    bytes[from..]
        .windows(wanted.len())
        .position(|window| window == wanted)
        .map(|index| from + index)
}

/// Whether a literal's prefix may begin here: `r`, or the `r` of `br` and `cr`, not the end of a longer name.
fn starts_word(bytes: &[u8], at: usize) -> bool {
    let is_part = |index: usize| bytes[index].is_ascii_alphanumeric() || bytes[index] == b'_';
    let start = if at > 0 && matches!(bytes[at - 1], b'b' | b'c') {
        at - 1
    } else {
        at
    };
    start == 0 || !is_part(start - 1)
}

fn end_of_block_comment(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut index) = (1, at + 2);
    while index < bytes.len() && depth > 0 {
        if bytes[index..].starts_with(b"/*") {
            depth += 1;
            index += 2;
        } else if bytes[index..].starts_with(b"*/") {
            depth -= 1;
            index += 2;
        } else {
            index += 1;
        }
    }
    index
}

fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut index = at + 1;
    while index < bytes.len() && bytes[index] != b'"' {
        index += if bytes[index] == b'\\' { 2 } else { 1 };
    }
    (index + 1).min(bytes.len())
}

fn end_of_raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    Some(find(bytes, open + 1, &close).map_or(bytes.len(), |index| index + close.len()))
}

/// `'x'` and `'\n'` are characters; `'a` without a closing quote is a lifetime.
fn end_of_char(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        return find(bytes, at + 3, b"'").map(|index| index + 1);
    }
    let first = *bytes.get(at + 1)?;
    let width = match first {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    };
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + 2 + width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_strings_are_not_code() {
        let text = concat!(
            "// unsafe\n",
            "/* unsafe /* unsafe */ unsafe */\n",
            "let s = \"unsafe \\\" unsafe\";\n",
            "let r = br#\"unsafe \" unsafe\"#;\n",
            "let c = '\"'; let e = '\\''; let w = 'é';\n",
            "fn f<'a>(x: &'a str) { unsafe { g(x) } }\n",
            "#![deny(unsafe_code)]\n",
        );
        assert_eq!(lines_with_word(&code(text), "unsafe"), [6]);
    }

    #[test]
    fn replacing_keeps_every_line_and_what_follows_a_literal() {
        let text = "let a = \"one\ntwo\"; unsafe_name(); let r#type = 1; unsafe {}\n";
        let code = code(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(lines_with_word(&code, "unsafe"), [2]);
        assert!(code.contains("r#type"));
    }

    #[test]
    fn included_files_are_found_with_their_lines() {
        let text = "fn f() {}\nconst A: &str = include_str!(\"a/b.toml\");\nconst B: &[u8] = include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/c.bin\"));\n// include_str!(\"no.txt\");\n";
        assert_eq!(
            included(text),
            [(2, "a/b.toml".to_owned()), (3, "/c.bin".to_owned())]
        );
    }
}
