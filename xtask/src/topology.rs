//! `cargo xtask topology`: the network of namespaces, for a person to run processes in.
//!
//! Decides what is said and how long it stands. Leaves building it to `namespaces`, which the tests use too.

use std::io::Read as _;

use crate::Trouble;
use crate::namespaces::{PARTS, PUBLIC, Topology, remove_leftovers, standing};

/// `up`, `up direct`, `down` or `status`.
///
/// # Errors
/// [`Trouble::Usage`] for anything else; [`Trouble::Failed`] in the words of `ip`.
pub(crate) fn run(words: &[&str]) -> Result<(), Trouble> {
    match words {
        ["up"] => up(false).map_err(Trouble::Failed),
        ["up", "direct"] => up(true).map_err(Trouble::Failed),
        ["down"] => remove_leftovers().map_err(Trouble::Failed).map(|count| println!("{count} namespaces removed")),
        ["status"] => {
            for one in standing().map_err(Trouble::Failed)? {
                let maker = if one.is_kept() { "runs" } else { "is gone" };
                println!("{}: its maker {} {maker}", one.name, one.maker);
            }
            Ok(())
        }
        _ => Err(Trouble::Usage(
            "say `topology up`, `topology up direct`, `topology down` or `topology status`".to_owned(),
        )),
    }
}

/// `direct`: the relays have the public address too. Stands until its standard input ends; after Ctrl-C what it leaves is garbage, which `down` and the next `up` remove.
fn up(direct: bool) -> Result<(), String> {
    let topology = Topology::build()?;
    for (part, address) in PARTS {
        if direct && part.starts_with("relay") {
            topology.share_public(part)?;
        }
        println!("ip netns exec {} …   # {address}", topology.namespace(part));
    }
    println!("The load balancer's public address is {PUBLIC}. All of it goes when this input ends (Ctrl-D).");
    let mut input = std::io::stdin().lock();
    let mut buffer = [0; 256];
    while input.read(&mut buffer).map_err(|error| error.to_string())? > 0 {}
    Ok(())
}
