//! One request and its answer as a stream of a shared HTTP/2 connection, by the h2 crate.
//!
//! Between h2 and the socket stands [`Observed`], because h2 does not report what the outcome of a
//! call rests on: whether any byte of an answer has come on a stream, whether any byte has left since
//! a request was begun, and whether the server sends frames while no request is open.

use std::collections::HashMap;
use std::future::{poll_fn, Future};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{ready, Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::reasons::describe_http2;
use super::stream::Io;
use super::{CallState, Ended, Request, Response, ResponseBody, KEEP};
use crate::answer::BODY_LIMIT;
use crate::failure::{Failure, Stage};
use crate::sync::lock;

/// Bytes that the heads of one answer, interim ones (1xx) included, may have together.
const HEAD_LIMIT: usize = 64 * 1024;
/// From here on h2 itself refuses a head, and reports it like any malformed one. Between the two
/// limits a head comes whole, so that its result can say what is wrong with it.
const H2_HEAD_LIMIT: u32 = 4 * HEAD_LIMIT as u32;
/// What each head counts at least, as its frames are work too.
const HEAD_COST: usize = 64;
/// Before the server has sent its limit of streams, it may refuse more than one.
const FIRST_STREAMS: usize = 1;
/// Frames that a server may send while no stream is open: the last ones of closed streams, and a
/// PING now and then.
const CHATTER_LIMIT: u32 = 100;

/// An open connection, shared by as many requests as the server allows.
pub struct Connection {
    send: SendRequest<Bytes>,
    streams: Arc<Streams>,
    task: AbortHandle,
    /// Whether the connection has served a request before.
    kept: AtomicBool,
    /// Whether the server answered HTTP_1_1_REQUIRED.
    wants_http1: AtomicBool,
    pub made: Instant,
    /// When a stream was last opened or closed.
    used: Mutex<Instant>,
}

/// The open streams. h2 would accept any number and queue them itself, but does not report whether a
/// queued request has left.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    /// Whether the connection takes no more requests.
    closed: AtomicBool,
    changed: Notify,
    /// Of each stream, whether a byte of an answer has come.
    answered: Mutex<HashMap<u32, bool>>,
    /// Frames that came since the last stream was closed.
    chatter: AtomicU32,
    /// The server ended the handshake for want of a client certificate.
    refused_client: AtomicBool,
    /// The last stream whose head was longer than [`HEAD_LIMIT`], compressed; 0 if none was.
    long_head: AtomicU32,
    /// Bytes that reached the kernel.
    written: AtomicU64,
}

struct StreamPermit<'a>(&'a Streams);

impl Drop for StreamPermit<'_> {
    fn drop(&mut self) {
        self.0.chatter.store(0, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// A stream whose answer is awaited.
struct Awaited<'a> {
    streams: &'a Streams,
    id: u32,
}

impl<'a> Awaited<'a> {
    fn new(streams: &'a Streams, id: u32) -> Self {
        lock(&streams.answered).insert(id, false);
        Self { streams, id }
    }

    /// Whether a byte of the answer has come.
    fn has_begun(&self) -> bool {
        lock(&self.streams.answered)
            .get(&self.id)
            .is_none_or(|begun| *begun)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        lock(&self.streams.answered).remove(&self.id);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A server that does not read would keep a polite end waiting for ever.
        self.task.abort();
    }
}

impl Connection {
    pub async fn new(io: Io) -> Result<Self, Failure> {
        let streams = Arc::new(Streams::default());
        let observed = Observed {
            io,
            streams: streams.clone(),
            heard: false,
            head: [0; 9],
            have: 0,
            skip: 0,
            block: 0,
        };
        let (send, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .max_header_list_size(H2_HEAD_LIMIT)
            .initial_max_send_streams(FIRST_STREAMS)
            .handshake::<_, Bytes>(observed)
            .await
            .map_err(|error| {
                let why = describe_http2(&error);
                Failure::new(
                    Stage::Handshake,
                    format!("HTTP/2 could not be begun: {why}"),
                )
            })?;
        let task = tokio::spawn({
            let streams = streams.clone();
            async move {
                let mut allowed = FIRST_STREAMS;
                // Each stream gets the error with which the connection ends.
                let _ = poll_fn(|cx| {
                    let ended = Pin::new(&mut connection).poll(cx);
                    let now = connection.max_concurrent_send_streams();
                    if now != std::mem::replace(&mut allowed, now) {
                        streams.changed.notify_waiters();
                    }
                    ended
                })
                .await;
                streams.closed.store(true, Ordering::Relaxed);
                streams.changed.notify_waiters();
            }
        });
        Ok(Self {
            send,
            streams,
            task: task.abort_handle(),
            kept: AtomicBool::new(false),
            wants_http1: AtomicBool::new(false),
            made: Instant::now(),
            used: Mutex::new(Instant::now()),
        })
    }

    /// Whether it can take another request.
    pub fn is_usable(&self) -> bool {
        let at_rest = self.streams.open.load(Ordering::Relaxed) == 0;
        // A NAT or firewall on the way may have dropped the connection.
        let too_old = at_rest && lock(&self.used).elapsed() > KEEP;
        !too_old && !self.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.streams.closed.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    pub async fn exchange(&self, request: &Request<'_>, call: &impl CallState) -> Ended {
        const CLOSED: &str = "closed by the server";
        let Some(_permit) = self.permit().await else {
            return Ended::Unsent(CLOSED.into());
        };
        let mut send = self.send.clone();
        if let Err(error) = poll_fn(|cx| send.poll_ready(cx)).await {
            self.streams.closed.store(true, Ordering::Relaxed);
            return Ended::Unsent(describe_http2(&error));
        }
        let Ok(head) = request.http2_head() else {
            return Ended::Unsent("this URL cannot be said in HTTP/2".into());
        };
        let kept = self.kept.load(Ordering::Relaxed);
        if !call.begin_send() {
            return Ended::Unsent("cancelled".into());
        }
        let written = self.streams.written.load(Ordering::Relaxed);
        let (mut response, mut stream) = match send.send_request(head, false) {
            Ok(begun) => begun,
            Err(error) => {
                call.retract();
                return Ended::Unsent(describe_http2(&error));
            }
        };
        let awaited = Awaited::new(&self.streams, response.stream_id().as_u32());
        self.touch();
        // If the body cannot be sent, reading the answer gives the reason.
        let _ = stream.send_data(Bytes::copy_from_slice(request.body()), true);
        let error = match read(&mut response).await {
            Ok(answer) => {
                self.kept.store(true, Ordering::Relaxed);
                self.touch();
                let reusable = answer.http_status != 0;
                return Ended::Answered(answer, reusable);
            }
            Err(error) => error,
        };
        if error.is_library() && self.streams.long_head.load(Ordering::Relaxed) == awaited.id {
            return Ended::Answered(Response::not_http(ResponseBody::HEAD_TOO_LONG), false);
        }
        let reason = describe_http2(&error);
        let begun = awaited.has_begun();
        let goes_away = error.is_remote() && error.is_go_away();
        if goes_away {
            self.streams.closed.store(true, Ordering::Relaxed);
        }
        if error.is_remote() && error.reason() == Some(Reason::HTTP_1_1_REQUIRED) {
            self.wants_http1.store(true, Ordering::Relaxed);
        }
        if self.streams.refused_client.load(Ordering::Relaxed) {
            return Ended::ClientRefused(reason);
        }
        if error.is_io() {
            // From here on nothing more can leave, so the count is final.
            self.task.abort();
            if self.streams.written.load(Ordering::Relaxed) == written {
                call.retract();
                return Ended::Unsent(reason);
            }
        }
        // By RFC 9113, 6.8 and 8.7, the server has not processed the request: h2 reports a GOAWAY only
        // to streams above its last one. A server that has begun to answer has processed the request.
        let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
        if (goes_away || refused) && !begun {
            return Ended::Unprocessed(reason);
        }
        Ended::Lost {
            reason,
            again_at_once: self.wants_http1()
                || kept && !begun && (error.is_io() || error.is_go_away()),
        }
    }

    /// Waits until the server allows another stream; nothing once the connection is closed.
    async fn permit(&self) -> Option<StreamPermit<'_>> {
        loop {
            let changed = self.streams.changed.notified();
            if self.is_closed() {
                return None;
            }
            let allowed = self.send.current_max_send_streams();
            let open = self.streams.open.load(Ordering::Relaxed);
            if open < allowed {
                self.streams.open.store(open + 1, Ordering::Relaxed);
                if open + 1 < allowed {
                    // The limit may have been raised since the last notification.
                    self.streams.changed.notify_one();
                }
                return Some(StreamPermit(&self.streams));
            }
            changed.await;
        }
    }

    pub fn was_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    pub fn wants_http1(&self) -> bool {
        self.wants_http1.load(Ordering::Relaxed)
    }
}

async fn read(response: &mut ResponseFuture) -> Result<Response, h2::Error> {
    let mut heads = 0;
    let flooded = poll_fn(|cx| loop {
        match ready!(response.poll_informational(cx)) {
            Some(interim) => heads += size_of_head(interim?.headers()),
            None => return Poll::Ready(Ok::<_, h2::Error>(false)),
        }
        if heads > HEAD_LIMIT {
            return Poll::Ready(Ok(true));
        }
    })
    .await?;
    if flooded {
        const FLOOD: &str = "it sends interim answers without end";
        return Ok(Response::not_http(FLOOD));
    }
    let (head, stream) = response.await?.into_parts();
    let body = match heads + size_of_head(&head.headers) > HEAD_LIMIT {
        true => ResponseBody::Unreadable(ResponseBody::HEAD_TOO_LONG),
        false => read_body(stream).await?,
    };
    Ok(Response {
        http_status: head.status.as_u16(),
        retry_after: head
            .headers
            .get(http::header::RETRY_AFTER)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body,
        kept: false,
    })
}

async fn read_body(mut stream: h2::RecvStream) -> Result<ResponseBody, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        if body.len() + data.len() > BODY_LIMIT {
            return Ok(ResponseBody::TOO_LARGE);
        }
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok(ResponseBody::Whole(body))
}

fn size_of_head(headers: &http::HeaderMap) -> usize {
    let lines = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    lines.sum::<usize>() + HEAD_COST
}

/// A connection that observes incoming frames.
struct Observed {
    io: Io,
    streams: Arc<Streams>,
    /// Whether the server has sent any byte.
    heard: bool,
    /// The head of the incoming frame, as far as it has come.
    head: [u8; 9],
    have: usize,
    /// Bytes of its payload still to come.
    skip: usize,
    /// Bytes of the last head, HEADERS and CONTINUATION frames together.
    block: usize,
}

impl Observed {
    /// After each step that may write: TLS keeps some bytes until a later one, and an error does not
    /// mean that none left.
    fn count(&self) {
        let written = self.io.written();
        self.streams.written.store(written, Ordering::Relaxed);
    }

    fn observe(&mut self, mut bytes: &[u8]) {
        self.heard |= !bytes.is_empty();
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < self.head.len() {
                return;
            }
            self.have = 0;
            self.frame();
        }
    }

    fn frame(&mut self) {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const CONTINUATION: u8 = 9;
        let [a, b, c, kind, _, stream @ ..] = self.head;
        let id = u32::from_be_bytes(stream) & 0x7fff_ffff;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        let streams = &self.streams;
        match kind {
            HEADERS => self.block = self.skip,
            CONTINUATION => self.block += self.skip,
            _ => {}
        }
        if self.block > HEAD_LIMIT {
            streams.long_head.store(id, Ordering::Relaxed);
            self.block = 0;
        }
        if let DATA | HEADERS = kind {
            if let Some(begun) = lock(&streams.answered).get_mut(&id) {
                *begun = true;
            }
        }
        if streams.open.load(Ordering::Relaxed) == 0 {
            streams.chatter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if let Err(error) = ready!(Pin::new(&mut this.io).poll_read(cx, buffer)) {
            // A server that has sent HTTP/2 frames had completed the handshake.
            if !this.heard && this.io.refuses_client(&error) {
                this.streams.refused_client.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(Err(error));
        }
        this.observe(&buffer.filled()[before..]);
        if this.streams.chatter.load(Ordering::Relaxed) > CHATTER_LIMIT {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.count();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.count();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.io).poll_shutdown(cx);
        self.count();
        shut_down
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::NeverCancelled;
    use super::super::{stream, RequestTemplate};
    use super::*;
    use crate::endpoint::Endpoint;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const END_HEADERS: u8 = 4;
    const END_STREAM: u8 = 1;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [
            &length[1..],
            &[kind, flags],
            &stream.to_be_bytes()[..],
            payload,
        ]
        .concat()
    }

    fn goaway(last: u32, reason: Reason, debug: &[u8]) -> Vec<u8> {
        let reason = u32::from(reason).to_be_bytes();
        let payload = [&last.to_be_bytes()[..], &reason, debug].concat();
        frame(GOAWAY, 0, 0, &payload)
    }

    fn reset(stream: u32, reason: Reason) -> Vec<u8> {
        frame(3, 0, stream, &u32::from(reason).to_be_bytes())
    }

    /// `:status: 200`, out of the static table.
    fn head(stream: u32) -> Vec<u8> {
        frame(1, END_HEADERS, stream, &[0x88])
    }

    /// A head of so many frames of 15 KiB.
    fn long_head(stream: u32, frames: usize) -> Vec<u8> {
        // A literal without indexing: x, and 100 bytes.
        let lines = [b"\x00\x01x\x64".as_slice(), &[b'a'; 100]].concat();
        let lines = lines.repeat(150);
        let first = frame(1, 0, stream, &[b"\x88".as_slice(), &lines].concat());
        let others = (1..frames).map(|one| {
            let last = u8::from(one + 1 == frames) * END_HEADERS;
            frame(9, last, stream, &lines)
        });
        std::iter::once(first).chain(others).flatten().collect()
    }

    fn early_hints(stream: u32) -> Vec<u8> {
        frame(1, END_HEADERS, stream, b"\x08\x03103")
    }

    fn answer(stream: u32) -> Vec<u8> {
        [head(stream), frame(0, END_STREAM, stream, b"{}")].concat()
    }

    /// A server of frames: it writes them as they stand.
    struct Server(TcpStream);

    impl Server {
        async fn send(&mut self, frames: &[Vec<u8>]) {
            // A client that has seen enough may have closed.
            let _ = self.0.write_all(&frames.concat()).await;
        }

        /// The kind and the stream of the next frame; nothing at the end.
        async fn frame(&mut self) -> Option<(u8, u32)> {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [a, b, c, kind, _, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((kind, u32::from_be_bytes(stream)))
        }

        /// The stream of the next request.
        async fn request(&mut self) -> Option<u32> {
            loop {
                if let (1, stream) = self.frame().await? {
                    return Some(stream);
                }
            }
        }
    }

    /// Runs a client against a server that has sent its `settings`.
    fn run<C, S, T>(
        settings: Option<&[u8]>,
        client: impl FnOnce(Arc<Connection>) -> C,
        server: impl FnOnce(Server) -> S,
    ) -> T
    where
        C: Future<Output = T>,
        S: Future<Output: Into<Option<Server>>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = async {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tcp.read_exact(&mut [0; 24]).await.unwrap();
                if let Some(settings) = settings {
                    let frame = frame(SETTINGS, 0, 0, settings);
                    tcp.write_all(&frame).await.unwrap();
                }
                let Some(Server(mut tcp)) = server(Server(tcp)).await.into() else {
                    return;
                };
                // What was sent has to arrive: a reset would overtake it.
                let _ = tcp.shutdown().await;
                while tcp.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            };
            let client = async {
                let tcp = TcpStream::connect(address).await.unwrap();
                match Connection::new(stream::socket(tcp)).await {
                    Ok(connection) => client(Arc::new(connection)).await,
                    Err(failure) => panic!("{failure:?}"),
                }
            };
            tokio::join!(client, server).0
        })
    }

    async fn exchange(connection: &Connection) -> Ended {
        let endpoint = Endpoint::parse("https://localhost", false).unwrap();
        let template = RequestTemplate::new(&endpoint, "/secret-path".into(), "me");
        let request = template.request(b"{}");
        connection.exchange(&request, &NeverCancelled).await
    }

    fn show(ended: &Ended) -> String {
        match ended {
            Ended::Answered(answer, reusable) => {
                let reason = match answer.body {
                    ResponseBody::Unreadable(reason) => format!(", {reason}"),
                    _ => String::new(),
                };
                format!("answered {} {reusable}{reason}", answer.http_status)
            }
            Ended::Unsent(reason) => format!("unsent: {reason}"),
            Ended::Unprocessed(reason) => format!("unprocessed: {reason}"),
            Ended::ClientRefused(reason) => format!("client refused: {reason}"),
            Ended::Lost { reason, .. } => format!("lost: {reason}"),
        }
    }

    /// What a server sends in the place of an answer, and how that ends the request.
    #[test]
    fn table() {
        type Script = fn(u32) -> Vec<Vec<u8>>;
        const QUOTE: &[u8] = b"no /secret-path here";
        #[rustfmt::skip]
        let rows: &[(&str, Script, &str)] = &[
            ("an answer", |id| vec![answer(id)], "answered 200 true"),
            ("hints, then an answer", |id| vec![early_hints(id), answer(id)], "answered 200 true"),
            ("a GOAWAY below it", |_| vec![goaway(0, Reason::NO_ERROR, QUOTE)], "unprocessed: HTTP/2 GOAWAY, NO_ERROR"),
            ("a GOAWAY that covers it", |id| vec![goaway(id, Reason::INTERNAL_ERROR, QUOTE)], "lost: closed by the server"),
            ("REFUSED_STREAM", |id| vec![reset(id, Reason::REFUSED_STREAM)], "unprocessed: HTTP/2 RST_STREAM, REFUSED_STREAM"),
            ("another reset", |id| vec![reset(id, Reason::INTERNAL_ERROR)], "lost: HTTP/2 RST_STREAM, INTERNAL_ERROR"),
            ("a reset of no known kind", |id| vec![reset(id, 77.into())], "lost: HTTP/2 RST_STREAM, an unknown reason"),
            // After a byte of an answer nobody knows.
            ("hints, then REFUSED_STREAM", |id| vec![early_hints(id), reset(id, Reason::REFUSED_STREAM)], "lost: HTTP/2 RST_STREAM, REFUSED_STREAM"),
            ("a head, then REFUSED_STREAM", |id| vec![head(id), reset(id, Reason::REFUSED_STREAM)], "lost: HTTP/2 RST_STREAM, REFUSED_STREAM"),
            ("hints, then a GOAWAY below it", |id| vec![early_hints(id), goaway(0, Reason::NO_ERROR, QUOTE)], "lost: HTTP/2 GOAWAY, NO_ERROR"),
            ("a head, then a GOAWAY below it", |id| vec![head(id), goaway(0, Reason::NO_ERROR, QUOTE)], "lost: HTTP/2 GOAWAY, NO_ERROR"),
            ("half a head, then a GOAWAY", |id| vec![frame(1, 0, id, &[0x88]), frame(9, END_HEADERS, id, &[]), goaway(0, Reason::NO_ERROR, QUOTE)], "lost: HTTP/2 GOAWAY, NO_ERROR"),
            ("an HTTP/1.1 answer", |_| vec![b"HTTP/1.1 400 Bad /secret-path\r\n\r\n".to_vec()], "lost: the server broke the rules of HTTP/2, FRAME_SIZE_ERROR"),
            ("hints without end", |id| vec![early_hints(id); 10_000], "answered 0 false, it sends interim answers without end"),
            ("a head of 45 KiB", |id| vec![long_head(id, 3), frame(0, END_STREAM, id, b"{}")], "answered 200 true"),
            ("a head of 75 KiB", |id| vec![long_head(id, 5), frame(0, END_STREAM, id, b"{}")], "answered 200 true, the head of its answer is longer than 64 KiB"),
            ("a head that h2 refuses", |id| vec![long_head(id, 19)], "answered 0 false, the head of its answer is longer than 64 KiB"),
            ("a head that h2 ends the connection for", |id| vec![long_head(id, 100)], "answered 0 false, the head of its answer is longer than 64 KiB"),
        ];
        for (name, script, expected) in rows {
            let ended = run(
                Some(&[]),
                |connection| async move { exchange(&connection).await },
                |mut server| async move {
                    let id = server.request().await.expect("a request");
                    server.send(&script(id)).await;
                    server
                },
            );
            assert_eq!(show(&ended), *expected, "{name}");
        }
    }

    #[test]
    fn a_cold_burst_waits_for_the_servers_limit() {
        const CALLS: usize = 64;
        // MAX_CONCURRENT_STREAMS 4, told only after the first request came.
        let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 4]);
        let ended = run(
            None,
            |connection| async move {
                let calls = (0..CALLS).map(|_| exchange(&connection));
                let ended = futures_util::future::join_all(calls).await;
                assert!(connection.is_usable());
                ended
            },
            |mut server| async move {
                let mut open = vec![server.request().await.expect("a request")];
                // One too many would be here by now.
                let pause = std::time::Duration::from_millis(50);
                let early = tokio::time::timeout(pause, server.request()).await;
                assert!(early.is_err(), "{early:?}");
                server.send(&[settings]).await;
                for _ in 1..CALLS {
                    // It has to fill what it may.
                    if open.len() == 4 {
                        server.send(&[answer(open.remove(0))]).await;
                    }
                    open.push(server.request().await.expect("a request"));
                }
                for id in open {
                    server.send(&[answer(id)]).await;
                }
                // The client looks at its connection before it drops it.
                assert_eq!(server.request().await, None);
                server
            },
        );
        for one in ended {
            assert_eq!(show(&one), "answered 200 true");
        }
    }

    #[test]
    fn a_server_that_chatters_while_nobody_asks_is_closed() {
        const PING: u8 = 6;
        for (pings, stays) in [(50, true), (1000, false)] {
            let (at_rest, rests) = tokio::sync::oneshot::channel();
            let (heard, all_heard) = tokio::sync::oneshot::channel();
            run(
                Some(&[]),
                |connection| async move {
                    assert_eq!(show(&exchange(&connection).await), "answered 200 true");
                    at_rest.send(()).expect("the server waits");
                    all_heard.await.expect("the server goes on to its end");
                    assert_eq!(connection.is_usable(), stays, "{pings}");
                },
                |mut server| async move {
                    let id = server.request().await.expect("a request");
                    server.send(&[answer(id)]).await;
                    rests.await.expect("the client goes on");
                    server.send(&vec![frame(PING, 0, 0, &[0; 8]); pings]).await;
                    let (mut acknowledged, mut closed) = (0, false);
                    while acknowledged < pings && !closed {
                        match server.frame().await {
                            Some((PING, _)) => acknowledged += 1,
                            Some(_) => {}
                            None => closed = true,
                        }
                    }
                    heard.send(()).expect("the client waits");
                    server
                },
            );
        }
    }

    #[test]
    fn a_request_of_which_no_byte_left_is_unsent() {
        let (give, given) = tokio::sync::oneshot::channel();
        let ended = run(
            Some(&[]),
            |connection| async move {
                assert_eq!(show(&exchange(&connection).await), "answered 200 true");
                let Server(server) = given.await.expect("the server has answered");
                let mut second = std::pin::pin!(exchange(&connection));
                let mut context = Context::from_waker(std::task::Waker::noop());
                assert!(second.as_mut().poll(&mut context).is_pending());
                // The request is begun, but the connection's task has not run since.
                server.set_zero_linger().expect("a reset at once");
                drop(server);
                second.await
            },
            |mut server| async move {
                let id = server.request().await.expect("a request");
                server.send(&[answer(id)]).await;
                assert!(give.send(server).is_ok());
                None
            },
        );
        assert!(show(&ended).starts_with("unsent: "), "{}", show(&ended));
    }
}
