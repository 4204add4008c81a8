//! Ports on which connecting, the handshake or the first frames always fail.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::exchange::Exchange;
use crate::fault::{Fault, Stage, Then};
use crate::tls::Acceptors;
use crate::wire::{self, drain, drain_briefly, Wire};
use crate::world::Shared;
use crate::{h1, tls};

/// The fatal alert `protocol_version` of a server that supports TLS only up to 1.1.
const PROTOCOL_VERSION_ALERT: [u8; 7] = [0x15, 0x03, 0x02, 0x00, 0x02, 0x02, 0x46];

/// How long a connect may take before the listener's queue counts as full.
const QUEUE_PATIENCE: Duration = Duration::from_millis(100);

/// HTTP/2 frame types, flags and settings used here.
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const ACK: u8 = 0x1;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// Sockets that only have to stay open for their traps to work.
pub(crate) struct Fixtures {
    _refused: TcpSocket,
    _full: TcpListener,
    _fillers: Vec<TcpStream>,
}

/// What a trap does with a connection.
type Handler = Box<dyn Fn(Wire) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

fn handler<F, H>(handle: H) -> Handler
where
    F: Future<Output = ()> + Send + 'static,
    H: Fn(Wire) -> F + Send + 'static,
{
    Box::new(move |wire| Box::pin(handle(wire)))
}

/// Serves the API over TLS with this certificate.
fn api(acceptor: &TlsAcceptor, exchange: &Exchange) -> Handler {
    let acceptor = acceptor.clone();
    let exchange = exchange.clone();
    handler(move |wire| crate::serve_api(wire, Some(acceptor.clone()), exchange.clone()))
}

/// Does a correct handshake, and then calls `handle`.
fn after_handshake<F, H>(acceptor: &TlsAcceptor, shared: &Arc<Shared>, handle: H) -> Handler
where
    F: Future<Output = ()> + Send + 'static,
    H: Fn(tokio_rustls::server::TlsStream<Wire>) -> F + Clone + Send + Sync + 'static,
{
    let acceptor = acceptor.clone();
    let shared = Arc::clone(shared);
    handler(move |wire| {
        let (acceptor, shared, handle) = (acceptor.clone(), Arc::clone(&shared), handle.clone());
        async move {
            if let Some(stream) = tls::accept(&acceptor, wire, &shared).await {
                handle(stream).await;
            }
        }
    })
}

/// Opens every trap. Returns the URLs by name, and the sockets that must stay open.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    acceptors: &Acceptors,
) -> io::Result<(BTreeMap<&'static str, String>, Fixtures)> {
    let exchange = Exchange {
        shared: Arc::clone(shared),
        fixed: None,
    };
    let mid_answer = Exchange {
        shared: Arc::clone(shared),
        fixed: Some(Arc::new(Fault {
            stage: Some(Stage::HalfBody),
            then: Some(Then::Reset),
            ..Fault::default()
        })),
    };
    let plain = exchange.clone();
    let good = &acceptors.good;

    let mut urls = BTreeMap::new();
    for (name, scheme, handle) in [
        ("accept_stall", "http", handler(never_read)),
        ("accept_reset", "http", handler(reset)),
        ("accept_fin", "http", handler(fin)),
        ("ssh_banner", "http", handler(ssh_banner)),
        (
            "http_to_tls",
            "https",
            handler(move |wire| crate::serve_api(wire, None, plain.clone())),
        ),
        ("tls_stall", "https", handler(stall_handshake)),
        ("tls_garbage", "https", handler(answer_garbage)),
        ("tls_reset", "https", handler(reset_handshake)),
        ("tls_old", "https", handler(refuse_version)),
        ("tls_expired", "https", api(&acceptors.expired, &exchange)),
        (
            "tls_wrong_host",
            "https",
            api(&acceptors.wrong_host, &exchange),
        ),
        (
            "tls_self_signed",
            "https",
            api(&acceptors.self_signed, &exchange),
        ),
        (
            "tls_unknown_ca",
            "https",
            api(&acceptors.unknown_ca, &exchange),
        ),
        (
            "tls_reset_mid_answer",
            "https",
            after_handshake(&acceptors.good_h1, shared, move |stream| {
                let fate = stream.get_ref().0.fate();
                h1::serve(stream, fate, mid_answer.clone())
            }),
        ),
        (
            "h2_settings_flood",
            "https",
            after_handshake(good, shared, flood_settings),
        ),
        (
            "h2_window_zero",
            "https",
            after_handshake(good, shared, |stream| {
                speak_h2(stream, setting(INITIAL_WINDOW_SIZE, 0))
            }),
        ),
        (
            "h2_goaway",
            "https",
            after_handshake(good, shared, {
                // Some servers quote the refused request in the GOAWAY's debug data.
                let quoted = format!(
                    "not processed: /partner/deleteInstanceAccount/{}",
                    shared.token
                );
                move |stream| go_away(stream, quoted.clone())
            }),
        ),
        (
            "h2_never_opens",
            "https",
            after_handshake(good, shared, |stream| {
                speak_h2(stream, setting(MAX_CONCURRENT_STREAMS, 0))
            }),
        ),
    ] {
        let listener = wire::bind(0)?;
        urls.insert(name, url(scheme, listener.local_addr()?));
        wire::serve(listener, name, Arc::clone(shared), handle);
    }

    // A socket that is bound but does not listen: connecting is refused, and no other process can
    // take the port.
    let refused = TcpSocket::new_v4()?;
    refused.bind(([127, 0, 0, 1], 0).into())?;
    urls.insert("refused", url("http", refused.local_addr()?));

    let (full, fillers) = full_queue().await?;
    urls.insert("backlog", url("http", full.local_addr()?));

    let fixtures = Fixtures {
        _refused: refused,
        _full: full,
        _fillers: fillers,
    };
    Ok((urls, fixtures))
}

/// The URL of a listener. Over TLS it has a host name, as in the certificate.
pub(crate) fn url(scheme: &str, address: SocketAddr) -> String {
    if scheme == "https" {
        format!("https://localhost:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

/// A listener that never accepts and whose queue is full, so that connecting hangs.
async fn full_queue() -> io::Result<(TcpListener, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(0)?;
    let address = listener.local_addr()?;
    let mut fillers = Vec::new();
    while let Ok(filler) = tokio::time::timeout(QUEUE_PATIENCE, TcpStream::connect(address)).await {
        fillers.push(filler?);
    }
    Ok((listener, fillers))
}

async fn never_read(_wire: Wire) {
    std::future::pending().await
}

async fn reset(wire: Wire) {
    wire.fate().reset();
}

async fn fin(mut wire: Wire) {
    if wire.shutdown().await.is_ok() {
        drain_briefly(&mut wire).await;
    }
}

async fn ssh_banner(mut wire: Wire) {
    if wire.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.is_ok() {
        drain(&mut wire).await;
    }
}

/// Reads one TLS record, which contains the ClientHello.
async fn read_record(wire: &mut Wire) -> io::Result<()> {
    let mut header = [0; 5];
    wire.read_exact(&mut header).await?;
    let mut payload = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    wire.read_exact(&mut payload).await?;
    Ok(())
}

async fn stall_handshake(mut wire: Wire) {
    drain(&mut wire).await;
}

async fn answer_garbage(mut wire: Wire) {
    let garbage: Vec<u8> = (0..=255).rev().cycle().take(1000).collect();
    if read_record(&mut wire).await.is_ok() && wire.write_all(&garbage).await.is_ok() {
        fin(wire).await;
    }
}

async fn reset_handshake(mut wire: Wire) {
    if read_record(&mut wire).await.is_ok() {
        wire.fate().reset();
    }
}

async fn refuse_version(mut wire: Wire) {
    if read_record(&mut wire).await.is_ok() && wire.write_all(&PROTOCOL_VERSION_ALERT).await.is_ok()
    {
        fin(wire).await;
    }
}

/// An HTTP/2 frame on the connection itself.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    // All payloads in this file are far below 64 KiB, so the first byte of the length is 0.
    let length = (payload.len() as u16).to_be_bytes();
    let header = [0, length[0], length[1], kind, flags, 0, 0, 0, 0];
    [&header, payload].concat()
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
}

/// Sends an endless series of SETTINGS frames.
async fn flood_settings(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let block: Vec<u8> = (0..256)
        .flat_map(|n| frame(SETTINGS, 0, &setting(INITIAL_WINDOW_SIZE, 65_535 + n)))
        .collect();
    let flood = async { while writer.write_all(&block).await.is_ok() {} };
    // The acknowledgements must be read, otherwise the client would block and stop reading too.
    tokio::select! {
        () = flood => {}
        () = drain(&mut reader) => {}
    }
}

/// Speaks correct HTTP/2 with these settings, but never serves a request.
async fn speak_h2(stream: impl AsyncRead + AsyncWrite + Unpin, settings: Vec<u8>) {
    // An error means that the connection ended.
    let _ = try_speak_h2(stream, &settings).await;
}

/// Answers a connection's first request with a GOAWAY that says that no stream was processed.
async fn go_away(mut stream: impl AsyncRead + AsyncWrite + Unpin, quoted: String) {
    const NO_STREAM: [u8; 4] = [0; 4];
    const NO_ERROR: [u8; 4] = [0; 4];
    let payload = [&NO_STREAM[..], &NO_ERROR, quoted.as_bytes()].concat();
    let refuse = async {
        stream.write_all(&frame(SETTINGS, 0, &[])).await?;
        stream.flush().await?;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        loop {
            let mut header = [0; 9];
            stream.read_exact(&mut header).await?;
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            stream.read_exact(&mut vec![0; length as usize]).await?;
            if header[3] == HEADERS {
                break;
            }
        }
        stream.write_all(&frame(GOAWAY, 0, &payload)).await?;
        stream.shutdown().await
    };
    // An error means that the connection ended.
    let refused: io::Result<()> = refuse.await;
    if refused.is_ok() {
        drain_briefly(&mut stream).await;
    }
}

async fn try_speak_h2(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    settings: &[u8],
) -> io::Result<()> {
    stream.write_all(&frame(SETTINGS, 0, settings)).await?;
    stream.flush().await?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        // Pings are answered, because the trap imitates a server that is alive.
        let reply = match (header[3], header[4] & ACK) {
            (SETTINGS, 0) => frame(SETTINGS, ACK, &[]),
            (PING, 0) => frame(PING, ACK, &payload),
            _ => continue,
        };
        stream.write_all(&reply).await?;
        stream.flush().await?;
    }
}
