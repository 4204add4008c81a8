//! One request and its answer as a stream of a shared HTTP/2 connection, by the h2 crate.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::Reason;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::stream::{self, Io};
use super::{CallState, Ended, Request, Response, ResponseBody, KEEP};
use crate::answer::BODY_LIMIT;
use crate::failure::{Failure, Stage};
use crate::sync::lock;

const HEAD_LIMIT: u32 = 64 * 1024;

/// An open connection, shared by as many requests as the server allows.
pub struct Connection {
    send: SendRequest<Bytes>,
    streams: Arc<Streams>,
    task: AbortHandle,
    /// Whether it has served a request before.
    kept: AtomicBool,
    pub made: Instant,
    /// When a stream of it was last opened or closed.
    used: Mutex<Instant>,
}

/// How many streams are open. h2 would take any number and hold them back itself, but then
/// nobody could tell a request that has left from one that waits.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    closed: AtomicBool,
    changed: Notify,
}

struct StreamPermit<'a>(&'a Streams);

impl Drop for StreamPermit<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
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
        let (send, connection) = h2::client::Builder::new()
            .enable_push(false)
            .max_header_list_size(HEAD_LIMIT)
            .handshake(io)
            .await
            .map_err(|error| Failure {
                stage: Stage::Handshake,
                reason: format!("HTTP/2 could not be begun ({error})"),
            })?;
        let streams = Arc::new(Streams::default());
        let task = tokio::spawn({
            let streams = streams.clone();
            async move {
                // How it ended is told to each of its streams.
                let _ = connection.await;
                streams.closed.store(true, Ordering::Relaxed);
                streams.changed.notify_waiters();
            }
        });
        Ok(Self {
            send,
            streams,
            task: task.abort_handle(),
            kept: AtomicBool::new(false),
            made: Instant::now(),
            used: Mutex::new(Instant::now()),
        })
    }

    /// Whether it can take another request.
    pub fn is_usable(&self) -> bool {
        let used = lock(&self.used);
        let at_rest = self.streams.open.load(Ordering::Relaxed) == 0;
        // Something on the way may have forgotten it.
        let too_old = at_rest && used.elapsed() > KEEP;
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
            return Ended::Unsent(describe(&error));
        }
        let head = match request.http2_head() {
            Ok(head) => head,
            Err(error) => {
                return Ended::Unsent(format!("the request cannot be said in HTTP/2: {error}"))
            }
        };
        let kept = self.kept.load(Ordering::Relaxed);
        if !call.begin_send() {
            return Ended::Unsent("cancelled".into());
        }
        let (response, mut stream) = match send.send_request(head, false) {
            Ok(begun) => begun,
            Err(error) => {
                call.retract();
                return Ended::Unsent(describe(&error));
            }
        };
        self.touch();
        // Where the body cannot be sent, the answer tells why.
        let _ = stream.send_data(Bytes::copy_from_slice(request.body()), true);
        match read(response).await {
            Ok(answer) => {
                self.kept.store(true, Ordering::Relaxed);
                self.touch();
                Ended::Answered(answer, true)
            }
            // By RFC 9113, 8.7, the server has not looked at it.
            Err(error) if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) => {
                Ended::Unprocessed(describe(&error))
            }
            Err(error) => Ended::Lost {
                reason: describe(&error),
                silent: kept && (error.is_io() || error.is_go_away()),
            },
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
                    // The limit may have been raised since the last one was told.
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
}

async fn read(response: ResponseFuture) -> Result<Response, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    let mut too_large = false;
    while let Some(data) = stream.data().await {
        let data = data?;
        if body.len() + data.len() > BODY_LIMIT {
            too_large = true;
            break;
        }
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    Ok(Response {
        http_status: head.status.as_u16(),
        retry_after: head
            .headers
            .get(http::header::RETRY_AFTER)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body: match too_large {
            true => ResponseBody::TOO_LARGE,
            false => ResponseBody::Whole(body),
        },
    })
}

fn describe(error: &h2::Error) -> String {
    match error.get_io() {
        // What h2 says of a connection that was closed without a word.
        Some(io) if io.kind() == std::io::ErrorKind::BrokenPipe => "closed by the server".into(),
        Some(io) => stream::describe(io),
        None => error.to_string(),
    }
}
