//! From an endpoint to an open connection: addresses, proxy, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_socks::tcp::Socks5Stream;
use url::Host;

use super::dns::Resolver;
use super::proxy::{Kind, Proxy, Route};
use super::reasons::{describe, shorten};
use super::stream::{socket, Io};
use super::tls::Tls;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Stage};
use crate::process::{is_exhaustion, off_standard};

/// How long one address may take before the next is tried in parallel (RFC 8305).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// A proxy's answer to `CONNECT` is a head of a few lines.
const PROXY_HEAD_LIMIT: usize = 16 * 1024;

/// A connection that is ready for a request.
pub struct Connected {
    pub io: Io,
    pub http2: bool,
}

/// The parts that make connections.
pub struct Connector {
    pub resolver: Resolver,
    pub tls: Tls,
}

impl Connector {
    /// Opens a connection to `endpoint` along `route`.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        route: &Route,
        offer_http2: bool,
    ) -> Result<Connected, Failure> {
        let Self { resolver, tls } = self;
        let io: Io = match route {
            Route::Direct => dial(&endpoint.host, endpoint.port, resolver).await?,
            Route::Proxy(proxy) => {
                let at_proxy = |failure: Failure| Failure {
                    reason: format!("at the proxy: {}", failure.reason),
                    ..failure
                };
                let mut io = dial(&proxy.host, proxy.port, resolver)
                    .await
                    .map_err(at_proxy)?;
                if proxy.kind == Kind::Https {
                    io = Box::new(
                        tls.handshake(&proxy.host, io, false)
                            .await
                            .map_err(at_proxy)?,
                    );
                }
                match proxy.kind {
                    Kind::Http | Kind::Https if endpoint.tls => tunnel(endpoint, proxy, io).await?,
                    // An HTTP proxy forwards plain HTTP, with the whole URL in the request line.
                    Kind::Http | Kind::Https => io,
                    Kind::Socks5 { remote_dns } => {
                        socks5(endpoint, proxy, remote_dns, io, resolver).await?
                    }
                }
            }
        };
        if !endpoint.tls {
            return Ok(Connected { io, http2: false });
        }
        let stream = tls.handshake(&endpoint.host, io, offer_http2).await?;
        let http2 = stream.chose_http2();
        Ok(Connected {
            io: Box::new(stream),
            http2,
        })
    }
}

/// A TCP connection to the first address that answers.
async fn dial(host: &Host, port: u16, resolver: &Resolver) -> Result<Io, Failure> {
    let addresses = match host {
        Host::Ipv4(address) => vec![IpAddr::from(*address)],
        Host::Ipv6(address) => vec![IpAddr::from(*address)],
        Host::Domain(name) => interleave(resolver.look_up(name).await?),
    };
    let mut waiting = addresses.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.next() {
            under_way.push(open(SocketAddr::new(address, port)));
        }
        let ended = match waiting.len() {
            0 => under_way.next().await,
            _ => match tokio::time::timeout(NEXT_ADDRESS, under_way.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(tcp)) => return Ok(socket(tcp)),
            Some(Err(error)) => last = Some(error),
            None if waiting.len() == 0 => break,
            None => {}
        }
    }
    let error = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
    let stage = match is_exhaustion(&error) {
        true => Stage::Resources,
        false => Stage::Connect,
    };
    let (host, why) = (shorten(host), describe(&error));
    Err(Failure::new(stage, format!("{host} port {port}: {why}")))
}

/// The families in turn, beginning with the resolver's choice (RFC 8305).
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut result = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.drain(..), second.drain(..));
    loop {
        match (first.next(), second.next()) {
            (None, None) => return result,
            (a, b) => result.extend(a.into_iter().chain(b)),
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let socket = TcpSocket::from_std_stream(off_standard(socket)?.into());
    socket.set_keepalive(true)?;
    let tcp = socket.connect(address).await?;
    // A request is one small write that should leave at once.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Asks an HTTP proxy for a tunnel.
async fn tunnel(endpoint: &Endpoint, proxy: &Proxy, mut io: Io) -> Result<Io, Failure> {
    let target = endpoint.host_and_port();
    let request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{}\r\n",
        proxy.authorization()
    );
    let broken = |error: io::Error| {
        Failure::new(
            Stage::Connect,
            format!("the proxy broke the connection ({})", describe(&error)),
        )
    };
    io.write_all(request.as_bytes()).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;
    let mut head = Vec::new();
    let mut interim = 0;
    loop {
        // Byte by byte: what follows the head belongs to the tunnel.
        head.push(io.read_u8().await.map_err(broken)?);
        let ends = [&b"\r\n\r\n"[..], b"\n\n", b"\n\r\n"];
        let whole = ends.iter().any(|end| head.ends_with(end));
        if !whole && interim + head.len() < PROXY_HEAD_LIMIT {
            continue;
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        const NOT_HTTP: &str = "the proxy does not answer as an HTTP proxy does";
        // The reason phrase is not shown: a proxy may echo the login in it.
        let (stage, reason) = match answer.parse(&head) {
            Ok(httparse::Status::Complete(_)) => match answer.code {
                Some(200..=299) => return Ok(io),
                Some(100..=199) => {
                    interim += head.len();
                    head.clear();
                    continue;
                }
                Some(407) => (
                    Stage::Proxy,
                    "the proxy wants a user and password, or refuses those in its URL (407)".into(),
                ),
                Some(code) => (
                    Stage::Connect,
                    format!("the proxy refused the tunnel ({code})"),
                ),
                None => (Stage::Connect, NOT_HTTP.into()),
            },
            _ => (Stage::Connect, NOT_HTTP.into()),
        };
        return Err(Failure::new(stage, reason));
    }
}

async fn socks5(
    endpoint: &Endpoint,
    proxy: &Proxy,
    remote_dns: bool,
    io: Io,
    resolver: &Resolver,
) -> Result<Io, Failure> {
    use tokio_socks::TargetAddr;
    let target = match &endpoint.host {
        Host::Ipv4(address) => TargetAddr::Ip(((*address), endpoint.port).into()),
        Host::Ipv6(address) => TargetAddr::Ip(((*address), endpoint.port).into()),
        Host::Domain(name) if remote_dns => TargetAddr::Domain(name.as_str().into(), endpoint.port),
        Host::Domain(name) => match resolver.look_up(name).await?.first() {
            Some(address) => TargetAddr::Ip((*address, endpoint.port).into()),
            None => {
                return Err(Failure::new(
                    Stage::Connect,
                    format!("the name {name} has no address"),
                ))
            }
        },
    };
    let stream = match &proxy.login {
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(
                io,
                target,
                user.expose(),
                password.expose(),
            )
            .await
        }
        None => Socks5Stream::connect_with_socket(io, target).await,
    };
    stream
        .map(Socks5Stream::into_inner)
        .map_err(|error| describe_socks(&error))
}

fn describe_socks(error: &tokio_socks::Error) -> Failure {
    use tokio_socks::Error as E;
    let (stage, why) = match error {
        E::Io(error) => {
            let why = describe(error);
            return Failure::new(
                Stage::Connect,
                format!("the proxy broke the connection ({why})"),
            );
        }
        E::PasswordAuthFailure(_) | E::NoAcceptableAuthMethods | E::UnknownAuthMethod => (
            Stage::Proxy,
            "it wants a user and password, or refuses those in its URL",
        ),
        E::AuthorizationRequired => (Stage::Proxy, "it wants a user and password"),
        E::InvalidAuthValues(_) => (Stage::Proxy, "SOCKS takes no such user or password"),
        E::ConnectionNotAllowedByRuleset => (Stage::Connect, "its rules forbid it"),
        E::NetworkUnreachable => (Stage::Connect, "it cannot reach the network"),
        E::HostUnreachable => (Stage::Connect, "it cannot reach the host"),
        E::ConnectionRefused => (Stage::Connect, "the host refused it"),
        E::TtlExpired => (Stage::Connect, "the host is too far away"),
        E::GeneralSocksServerFailure => (Stage::Connect, "it failed"),
        _ => (Stage::Connect, "it does not answer as a SOCKS5 proxy does"),
    };
    Failure::new(stage, format!("the proxy refused the connection: {why}"))
}

#[cfg(test)]
mod tests {
    use super::super::proxy::Proxies;
    use super::super::stream::socket;
    use super::*;
    use tokio::net::TcpListener;

    /// What comes of these bytes as a proxy's reply to CONNECT.
    fn tunnelled(reply: Vec<u8>) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = async {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(tcp.read_u8().await.unwrap());
                }
                // A client that has seen enough closes.
                let _ = tcp.write_all(&reply).await;
                let _ = tcp.shutdown().await;
            };
            let client = async {
                let endpoint = Endpoint::parse("https://localhost", false).unwrap();
                let Ok(Route::Proxy(proxy)) = Proxies::from_option("http://me:s3cr3t@proxy")
                    .unwrap()
                    .route(&endpoint)
                else {
                    panic!("no proxy")
                };
                let io = socket(TcpStream::connect(address).await.unwrap());
                tunnel(&endpoint, &proxy, io).await.map(drop)
            };
            tokio::join!(client, server).0
        })
    }

    #[test]
    fn what_a_proxy_replies() {
        const INTERIM: &str = "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n";
        const NO_PROXY: Result<(), (Stage, &str)> = Err((
            Stage::Connect,
            "the proxy does not answer as an HTTP proxy does",
        ));
        for (reply, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), Ok(())),
            ("HTTP/1.0 200 Connection established\n\n".to_owned(), Ok(())),
            ("HTTP/1.1 200 OK\nVia: x\n\r\n".to_owned(), Ok(())),
            (format!("{INTERIM}HTTP/1.1 200 OK\r\n\r\n"), Ok(())),
            (INTERIM.repeat(100_000), NO_PROXY),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), NO_PROXY),
            (
                "HTTP/1.1 407 bWU6czNjcjN0\r\n\r\n".to_owned(),
                Err((
                    Stage::Proxy,
                    "the proxy wants a user and password, or refuses those in its URL (407)",
                )),
            ),
            (
                "HTTP/1.1 403 No Basic bWU6czNjcjN0\r\n\r\n".to_owned(),
                Err((Stage::Connect, "the proxy refused the tunnel (403)")),
            ),
        ] {
            let shown: String = reply.chars().take(80).collect();
            let got = tunnelled(reply.into_bytes());
            let got = got.map_err(|failure| (failure.stage, failure.reason));
            let expected = expected.map_err(|(stage, reason)| (stage, reason.to_owned()));
            assert_eq!(got, expected, "{shown:?}");
        }
    }

    #[test]
    fn families_take_turns() {
        let addresses = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(
            interleave(addresses(&["::1", "::2", "::3", "1.1.1.1"])),
            addresses(&["::1", "1.1.1.1", "::2", "::3"])
        );
        assert_eq!(
            interleave(addresses(&["1.1.1.1", "::1"])),
            addresses(&["1.1.1.1", "::1"])
        );
        assert_eq!(interleave(Vec::new()), Vec::<IpAddr>::new());
    }
}
