//! What may be asked for.

use std::path::PathBuf;

/// What is asked for.
pub(crate) struct Words {
    pub(crate) runs: usize,
    pub(crate) calls: usize,
    /// Calls that ring meanwhile, where a fault is about being accepted.
    pub(crate) held: usize,
    /// Of which faults: those with this in their names.
    pub(crate) only: Option<String>,
    /// Where the reports and logs of runs with a breach go.
    pub(crate) keep: Option<PathBuf>,
}

/// Reads the command line.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn words() -> Result<Words, String> {
    let mut words = Words { runs: 5, calls: 200, held: 20, only: None, keep: None };
    let mut given = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = given.next() {
        let value = given.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{word} needs a number"));
        match word.as_str() {
            "--runs" => words.runs = number()?,
            "--calls" => words.calls = number()?,
            "--held" => words.held = number()?,
            "--only" => words.only = Some(value),
            "--keep" => words.keep = Some(value.into()),
            _ => return Err(format!("there is no {word}: --runs, --calls, --held, --only and --keep")),
        }
    }
    Ok(words)
}
