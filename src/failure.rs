//! Why a request has no response, and how far it got: the words in which the transport reports to
//! those who retry and explain.

/// Why an attempt has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    /// In plain words and free of secrets, to be put between "…:" and a full stop.
    pub reason: String,
}

/// How far an attempt without an answer got. Everything before `Lost` means by fact that not one
/// byte of the request left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No connection.
    Connect,
    /// A connection that broke during the handshake: that can pass.
    Handshake,
    /// A certificate or a protocol that was refused: that does not pass by itself.
    Certificate,
    /// This process is out of descriptors, threads or memory.
    Resources,
    /// The connection broke after the request may have been sent. `kept`: it had served earlier
    /// requests and gave not one byte of an answer, so most likely it was dead already.
    Lost { kept: bool },
    /// The server said that it has not looked at the request (HTTP/2's REFUSED_STREAM).
    Unprocessed,
    /// The deadline passed after the request may have been sent.
    TimedOut,
}
