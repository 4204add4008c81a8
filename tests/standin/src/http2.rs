//! HTTP/2, with the frames of the `h2` crate. Faults that are possible only in HTTP/1.1 are
//! ignored.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::api::{Answer, Call};
use crate::exchange::{delay, Choice, Exchange, Verdict};
use crate::fault::{Fault, Stage, Then};
use crate::wire::{self, Fate};
use crate::world::InFlight;

/// The crate's default limit protects against clients that reset many streams, which tests must be
/// able to do.
const MAX_RESET_STREAMS: usize = 100_000;

/// How long queued frames may take to be sent before a connection ends abruptly.
const FLUSH: Duration = Duration::from_millis(10);

/// What the end of a stream means for its connection.
enum End {
    /// The connection continues; `answered` says whether the stream got an answer.
    Stream { answered: bool },
    /// The connection ends like this.
    HangUp { then: Then, announced: bool },
    /// The connection ends with this GOAWAY.
    GoAway(Reason),
}

/// Serves the API on a connection until it ends.
pub(crate) async fn serve<S>(mut stream: S, fate: Fate, exchange: Exchange)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // `converse` only borrows the stream: bytes that the client still sends must be read after the
    // last frame, otherwise closing would send an RST that overtakes that frame.
    let then = converse(&mut stream, &exchange).await;
    wire::hang_up(stream, then, &fate).await;
}

/// Serves until the connection has to end. Returns how it ends.
async fn converse<S>(stream: S, exchange: &Exchange) -> Then
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let settings = exchange.shared.settings();
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .handshake::<_, Bytes>(stream)
        .await;
    let Ok(mut connection) = handshake else {
        return Then::Fin;
    };
    let mut streams = JoinSet::new();
    let (sender, mut ends) = mpsc::unbounded_channel();
    let mut answers = 0;
    loop {
        let end = tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    // The fault is chosen here and not in the stream's task, so that rules are
                    // applied in the order in which the requests arrived.
                    let begun = Begun::new(exchange, request);
                    let task = stream_task(exchange.clone(), begun, respond, sender.clone());
                    streams.spawn(task);
                    continue;
                }
                // The client ended the connection, the connection broke, or its announced end has
                // come.
                Some(Err(_)) | None => return Then::Fin,
            },
            Some(end) = ends.recv() => end,
            // Finished tasks are removed, so that the set does not grow with every request.
            Some(_) = streams.join_next() => continue,
        };
        let then = match end {
            End::Stream { answered } => {
                answers += u64::from(answered);
                // Read for each answer, because a test may change the settings meanwhile.
                let settings = exchange.shared.settings();
                let due =
                    |every: Option<u64>| answered && every.is_some_and(|n| n > 0 && answers >= n);
                if due(settings.reset_after_answers) {
                    Then::Reset
                } else if due(settings.close_after_answers) {
                    Then::CloseUnannounced
                } else {
                    continue;
                }
            }
            End::HangUp {
                then: Then::Fin,
                announced: true,
            } => {
                connection.graceful_shutdown();
                continue;
            }
            End::HangUp { then, .. } => then,
            End::GoAway(reason) => {
                connection.abrupt_shutdown(reason);
                continue;
            }
        };
        flush(&mut connection).await;
        return then;
    }
}

/// Sends the frames that streams have queued. Only polling the connection writes them.
async fn flush<S>(connection: &mut Connection<S, Bytes>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Requests that arrive meanwhile are lost: the connection ends in any case.
    let polled = async { while let Some(Ok(_)) = connection.accept().await {} };
    let _ = tokio::time::timeout(FLUSH, polled).await;
}

/// A request whose head is read.
struct Begun {
    parts: http::request::Parts,
    incoming: RecvStream,
    call: Call,
    choice: Choice,
    /// The count ends before the last frame of the answer is queued: a client that has this frame
    /// may send its next request before this task runs again.
    in_flight: Option<InFlight>,
}

impl Begun {
    fn new(exchange: &Exchange, request: Request<RecvStream>) -> Self {
        let (parts, incoming) = request.into_parts();
        let (call, prefix) = exchange.shared.read_target(
            parts.method.as_str(),
            parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        );
        let head = head_text(&parts);
        let in_flight =
            exchange
                .shared
                .request_begun(call.operation(), "HTTP/2", prefix, head.as_bytes());
        let choice = exchange.choose_early(&call);
        Begun {
            parts,
            incoming,
            call,
            choice,
            in_flight: Some(in_flight),
        }
    }

    /// Reads the body and the call's parameters in it.
    async fn read_body(&mut self) -> Result<(), h2::Error> {
        let mut body = Vec::new();
        while let Some(piece) = self.incoming.data().await {
            let piece = piece?;
            self.incoming.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        let content_type = self.parts.headers.get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        self.call.read_body(content_type, &body);
        Ok(())
    }
}

async fn stream_task(
    exchange: Exchange,
    mut begun: Begun,
    mut respond: SendResponse<Bytes>,
    ends: mpsc::UnboundedSender<End>,
) {
    // An error means that the stream is gone. If the connection is gone too, its own task notices.
    let end = handle(&exchange, &mut begun, &mut respond)
        .await
        .unwrap_or(End::Stream { answered: false });
    let only_the_stream = matches!(end, End::Stream { .. });
    begun.in_flight = None;
    // This task ends with its connection, so the receiver still exists.
    let _ = ends.send(end);
    if !only_the_stream {
        // Dropping an unfinished stream would reset it, and the client would see the reset before
        // the end of the connection.
        std::future::pending().await
    }
}

async fn handle(
    exchange: &Exchange,
    begun: &mut Begun,
    respond: &mut SendResponse<Bytes>,
) -> Result<End, h2::Error> {
    if let Choice::Made(fault) = &begun.choice {
        let fault = Arc::clone(fault);
        if fault.stage() == Stage::Head {
            delay(&fault).await;
            return hang_up(respond, &fault).await;
        }
        if fault.early {
            let answer = exchange.answer_early(&begun.call, &fault).await;
            let end = send(exchange, respond, answer, &fault, &mut begun.in_flight).await?;
            if matches!(end, End::Stream { .. }) {
                begun.read_body().await?;
                exchange.act_late(&begun.call, &fault);
            }
            return Ok(end);
        }
    }

    begun.read_body().await?;
    let fault = match &begun.choice {
        Choice::Made(fault) => Arc::clone(fault),
        Choice::Open => exchange.choose(&begun.call),
    };
    if fault.stage() == Stage::Head {
        delay(&fault).await;
        return hang_up(respond, &fault).await;
    }
    let verdict = {
        let gone = async {
            let _ = poll_fn(|cx| respond.poll_reset(cx)).await;
        };
        exchange.carry_out(&begun.call, &fault, gone).await
    };
    match verdict {
        Verdict::Answer(answer) => {
            send(exchange, respond, answer, &fault, &mut begun.in_flight).await
        }
        Verdict::HangUp => hang_up(respond, &fault).await,
        Verdict::Abandoned => {
            respond.send_reset(Reason::CANCEL);
            Ok(End::Stream { answered: false })
        }
    }
}

/// The request's head in the form of HTTP/1.1.
fn head_text(parts: &http::request::Parts) -> String {
    let mut text = format!("{} {} HTTP/2\r\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text
}

/// Ends an exchange without an answer, as the fault says.
async fn hang_up(respond: &mut SendResponse<Bytes>, fault: &Fault) -> Result<End, h2::Error> {
    if let Some(end) = h2_end(respond, fault) {
        return Ok(end);
    }
    match fault.hang_up() {
        Then::Stall => stall(respond).await,
        then => Ok(End::HangUp {
            then,
            announced: false,
        }),
    }
}

/// The RST_STREAM or GOAWAY of the fault, if it has one.
fn h2_end(respond: &mut SendResponse<Bytes>, fault: &Fault) -> Option<End> {
    if let Some(code) = fault.h2_goaway {
        return Some(End::GoAway(code.into()));
    }
    respond.send_reset(fault.h2_reset?.into());
    Some(End::Stream { answered: true })
}

/// Sends nothing on this stream until the client resets it.
async fn stall(respond: &mut SendResponse<Bytes>) -> Result<End, h2::Error> {
    poll_fn(|cx| respond.poll_reset(cx)).await?;
    Ok(End::Stream { answered: false })
}

/// Sends an answer as the fault says.
async fn send(
    exchange: &Exchange,
    respond: &mut SendResponse<Bytes>,
    mut answer: Answer,
    fault: &Fault,
    in_flight: &mut Option<InFlight>,
) -> Result<End, h2::Error> {
    for _ in 0..fault.informational {
        // HTTP/2 clients expect 100 only after `Expect: 100-continue`, so all are 103.
        let mut hints = Response::new(());
        *hints.status_mut() = StatusCode::EARLY_HINTS;
        respond.send_informational(hints)?;
    }
    if let Some(end) = h2_end(respond, fault) {
        return Ok(end);
    }
    if fault.raw_bytes().is_some() || fault.endless_header {
        // HTTP/2 cannot send these faults. Sending the normal answer instead would mislead a test.
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return Ok(End::Stream { answered: true });
    }
    let stage = fault.stage();
    if stage == Stage::HalfHead {
        // The h2 crate cannot send half a HEADERS frame, so nothing is sent.
        return hang_up(respond, fault).await;
    }
    let half = stage == Stage::HalfBody;
    let mut left = answer
        .body
        .len()
        .map_or(u64::MAX, |length| if half { length / 2 } else { length });
    let response = response(&answer, fault);
    let bare = !answer.has_body() || answer.body.len() == Some(0);
    if bare {
        *in_flight = None;
    }
    let mut stream = respond.send_response(response, bare)?;
    let mut next = answer.body.next(&exchange.shared).filter(|_| !bare);
    while let Some(mut piece) = next {
        piece.truncate(left.min(piece.len() as u64) as usize);
        left -= piece.len() as u64;
        next = answer.body.next(&exchange.shared).filter(|_| left > 0);
        // The last piece ends the stream, as with common servers. An additional empty frame could
        // count as an attack for a client.
        let last = next.is_none() && !half;
        if last {
            *in_flight = None;
        }
        put(&mut stream, piece, last, fault.trickle_ms).await?;
    }
    match fault.then {
        _ if stage != Stage::Answered && fault.hang_up() == Then::Stall => {
            let _ = poll_fn(|cx| stream.poll_reset(cx)).await?;
            Ok(End::Stream { answered: false })
        }
        _ if stage != Stage::Answered => Ok(End::HangUp {
            then: fault.hang_up(),
            announced: false,
        }),
        None | Some(Then::Stall) => Ok(End::Stream { answered: true }),
        Some(then) => Ok(End::HangUp {
            then,
            announced: true,
        }),
    }
}

/// The head of an answer. Fields that HTTP/2 cannot carry are left out.
fn response(answer: &Answer, fault: &Fault) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let length = fault
        .content_length
        .or_else(|| answer.body.len())
        .filter(|_| answer.has_body())
        .map(|length| ("content-length".to_owned(), length.to_string()));
    for (name, value) in answer.headers.iter().chain(&length) {
        let connection_specific = ["connection", "transfer-encoding", "keep-alive", "upgrade"]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own));
        if let (false, Ok(name), Ok(value)) = (
            connection_specific,
            http::HeaderName::try_from(name),
            http::HeaderValue::try_from(value),
        ) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Sends bytes of a body as the client's window allows.
async fn put(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    last: bool,
    trickle_ms: Option<u64>,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        let wanted = if trickle_ms.is_some() { 1 } else { bytes.len() };
        stream.reserve_capacity(wanted);
        let granted = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(granted) => granted?,
            None => return Err(Reason::STREAM_CLOSED.into()),
        };
        let sent = bytes.split_to(granted.min(wanted));
        stream.send_data(sent, last && bytes.is_empty())?;
        if let Some(pause) = trickle_ms {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
    Ok(())
}
