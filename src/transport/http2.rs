//! One request and its answer as a stream of a shared HTTP/2 connection, by the h2 crate.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connect::Io;
use super::{Answer, Ended, Gate, Received, Request};
use crate::answer::BODY_LIMIT;
use crate::retry::{Failure, Stage};

const HEAD_LIMIT: u32 = 64 * 1024;

/// An open connection, shared by as many requests as the server allows.
pub struct Connection {
    send: SendRequest<Bytes>,
    streams: Arc<Streams>,
    task: AbortHandle,
    /// Whether it has served a request before.
    kept: AtomicBool,
}

/// How many streams are open. h2 would take any number and hold them back itself, but then
/// nobody could tell a request that has left from one that waits.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    closed: AtomicBool,
    changed: Notify,
}

struct Place<'a>(&'a Streams);

impl Drop for Place<'_> {
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
        })
    }

    /// Whether it can take another request.
    pub fn is_usable(&self) -> bool {
        !self.streams.closed.load(Ordering::Relaxed)
    }

    pub async fn exchange(&self, request: &Request<'_>, gate: &impl Gate) -> Ended {
        const CLOSED: &str = "closed by the server";
        let Some(_place) = self.place().await else {
            return Ended::Unsent(CLOSED.into());
        };
        let mut send = self.send.clone();
        if let Err(error) = poll_fn(|cx| send.poll_ready(cx)).await {
            return Ended::Unsent(words(&error));
        }
        let head = match request.http2_head() {
            Ok(head) => head,
            Err(error) => return Ended::Unsent(format!("the request cannot be said in HTTP/2: {error}")),
        };
        let kept = self.kept.load(Ordering::Relaxed);
        if !gate.open() {
            return Ended::Unsent("cancelled".into());
        }
        let (response, mut stream) = match send.send_request(head, false) {
            Ok(begun) => begun,
            Err(error) => {
                gate.shut();
                return Ended::Unsent(words(&error));
            }
        };
        let sent = stream.send_data(Bytes::copy_from_slice(request.body), true);
        // Where the body could not be sent, the answer tells why.
        drop(sent);
        match read(response).await {
            Ok(answer) => {
                self.kept.store(true, Ordering::Relaxed);
                Ended::Answered(answer, true)
            }
            Err(error) => Ended::Lost {
                reason: words(&error),
                silent: kept && (error.is_io() || error.is_go_away()),
            },
        }
    }

    /// Waits until the server allows another stream; nothing once the connection is closed.
    async fn place(&self) -> Option<Place<'_>> {
        loop {
            let changed = self.streams.changed.notified();
            if !self.is_usable() {
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
                return Some(Place(&self.streams));
            }
            changed.await;
        }
    }

    pub fn was_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }
}

async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
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
    Ok(Answer {
        http_status: head.status.as_u16(),
        retry_after: head
            .headers
            .get(http::header::RETRY_AFTER)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body: match too_large {
            true => Received::TOO_LARGE,
            false => Received::Whole(body),
        },
    })
}

fn words(error: &h2::Error) -> String {
    match error.get_io() {
        Some(io) => super::connect::words(io),
        None => error.to_string(),
    }
}
