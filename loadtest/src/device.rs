//! The simulated devices: who they are, where they come from, and how they prove it.
//!
//! Decides accounts by seed and addresses by turn. Leaves all that a device does to `tandem-client`.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use tandem_client::{Custody, DevTokens, Device, Keyring, MemoryStore, Party, Setup, TokenError, TokenProvider, Wall};
use tokio::time::timeout;

use crate::limits;

/// Where devices find Tandem, and who gives their tokens.
#[derive(Debug, Clone)]
pub struct World {
    /// Signaling: `http://host:port`.
    pub api: String,
    /// The router: `ws://host:port/v1/connect`.
    pub connect: String,
    /// Who gives tokens.
    pub tokens: Tokens,
    /// The addresses of this machine that devices come from, in turn.
    pub sources: Sources,
    /// Decides accounts.
    pub seed: u64,
}

/// Who gives tokens.
#[derive(Clone)]
pub enum Tokens {
    /// A signaling node with `dev = true`.
    Dev,
    /// Whoever wrote the file: devices in the order in which they are used.
    Listed(Arc<[(Party, String)]>),
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dev => f.write_str("Dev"),
            Self::Listed(listed) => write!(f, "Listed({})", listed.len()),
        }
    }
}

impl Tokens {
    /// Reads lines of `account device token`; what begins with `#` is passed over.
    ///
    /// # Errors
    /// Which line is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut listed = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || format!("line {}: not an account, a device and a token", index + 1);
            let words: Vec<&str> = line.split_whitespace().collect();
            let [account, device, token] = words.as_slice() else { return Err(wrong()) };
            let (Ok(account), Ok(device)) = (account.parse(), device.parse()) else { return Err(wrong()) };
            listed.push((Party { account, device }, (*token).to_owned()));
        }
        Ok(Self::Listed(listed.into()))
    }
}

/// Addresses that devices come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources(Vec<IpAddr>);

/// Addresses of one range, at most: more than devices need, and no list that fills memory.
const SOURCES: u32 = 4_096;

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "an address, two with a dash between them, or an IPv4 network as in 127.8.0.0/28".to_owned();
        if let Ok(one) = text.parse() {
            return Ok(Self(vec![one]));
        }
        let (first, last) = if let Some((first, last)) = text.split_once('-') {
            let read = |text: &str| text.parse::<Ipv4Addr>().map(Ipv4Addr::to_bits).map_err(|_| wrong());
            (read(first)?, read(last)?)
        } else {
            let (network, bits) = text.split_once('/').ok_or_else(wrong)?;
            let network: Ipv4Addr = network.parse().map_err(|_| wrong())?;
            let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(wrong)?;
            let mask = u32::MAX << (32 - bits);
            // Neither the network's own address nor the one of all.
            ((network.to_bits() & mask) + 1, (network.to_bits() | !mask) - 1)
        };
        if first > last || last - first >= SOURCES {
            return Err(format!("1 to {SOURCES} addresses"));
        }
        Ok(Self((first..=last).map(|bits| Ipv4Addr::from_bits(bits).into()).collect()))
    }
}

impl Sources {
    /// That of the nth call's devices.
    #[must_use]
    pub fn of(&self, nth: usize) -> Option<IpAddr> {
        self.0.get(nth.checked_rem(self.0.len())?).copied()
    }
}

/// Asks for a token as seldom as it may, on a connection that is closed at once: one kept for each device would be more than
/// a node takes.
struct Minted {
    api: String,
    source: Option<IpAddr>,
    party: Party,
    kept: tokio::sync::Mutex<Option<(tandem_wire::redact::Secret, tokio::time::Instant)>>,
}

/// A token of a node in development is good for six hours.
const TOKEN_KEPT: std::time::Duration = std::time::Duration::from_secs(5 * 3_600);

impl Minted {
    async fn token(&self) -> Result<String, TokenError> {
        let mut kept = self.kept.lock().await;
        let fresh = kept.as_ref().filter(|(_, at)| at.elapsed() < TOKEN_KEPT).map(|(token, _)| token.clone());
        let token = if let Some(token) = fresh {
            token
        } else {
            let dev = DevTokens::from_source(&self.api, self.source, self.party.clone());
            let token = dev.map_err(|_| TokenError::Refused)?.token().await?;
            *kept = Some((token.clone(), tokio::time::Instant::now()));
            token
        };
        String::from_utf8(token.expose().to_vec()).map_err(|_| TokenError::Refused)
    }
}

impl World {
    /// The nth device.
    ///
    /// # Errors
    /// The file of tokens has fewer.
    pub fn party(&self, nth: usize) -> Result<Party, String> {
        match &self.tokens {
            Tokens::Listed(listed) => {
                let (party, _) = listed.get(nth).ok_or_else(|| format!("{} tokens are too few", listed.len()))?;
                Ok(party.clone())
            }
            Tokens::Dev => {
                let account = format!("load-{:x}-{nth}", self.seed).parse().map_err(|_| "no account".to_owned())?;
                Ok(Party { account, device: "dev_load".parse().map_err(|_| "no device".to_owned())? })
            }
        }
    }

    fn provider(&self, nth: usize, source: Option<IpAddr>) -> Result<Arc<dyn TokenProvider>, String> {
        if let Tokens::Listed(listed) = &self.tokens {
            let (_, token) = listed.get(nth).cloned().ok_or("too few tokens")?;
            return Ok(Arc::new(move || std::future::ready(Ok(token.clone()))));
        }
        let minted =
            Arc::new(Minted { api: self.api.clone(), source, party: self.party(nth)?, kept: Default::default() });
        Ok(Arc::new(move || {
            let minted = Arc::clone(&minted);
            async move { minted.token().await }
        }))
    }

    /// A device that is registered, connected and up to date. Its keys are its own and go with it.
    ///
    /// # Errors
    /// Why there is none, without a name or an address.
    pub async fn device(&self, nth: usize) -> Result<Device, String> {
        let source = self.sources.of(nth / 2);
        let party = self.party(nth)?;
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let wall = Wall::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let keyring = Keyring::open(party, Custody::Device, Box::new(MemoryStore), wall);
        let keyring = keyring.map_err(|error| error.to_string())?;
        let tokens = self.provider(nth, source)?;
        let setup = Setup { api: self.api.clone(), connect: self.connect.clone(), tokens, keyring };
        let start = async {
            let device = Device::start_from(source, setup).await.map_err(|error| error.to_string())?;
            device.ready().await;
            Ok(device)
        };
        timeout(limits::START_WITHIN, start).await.unwrap_or_else(|_| Err("not up to date in time".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_an_address_a_range_or_a_network_and_are_used_in_turn() {
        let sources = |text: &str| text.parse::<Sources>();
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let net = sources("127.8.0.0/28").unwrap();
        assert_eq!(
            (net.of(0), net.of(13), net.of(14)),
            (address("127.8.0.1"), address("127.8.0.14"), address("127.8.0.1"))
        );
        let range = sources("127.0.0.2-127.0.0.3").unwrap();
        assert_eq!((range.of(0), range.of(3)), (address("127.0.0.2"), address("127.0.0.3")));
        assert_eq!(sources("::1").unwrap().of(5), address("::1"));
        assert_eq!(Sources::default().of(5), None);
        for text in ["", "x", "127.0.0.3-127.0.0.2", "10.0.0.0/8", "127.0.0.0/31", "127.0.0.0/x", "::1/64"] {
            assert!(sources(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_are_read_line_by_line_and_a_wrong_line_is_named_but_not_shown() {
        let Tokens::Listed(listed) = Tokens::read("# ours\nalice dev_a t1\n\nbob dev_b t2\n").unwrap() else {
            panic!()
        };
        assert_eq!((listed.len(), listed[1].1.as_str()), (2, "t2"));
        assert_eq!(
            Tokens::read("alice dev_a t1\nbob secret").unwrap_err(),
            "line 2: not an account, a device and a token"
        );
        assert!(!format!("{:?}", Tokens::read("alice dev_a canary").unwrap()).contains("canary"));
    }

    #[test]
    fn the_seed_decides_who_calls() {
        let world = |seed| World {
            api: String::new(),
            connect: String::new(),
            tokens: Tokens::Dev,
            sources: Sources::default(),
            seed,
        };
        assert_eq!(world(1).party(3).unwrap(), world(1).party(3).unwrap());
        assert_ne!(world(1).party(3).unwrap(), world(2).party(3).unwrap());
        assert_ne!(world(1).party(3).unwrap(), world(1).party(4).unwrap());
    }
}
