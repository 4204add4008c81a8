//! One request out, one response back, over connections that are kept.
//!
//! This file holds the words that the parts share. Whatever goes wrong is reported by *how far it
//! got* ([`crate::failure::Stage`]): the retries and the status table rest on knowing whether a
//! byte of the request can have left. The [`CallState`] is where that is noted, at the moment
//! before the first byte.
//!
//! reqwest would do most of this, and does it for what only reads ([`reading`]). The deletion has
//! its own exchange because of what a general client does not give: the fact whether a byte left,
//! on both protocols and at every moment, and 10,000 connections in some dozen megabytes.

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

/// A kept connection that has not been used for so long is closed.
const KEEP: Duration = Duration::from_secs(60);

/// The call that a request is sent for, as far as the transport needs to know it.
pub trait CallState: Sync {
    /// The first byte is about to be written. False: the call is over, and nothing may be.
    fn begin_send(&self) -> bool;
    /// Not one byte was written after all.
    fn retract(&self);
    /// Whether the caller cancelled the call.
    fn is_cancelled(&self) -> bool;
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// 0 where the answer was not HTTP.
    pub http_status: u16,
    pub retry_after: Option<String>,
    pub body: ResponseBody,
    /// Whether the connection had served a request before.
    pub kept: bool,
}

impl Response {
    /// What came in the place of an HTTP answer.
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
    /// And whether the connection can serve another.
    Answered(Response, bool),
    /// Not one byte of the request left.
    Unsent(String),
    /// It left, and the server said that it has not looked at it.
    Unprocessed(String),
    /// The server refused the handshake for want of a client certificate.
    ClientRefused(String),
    /// `again_at_once`: as [`crate::failure::Stage::Lost`] has it.
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
