//! Looks for words in everything that our processes keep, say and hold, for tests that are not written in Rust: the browser's
//! (`e2e/src/canaries.test.ts`).
//!
//! Decides nothing: what is looked for and where is told on stdin, one JSON a line, and what was found is said on stdout.
//! Never with a word: it might be a secret.
//!
//! ```text
//! canaries --tcp store=40001 --udp relay=40002       listens on the loopback interface from now on
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool of tests, which fail with it"
)]

#[path = "../tests/support/search.rs"]
mod search;
#[path = "../tests/support/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;

use search::{Search, Words};
use serde::Deserialize;
use serde_json::json;
use wire::{Port, Wire};

/// One question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// By their kind.
    #[serde(default)]
    words: BTreeMap<String, Vec<String>>,
    /// The same, in hexadecimal.
    #[serde(default)]
    bytes: BTreeMap<String, Vec<String>>,
    /// Where to look, by the names of the places: memory, texts, and files or folders. The wire is looked at too, once it was
    /// listened to.
    #[serde(default)]
    memory: BTreeMap<String, u64>,
    #[serde(default)]
    texts: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, PathBuf>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ports = arguments.chunks(2).map(|pair| {
        let (name, port) = pair.last().and_then(|named| named.split_once('=')).expect("--tcp name=port");
        let port = port.parse().expect("a port");
        let port = if pair.first().is_some_and(|flag| flag == "--udp") { Port::Udp(port) } else { Port::Tcp(port) };
        (port, format!("wire to {name}"))
    });
    let mut wire = Wire::listen(ports.collect());
    let mut heard = None;
    println!("{}", json!({ "listens": wire.is_some() }));
    for line in std::io::stdin().lines() {
        let asked: Asked = serde_json::from_str(&line.unwrap()).expect("a question");
        heard = wire.take().map(Wire::stop).or(heard);
        let mut words = Words::default();
        for (kind, word) in asked.words.iter().flat_map(|(kind, words)| words.iter().map(move |word| (kind, word))) {
            words.add(kind, word.as_bytes());
        }
        for (kind, hex) in asked.bytes.iter().flat_map(|(kind, words)| words.iter().map(move |word| (kind, word))) {
            words.add(kind, &unhex(hex));
        }
        let mut search = Search::of(words);
        for (place, pid) in &asked.memory {
            search.memory(place, *pid);
        }
        for (place, text) in &asked.texts {
            search.text(place, text.as_bytes());
        }
        for (place, path) in &asked.files {
            search.files(place, path);
        }
        for (place, text) in heard.iter().flat_map(|heard| heard.texts()) {
            search.text(place, text);
        }
        println!(
            "{}",
            json!({
                "found": search.found,
                "looked": search.looked,
                "clients": heard.as_ref().map(|heard| &heard.clients),
                "gaps": heard.as_ref().map_or(0, |heard| heard.gaps),
            })
        );
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal digits"))
        .collect()
}
