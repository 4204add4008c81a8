//! Sends one request and receives one response, over connections that are kept open.
//!
//! This file holds the types that the parts share. A failure is reported by *how far the request
//! got* ([`crate::failure::Stage`]), because the retries and the statuses depend on whether a byte
//! of the request can have been sent. [`CallState`] records that immediately before the first byte
//! is sent.
//!
//! Requests that only read use reqwest ([`reading`]). The deletion has its own exchange, because a
//! general client cannot tell whether a byte was sent (over HTTP/1.1 and HTTP/2, at every moment),
//! and needs more memory: here 10,000 connections take some dozen megabytes.

mod certificates;
mod connect;
mod dns;
mod exchange;
mod http1;
mod http2;
mod pool;
mod proxy;
mod reading;
mod reasons;
mod request;
mod stream;
mod tls;
mod workers;

use std::time::Duration;

pub use dns::Resolver;
pub use exchange::Transport;
pub use proxy::Proxies;
pub use reading::StreamedResponse;
pub use request::{Request, RequestTemplate};
pub use tls::Trust;

use crate::answer::Body;

/// A connection that has not been used for this long is closed.
const KEEP: Duration = Duration::from_secs(60);

/// The call that a request is sent for, as far as the transport needs to know it.
pub trait CallState: Sync {
    /// The first byte is about to be sent. False: the call is over, and nothing may be sent.
    fn begin_send(&self) -> bool;
    /// After `begin_send`, no byte was sent after all.
    fn retract(&self);
    /// Whether the caller cancelled the call.
    fn is_cancelled(&self) -> bool;
}

/// The server's response.
#[derive(Debug)]
pub struct Response {
    /// 0 if the response was not HTTP.
    pub http_status: u16,
    pub retry_after: Option<String>,
    pub body: ResponseBody,
    /// Whether the connection had served a request before.
    pub kept: bool,
}

impl Response {
    /// A response that was not HTTP.
    fn not_http(reason: &'static str) -> Self {
        Self {
            http_status: 0,
            retry_after: None,
            body: ResponseBody::Unreadable(reason),
            kept: false,
        }
    }
}

/// A body, as far as it could be read.
#[derive(Debug)]
pub enum ResponseBody {
    Whole(Vec<u8>),
    Unreadable(&'static str),
}

impl ResponseBody {
    const HEAD_TOO_LONG: &str = "the head of its answer is longer than 64 KiB";
    const TOO_LARGE: Self = Self::Unreadable("its answer is larger than 64 KiB");

    pub fn body(&self) -> Body<'_> {
        match self {
            Self::Whole(bytes) => Body::Whole(bytes),
            Self::Unreadable(reason) => Body::Unreadable(reason),
        }
    }
}

/// How one request over one connection ended.
enum Ended {
    /// With a response; the flag says whether the connection can serve another request.
    Answered(Response, bool),
    /// No byte of the request was sent.
    Unsent(String),
    /// The request was sent, and the server stated that it did not process it.
    Unprocessed(String),
    /// The server refused the handshake because it wants a client certificate.
    ClientRefused(String),
    /// The connection broke. `again_at_once`: see [`crate::failure::Stage::Lost`].
    Lost { reason: String, again_at_once: bool },
}

#[cfg(test)]
mod tests {
    /// A call that nobody cancels.
    pub struct NeverCancelled;

    impl super::CallState for NeverCancelled {
        fn begin_send(&self) -> bool {
            true
        }
        fn retract(&self) {}
        fn is_cancelled(&self) -> bool {
            false
        }
    }
}
