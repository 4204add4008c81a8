//! Why a request has no response, and how far it got: the words in which the transport reports to
//! those who retry and explain.

use crate::outcome::Outcome;
use crate::secret::{redact, Secret};
use crate::status::Status;

/// Why an attempt has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    /// In the library's own words: what happened, without a full stop.
    pub reason: String,
    /// What to do where the stage's own advice is not the best.
    pub advice: Option<&'static str>,
}

/// How far an attempt without an answer got. Up to `Resources` not one byte of the request left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No connection.
    Connect,
    /// A proxy that cannot be used, or that refuses the login: that does not pass by itself, and
    /// trying again locks accounts.
    Proxy,
    /// A connection that broke during the handshake, or an alert that can pass.
    Handshake,
    /// A certificate or a protocol that was refused: that does not pass by itself.
    Certificate,
    /// This process is out of descriptors, threads or memory.
    Resources,
    /// The server refused the handshake for want of a client certificate, after the request had
    /// left: in TLS 1.3 the client is done first. A handshake without an end carries out nothing.
    ClientCertificate,
    /// The connection broke after the request may have been sent. `again_at_once`: another
    /// connection is likely to do better, because this one had served earlier requests and gave
    /// not one byte of an answer, or because the server asked for HTTP/1.1.
    Lost { again_at_once: bool },
    /// The server said that it has not looked at the request (HTTP/2's REFUSED_STREAM, or a GOAWAY
    /// whose last stream is an earlier one).
    Unprocessed,
    /// The deadline passed after the request may have been sent.
    TimedOut,
}

/// What a request that failed was for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    Deletion,
    /// A question, like "the list of instances", and what follows from its want, like "so no
    /// deletion was sent".
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

    /// The same with this advice in the place of the stage's own.
    pub fn advise(self, advice: &'static str) -> Self {
        Self {
            advice: Some(advice),
            ..self
        }
    }

    /// The outcome of a call that ends with this failure: what to do, then what happened.
    /// `secrets`: what nothing may show, whoever wrote the reason.
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
                "Check the URL: this server wants a client certificate, and greenapi shows none",
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
            Purpose::Deletion => {
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
                    _ => format!("{reason}. No request was sent"),
                };
                Outcome::new(status, format!("{advice}: {what}."))
            }
            Purpose::Question { what, consequence } => {
                // Asking does no harm, whatever became of the question.
                let advice = advice.trim_end_matches(" with the same id");
                Outcome::new(
                    status,
                    format!("{advice}: {reason}, while asking for {what}, {consequence}."),
                )
            }
        }
    }
}
