//! The store over gRPC: the contract's types, the client and the server's side.
//!
//! Decides how the trait's values look on the wire, and which status an error is: in this module only. HTTP/2 in clear
//! with a shared secret for now, so for loopback and private networks.

mod connections;
mod convert;
mod remote;
mod reports;
mod service;
mod status;

pub use remote::{RemoteError, RemoteStore};
pub use service::serve;

/// What tonic makes of `proto/state.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "generated from proto/state.proto, which has the comments"
)]
mod proto {
    tonic::include_proto!("tandem.state.v1");
}

use tandem_wire::redact::Secret;
use tonic::metadata::{Ascii, MetadataValue};

/// The header that carries the secret.
const AUTHORIZATION: &str = "authorization";

/// The secret as it stands in the header: `Bearer` and its bytes in hexadecimal.
fn bearer(secret: &Secret) -> Option<MetadataValue<Ascii>> {
    let mut text = String::with_capacity(7 + 2 * secret.expose().len());
    text.push_str("Bearer ");
    for byte in secret.expose() {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(u32::from(digit), 16)?);
        }
    }
    let mut value: MetadataValue<Ascii> = text.parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}
