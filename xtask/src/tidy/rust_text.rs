//! Rust files as text: what every one of them must say, and a view of the code without its words.
//!
//! Decides what is code and what is comment or text, well enough for checks that look for names. Leaves parsing to rustc.

use super::Violation;
use super::tree::Tree;

/// Every file opens with `//!`: what it decides, and what it leaves to others.
pub(super) fn opens_with_docs(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter(|file| !file.text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 8))
        .map(|file| Violation::new(&file.path, "does not open with `//!`: what it decides, what it leaves to others"))
        .collect()
}

/// Every `allow` and `expect` of a lint carries its reason.
pub(super) fn allows_have_reasons(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.rust() {
        let code = code(&file.text);
        for start in ["#[allow(", "#![allow(", "#[expect(", "#![expect(", "#[cfg_attr(", "#![cfg_attr("] {
            for (at, _) in code.match_indices(start) {
                let attribute = code.get(at..).and_then(|rest| rest.split(']').next()).unwrap_or_default();
                let quiets = ["allow(", "expect("].iter().any(|word| attribute.contains(word));
                if quiets && !attribute.contains("reason =") {
                    violations.push(Violation::new(format!("{}:{}", file.path, line_of(&code, at)), "gives no reason"));
                }
            }
        }
    }
    violations
}

/// The line of a position, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The code of a file: comments, texts and characters made blank, line ends kept, so that positions stay.
pub(super) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let before_is_word = code.last().is_some_and(|byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_');
        let blank = match rest {
            [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            [b'"', ..] => quoted(rest),
            [b'r', b'"' | b'#', ..] if !before_is_word => raw(rest),
            [b'\'', b'\\', ..] => 2 + rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(0, |at| at + 2),
            [b'\'', ..] => character(rest),
            _ => 0,
        };
        if blank == 0 {
            code.push(*first);
            rest = rest.get(1..).unwrap_or(&[]);
        } else {
            let (gone, kept) = rest.split_at_checked(blank).unwrap_or((rest, &[]));
            code.extend(gone.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
            rest = kept;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        match rest {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth.saturating_sub(1), at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`; a raw identifier (`r#type`) is no text.
fn raw(text: &[u8]) -> usize {
    let hashes = text.iter().skip(1).take_while(|byte| **byte == b'#').count();
    if text.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let body = text.get(2 + hashes..).unwrap_or(&[]);
    let inner = body.windows(end.len()).position(|window| window == end).unwrap_or(body.len());
    2 + hashes + inner + end.len()
}

/// `'x'`; a lifetime is none.
fn character(text: &[u8]) -> usize {
    // The longest character takes four bytes.
    let end = text.iter().skip(2).take(4).position(|byte| *byte == b'\'').map_or(0, |at| at + 3);
    let lifetime = text.get(1..end.saturating_sub(1)).is_some_and(|inner| inner.is_ascii() && inner.len() > 1);
    if lifetime { 0 } else { end }
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted::{files, places};
    use super::*;

    #[test]
    fn a_file_that_says_nothing_first_is_found() {
        let tree = files(&[
            ("a.rs", "//! Decides this.\nfn a() {}\n"),
            ("b.rs", "fn b() {}\n//! Late.\n"),
            ("c.rs", "//! x\nfn c() {}\n"),
            ("d.rs", ""),
            ("e.md", "not Rust\n"),
        ]);
        assert_eq!(places(&opens_with_docs(&tree)), ["b.rs", "c.rs", "d.rs"]);
    }

    #[test]
    fn an_allow_without_its_reason_is_found() {
        let text = "//! A.\n#[allow(dead_code)]\nfn a() {}\n#[allow(\n    dead_code,\n    reason = \"x\"\n)]\nfn b() {}\n\
                    #![expect(unused)]\n#[cfg_attr(test, allow(unused))]\n// #[allow(unused)]\n#[cfg_attr(test, derive(X))]\n\
                    fn c() { d.expect(\"#[allow(unused)]\") }\n";
        assert_eq!(places(&allows_have_reasons(&files(&[("a.rs", text)]))), ["a.rs:2", "a.rs:9", "a.rs:10"]);
    }

    #[test]
    fn comments_texts_and_characters_are_no_code() {
        let text = "a /* b /* c */ d */ e // f\ng(\"h \\\" i\", r#\"j \" k\"#, 'l', '\\'', '\\u{e9}', b'\"') + m::<'n>('\u{20ac}')";
        let words: Vec<String> = code(text)
            .split(|character: char| !character.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        assert_eq!(words, ["a", "e", "g", "b", "m", "n"]);
        assert_eq!(code(text).matches('\n').count(), 1);
        assert_eq!(code("r#type + \"x\""), "r#type +    ");
    }
}
