//! The Rust SDK of Tandem: a device that calls, answers, and exchanges packets with the other device.
//!
//! Decides what a client of docs/api.md does by itself: it tries again what may be tried again, comes back after its
//! connection was lost, acknowledges what the app took, seals anew when the callee's devices have changed, renews its prekey,
//! and finds the other device in the call. Leaves to the app who it is (tokens), where its keys are kept, what a packet holds,
//! and what to do where only a person knows: two calls at the same time, another connection of the same device, an account
//! that is not who it was.
//!
//! Packets go in one of two ways: between two apps on the SDK by [`Call::transport`], which finds the other device by itself;
//! and by [`Call::allocation`], a socket in the call, for an app that brings a stack of its own and talks to browsers. What
//! such an app seals for its stack goes by [`Device::place_saying`], [`IncomingCall::accept_saying`], [`Call::say`] and
//! [`Call::heard`].
//!
//! Everything runs on the caller's tokio runtime. No address, token, ticket or sealed byte stands in a `Debug`, a `Display`
//! or an error.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use tandem_client::{Custody, Device, DevTokens, FileStore, Keyring, Media, Party, Setup, Wall};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let party = Party { account: "alice".parse()?, device: "dev_laptop".parse()? };
//! let store = FileStore::open("keys.json".as_ref())?;
//! let now = Wall::from_millis(std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64);
//! let device = Device::start(Setup {
//!     api: "http://127.0.0.1:8081".to_owned(),
//!     connect: "ws://127.0.0.1:8082/v1/connect".to_owned(),
//!     tokens: Arc::new(DevTokens::new("http://127.0.0.1:8081", party.clone())?),
//!     keyring: Keyring::open(party, Custody::Device, Box::new(store), now)?,
//! })
//! .await?;
//! device.ready().await;
//! let call = device.place(&"bob".parse()?, Media::Audio).await?;
//! let transport = call.transport().await?;
//! transport.send(b"hello").await?;
//! let answer = transport.recv().await?;
//! call.hang_up().await?;
//! # drop(answer); Ok(())
//! # }
//! ```

mod api;
mod book;
mod call;
mod device;
mod error;
mod ghosts;
mod http;
mod inner;
mod jitter;
pub mod limits;
mod payload;
mod push;
mod random;
mod sealing;
mod shared;
mod socket;
mod token;
mod turn;

pub use api::{Media, Phase, Place, Rejection, TurnServer};
pub use call::{Call, IncomingCall};
pub use device::{Device, MissedCall, Setup};
pub use error::{Code, Error, Problem, Reason};
pub use push::{Blob, Push, What};
pub use sealing::Trust;
pub use shared::{CallState, Peer};
pub use socket::Link;
pub use tandem_seal::{
    Checked, Custody, FileStore, Keyring, KeyringError, ListedDevice, MemoryStore, SealError, Store,
};
pub use tandem_wire::id::{CallId, LegId, VirtualAddr};
pub use tandem_wire::party::{AccountId, DeviceId, Party};
pub use tandem_wire::units::Wall;
pub use token::{DevTokens, TokenError, TokenProvider};
pub use turn::{Allocation, Counts, TurnError, TurnTransport};
