//! Looks for words that only some may know, in files, in texts and in what processes hold in memory.
//!
//! Decides how a word could be spelled where it stands, and that a found word is told by its kind and place and never shown:
//! it might be a secret. Leaves to the caller which words there are, and where they may be.
#![allow(dead_code, reason = "each program uses its part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "of tests, and only there"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// What is shorter stands somewhere by chance: the memory of all processes is some 2^28 bytes, and 8 characters of base64
/// have 2^48 values.
const SPELLING_MIN: usize = 8;
const PAGE: u64 = 4_096;
/// Of one mapping, what is read at once.
const CHUNK: usize = 1 << 20;

/// Words by their kind, each in every spelling.
#[derive(Debug, Default)]
pub(crate) struct Words {
    spellings: BTreeMap<Vec<u8>, BTreeSet<String>>,
}

impl Words {
    /// In clear, in hexadecimal, in base64 wherever in a text it begins, and as it stands in a URL.
    pub(crate) fn add(&mut self, kind: &str, word: &[u8]) {
        assert!(word.len() >= SPELLING_MIN, "{kind}: a word of {} bytes would be found by chance", word.len());
        for spelling in spellings(word).into_iter().filter(|spelling| spelling.len() >= SPELLING_MIN) {
            self.spellings.entry(spelling).or_default().insert(kind.to_owned());
        }
    }

    pub(crate) fn kinds(&self) -> BTreeSet<&String> {
        self.spellings.values().flatten().collect()
    }
}

fn spellings(word: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut spellings = vec![word.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..3 {
        let padded = [&vec![0; before], word].concat();
        // The characters that the word alone decides, without those that it shares with what stands beside it.
        let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for text in [STANDARD.encode(&padded), URL_SAFE.encode(&padded)] {
            spellings.push(text.as_bytes()[from..to].to_vec());
        }
    }
    let in_url = word.iter().map(|byte| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    spellings.push(in_url.collect::<String>().into_bytes());
    spellings
}

/// What was found, and where was looked.
#[derive(Debug)]
pub(crate) struct Search {
    machine: AhoCorasick,
    kinds: Vec<BTreeSet<String>>,
    /// Kinds of words, and the places where they are.
    pub(crate) found: BTreeMap<String, BTreeSet<String>>,
    /// Places, and how many bytes they have.
    pub(crate) looked: BTreeMap<String, u64>,
}

impl Search {
    pub(crate) fn of(words: Words) -> Self {
        let (spellings, kinds): (Vec<_>, Vec<_>) = words.spellings.into_iter().unzip();
        let machine = AhoCorasick::new(spellings).unwrap();
        Self { machine, kinds, found: BTreeMap::new(), looked: BTreeMap::new() }
    }

    pub(crate) fn text(&mut self, place: &str, text: &[u8]) {
        *self.looked.entry(place.to_owned()).or_default() += text.len() as u64;
        // Overlapping: one word must not hide another.
        for hit in self.machine.find_overlapping_iter(text) {
            for kind in &self.kinds[hit.pattern()] {
                let places = self.found.entry(kind.clone()).or_default();
                if !places.contains(place) {
                    places.insert(place.to_owned());
                }
            }
        }
    }

    /// A file, or every file under a folder. Those of a folder are places of their own, by their names in it.
    pub(crate) fn files(&mut self, place: &str, path: &Path) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let place = format!("{place}/{}", entry.file_name().to_string_lossy());
                self.files(&place, &entry.path());
            }
        } else {
            self.text(place, &fs::read(path).unwrap());
        }
    }

    /// What a process holds in memory that it can write to, as its core dump would. One that may not be looked into (only
    /// root may, of others than its own children) is no place that was looked at.
    pub(crate) fn memory(&mut self, place: &str, pid: u64) {
        let maps = fs::read_to_string(format!("/proc/{pid}/smaps"));
        let opened = maps.and_then(|maps| Ok((maps, File::open(format!("/proc/{pid}/mem"))?)));
        let (maps, memory) = match opened {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
            opened => opened.unwrap(),
        };
        for (from, to) in writable(&maps) {
            let text = read_range(&memory, from, to);
            self.text(place, &text);
        }
    }
}

/// The mappings that can be written to and hold something. Browsers reserve terabytes.
fn writable(smaps: &str) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some((from, to)) = first.split_once('-') {
            let hex = |text| u64::from_str_radix(text, 16);
            current = hex(from).ok().zip(hex(to).ok()).filter(|_| second.starts_with("rw"));
        } else if matches!(first, "Rss:" | "Swap:") && second != "0" {
            ranges.extend(current.take());
        }
    }
    ranges
}

/// Some of it cannot be read (the kernel's own pages), or went away meanwhile: that page is left out.
fn read_range(memory: &File, from: u64, to: u64) -> Vec<u8> {
    let (mut text, mut at, mut buffer) = (Vec::new(), from, vec![0; CHUNK]);
    while at < to {
        let wanted = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
        match memory.read_at(&mut buffer[..wanted], at) {
            Ok(read) if read > 0 => {
                text.extend_from_slice(&buffer[..read]);
                at += read as u64;
            }
            _ => at = (at / PAGE + 1) * PAGE,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_in_every_spelling_wherever_it_begins_and_nowhere_else() {
        let word = b"canary+/name 7";
        let search = || {
            let mut words = Words::default();
            words.add("word", word);
            Search::of(words)
        };
        for (before, after) in [("", ""), ("a", "bc"), ("ab", "c"), ("abc", "")] {
            let text = [before.as_bytes(), word, after.as_bytes()].concat();
            let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
            let in_url = format!("{before}canary%2B%2Fname%207{after}");
            let base64 = [STANDARD.encode(&text), URL_SAFE.encode(&text)];
            for spelling in [text.clone(), hex.to_uppercase().into(), hex.into(), in_url.into()]
                .into_iter()
                .chain(base64.map(String::into_bytes))
            {
                let mut search = search();
                search.text("place", &[b"; ", &spelling[..], b" ;"].concat());
                assert!(search.found["word"].contains("place"), "{before:?} {after:?}");
            }
        }
        let mut search = search();
        search.text("place", b"canary+/name 8 canary+/nam");
        assert!(search.found.is_empty());
    }

    #[test]
    fn what_this_process_holds_is_found_in_its_memory() {
        // Made now: a constant would be found in the program's own text.
        let held = format!("canary-held-by-{}", std::process::id());
        let mut words = Words::default();
        words.add("held", held.as_bytes());
        words.add("not held", &held.bytes().map(|byte| byte ^ 0x55).rev().collect::<Vec<_>>());
        let mut search = Search::of(words);
        search.memory("memory", std::process::id().into());
        assert!(search.found["held"].contains("memory"), "{held}");
        assert!(search.looked["memory"] > 100_000);
    }
}
