//! Proxies: HTTP (tunnels and absolute form) and SOCKS 5. They connect only to this machine.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use tokio::io::{copy_bidirectional, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::h1::{Head, Incoming};
use crate::wire::{drain_briefly, Fate};
use crate::world::{ProxyStats, Shared};

/// SOCKS 5: methods, address types and replies.
const NO_AUTHENTICATION: u8 = 0x00;
const USER_AND_PASSWORD: u8 = 0x02;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 0x01;
const IPV4: u8 = 0x01;
const NAME: u8 = 0x03;
const IPV6: u8 = 0x04;
const SUCCEEDED: u8 = 0x00;
const NOT_ALLOWED: u8 = 0x02;
const REFUSED: u8 = 0x05;

/// One of the proxies.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// The proxy's name in the statistics.
    pub(crate) name: &'static str,
    pub(crate) shared: Arc<Shared>,
}

impl Proxy {
    fn count(&self, change: impl FnOnce(&mut ProxyStats)) {
        self.shared
            .count(|stats| change(stats.proxies.entry(self.name).or_default()));
    }

    /// Serves one connection of an HTTP proxy.
    pub(crate) async fn serve_http<S>(self, stream: S, fate: Fate)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut incoming = Incoming::new(stream);
        if self.http(&mut incoming).await.is_err() {
            // A connection that breaks behind the proxy is also reset for the client.
            fate.reset();
        }
    }

    /// Serves one connection of a SOCKS 5 proxy.
    pub(crate) async fn serve_socks5<S>(self, mut stream: S, fate: Fate)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.socks5(&mut stream).await.is_err() {
            fate.reset();
        }
    }

    async fn http<S>(&self, incoming: &mut Incoming<S>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let head = match incoming.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            Err(_) => return refuse(&mut incoming.stream, "400 Bad Request", "").await,
        };
        if !self.authorized(&head) {
            self.count(|counts| counts.unauthorized += 1);
            let challenge = "Proxy-Authenticate: Basic realm=\"standin\"\r\n";
            let status = "407 Proxy Authentication Required";
            return refuse(&mut incoming.stream, status, challenge).await;
        }
        let tunnel = head.method == "CONNECT";
        let upstream = match destination(&head) {
            Some(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await,
            None => {
                self.count(|counts| counts.denied += 1);
                return refuse(&mut incoming.stream, "403 Forbidden", "").await;
            }
        };
        let Ok(mut upstream) = upstream else {
            self.count(|counts| counts.denied += 1);
            return refuse(&mut incoming.stream, "502 Bad Gateway", "").await;
        };
        upstream.set_nodelay(true)?;
        if tunnel {
            self.count(|counts| counts.tunnels += 1);
            let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
            incoming.stream.write_all(established).await?;
            incoming.stream.flush().await?;
        } else {
            self.count(|counts| counts.forwarded += 1);
            upstream.write_all(&origin_form(&head)).await?;
        }
        upstream.write_all(&incoming.buffer).await?;
        copy_bidirectional(&mut incoming.stream, &mut upstream).await?;
        Ok(())
    }

    fn authorized(&self, head: &Head) -> bool {
        let settings = self.shared.settings();
        let Some(user) = settings.proxy_user else {
            return true;
        };
        let password = settings.proxy_password.unwrap_or_default();
        let expected = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        head.header("proxy-authorization") == Some(&expected)
    }

    async fn socks5<S>(&self, stream: &mut S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _version = stream.read_u8().await?;
        let methods = read_counted(stream).await?;
        let settings = self.shared.settings();
        let method = match settings.proxy_user {
            None => NO_AUTHENTICATION,
            Some(_) => USER_AND_PASSWORD,
        };
        if !methods.contains(&method) {
            self.count(|counts| counts.unauthorized += 1);
            return last_words(stream, &[5, NO_ACCEPTABLE_METHOD]).await;
        }
        stream.write_all(&[5, method]).await?;
        stream.flush().await?;
        if let Some(expected) = settings.proxy_user {
            let _version = stream.read_u8().await?;
            let user = read_counted(stream).await?;
            let password = read_counted(stream).await?;
            let expected_password = settings.proxy_password.unwrap_or_default();
            if user != expected.as_bytes() || password != expected_password.as_bytes() {
                self.count(|counts| counts.unauthorized += 1);
                return last_words(stream, &[1, 1]).await;
            }
            stream.write_all(&[1, 0]).await?;
            stream.flush().await?;
        }

        let mut request = [0; 4];
        stream.read_exact(&mut request).await?;
        let [_, command, _, kind] = request;
        let host = match kind {
            IPV4 => {
                let mut address = [0; 4];
                stream.read_exact(&mut address).await?;
                Ipv4Addr::from(address).to_string()
            }
            NAME => String::from_utf8_lossy(&read_counted(stream).await?).into_owned(),
            IPV6 => {
                let mut address = [0; 16];
                stream.read_exact(&mut address).await?;
                std::net::Ipv6Addr::from(address).to_string()
            }
            _ => String::new(),
        };
        let port = stream.read_u16().await?;
        if command != CONNECT || !is_local(&host) {
            self.count(|counts| counts.denied += 1);
            return last_words(stream, &socks5_reply(NOT_ALLOWED)).await;
        }
        let Ok(mut upstream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
            self.count(|counts| counts.denied += 1);
            return last_words(stream, &socks5_reply(REFUSED)).await;
        };
        upstream.set_nodelay(true)?;
        self.count(|counts| counts.tunnels += 1);
        stream.write_all(&socks5_reply(SUCCEEDED)).await?;
        stream.flush().await?;
        copy_bidirectional(stream, &mut upstream).await?;
        Ok(())
    }
}

/// A reply with the unspecified address, because clients do not use the address.
fn socks5_reply(reply: u8) -> [u8; 10] {
    [5, reply, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

/// Reads a length byte, and then that number of bytes.
async fn read_counted(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Sends these bytes and ends the connection in an orderly way.
async fn last_words<S>(stream: &mut S, bytes: &[u8]) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    drain_briefly(stream).await;
    Ok(())
}

async fn refuse<S>(stream: &mut S, status: &str, headers: &str) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    last_words(stream, answer.as_bytes()).await
}

fn is_local(host: &str) -> bool {
    ["127.0.0.1", "localhost", "::1", "[::1]"]
        .iter()
        .any(|name| host.eq_ignore_ascii_case(name))
}

/// The port on this machine that a request asks for.
fn destination(head: &Head) -> Option<u16> {
    let (authority, default) = match head.target.split_once("://") {
        Some(("http", rest)) => (rest.split('/').next()?, Some(80)),
        Some(_) => return None,
        None if head.method == "CONNECT" => (&*head.target, None),
        None => return None,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, default),
    };
    port.filter(|_| is_local(host))
}

/// The head for the origin server. To keep this simple a connection carries one request: the head
/// asks the origin to close, and the origin's answer announces that to the client.
fn origin_form(head: &Head) -> Vec<u8> {
    let path = head
        .target
        .splitn(4, '/')
        .nth(3)
        .map_or_else(|| "/".to_owned(), |path| format!("/{path}"));
    let mut text = format!("{} {path} HTTP/1.1\r\nConnection: close\r\n", head.method);
    for (name, value) in head.headers() {
        let hop_by_hop = name.eq_ignore_ascii_case("connection")
            || name.to_ascii_lowercase().starts_with("proxy-");
        if !hop_by_hop {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("\r\n");
    text.into_bytes()
}
