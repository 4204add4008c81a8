//! The proxies and the relay.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use greenapi_standin::{Standin, FIRST_ID};

use crate::client::*;

/// Sends a deletion on a connection to the API. Returns whether it was carried out.
fn deletes(standin: &Standin, mut stream: TcpStream) -> bool {
    let before = standin.ledger().len();
    let id = FIRST_ID + before as i64;
    let request = deletion(standin, id);
    stream.write_all(request.as_bytes()).expect("a connection");
    read_reply(&mut stream).is_ok_and(|reply| reply.status == 200)
        && standin.ledger().len() == before + 1
}

fn require_password(standin: &Standin) {
    standin.set(|settings| {
        settings.proxy_user = Some("user".to_owned());
        settings.proxy_password = Some("pass".to_owned());
    });
}

#[test]
fn tunnels_through_the_http_proxy() {
    let standin = start();
    let target = authority(&standin.endpoints().http);
    let open = |target: &str, extra: &str| {
        let mut stream = connect(&standin.endpoints().proxy_http);
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{extra}\r\n");
        stream.write_all(request.as_bytes()).expect("a connection");
        let reply = read_reply(&mut stream).expect("an answer");
        (reply.status, stream)
    };
    let (status, stream) = open(target, "");
    assert_eq!(status, 200);
    assert!(deletes(&standin, stream));
    assert_eq!(open("example.test:443", "").0, 403);
    assert_eq!(open(authority(standin.trap("refused")), "").0, 502);

    require_password(&standin);
    assert_eq!(open(target, "").0, 407);
    let (status, stream) = open(target, "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n");
    assert_eq!(status, 200);
    assert!(deletes(&standin, stream));
    let counts = standin.stats().proxies["proxy_http"];
    assert_eq!(
        (counts.tunnels, counts.unauthorized, counts.denied),
        (2, 1, 2)
    );
}

#[test]
fn requests_in_absolute_form_are_forwarded() {
    let standin = start();
    let absolute = deletion(&standin, FIRST_ID).replacen(
        "POST /",
        &format!("POST {}/", standin.endpoints().http),
        1,
    );
    let mut stream = connect(&standin.endpoints().proxy_http);
    stream.write_all(absolute.as_bytes()).expect("a connection");
    let reply = read_reply(&mut stream).expect("an answer");
    assert_eq!(reply.status, 200);
    assert_eq!(standin.ledger().len(), 1);
    assert_eq!(standin.stats().proxies["proxy_http"].forwarded, 1);
    assert!(standin.stats().last_head.starts_with("POST /partner/"));
}

#[test]
fn tunnels_through_the_proxy_behind_tls() {
    let standin = start();
    let url = &standin.endpoints().proxy_https;
    let mut stream = connect_tls(&standin, url, &["http/1.1"]).expect("a handshake");
    let target = authority(&standin.endpoints().http);
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a connection");
    assert_eq!(read_reply(&mut stream).expect("an answer").status, 200);
    let request = deletion(&standin, FIRST_ID);
    stream.write_all(request.as_bytes()).expect("a connection");
    assert_eq!(read_reply(&mut stream).expect("an answer").status, 200);
    assert_eq!(standin.stats().proxies["proxy_https"].tunnels, 1);
}

#[test]
fn tunnels_through_the_socks_proxy() {
    let standin = start();
    let target: std::net::SocketAddr = authority(&standin.endpoints().http)
        .parse()
        .expect("an address");
    // A client may send the next message before it has the reply to the one before.
    let open = |greeting: &[u8], host: &str, replies: usize| {
        let mut stream = connect(&standin.endpoints().proxy_socks5);
        let length = [host.len() as u8];
        let request = [
            greeting,
            &[5, 1, 0, 3],
            &length,
            host.as_bytes(),
            &target.port().to_be_bytes(),
        ]
        .concat();
        stream.write_all(&request).expect("a connection");
        let mut reply = vec![0; replies];
        stream.read_exact(&mut reply).expect("replies");
        (reply, stream)
    };
    let open_to_all = &[5, 1, 0][..];
    let (reply, stream) = open(open_to_all, "localhost", 12);
    assert_eq!(reply[..4], [5, 0, 5, 0]);
    assert!(deletes(&standin, stream));
    let (reply, _) = open(open_to_all, "example.test", 12);
    assert_eq!(reply[..4], [5, 0, 5, 2]);

    require_password(&standin);
    assert_eq!(open(open_to_all, "localhost", 2).0, [5, 0xff]);
    let wrong = b"\x05\x01\x02\x01\x04user\x04word";
    assert_eq!(open(wrong, "localhost", 4).0, [5, 2, 1, 1]);
    let right = b"\x05\x01\x02\x01\x04user\x04pass";
    let (reply, stream) = open(right, "localhost", 14);
    assert_eq!(reply[..6], [5, 2, 1, 0, 5, 0]);
    assert!(deletes(&standin, stream));
    let counts = standin.stats().proxies["proxy_socks5"];
    assert_eq!(
        (counts.tunnels, counts.unauthorized, counts.denied),
        (2, 2, 1)
    );
}

#[test]
fn the_relay_delays_without_losing_anything() {
    let standin = start();
    let target = authority(&standin.endpoints().http)
        .parse()
        .expect("an address");
    let delay = Duration::from_millis(40);
    let relay = standin.relay(target, delay).expect("a relay");
    let begun = Instant::now();
    assert!(deletes(&standin, connect(&relay.to_string())));
    assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());

    // The relay limits no bandwidth: several megabytes take about as long as one byte.
    standin.fill(1, 20_000, None);
    let path = format!("/partner/getInstances/{}", standin.endpoints().token);
    let request = get(&path).replace("Host", "Connection: close\r\nHost");
    let mut stream = connect(&relay.to_string());
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut list = Vec::new();
    stream.read_to_end(&mut list).expect("the list");
    assert!(list.len() > 5_000_000 && list.ends_with(b"]\r\n0\r\n\r\n"));

    let elsewhere = "192.0.2.1:80".parse().expect("an address");
    assert!(standin.relay(elsewhere, delay).is_err());
}
