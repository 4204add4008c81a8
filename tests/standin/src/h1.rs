//! HTTP/1.1, written byte by byte, because an HTTP library would not send malformed responses.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::api::{reason_phrase, Answer};
use crate::exchange::{delay, Choice, Exchange, Verdict};
use crate::fault::{Fault, Stage, Then};
use crate::wire::{hang_up, Fate};
use crate::world::{InFlight, Shared};

/// The largest head and the largest body that a request may have.
const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 64 * 1024 * 1024;

/// How many bytes of further requests are read while a request is waiting.
const MAX_AHEAD: usize = 1024 * 1024;

/// How many bytes are collected before they are written.
const WRITE: usize = 64 * 1024;

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    /// The head as received, with the empty line.
    pub(crate) raw: Bytes,
    minor_version: u8,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The first header field with this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// All header fields, in their order.
    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Whether the connection has to end after the answer.
    pub(crate) fn wants_close(&self) -> bool {
        self.minor_version == 0
            || self.header("connection").is_some_and(|value| {
                value
                    .split(',')
                    .any(|option| option.trim().eq_ignore_ascii_case("close"))
            })
    }
}

/// Why a request could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The connection ended or broke, so no answer can be sent.
    Gone,
    /// The request is not HTTP/1.1 or too large; it is answered with this status.
    Refused(u16),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        ReadError::Gone
    }
}

/// A connection that is read request by request. Bytes of later requests wait in the buffer.
pub(crate) struct Incoming<S> {
    pub(crate) stream: S,
    pub(crate) buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    pub(crate) fn new(stream: S) -> Self {
        Incoming {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Reads more bytes. The end of the connection is an error.
    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next request's head; `None` if the client ended the connection instead.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>, ReadError> {
        loop {
            if let Some((head, length)) = parse_head(&self.buffer)? {
                let raw = self.buffer.split_to(length).freeze();
                return Ok(Some(Head { raw, ..head }));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(ReadError::Refused(431));
            }
            match self.more().await {
                Ok(()) => {}
                Err(_) if self.buffer.is_empty() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The body that follows a head.
    pub(crate) async fn body(&mut self, head: &Head) -> Result<Bytes, ReadError> {
        let chunked = head
            .header("transfer-encoding")
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("chunked"));
        if chunked {
            return self.chunks().await;
        }
        match head
            .header("content-length")
            .map(|value| value.trim().parse())
        {
            None => Ok(Bytes::new()),
            Some(Ok(length)) => self.exactly(length).await,
            Some(Err(_)) => Err(ReadError::Refused(400)),
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Bytes, ReadError> {
        if length > MAX_BODY {
            return Err(ReadError::Refused(413));
        }
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn chunks(&mut self) -> Result<Bytes, ReadError> {
        let mut body = BytesMut::new();
        loop {
            let (line, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) => self.more().await?,
                    Err(_) => return Err(ReadError::Refused(400)),
                }
            };
            self.buffer.advance(line);
            if size == 0 {
                break;
            }
            if size > (MAX_BODY - body.len()) as u64 {
                return Err(ReadError::Refused(413));
            }
            body.extend_from_slice(&self.exactly(size as usize).await?);
            self.exactly(2).await?;
        }
        // Skips the trailers up to the empty line.
        while self.line().await? > 2 {}
        Ok(body.freeze())
    }

    /// Reads a line. Returns its length with the line end.
    async fn line(&mut self) -> Result<usize, ReadError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                self.buffer.advance(end + 1);
                return Ok(end + 1);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(ReadError::Refused(431));
            }
            self.more().await?;
        }
    }

    /// Completes when the client ends the connection. Bytes that the client sends until then stay
    /// in the buffer for the next request.
    async fn gone(&mut self) {
        while self.buffer.len() < MAX_AHEAD {
            if self.more().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }
}

/// Parses a head; `None` while the head is incomplete. The caller adds `raw`.
fn parse_head(buffer: &[u8]) -> Result<Option<(Head, usize)>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ReadError::Refused(431)),
        Err(_) => return Err(ReadError::Refused(400)),
    };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        raw: Bytes::new(),
        minor_version: request.version.unwrap_or_default(),
        headers: request
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value).into_owned();
                (header.name.to_owned(), value)
            })
            .collect(),
    };
    Ok(Some((head, length)))
}

/// Serves the API on a connection until it ends.
pub(crate) async fn serve<S>(stream: S, fate: Fate, exchange: Exchange)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut server = Server {
        incoming: Incoming::new(stream),
        exchange,
        in_flight: None,
        answers: 0,
    };
    let then = loop {
        let next = server.next().await;
        server.in_flight = None;
        match next {
            Ok(None) => {}
            Ok(Some(then)) => break then,
            Err(ReadError::Gone) => return,
            Err(ReadError::Refused(status)) => {
                let answer = Answer::error(status, reason_phrase(status));
                let form = Form::plain(true);
                if server.send(answer, &form).await.is_err() {
                    return;
                }
                break Then::Fin;
            }
        }
    };
    hang_up(server.incoming.stream, then, &fate).await;
}

struct Server<S> {
    incoming: Incoming<S>,
    exchange: Exchange,
    /// The request under way. The count ends before the last bytes of the answer leave: a client that
    /// has these bytes may send its next request before this thread runs again.
    in_flight: Option<InFlight>,
    /// How many answers were sent on this connection.
    answers: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Server<S> {
    /// Serves one request. Returns how the connection ends, if it ends.
    async fn next(&mut self) -> Result<Option<Then>, ReadError> {
        let Some(head) = self.incoming.head().await? else {
            return Ok(Some(Then::Fin));
        };
        let shared = Arc::clone(&self.exchange.shared);
        let (mut call, prefix) = shared.read_target(&head.method, &head.target);
        let version = if head.minor_version == 0 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        let begun = shared.request_begun(call.operation(), version, prefix, &head.raw);
        self.in_flight = Some(begun);

        let choice = self.exchange.choose_early(&call);
        if let Choice::Made(fault) = &choice {
            if fault.stage() == Stage::Head {
                delay(fault).await;
                return Ok(Some(fault.hang_up()));
            }
            if fault.early {
                let answer = self.exchange.answer_early(&call, fault).await;
                let end = self.answer(answer, fault, &head).await?;
                if end.is_none() {
                    let body = self.incoming.body(&head).await?;
                    call.read_body(head.header("content-type"), &body);
                    self.exchange.act_late(&call, fault);
                }
                return Ok(end);
            }
        }

        let body = self.incoming.body(&head).await?;
        call.read_body(head.header("content-type"), &body);
        let fault = match choice {
            Choice::Made(fault) => fault,
            Choice::Open => self.exchange.choose(&call),
        };
        if fault.stage() == Stage::Head {
            // Some rules match by id, so the fault could be chosen only after the body was read.
            // The client sees no difference to a hang-up after the head.
            delay(&fault).await;
            return Ok(Some(fault.hang_up()));
        }
        let gone = self.incoming.gone();
        match self.exchange.carry_out(&call, &fault, gone).await {
            Verdict::Answer(answer) => Ok(self.answer(answer, &fault, &head).await?),
            Verdict::HangUp => Ok(Some(fault.hang_up())),
            Verdict::Abandoned => Ok(Some(Then::CloseUnannounced)),
        }
    }

    /// Sends an answer as the fault says. Returns how the connection ends, if it ends.
    async fn answer(
        &mut self,
        answer: Answer,
        fault: &Fault,
        head: &Head,
    ) -> io::Result<Option<Then>> {
        for n in 0..fault.informational {
            let interim: &[u8] = if n % 2 == 0 {
                b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
            } else {
                b"HTTP/1.1 100 Continue\r\n\r\n"
            };
            self.incoming.stream.write_all(interim).await?;
        }
        if fault.endless_header {
            return self.send_endless_header().await;
        }
        if fault.h2_reset.is_some() || fault.h2_goaway.is_some() {
            // HTTP/1.1 has no RST_STREAM and no GOAWAY; a hang-up comes closest.
            return Ok(Some(fault.hang_up()));
        }

        let stage = fault.stage();
        let mut form = Form::of(fault, &answer, head);
        if let Some(raw) = fault.raw_bytes() {
            let mut out = Out::new(&mut self.incoming.stream, form.trickle);
            out.put(&raw).await?;
            self.in_flight = None;
            out.flush().await?;
            form.ends = head.wants_close();
        } else {
            if fault.twice {
                self.send(answer.clone(), &form).await?;
            }
            self.send(answer, &form).await?;
        }
        if stage != Stage::Answered {
            return Ok(Some(fault.hang_up()));
        }
        self.answers += 1;
        let settings = self.exchange.shared.settings();
        let due = |every: Option<u64>| every.is_some_and(|n| n > 0 && self.answers >= n);
        Ok(match fault.then {
            Some(then) => Some(then),
            None if due(settings.reset_after_answers) => Some(Then::Reset),
            None if due(settings.close_after_answers) => Some(Then::CloseUnannounced),
            None if form.ends => Some(Then::Fin),
            None => None,
        })
    }

    /// Sends an answer in this form, up to the form's stage.
    async fn send(&mut self, mut answer: Answer, form: &Form) -> io::Result<()> {
        let shared: &Shared = &self.exchange.shared;
        let mut out = Out::new(&mut self.incoming.stream, form.trickle);
        let head = form.head(&answer);
        if form.stage == Stage::HalfHead {
            out.put(&head[..head.len() / 2]).await?;
            return out.flush().await;
        }
        out.put(&head).await?;
        let half = form.stage == Stage::HalfBody;
        let mut left = answer
            .body
            .len()
            .map_or(u64::MAX, |length| if half { length / 2 } else { length });
        while answer.has_body() {
            let Some(piece) = answer.body.next(shared) else {
                break;
            };
            // Small bodies too are sent in several chunks.
            let chunk = match form.framing {
                Framing::Chunked if piece.len() < 1024 => piece.len().div_ceil(3),
                _ => piece.len(),
            };
            for chunk in piece.chunks(chunk) {
                let sent = (chunk.len() as u64).min(left) as usize;
                left -= sent as u64;
                match form.framing {
                    Framing::Plain => out.put(&chunk[..sent]).await?,
                    Framing::Chunked => {
                        out.put(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                        out.put(&chunk[..sent]).await?;
                    }
                    Framing::InvalidChunks => {
                        out.put(b"zz\r\n").await?;
                        out.put(&chunk[..sent]).await?;
                    }
                }
                if sent < chunk.len() || (half && left == 0) {
                    return out.flush().await;
                }
                if form.framing != Framing::Plain {
                    out.put(b"\r\n").await?;
                }
            }
        }
        if form.framing != Framing::Plain && answer.has_body() {
            out.put(b"0\r\n\r\n").await?;
        }
        self.in_flight = None;
        out.flush().await
    }

    /// Sends header fields until the client ends the connection.
    async fn send_endless_header(&mut self) -> io::Result<Option<Then>> {
        let field = format!("X-Endless: {}\r\n", "e".repeat(1000));
        let block = field.repeat(16);
        let stream = &mut self.incoming.stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            stream.write_all(block.as_bytes()).await?;
            stream.flush().await?;
        }
    }
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// By a length, or by the end of the connection.
    Plain,
    Chunked,
    InvalidChunks,
}

/// The form of an answer in HTTP/1.1.
struct Form {
    stage: Stage,
    framing: Framing,
    content_length: Option<u64>,
    /// Whether the head announces the chunked encoding; a header of the fault may do so instead.
    announce_chunks: bool,
    /// Whether `Connection: close` is in the head.
    announce_close: bool,
    /// Whether the connection has to end after the answer.
    ends: bool,
    trickle: Option<Duration>,
}

impl Form {
    /// The form of an answer of known length without a fault.
    fn plain(ends: bool) -> Self {
        Form {
            stage: Stage::Answered,
            framing: Framing::Plain,
            content_length: None,
            announce_chunks: false,
            announce_close: ends,
            ends,
            trickle: None,
        }
    }

    fn of(fault: &Fault, answer: &Answer, request: &Head) -> Self {
        let given = |name| {
            fault
                .headers
                .iter()
                .any(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        let own_coding = given("transfer-encoding");
        let own_length = given("content-length") || fault.content_length.is_some();
        let length = answer.body.len();
        // A body of unknown length is sent in chunks if the client understands chunks.
        let needs_chunks = length.is_none()
            && !own_coding
            && !own_length
            && !fault.no_length
            && request.minor_version > 0;
        let framing = if fault.invalid_chunking {
            Framing::InvalidChunks
        } else if fault.chunked || needs_chunks {
            Framing::Chunked
        } else {
            Framing::Plain
        };
        let states_length = framing == Framing::Plain
            && answer.has_body()
            && !own_coding
            && !own_length
            && !fault.no_length;
        let content_length = match fault.content_length {
            Some(lie) => Some(lie),
            None if states_length => length,
            None => None,
        };
        let by_end = framing == Framing::Plain
            && answer.has_body()
            && content_length.is_none()
            && !own_coding
            && !own_length;
        let ends = request.wants_close() || by_end;
        Form {
            stage: fault.stage(),
            framing,
            content_length,
            announce_chunks: framing != Framing::Plain && !own_coding,
            announce_close: match fault.then {
                None => ends,
                Some(then) => then == Then::Fin && fault.stage() == Stage::Answered,
            },
            ends,
            trickle: fault.trickle_ms.map(Duration::from_millis),
        }
    }

    /// The bytes of the head.
    fn head(&self, answer: &Answer) -> Vec<u8> {
        let status = answer.status;
        let reason = match &answer.reason {
            Some(reason) => reason,
            None => reason_phrase(status),
        };
        let mut head = format!("HTTP/1.1 {status} {reason}\r\nServer: standin\r\n");
        let mut field = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        };
        for (name, value) in &answer.headers {
            field(name, value);
        }
        if let Some(length) = self.content_length {
            field("Content-Length", &length.to_string());
        }
        if self.announce_chunks {
            field("Transfer-Encoding", "chunked");
        }
        if self.announce_close {
            field("Connection", "close");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Writes in large pieces, or byte by byte for `trickle_ms`.
struct Out<'a, S> {
    stream: &'a mut S,
    pending: Vec<u8>,
    trickle: Option<Duration>,
}

impl<'a, S: AsyncWrite + Unpin> Out<'a, S> {
    fn new(stream: &'a mut S, trickle: Option<Duration>) -> Self {
        Out {
            stream,
            pending: Vec::new(),
            trickle,
        }
    }

    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(pause) = self.trickle {
            for byte in bytes.chunks(1) {
                self.stream.write_all(byte).await?;
                self.stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= WRITE {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.pending).await?;
        self.pending.clear();
        self.stream.flush().await
    }
}
