//! What can go wrong on demand: rules, the faults they apply, and the book that picks them.
//!
//! A [`Rule`] says which requests it meets and how often; its [`Fault`] says what happens to
//! them. Every field of a fault is optional, and the fields combine: a status, a delay before it
//! and a reset after half of its body are one fault.

use std::sync::Arc;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::api::Operation;

/// Which requests a rule meets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// `POST …/partner/createInstance/…`
    Create,
    /// `POST …/partner/deleteInstanceAccount/…`
    Delete,
    /// `GET …/partner/getInstances/…`
    List,
    /// `GET …/waInstance…/getStateInstance/…`
    State,
    /// `GET …/waInstance…/logout/…`
    Logout,
    /// Every request, unknown paths included.
    #[default]
    Any,
}

impl Target {
    fn meets(self, operation: Operation) -> bool {
        match self {
            Target::Any => true,
            Target::Create => operation == Operation::Create,
            Target::Delete => operation == Operation::Delete,
            Target::List => operation == Operation::List,
            Target::State => operation == Operation::State,
            Target::Logout => operation == Operation::Logout,
        }
    }
}

/// One rule: the first of the book that meets a request is applied to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Which requests.
    pub method: Target,
    /// Only those about this instance; `None` for all.
    pub id: Option<i64>,
    /// How many requests the rule is applied to before it is used up; `None` for always.
    pub times: Option<u64>,
    /// How many matching requests it lets pass first.
    pub skip: u64,
    /// The probability of applying to a matching request, from the seeded generator.
    pub chance: f64,
    /// What happens.
    pub fault: Fault,
}

impl Default for Rule {
    fn default() -> Self {
        Rule {
            method: Target::Any,
            id: None,
            times: None,
            skip: 0,
            chance: 1.0,
            fault: Fault::default(),
        }
    }
}

/// How far a request gets before [`Fault::then`] happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request's head is read, its body is not.
    Head,
    /// The whole request is read, and not acted on.
    Received,
    /// The request is carried out, nothing is answered.
    Acted,
    /// Half of the answer's head is sent.
    HalfHead,
    /// The answer's head and half of its body are sent.
    HalfBody,
    /// The whole answer is sent (what happens without a stage).
    Answered,
    /// Another spelling of [`Fault::hold`]; the request then goes on to a whole answer.
    Hold,
}

/// What happens to the connection at the end of a [`Stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// An orderly end: announced by `Connection: close` (HTTP/2: GOAWAY) where an answer is
    /// sent, TLS `close_notify`, FIN.
    Fin,
    /// A real RST (`SO_LINGER` 0).
    Reset,
    /// The connection stays open and says nothing more.
    Stall,
    /// A bare FIN: neither `Connection: close` nor `close_notify` came before it.
    CloseUnannounced,
}

/// A text repeated as a body; streamed, so it may be larger than memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyRepeat {
    /// The text.
    pub text: String,
    /// How many times; `None` for endlessly.
    #[serde(default)]
    pub times: Option<u64>,
}

/// What happens to a request. The default does nothing at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// How far the request gets; default: a whole answer.
    pub stage: Option<Stage>,
    /// What happens to the connection then; default: it is kept after a whole answer, and
    /// `fin` otherwise.
    pub then: Option<Then>,
    /// Whether the request is carried out; default: yes, unless the answer is overridden.
    pub act: Option<bool>,
    /// Keeps the request waiting for a release: before it is carried out, or after when the
    /// stage is `acted`.
    pub hold: bool,
    /// Waits this long after acting, before the answer or the hang-up.
    pub delay_ms: u64,
    /// Another HTTP status. Without a body, 2xx keeps the documented body and the others get a
    /// front server's HTML page.
    pub status: Option<u16>,
    /// Another reason phrase (HTTP/1.1).
    pub reason: Option<String>,
    /// More header fields; one of the answer's own names replaces it.
    pub headers: Vec<(String, String)>,
    /// Another body.
    pub body: Option<String>,
    /// Another body, as base64.
    pub body_base64: Option<Base64>,
    /// Another body, streamed.
    pub body_repeat: Option<BodyRepeat>,
    /// A `Content-Length` whatever the body's length is.
    pub content_length: Option<u64>,
    /// The body in chunks (HTTP/1.1).
    pub chunked: bool,
    /// The body ends where the connection does (HTTP/1.1).
    pub no_length: bool,
    /// Chunked, with a chunk size that is no number (HTTP/1.1).
    pub invalid_chunking: bool,
    /// These exact characters in place of the answer (HTTP/1.1).
    pub raw: Option<String>,
    /// These exact bytes in place of the answer (HTTP/1.1).
    pub raw_base64: Option<Base64>,
    /// A head that never ends in place of the answer (HTTP/1.1).
    pub endless_header: bool,
    /// One byte of the answer every so many milliseconds (HTTP/2: of its body).
    pub trickle_ms: Option<u64>,
    /// So many informational answers first, 103 and 100 in turn.
    pub informational: u32,
    /// Two answers to the one request (HTTP/1.1).
    pub twice: bool,
    /// Answers before the request's body is read.
    pub early: bool,
    /// RST_STREAM with this code in place of the answer (HTTP/2).
    pub h2_reset: Option<u32>,
    /// GOAWAY with this code, and the end of the connection, in place of the answer (HTTP/2).
    pub h2_goaway: Option<u32>,
}

impl Fault {
    /// How far the request gets.
    pub(crate) fn stage(&self) -> Stage {
        match self.stage {
            None | Some(Stage::Hold) => Stage::Answered,
            Some(stage) => stage,
        }
    }

    /// Whether the request waits for a release.
    pub(crate) fn holds(&self) -> bool {
        self.hold || self.stage == Some(Stage::Hold)
    }

    /// What happens to the connection at a stage before the whole answer.
    pub(crate) fn hang_up(&self) -> Then {
        self.then.unwrap_or(Then::Fin)
    }

    /// Whether the request is carried out.
    pub(crate) fn acts(&self) -> bool {
        self.act.unwrap_or(!self.overrides_answer())
    }

    fn overrides_answer(&self) -> bool {
        self.status.is_some()
            || self.overrides_body()
            || self.raw_bytes().is_some()
            || self.endless_header
            || self.h2_reset.is_some()
            || self.h2_goaway.is_some()
    }

    pub(crate) fn overrides_body(&self) -> bool {
        self.body.is_some() || self.body_base64.is_some() || self.body_repeat.is_some()
    }

    /// The exact bytes to send in place of an answer.
    pub(crate) fn raw_bytes(&self) -> Option<Bytes> {
        exact(&self.raw_base64, &self.raw)
    }

    /// The body to send in place of the documented one, when it is not a repeated one.
    pub(crate) fn body_bytes(&self) -> Option<Bytes> {
        exact(&self.body_base64, &self.body)
    }
}

fn exact(base64: &Option<Base64>, text: &Option<String>) -> Option<Bytes> {
    match (base64, text) {
        (Some(Base64(bytes)), _) => Some(bytes.clone()),
        (None, Some(text)) => Some(Bytes::copy_from_slice(text.as_bytes())),
        (None, None) => None,
    }
}

/// Bytes written as base64 in JSON, so that what is no base64 is refused with the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Base64(pub Bytes);

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Base64(BASE64.decode(text)?.into()))
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        BASE64.encode(bytes.0)
    }
}

/// A rule under way.
struct Armed {
    rule: Rule,
    fault: Arc<Fault>,
    skipped: u64,
    applied: u64,
}

impl Armed {
    fn used_up(&self) -> bool {
        self.rule.times.is_some_and(|times| self.applied >= times)
    }
}

/// The rules in their order, and the generator behind their chances.
pub(crate) struct FaultBook {
    rules: Vec<Armed>,
    random: fastrand::Rng,
}

impl FaultBook {
    pub(crate) fn new(seed: u64) -> Self {
        FaultBook {
            rules: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    pub(crate) fn reseed(&mut self, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
    }

    pub(crate) fn append(&mut self, rules: impl IntoIterator<Item = Rule>) {
        self.rules.extend(rules.into_iter().map(|rule| Armed {
            fault: Arc::new(rule.fault.clone()),
            rule,
            skipped: 0,
            applied: 0,
        }));
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Whether a choice for this operation depends on the instance's id, which for a deletion
    /// is only known once the body is read.
    pub(crate) fn depends_on_id(&self, operation: Operation) -> bool {
        self.rules.iter().any(|armed| {
            armed.rule.id.is_some() && armed.rule.method.meets(operation) && !armed.used_up()
        })
    }

    /// The fault for a request, if a rule meets it.
    pub(crate) fn pick(&mut self, operation: Operation, id: Option<i64>) -> Option<Arc<Fault>> {
        for armed in &mut self.rules {
            let rule = &armed.rule;
            if !rule.method.meets(operation)
                || (rule.id.is_some() && rule.id != id)
                || armed.used_up()
            {
                continue;
            }
            if armed.skipped < rule.skip {
                armed.skipped += 1;
                continue;
            }
            // No draw where nothing is left to chance: certain rules must not shift the
            // sequence of the others.
            if rule.chance < 1.0 && self.random.f64() >= rule.chance {
                continue;
            }
            armed.applied += 1;
            return Some(Arc::clone(&armed.fault));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_is_left_applies() {
        let mut book = FaultBook::new(1);
        let rule = |status, times, skip| Rule {
            method: Target::Delete,
            times,
            skip,
            fault: Fault {
                status: Some(status),
                ..Fault::default()
            },
            ..Rule::default()
        };
        book.append([rule(500, Some(1), 1), rule(502, Some(2), 0)]);
        let mut picked = || book.pick(Operation::Delete, None).and_then(|f| f.status);
        assert_eq!(picked(), Some(502));
        assert_eq!(picked(), Some(500));
        assert_eq!(picked(), Some(502));
        assert_eq!(picked(), None);
    }

    #[test]
    fn chance_repeats_with_its_seed() {
        let draw = |seed| {
            let mut book = FaultBook::new(seed);
            book.append([Rule {
                chance: 0.5,
                ..Rule::default()
            }]);
            (0..64)
                .map(|_| book.pick(Operation::State, None).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<Rule>(r#"{"fault":{"statsu":500}}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"fault":{"raw_base64":"?"}}"#).is_err());
    }
}
