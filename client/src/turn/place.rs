//! Where a TURN server is, by what the ticket says of it.

use tandem_wire::redact::ClientAddr;
use tokio::net::lookup_host;

use super::TurnError;

/// The server's address: of the first URL that is `turn:host:port` over UDP (RFC 7065).
pub(super) async fn resolve(urls: &[String]) -> Result<ClientAddr, TurnError> {
    for url in urls {
        let Some(rest) = url.strip_prefix("turn:") else { continue };
        let (place, query) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
        if query != "transport=udp" {
            continue;
        }
        let has_port = place
            .rsplit_once(':')
            .is_some_and(|(host, port)| port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')));
        let place = if has_port { place.to_owned() } else { format!("{place}:3478") };
        if let Some(address) = lookup_host(place).await.ok().and_then(|mut addresses| addresses.next()) {
            return Ok(ClientAddr::new(address));
        }
    }
    Err(TurnError::NoServer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_url_over_udp_is_taken() {
        let resolve = async |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            resolve(&urls).await.map(ClientAddr::socket_addr)
        };
        let urls = ["turns:127.0.0.1:443", "turn:127.0.0.1:1?transport=tcp", "turn:127.0.0.1:7?transport=udp"];
        assert_eq!(resolve(&urls).await, Ok("127.0.0.1:7".parse().unwrap()));
        assert_eq!(resolve(&["turn:127.0.0.1"]).await, Ok("127.0.0.1:3478".parse().unwrap()));
        assert_eq!(resolve(&["turn:[::1]:7"]).await, Ok("[::1]:7".parse().unwrap()));
        assert_eq!(resolve(&["turn:[::1]"]).await, Ok("[::1]:3478".parse().unwrap()));
        for urls in [&[][..], &["stun:127.0.0.1:7"], &["turn:127.0.0.1:7?transport=tcp"]] {
            assert_eq!(resolve(urls).await, Err(TurnError::NoServer));
        }
    }
}
