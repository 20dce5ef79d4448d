//! `tandem admin`: asks a running process on its admin port, and prints what it says.
//!
//! Decides how it is asked. Leaves the answer to the process, which gives it by the code that it works with.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

use tandem_wire::id::BucketId;

use crate::cli::{AdminArgs, Question, RelaysArgs, WhereArgs};
use crate::fleet::Fleet;
use crate::role::say;
use crate::{Failure, limits};

/// Asks, and prints.
pub(crate) fn main(args: &AdminArgs) -> Result<(), Failure> {
    let answer = match &args.question {
        Question::Where(WhereArgs { call, bucket, lb }) => {
            let bucket = call.map(|call| call.bucket()).or(*bucket).unwrap_or(BucketId(0));
            get(lb, &format!("/where?bucket={:04x}", bucket.0), "load balancer")
        }
        Question::Relays(RelaysArgs { state, json }) => get(state, "/relays", "state server").and_then(|answer| {
            if *json {
                return Ok(answer);
            }
            let fleet: Fleet = serde_json::from_str(&answer)
                .map_err(|error| format!("{state} says something else than this version knows: {error}"))?;
            Ok(fleet.to_string())
        }),
    };
    say(&answer.map_err(Failure::Run)?);
    Ok(())
}

/// One GET, on a connection of its own, to a `role`.
fn get(endpoint: &str, path: &str, role: &str) -> Result<String, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{endpoint} does not answer: {error}");
    let place = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    let address = place.to_socket_addrs().map_err(|error| wrong(&error))?.next();
    let address = address.ok_or_else(|| wrong(&"it has no address"))?;
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, limits::ADMIN_PATIENCE)?;
        stream.set_read_timeout(Some(limits::ADMIN_PATIENCE))?;
        stream.set_write_timeout(Some(limits::ADMIN_PATIENCE))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(limits::ADMIN_ANSWER_BYTES).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().map_err(|error| wrong(&error))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| wrong(&"not with HTTP"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("404") => Err(format!("{endpoint} knows no such question: it is no {role}'s admin port on loopback")),
        status => Err(wrong(&format!("status {}", status.unwrap_or("unknown")))),
    }
}
