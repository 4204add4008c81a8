//! Each trap fails in the way that the README says.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use greenapi_standin::FIRST_ID;

use crate::client::*;

/// A connection that is silent for this long counts as hanging.
const MOMENT: Duration = Duration::from_millis(300);

#[test]
fn connecting_fails_or_hangs() {
    let standin = start();
    let connect = |trap: &str| {
        let address: SocketAddr = authority(standin.trap(trap)).parse().expect("an address");
        TcpStream::connect_timeout(&address, MOMENT).map(drop)
    };
    let refused = connect("refused").expect_err("a refusal");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let hung = connect("backlog").expect_err("a hang");
    assert_eq!(hung.kind(), ErrorKind::TimedOut);
}

#[test]
fn accepted_connections_go_wrong() {
    let standin = start();
    let ending = |trap: &str| read_ending(connect(standin.trap(trap)));
    assert_eq!(ending("accept_reset"), Ending::Reset(String::new()));
    assert_eq!(ending("accept_fin"), Ending::Fin(String::new()));
    assert_eq!(ending("accept_stall"), Ending::Open(String::new()));
    let banner = "SSH-2.0-OpenSSH_9.6\r\n".to_owned();
    assert_eq!(ending("ssh_banner"), Ending::Open(banner));
    assert_eq!(standin.stats().listeners["accept_stall"].accepted, 1);
    assert_eq!(standin.stats().connections.accepted, 0);
}

#[test]
fn valid_certificates_are_accepted() {
    let standin = start();
    let endpoints = standin.endpoints();
    let both = ["h2", "http/1.1"];
    for (url, protocol) in [
        (&endpoints.https, &b"h2"[..]),
        (&endpoints.https_h1, &b"http/1.1"[..]),
    ] {
        let stream = connect_tls(&standin, url, &both).expect("a handshake");
        assert_eq!(stream.conn.alpn_protocol(), Some(protocol));
    }
    for (n, url) in [&endpoints.https, &endpoints.https_h1]
        .into_iter()
        .enumerate()
    {
        let mut stream = connect_tls(&standin, url, &[]).expect("a handshake");
        let request = deletion(&standin, FIRST_ID + n as i64);
        stream.write_all(request.as_bytes()).expect("a connection");
        assert_eq!(read_reply(&mut stream).expect("an answer").status, 200);
    }
    assert_eq!(standin.ledger().len(), 2);
    assert_eq!(standin.stats().tls.versions["TLSv1_3"], 4);
}

#[test]
fn handshakes_go_wrong() {
    let standin = start();
    for (trap, expected) in [
        ("tls_expired", "Expired"),
        ("tls_wrong_host", "NotValidForName"),
        ("tls_self_signed", "UnknownIssuer"),
        ("tls_unknown_ca", "UnknownIssuer"),
        ("tls_old", "ProtocolVersion"),
        ("tls_garbage", "InvalidMessage"),
        ("http_to_tls", "InvalidMessage"),
        ("tls_reset", "ConnectionReset"),
    ] {
        let Err(error) = connect_tls(&standin, standin.trap(trap), &["http/1.1"]) else {
            panic!("the handshake with {trap} succeeded");
        };
        let text = format!("{error:?}");
        assert!(text.contains(expected), "{trap}: {text}");
    }

    let mut stream = connect(standin.trap("tls_stall"));
    stream
        .write_all(b"\x16\x03\x01\0\x01\x01")
        .expect("a connection");
    assert_eq!(read_ending(stream), Ending::Open(String::new()));
}

#[test]
fn a_tls_connection_is_reset_in_the_middle_of_the_answer() {
    let standin = start();
    let url = standin.trap("tls_reset_mid_answer");
    let mut stream = connect_tls(&standin, url, &["http/1.1"]).expect("a handshake");
    let request = deletion(&standin, FIRST_ID);
    stream.write_all(request.as_bytes()).expect("a connection");
    let error = read_reply(&mut stream).expect_err("half an answer");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(standin.ledger().len(), 1);
}

/// Reads up to `most` frames while they come. Returns their types and payloads.
fn frames(stream: &mut TlsClient, most: usize) -> Vec<(u8, Vec<u8>)> {
    stream
        .sock
        .set_read_timeout(Some(MOMENT))
        .expect("a socket");
    let mut frames = Vec::new();
    let mut header = [0; 9];
    while frames.len() < most && stream.read_exact(&mut header).is_ok() {
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).expect("a whole frame");
        frames.push((header[3], payload));
    }
    frames
}

#[test]
fn http2_servers_that_never_serve() {
    let standin = start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    for (trap, setting) in [("h2_window_zero", 4), ("h2_never_opens", 3)] {
        let mut stream = connect_tls(&standin, standin.trap(trap), &["h2"]).expect("a handshake");
        stream.write_all(preface).expect("a connection");
        stream.write_all(ping).expect("a connection");
        let expected = [
            (4, vec![0, setting, 0, 0, 0, 0]),
            (4, Vec::new()),
            (6, b"pingpong".to_vec()),
        ];
        assert_eq!(frames(&mut stream, 100), expected, "{trap}");
    }

    let url = standin.trap("h2_settings_flood");
    let mut stream = connect_tls(&standin, url, &["h2"]).expect("a handshake");
    stream.write_all(preface).expect("a connection");
    let flood = frames(&mut stream, 10_000);
    assert_eq!(flood.len(), 10_000);
    assert!(flood.iter().all(|(kind, _)| *kind == 4));
}
