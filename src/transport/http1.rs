//! One request and its answer over an HTTP/1.1 connection.
//!
//! Written for the two things that a general client does not give: the certainty whether a byte
//! of the request left (the connection counts them), and next to no memory while an answer is
//! awaited (bytes are read onto the stack when they are there; a connection at rest owns no
//! buffer). The grammar is httparse's.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use super::reasons::describe;
use super::stream::{Io, Waiting};
use super::{CallState, Ended, Response, ResponseBody};
use crate::answer::BODY_LIMIT;

/// Bytes that the heads of one answer, interim ones (1xx) included, may have together.
const HEAD_LIMIT: usize = 64 * 1024;
/// Far more lines than servers and the proxies before them add.
const HEADER_LIMIT: usize = 128;
/// The size line of a chunk, with its extensions, or the trailers.
const LINE_LIMIT: usize = 8 * 1024;

/// An open connection.
pub struct Connection {
    io: Io,
    /// Whether the connection has served a request before.
    pub kept: bool,
    pub made: Instant,
}

impl Connection {
    pub fn new(io: Io) -> Self {
        Self {
            io,
            kept: false,
            made: Instant::now(),
        }
    }

    /// Whether the connection can take another request. Bytes that came unasked belong to no request.
    pub fn is_usable(&mut self) -> bool {
        self.io.peek() == Waiting::Nothing
    }

    /// Sends `request`, a whole message, and reads the answer.
    pub async fn exchange(&mut self, request: &[u8], call: &impl CallState) -> Ended {
        if !self.kept && self.io.has_answered_early() {
            return Ended::Unsent("the server answered before it was asked".into());
        }
        if !call.begin_send() {
            return Ended::Unsent("cancelled".into());
        }
        let before = self.io.written();
        let sent = async {
            self.io.write_all(request).await?;
            self.io.flush().await
        }
        .await;
        if let Err(error) = &sent {
            if self.io.written() == before {
                call.retract();
                return Ended::Unsent(describe(error));
            }
        }
        let mut reader = Reader {
            io: &mut self.io,
            buffer: Vec::new(),
            silent: true,
        };
        match reader.answer().await {
            Ok((answer, reusable)) => {
                // More than the answer, or an answer before the request was taken: whatever
                // follows on this connection could be mistaken for the answer to something else.
                let reusable = reusable && reader.buffer.is_empty() && sent.is_ok();
                self.kept = true;
                Ended::Answered(answer, reusable)
            }
            Err(Problem::Io(error)) => {
                let silent = reader.silent;
                if silent && !self.kept && self.io.refuses_client(&error) {
                    return Ended::ClientRefused(describe(&error));
                }
                Ended::Lost {
                    reason: describe(sent.as_ref().err().unwrap_or(&error)),
                    again_at_once: silent && self.kept,
                }
            }
            Err(Problem::Grammar(reason)) => Ended::Answered(Response::not_http(reason), false),
        }
    }
}

enum Problem {
    Io(io::Error),
    Grammar(&'static str),
}

const NO_LENGTH: &str = "its answer has no credible Content-Length";

/// How the end of a body is found.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Empty,
    Length(u64),
    Chunked,
    /// The body ends with the connection.
    Close,
    /// Not credible, for this reason.
    Unknown(&'static str),
}

struct Head {
    http_status: u16,
    framing: Framing,
    reusable: bool,
    retry_after: Option<String>,
}

impl Head {
    /// The head of an answer that is not read further.
    fn incomplete(http_status: Option<u16>, reason: &'static str) -> Self {
        Self {
            http_status: http_status.unwrap_or_default(),
            framing: Framing::Unknown(reason),
            reusable: false,
            retry_after: None,
        }
    }
}

struct Reader<'a> {
    io: &'a mut Io,
    /// Read and not yet consumed.
    buffer: Vec<u8>,
    /// Whether no byte has come yet.
    silent: bool,
}

impl Reader<'_> {
    async fn answer(&mut self) -> Result<(Response, bool), Problem> {
        let head = self.head().await?;
        let body = match head.framing {
            Framing::Empty => ResponseBody::Whole(Vec::new()),
            Framing::Length(length) if length > BODY_LIMIT as u64 => ResponseBody::TOO_LARGE,
            Framing::Length(length) => self.exactly(length as usize).await?,
            Framing::Close => self.until_close().await?,
            Framing::Chunked => self.chunked().await?,
            Framing::Unknown(reason) => ResponseBody::Unreadable(reason),
        };
        let reusable = head.reusable && matches!(body, ResponseBody::Whole(_));
        let answer = Response {
            http_status: head.http_status,
            retry_after: head.retry_after,
            body,
            kept: false,
        };
        Ok((answer, reusable))
    }

    /// The head of the final answer; interim ones are skipped.
    async fn head(&mut self) -> Result<Head, Problem> {
        let mut consumed = 0;
        let mut seen = 0;
        loop {
            // Only a further line can complete a head, so the head is parsed again only then.
            if self.buffer[seen..].contains(&b'\n') {
                if let Some((length, head)) = parse_head(&self.buffer)? {
                    self.buffer.drain(..length);
                    if let Some(head) = head {
                        return Ok(head);
                    }
                    consumed += length;
                    if consumed > HEAD_LIMIT {
                        return Err(Problem::Grammar("it sends interim answers without end"));
                    }
                    seen = 0;
                    continue;
                }
            }
            if self.buffer.len() > HEAD_LIMIT {
                let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
                let mut answer = httparse::Response::new(&mut headers);
                // The status line may be there, although the head is not.
                let _ = answer.parse(&self.buffer);
                return Ok(Head::incomplete(answer.code, ResponseBody::HEAD_TOO_LONG));
            }
            seen = self.buffer.len();
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<ResponseBody, Problem> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(ResponseBody::Whole(self.buffer.drain(..length).collect()))
    }

    async fn until_close(&mut self) -> Result<ResponseBody, Problem> {
        while self.buffer.len() <= BODY_LIMIT {
            match self.read().await {
                Ok(0) => return Ok(ResponseBody::Whole(std::mem::take(&mut self.buffer))),
                Ok(_) => {}
                Err(error) => return Err(Problem::Io(error)),
            }
        }
        Ok(ResponseBody::TOO_LARGE)
    }

    async fn chunked(&mut self) -> Result<ResponseBody, Problem> {
        const BROKEN: ResponseBody =
            ResponseBody::Unreadable("the chunks of its answer are not well-formed");
        let mut body = Vec::new();
        loop {
            let (line, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) if self.buffer.len() < LINE_LIMIT => {
                        self.more().await?;
                    }
                    _ => return Ok(BROKEN),
                }
            };
            self.buffer.drain(..line);
            if size == 0 {
                break;
            }
            if size > (BODY_LIMIT - body.len()) as u64 {
                return Ok(ResponseBody::TOO_LARGE);
            }
            let size = size as usize;
            while self.buffer.len() < size + 2 {
                self.more().await?;
            }
            body.extend(self.buffer.drain(..size));
            if self.buffer.drain(..2).ne(*b"\r\n") {
                return Ok(BROKEN);
            }
        }
        // The trailers, which say nothing here, and the empty line that ends them.
        loop {
            match trailers_length(&self.buffer) {
                Ok(Some(length)) => {
                    self.buffer.drain(..length);
                    return Ok(ResponseBody::Whole(body));
                }
                Ok(None) if self.buffer.len() < LINE_LIMIT => self.more().await?,
                _ => return Ok(BROKEN),
            }
        }
    }

    /// Reads more bytes; the end of the connection is an error here.
    async fn more(&mut self) -> Result<(), Problem> {
        match self.read().await {
            Ok(0) => Err(Problem::Io(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed by the server",
            ))),
            Ok(_) => {
                self.silent = false;
                Ok(())
            }
            Err(error) => Err(Problem::Io(error)),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        let Self { io, buffer, .. } = self;
        poll_fn(|cx| {
            let mut chunk = [MaybeUninit::<u8>::uninit(); 8 * 1024];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            std::task::ready!(Pin::new(&mut **io).poll_read(cx, &mut chunk))?;
            buffer.extend_from_slice(chunk.filled());
            std::task::Poll::Ready(Ok(chunk.filled().len()))
        })
        .await
    }
}

/// How long the trailers at the start of `bytes` are, once they are there as a whole. (Not inside
/// the function that awaits them, where the array would stay in every call's memory.)
fn trailers_length(bytes: &[u8]) -> Result<Option<usize>, httparse::Error> {
    let mut trailers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    Ok(match httparse::parse_headers(bytes, &mut trailers)? {
        httparse::Status::Complete((length, _)) => Some(length),
        httparse::Status::Partial => None,
    })
}

/// The length of the head at the start of `bytes` and what it says (nothing for an interim one),
/// once it is there as a whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Option<Head>)>, Problem> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut answer = httparse::Response::new(&mut headers);
    // A folded line is one line (RFC 9112, 5.2).
    let parsed = httparse::ParserConfig::default()
        .allow_obsolete_multiline_headers_in_responses(true)
        .parse_response(&mut answer, bytes);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            const REASON: &str = "its answer has more than 128 header lines";
            let head = Head::incomplete(answer.code, REASON);
            return Ok(Some((bytes.len(), Some(head))));
        }
        Err(_) => return Err(Problem::Grammar("its answer is not HTTP")),
    };
    let http_status = answer.code.unwrap_or_default();
    if (100..200).contains(&http_status) && http_status != 101 {
        return Ok(Some((length, None)));
    }
    let mut length_header: Option<&[u8]> = None;
    let mut two_lengths = false;
    let (mut chunked, mut encodings, mut close) = (false, 0, false);
    let mut retry_after = None;
    for header in answer.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let mut tokens = header
            .value
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii);
        if is("content-length") {
            for length in tokens {
                // Repeating the same length is allowed; two lengths would be two messages
                // (RFC 9112, 6.3).
                two_lengths |= *length_header.get_or_insert(length) != length;
            }
        } else if is("transfer-encoding") {
            for encoding in tokens {
                encodings += 1;
                chunked = encoding.eq_ignore_ascii_case(b"chunked");
            }
        } else if is("connection") {
            close |= tokens.any(|token| token.eq_ignore_ascii_case(b"close"));
        } else if is("retry-after") && retry_after.is_none() {
            retry_after = Some(String::from_utf8_lossy(header.value).into_owned());
        }
    }
    let framing = match (http_status, encodings, length_header) {
        (101 | 204 | 304, ..) => Framing::Empty,
        _ if two_lengths => Framing::Unknown(NO_LENGTH),
        (_, 1, _) if chunked => Framing::Chunked,
        (_, 0, Some(length)) => match std::str::from_utf8(length).map(str::parse) {
            Ok(Ok(number)) if length.iter().all(u8::is_ascii_digit) => Framing::Length(number),
            _ => Framing::Unknown(NO_LENGTH),
        },
        (_, 0, None) => Framing::Close,
        _ => Framing::Unknown("its answer has a Transfer-Encoding that nobody asked for"),
    };
    let reusable = answer.version == Some(1)
        && !matches!(framing, Framing::Close | Framing::Unknown(_))
        && http_status != 101
        && (encodings == 0 || length_header.is_none())
        && !close;
    Ok(Some((
        length,
        Some(Head {
            http_status,
            framing,
            reusable,
            retry_after,
        }),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tests::NeverCancelled;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// What comes of `bytes` as the answer of a real server, sent in pieces of `piece`.
    fn answered(bytes: Vec<u8>, piece: usize) -> Ended {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = async move {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                tcp.read_exact(&mut [0; 7]).await.unwrap();
                for piece in bytes.chunks(piece) {
                    if tcp.write_all(piece).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            };
            let client = async {
                let tcp = TcpStream::connect(address).await.unwrap();
                let mut connection = Connection::new(super::super::stream::socket(tcp));
                connection.exchange(b"request", &NeverCancelled).await
            };
            let (ended, ()) = tokio::join!(client, server);
            ended
        })
    }

    fn show(ended: &Ended) -> String {
        match ended {
            Ended::Answered(answer, reusable) => {
                let body = match &answer.body {
                    ResponseBody::Whole(body) => String::from_utf8_lossy(body).into_owned(),
                    ResponseBody::Unreadable(reason) => format!("({reason})"),
                };
                let reuse = if *reusable { "keep" } else { "close" };
                format!("{} {body} {reuse}", answer.http_status)
            }
            Ended::Unsent(reason) | Ended::Unprocessed(reason) | Ended::ClientRefused(reason) => {
                format!("unsent: {reason}")
            }
            Ended::Lost { reason, .. } => format!("lost: {reason}"),
        }
    }

    #[test]
    fn table() {
        const LOST: &str = "lost: closed by the server";
        #[rustfmt::skip]
        let rows: &[(&str, &str)] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200 hi keep"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\nContent-Length: 2\r\n\r\nhi", "200 hi keep"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nhi", "200 hi close"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200 hi close"),
            ("HTTP/1.1 200 OK\r\n\r\nhi", "200 hi close"),
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200  keep"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "204  keep"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "200 hi keep"),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "101  close"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n1\r\ni\r\n0\r\n\r\n", "200 hi keep"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nTrailer: x\r\n\r\n", "200 hi keep"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200 hi close"),
            // Folded lines.
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\nX: a\r\n\tb\r\n\r\nhi", "200 hi keep"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200 hi keep"),
            // Codings that were not asked for.
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi", "200 (its answer has a Transfer-Encoding that nobody asked for) close"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "200 (its answer has a Transfer-Encoding that nobody asked for) close"),
            ("HTTP/1.1 502 Bad\r\nTransfer-Encoding: x\r\n\r\nhi", "502 (its answer has a Transfer-Encoding that nobody asked for) close"),
            // Two answers to one request: the second could be taken for the next one's.
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 hi close"),
            // Cut off.
            ("", "lost: closed by the server"),
            ("HTTP/1.1 20", LOST),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", LOST),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", LOST),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", LOST),
            // Not HTTP, or not credible.
            ("SSH-2.0-OpenSSH_9.2\r\n", "0 (its answer is not HTTP) close"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", "200 (its answer has no credible Content-Length) close"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", "200 (its answer has no credible Content-Length) close"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", "200 (its answer has no credible Content-Length) close"),
            ("HTTP/1.1 502 Bad\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n", "502 (the chunks of its answer are not well-formed) close"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhixx", "200 (the chunks of its answer are not well-formed) close"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "200 (its answer is larger than 64 KiB) close"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", "200 (its answer is larger than 64 KiB) close"),
        ];
        for (bytes, expected) in rows {
            // "Two answers" in pieces is seen or not by timing; whole, it always is.
            for piece in [usize::MAX, 1] {
                if piece == 1
                    && bytes.matches("Content-Length: 0").count() == 1
                    && bytes.contains("hiHTTP")
                {
                    continue;
                }
                let ended = answered(bytes.as_bytes().to_vec(), piece);
                assert_eq!(show(&ended), *expected, "{bytes:?} in pieces of {piece}");
            }
        }
    }

    /// By whether the first bytes were there before the request was sent.
    #[test]
    fn an_answer_to_nothing_is_no_answer() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let early = |bytes: &'static [u8]| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap())
                    .await
                    .unwrap();
                let (mut server, _) = listener.accept().await.unwrap();
                server.write_all(bytes).await.unwrap();
                client.readable().await.unwrap();
                let mut connection = Connection::new(super::super::stream::socket(client));
                let ended = connection.exchange(b"request", &NeverCancelled).await;
                show(&ended)
            })
        };
        assert_eq!(
            early(ANSWER),
            "unsent: the server answered before it was asked"
        );
        assert_eq!(
            early(b"HTT"),
            "unsent: the server answered before it was asked"
        );
        assert_eq!(
            early(b"SSH-2.0-OpenSSH_9.2\r\n"),
            "0 (its answer is not HTTP) close"
        );
    }

    #[test]
    fn floods_end() {
        let floods = [
            (
                format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(129)),
                "200 (its answer has more than 128 header lines)",
            ),
            (
                "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"x".repeat(1 << 20),
                "200 (the head of its answer is longer than 64 KiB)",
            ),
            (
                "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n".repeat(100_000),
                "interim answers without end",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(1 << 20),
                "larger than 64 KiB",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
                    + &"1\r\nx\r\n".repeat(1 << 18),
                "larger than 64 KiB",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;".to_owned()
                    + &"x".repeat(1 << 20),
                "not well-formed",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: ".to_owned()
                    + &"x".repeat(1 << 20),
                "not well-formed",
            ),
        ];
        for (flood, expected) in floods {
            let shown = show(&answered(flood.into_bytes(), usize::MAX));
            assert!(shown.contains(expected), "{shown}");
        }
    }

    #[test]
    fn the_body_limit_is_exact() {
        for (length, fits) in [(BODY_LIMIT, true), (BODY_LIMIT + 1, false)] {
            let body = "x".repeat(length);
            for head in [
                format!("Content-Length: {length}\r\n\r\n{body}"),
                format!("\r\n{body}"),
                format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            ] {
                let ended = answered(format!("HTTP/1.1 200 OK\r\n{head}").into_bytes(), 10_000);
                let Ended::Answered(answer, _) = ended else {
                    panic!("no answer")
                };
                assert_eq!(
                    matches!(answer.body, ResponseBody::Whole(body) if body.len() == length),
                    fits
                );
            }
        }
    }

    /// Pieces of answers, so that random sequences of them get far into the grammar.
    const PIECES: [&[u8]; 18] = [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 404 \r\n",
        b"HTTP/1.1 103 Hints\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Connection: close\r\n",
        b"Retry-After: \xff\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"hello",
        b": folded\r\n",
        b"\0",
        b"\x80\xff",
    ];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

        /// Whatever a server sends before it closes, the exchange comes to an end, and a body is
        /// never larger than it may be.
        #[test]
        fn any_bytes_come_to_an_end(
            pieces in proptest::collection::vec(0..PIECES.len(), 0..20),
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            at in 0..400usize,
            piece in 1..64usize,
        ) {
            let mut bytes: Vec<u8> = pieces.iter().flat_map(|index| PIECES[*index]).copied().collect();
            let at = at.min(bytes.len());
            bytes.splice(at..at, noise);
            let ended = answered(bytes, piece);
            if let Ended::Answered(Response { body: ResponseBody::Whole(body), .. }, _) = ended {
                proptest::prop_assert!(body.len() <= BODY_LIMIT);
            }
        }
    }
}
