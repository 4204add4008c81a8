//! Describes a request without a usable response: what failed, and how far the request got. The
//! transport produces a [`Failure`]; the retry rules and the messages are derived from it.

use crate::outcome::Outcome;
use crate::secret::{redact, Secret};
use crate::status::Status;

/// Why an attempt brought no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    /// What happened, in the library's own words (never a server's text), without a full stop.
    pub reason: String,
    /// What the caller should do, if the general advice for this stage does not fit.
    pub advice: Option<&'static str>,
}

/// How far an attempt without a response got. In the stages up to and including `Resources`, no
/// byte of the request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No connection could be made.
    Connect,
    /// The proxy cannot be used or refuses the login. Not retried: waiting does not help, and
    /// repeated failed logins can lock the proxy account.
    Proxy,
    /// The TLS handshake failed in a way that another attempt may not: the connection broke, or the
    /// server sent a TLS alert that can be temporary.
    Handshake,
    /// The server's certificate or the TLS version was refused. Not retried: another attempt would
    /// fail the same way.
    Certificate,
    /// This process is out of descriptors, threads or memory.
    Resources,
    /// The server refused the TLS 1.3 handshake because it wants a client certificate. The request
    /// had already been sent, because a TLS 1.3 client finishes the handshake first; but a server
    /// that refuses the handshake does not carry out the request.
    ClientCertificate,
    /// The connection broke after the request may have been sent. `again_at_once`: retry without a
    /// pause, because a new connection is likely to work: the broken one had served earlier
    /// requests and brought no byte of this response, or the server asked for HTTP/1.1.
    Lost { again_at_once: bool },
    /// The server stated that it did not process the request (HTTP/2: REFUSED_STREAM, or a GOAWAY
    /// whose last stream is an earlier one).
    Unprocessed,
    /// The deadline passed after the request may have been sent.
    TimedOut,
}

impl Stage {
    /// Whether no byte of the request was sent.
    pub fn is_before_sending(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Proxy | Self::Handshake | Self::Certificate | Self::Resources
        )
    }
}

/// The purpose of the failed request; its messages depend on it.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// A deletion; with the number of its requests that may have been sent so far.
    Deletion(u32),
    /// A request that only reads: `what` it asked for, like "the list of instances", and the
    /// `consequence` of the failure, like "so no deletion was sent".
    Question {
        what: &'static str,
        consequence: &'static str,
    },
}

impl Failure {
    pub fn new(stage: Stage, reason: impl Into<String>) -> Self {
        Self {
            stage,
            reason: reason.into(),
            advice: None,
        }
    }

    /// Replaces the general advice for the stage.
    pub fn advise(self, advice: &'static str) -> Self {
        Self {
            advice: Some(advice),
            ..self
        }
    }

    /// The outcome of a call that ends with this failure; its message says what to do, then what
    /// happened. `secrets` are removed from the reason, in case a library put one there.
    pub fn explain<'s>(
        &self,
        purpose: Purpose,
        secrets: impl IntoIterator<Item = &'s Secret>,
    ) -> Outcome {
        let reason = redact(&self.reason, secrets);
        let (status, advice) = match self.stage {
            Stage::Connect => (Status::ConnectFailed, "Check the host and the network"),
            Stage::Proxy => (Status::ConnectFailed, "Check the proxy and its login"),
            Stage::Handshake => (Status::TlsFailed, "Call again"),
            Stage::Certificate => (Status::TlsFailed, "Check the server's certificate"),
            Stage::ClientCertificate => (
                Status::TlsFailed,
                "Check the URL: this server requires a client certificate, which greenapi does not support",
            ),
            Stage::Resources => (
                Status::OutOfResources,
                "Free descriptors, threads or memory and call again",
            ),
            Stage::Lost { .. } => (Status::ConnectionLost, "Call again with the same id"),
            Stage::Unprocessed => (Status::Unprocessed, "Call again"),
            Stage::TimedOut => (Status::Timeout, "Call again with the same id"),
        };
        let advice = self.advice.unwrap_or(advice);
        const DOUBT: &str = "so the instance may or may not have been deleted";
        match purpose {
            Purpose::Deletion(attempts) => {
                let what = match self.stage {
                    Stage::ClientCertificate => {
                        format!("{reason}. The request was not carried out")
                    }
                    Stage::Lost { .. } => {
                        format!("the connection broke before the answer ({reason}), {DOUBT}")
                    }
                    Stage::TimedOut => format!("no answer in time ({reason}), {DOUBT}"),
                    Stage::Unprocessed => format!(
                        "the server did not process the request ({reason}), so nothing was deleted"
                    ),
                    _ if attempts == 0 => format!("{reason}. No request was sent"),
                    // The outcome is this one only if every earlier request was refused.
                    _ => format!("{reason}. The request was not sent again: nothing was deleted"),
                };
                Outcome::new(status, format!("{advice}: {what}."))
            }
            Purpose::Question { what, consequence } => {
                // Repeating a question is always safe, so the advice need not ask for the same id.
                let advice = advice.trim_end_matches(" with the same id");
                Outcome::new(
                    status,
                    format!("{advice}: {reason}, while asking for {what}, {consequence}."),
                )
            }
        }
    }
}
