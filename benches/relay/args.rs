//! What the one at the terminal wants.

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Forward,
    Delay,
    Memory,
    Allocations,
}

const PARTS: [(&str, Part); 4] =
    [("forward", Part::Forward), ("delay", Part::Delay), ("memory", Part::Memory), ("allocations", Part::Allocations)];
const USAGE: &str =
    "usage: cargo bench -p tandem-relay --bench relay -- [--rounds N] [--seconds S] [--only PART,…] [--json]
  PART is forward, delay, memory or allocations; without --only all of them are measured.
  TANDEM_BIN names a release build of tandem, COTURN_BIN a turnserver that is not on the PATH.";

/// The arguments.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) rounds: usize,
    /// Of each measurement.
    pub(crate) nanos: u64,
    pub(crate) json: bool,
    only: Vec<Part>,
}

impl Args {
    /// Reads them; `None`: nothing is to be measured, because a test runner wants to know what we are.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut args = Self { rounds: 5, nanos: 1_000_000_000, json: false, only: Vec::new() };
        let arguments: Vec<String> = arguments.collect();
        // Cargo's own; test runners do not give it.
        if !arguments.iter().any(|argument| argument == "--bench") {
            return Ok(None);
        }
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--bench" => {}
                "--json" => args.json = true,
                "--rounds" => {
                    let text = value()?;
                    args.rounds =
                        text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("--rounds {text}\n{USAGE}"))?;
                }
                "--seconds" => {
                    let text = value()?;
                    let seconds: f64 = text
                        .parse()
                        .ok()
                        .filter(|s| (0.01..=600.0).contains(s))
                        .ok_or_else(|| format!("--seconds {text}\n{USAGE}"))?;
                    args.nanos = (seconds * 1e9) as u64;
                }
                "--only" => {
                    for name in value()?.split(',') {
                        let part = PARTS.iter().find(|(known, _)| *known == name);
                        args.only.push(part.ok_or_else(|| format!("--only {name}\n{USAGE}"))?.1);
                    }
                }
                _ => return Err(format!("{argument}\n{USAGE}")),
            }
        }
        Ok(Some(args))
    }

    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}
