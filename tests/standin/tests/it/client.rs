//! A minimal client that sends exactly the given bytes and shows the whole answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use greenapi_standin::{Config, Fault, Rule, Standin, Target};
use rustls::pki_types::{pem::PemObject, CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A limit that no successful test reaches.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn start() -> Standin {
    Standin::start(Config::default()).expect("the stand-in starts")
}

/// A stand-in that applies this fault to every deletion.
pub fn start_with(fault: Fault) -> Standin {
    let standin = start();
    standin.add_faults([rule(fault)]);
    standin
}

pub fn rule(fault: Fault) -> Rule {
    Rule {
        method: Target::Delete,
        fault,
        ..Rule::default()
    }
}

/// The `host:port` of a URL.
pub fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// Connects to the host and port of a URL.
pub fn connect(url: &str) -> TcpStream {
    // All listeners are on 127.0.0.1, but localhost may resolve to ::1 first.
    let address = authority(url).replace("localhost", "127.0.0.1");
    let stream = TcpStream::connect(address).expect("the stand-in accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Trusts only the stand-in's CA.
pub fn tls_config(standin: &Standin, alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(&standin.endpoints().ca_file).expect("a PEM file");
    roots.add(ca).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

pub type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// Connects over TLS and completes the handshake.
pub fn connect_tls(standin: &Standin, url: &str, alpn: &[&str]) -> io::Result<TlsClient> {
    let name = ServerName::try_from("localhost").expect("a name");
    let config = Arc::new(tls_config(standin, alpn));
    let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = connect(url);
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// A deletion request as the documentation shows it.
pub fn deletion(standin: &Standin, id: i64) -> String {
    let token = &standin.endpoints().token;
    let body = format!("{{\"idInstance\": {id}}}");
    post(&format!("/partner/deleteInstanceAccount/{token}"), &body)
}

pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A parsed answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// Reads one answer, delimited by its length or its chunks.
pub fn read_reply(stream: &mut impl Read) -> io::Result<Reply> {
    let head = read_until(stream, b"\r\n\r\n")?;
    let mut reply = Reply {
        status: head[9..12].parse().expect("a status line"),
        head,
        body: String::new(),
    };
    if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let line = read_until(stream, b"\r\n")?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            let chunk = read_exactly(stream, size)?;
            read_exactly(stream, 2)?;
            if size == 0 {
                return Ok(reply);
            }
            reply.body.push_str(&chunk);
        }
    }
    let length = reply.header("content-length").map_or(0, |length| {
        length.parse().expect("a length that is a number")
    });
    reply.body = read_exactly(stream, length)?;
    Ok(reply)
}

fn read_until(stream: &mut impl Read, end: &[u8]) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_exactly(stream: &mut impl Read, length: usize) -> io::Result<String> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sends a request on a new connection and reads its answer.
pub fn ask(url: &str, request: &str) -> Reply {
    let mut stream = connect(url);
    stream.write_all(request.as_bytes()).expect("a connection");
    read_reply(&mut stream).expect("an answer")
}

/// Deletes an instance over plain HTTP.
pub fn delete(standin: &Standin, id: i64) -> Reply {
    ask(&standin.endpoints().http, &deletion(standin, id))
}

/// How a connection ended, and all bytes that came before.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    Fin(String),
    Reset(String),
    /// The connection stayed open, but nothing more came.
    Open(String),
}

/// Sends a request on a new connection and reads until it ends.
pub fn ask_raw(url: &str, request: &str) -> Ending {
    let mut stream = connect(url);
    stream.write_all(request.as_bytes()).expect("a connection");
    read_ending(stream)
}

pub fn read_ending(mut stream: TcpStream) -> Ending {
    let moment = Duration::from_millis(300);
    stream.set_read_timeout(Some(moment)).expect("a socket");
    let mut bytes = Vec::new();
    let result = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match result.map_err(|error| error.kind()) {
        Ok(_) => Ending::Fin(text),
        Err(io::ErrorKind::ConnectionReset) => Ending::Reset(text),
        Err(io::ErrorKind::WouldBlock) => Ending::Open(text),
        Err(kind) => panic!("the connection ended with {kind}"),
    }
}
