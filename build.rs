//! Embeds the built page (`web/dist`) in the binary, or a page that says how to build it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("page.rs");
    let dist = root.join("web/dist");
    println!("cargo::rerun-if-changed=build.rs");
    // A path that is not there would have it run again each time.
    println!("cargo::rerun-if-changed={}", if dist.is_dir() { "web/dist" } else { "web" });
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        collect(&dist, &mut files)?;
    }
    files.sort();
    let mut table =
        String::from("/// Path and bytes of every file of the page.\npub(crate) static FILES: &[(&str, &[u8])] = &[\n");
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.strip_prefix(&dist).map_err(io::Error::other)?;
        // `{:?}` quotes whatever stands in a path.
        let _ = writeln!(
            table,
            "    ({:?}, include_bytes!({:?})),",
            format!("/{}", name.display()),
            file.display().to_string()
        );
    }
    table.push_str("];\n");
    fs::write(out, table)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
