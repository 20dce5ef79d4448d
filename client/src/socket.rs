//! The device's connection to the router: kept up for as long as the device lives.
//!
//! Decides when to connect again, and when not to: where another connection of the same device has taken over (4409), and
//! where the token is not good, the app is told and says when to go on. Leaves what a push means to [`crate::book`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::api::Api;
use crate::book::Book;
use crate::error::{Error, Problem, Reason};
use crate::jitter::{Jitter, draw};
use crate::limits;
use crate::push::{self, Came};
use crate::token::{TokenError, Tokens};

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// It is being opened, or what happened meanwhile is being told.
    Connecting,
    /// The device is up to date, as of this revision, and is told what happens.
    Ready(u64),
    /// It was lost, and is opened again after a pause.
    Away,
    /// The same device has connected from elsewhere (4409). Nothing happens until [`crate::Device::reconnect`].
    Displaced,
    /// The token is not good, and neither is a fresh one (4401). Nothing happens until [`crate::Device::reconnect`].
    TokenRefused,
    /// The router does not want it: the status of HTTP, or the code of the close. Nothing happens until
    /// [`crate::Device::reconnect`].
    Refused(u16),
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Lost,
    Displaced,
    Token,
    Refused(u16),
}

impl End {
    const fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Token,
            408 | 429 | 500..=599 => Self::Lost,
            other => Self::Refused(other),
        }
    }

    const fn of_close(code: u16) -> Self {
        match code {
            4401 => Self::Token,
            4409 => Self::Displaced,
            1002 | 1003 | 1007 | 1009 | 4400 => Self::Refused(code),
            _ => Self::Lost,
        }
    }
}

/// What follows a connection.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    AtOnce,
    Pause,
    /// The app says when to go on.
    Stop(Link),
}

/// Whether the connection before ended because its token had run out.
#[derive(Debug, Default)]
struct Renewal(bool);

impl Renewal {
    /// After a connection that ended like this; `ready`: for how long the device was up to date over it, if it was.
    fn next(&mut self, end: End, ready: Option<Duration>) -> Next {
        // A token that was good has run out, and there is another one. Tokens that are good for moments only are not good.
        let renews = end == End::Token && ready.is_some_and(|held| !self.0 || held >= limits::TOKEN_HELD);
        self.0 = renews;
        match end {
            End::Token if renews => Next::AtOnce,
            End::Token => Next::Stop(Link::TokenRefused),
            End::Lost => Next::Pause,
            End::Displaced => Next::Stop(Link::Displaced),
            End::Refused(code) => Next::Stop(Link::Refused(code)),
        }
    }
}

#[derive(Serialize)]
struct Acks<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    ids: &'a [String],
}

/// Where the router is: an address of the form `ws://host:port/v1/connect`.
#[derive(Clone)]
pub(crate) struct Router {
    uri: Uri,
    authority: String,
    /// Where connections come from, if it is not the system's choice.
    source: Option<IpAddr>,
}

impl Router {
    pub(crate) fn new(address: &str, source: Option<IpAddr>) -> Result<Self, Error> {
        const FORM: Error = Error::Address("ws://host:port/v1/connect");
        let uri: Uri = address.parse().map_err(|_| FORM)?;
        let authority = uri.authority().ok_or(FORM)?;
        if uri.scheme_str() != Some("ws") || uri.query().is_some() {
            return Err(FORM);
        }
        let port = authority.port_u16().unwrap_or(80);
        let authority = format!("{}:{port}", authority.host());
        Ok(Self { uri, authority, source })
    }
}

/// Keeps the connection up.
pub(crate) struct Socket {
    pub(crate) router: Router,
    pub(crate) tokens: Tokens,
    pub(crate) api: Arc<Api>,
    pub(crate) book: Arc<Book>,
    pub(crate) acks: mpsc::Receiver<String>,
    pub(crate) link: watch::Sender<Link>,
    /// The app says to go on.
    pub(crate) again: Arc<Notify>,
}

impl Socket {
    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut jitter = Jitter::new(limits::RECONNECT);
        let mut renewal = Renewal::default();
        loop {
            self.link.send_replace(Link::Connecting);
            let (end, ready) = self.once().await;
            if ready.is_some() {
                jitter.reset();
            }
            match renewal.next(end, ready.map(|since| since.elapsed())) {
                Next::AtOnce => {}
                Next::Stop(link) => {
                    self.link.send_replace(link);
                    self.again.notified().await;
                }
                Next::Pause => {
                    self.link.send_replace(Link::Away);
                    tokio::select! {
                        () = sleep(jitter.pause(draw())) => {}
                        () = self.again.notified() => {}
                    }
                }
            }
        }
    }

    /// One connection; how it ended, and since when the device was up to date, if it was.
    async fn once(&mut self) -> (End, Option<Instant>) {
        let token = match self.tokens.fresh().await {
            Ok(token) => token,
            Err(TokenError::Away) => return (End::Lost, None),
            Err(TokenError::Refused) => return (End::Token, None),
        };
        let opened = timeout(limits::CONNECT_WITHIN, open(&self.router, token.expose())).await;
        match opened.unwrap_or(Err(End::Lost)) {
            Ok(mut stream) => {
                let mut ready = None;
                let end = self.serve(&mut stream, &mut ready).await;
                (end, ready)
            }
            Err(end) => (end, None),
        }
    }

    async fn serve(&mut self, stream: &mut WebSocketStream<TcpStream>, ready: &mut Option<Instant>) -> End {
        self.book.connected();
        let mut heard = Instant::now();
        let mut ids = Vec::new();
        loop {
            tokio::select! {
                came = stream.next() => {
                    heard = Instant::now();
                    match came {
                        Some(Ok(Message::Text(text))) => match push::read(text.as_str()) {
                            Some(Came::Push(push)) => self.book.take(push),
                            Some(Came::Ready(revision)) => {
                                ready.get_or_insert_with(Instant::now);
                                self.look_after();
                                self.link.send_replace(Link::Ready(revision));
                            }
                            None => {}
                        },
                        Some(Ok(Message::Close(frame))) => {
                            // Our half of the farewell, so that the router does not wait for it.
                            let _ = timeout(limits::CLOSING, stream.flush()).await;
                            return frame.map_or(End::Lost, |frame| End::of_close(frame.code.into()));
                        }
                        // tungstenite answers pings by itself; nothing binary has a meaning.
                        Some(Ok(_)) => {}
                        Some(Err(tungstenite::Error::Capacity(_))) => return End::Refused(1009),
                        Some(Err(_)) | None => return End::Lost,
                    }
                }
                n = self.acks.recv_many(&mut ids, limits::ACKS_AT_ONCE), if ids.is_empty() => {
                    if n == 0 {
                        return End::Lost;
                    }
                    let Ok(text) = serde_json::to_string(&Acks { kind: "ack", ids: &ids }) else { return End::Lost };
                    ids.clear();
                    let sent = timeout(limits::ATTEMPT, stream.send(Message::text(text))).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return End::Lost;
                    }
                }
                () = sleep_until(heard + limits::SILENCE) => return End::Lost,
            }
        }
    }

    /// Calls that ended so long ago that the router tells nothing of them are asked after.
    fn look_after(&self) {
        for call in self.book.untold() {
            let (api, book) = (Arc::clone(&self.api), Arc::clone(&self.book));
            tokio::spawn(async move {
                match api.look(call.id).await {
                    Ok(view) => book.looked(&call, view),
                    Err(error) if error.problem().is_some_and(|Problem { status, .. }| *status == 404) => {
                        call.over(0, Reason::Unknown);
                    }
                    // The next connection looks again.
                    Err(_) => {}
                }
            });
        }
    }
}

async fn dial(router: &Router) -> io::Result<TcpStream> {
    let Some(source) = router.source else { return TcpStream::connect(&router.authority).await };
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host(&router.authority).await?.filter(|address| address.is_ipv4() == source.is_ipv4()) {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(why) => error = why,
        }
    }
    Err(error)
}

async fn open(router: &Router, token: &[u8]) -> Result<WebSocketStream<TcpStream>, End> {
    let refused = |_| End::Refused(0);
    let mut request = router.uri.clone().into_client_request().map_err(|_| End::Refused(0))?;
    let mut bearer = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(refused)?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("tandem.v1"));
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let stream = dial(router).await.map_err(|_| End::Lost)?;
    stream.set_nodelay(true).map_err(|_| End::Lost)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(limits::READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(limits::WRITE_BUFFER)
        .max_message_size(Some(limits::PUSH_BYTES))
        .max_frame_size(Some(limits::PUSH_BYTES));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((stream, _)) => Ok(stream),
        Err(tungstenite::Error::Http(answer)) => Err(End::of_status(answer.status().as_u16())),
        Err(_) => Err(End::Lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_app_must_decide_is_not_tried_again() {
        for (code, end) in [
            (4409, End::Displaced),
            (4401, End::Token),
            (4400, End::Refused(4400)),
            (1009, End::Refused(1009)),
            (1001, End::Lost),
            (1008, End::Lost),
            (1013, End::Lost),
            (4999, End::Lost),
        ] {
            assert_eq!(End::of_close(code), end, "{code}");
        }
        for (status, end) in
            [(401, End::Token), (503, End::Lost), (429, End::Lost), (403, End::Refused(403)), (404, End::Refused(404))]
        {
            assert_eq!(End::of_status(status), end, "{status}");
        }
    }

    #[test]
    fn a_router_is_a_plain_socket_without_a_query_for_now() {
        for address in ["wss://a/v1/connect", "http://a/", "ws://a/v1/connect?token=x", "", "ws:///v1/connect"] {
            assert!(Router::new(address, None).is_err(), "{address}");
        }
        assert_eq!(Router::new("ws://127.0.0.1:7/v1/connect", None).unwrap().authority, "127.0.0.1:7");
        assert_eq!(Router::new("ws://router.example/v1/connect", None).unwrap().authority, "router.example:80");
    }

    #[tokio::test]
    async fn a_connection_comes_from_its_source() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = "127.8.0.9".parse().unwrap();
        let router = Router::new(&format!("ws://{}/", listener.local_addr().unwrap()), Some(source)).unwrap();
        let (dialled, accepted) = tokio::join!(dial(&router), listener.accept());
        assert_eq!(
            (dialled.unwrap().local_addr().unwrap(), source),
            (accepted.as_ref().unwrap().1, accepted.unwrap().1.ip())
        );
    }

    #[test]
    fn the_most_acknowledgements_at_once_fit_the_routers_4_kib() {
        let id = format!("call_{}.{}.{}", "0".repeat(26), u16::MAX, u64::MAX);
        let ids = vec![id; limits::ACKS_AT_ONCE];
        assert!(serde_json::to_string(&Acks { kind: "ack", ids: &ids }).unwrap().len() <= 4 << 10);
    }

    #[test]
    fn a_token_that_ran_out_is_renewed_as_often_as_it_does_and_one_that_is_refused_at_once_is_not() {
        let (long, short) = (Some(Duration::from_secs(3_600)), Some(Duration::from_millis(10)));
        let refused = Next::Stop(Link::TokenRefused);
        let mut renewal = Renewal::default();
        for _ in 0..10 {
            assert_eq!(renewal.next(End::Token, long), Next::AtOnce);
        }
        // Once may be chance: the one that was drawn had hardly any time left.
        assert_eq!(renewal.next(End::Lost, long), Next::Pause);
        assert_eq!(renewal.next(End::Token, short), Next::AtOnce);
        assert_eq!(renewal.next(End::Token, short), refused);
        // Not good from the first, and after another one.
        assert_eq!(renewal.next(End::Token, None), refused);
        assert_eq!(renewal.next(End::Token, long), Next::AtOnce);
        assert_eq!(renewal.next(End::Token, None), refused);
    }
}
