//! Faults on demand: the rules, the faults that they apply, and the book that chooses a rule.
//!
//! A [`Rule`] says which requests it matches and how often; its [`Fault`] says what happens to
//! them. Every field of a fault is optional, and the fields combine: one fault may set a status, a
//! delay before the answer, and a reset after half of the body.

use std::sync::Arc;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::api::Operation;

/// Which requests a rule matches.
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

/// One rule. The first rule that matches a request is applied to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The method of the requests.
    pub method: Target,
    /// The instance of the requests; `None` for all.
    pub id: Option<i64>,
    /// To how many requests the rule is applied; `None` for no limit.
    pub times: Option<u64>,
    /// How many matching requests the rule first lets pass.
    pub skip: u64,
    /// The probability that the rule is applied to a matching request, drawn from the seeded
    /// generator.
    pub chance: f64,
    /// What happens to the requests.
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
    /// The request's head is read, but not its body.
    Head,
    /// The whole request is read, but not carried out.
    Received,
    /// The request is carried out, but not answered.
    Acted,
    /// Half of the answer's head is sent.
    HalfHead,
    /// The answer's head and half of its body are sent.
    HalfBody,
    /// The whole answer is sent (the default).
    Answered,
    /// Another spelling of [`Fault::hold`]; the request then goes on to a whole answer.
    Hold,
}

/// What happens to the connection at the end of a [`Stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// An orderly end: `Connection: close` (HTTP/2: GOAWAY) if an answer is sent, TLS
    /// `close_notify`, FIN.
    Fin,
    /// A real RST (`SO_LINGER` 0).
    Reset,
    /// The connection stays open, but nothing more is sent.
    Stall,
    /// A FIN without `Connection: close` and `close_notify`.
    CloseUnannounced,
}

/// A body that repeats a text. The body is streamed, so it may be larger than memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyRepeat {
    /// The text.
    pub text: String,
    /// How many times; `None` for an endless body.
    #[serde(default)]
    pub times: Option<u64>,
}

/// What happens to a request. The default is a normal answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// How far the request gets; by default to a whole answer.
    pub stage: Option<Stage>,
    /// How the exchange ends; by default the connection is kept after a whole answer, and ends with
    /// `fin` at an earlier stage.
    pub then: Option<Then>,
    /// Whether the request is carried out; by default yes, unless the answer is overridden.
    pub act: Option<bool>,
    /// Holds the request until it is released: before it is carried out, or afterwards at the stage
    /// `acted`.
    pub hold: bool,
    /// Waits this long after acting, before the answer or the hang-up.
    pub delay_ms: u64,
    /// Another HTTP status. Without a body, 2xx keeps the documented body and other statuses get
    /// the HTML page of a reverse proxy.
    pub status: Option<u16>,
    /// Another reason phrase (HTTP/1.1).
    pub reason: Option<String>,
    /// More header fields. A field with the name of one of the answer's fields replaces it.
    pub headers: Vec<(String, String)>,
    /// Another body.
    pub body: Option<String>,
    /// Another body, as base64.
    pub body_base64: Option<Base64>,
    /// Another body, streamed.
    pub body_repeat: Option<BodyRepeat>,
    /// This `Content-Length`, whatever the length of the body.
    pub content_length: Option<u64>,
    /// Sends the body in chunks (HTTP/1.1).
    pub chunked: bool,
    /// Sends no length, so that the end of the connection ends the body (HTTP/1.1).
    pub no_length: bool,
    /// Sends a chunk size that is not a number (HTTP/1.1).
    pub invalid_chunking: bool,
    /// Exact characters instead of the answer (HTTP/1.1).
    pub raw: Option<String>,
    /// Exact bytes instead of the answer (HTTP/1.1).
    pub raw_base64: Option<Base64>,
    /// A head that never ends instead of the answer (HTTP/1.1).
    pub endless_header: bool,
    /// Sends one byte of the answer at this interval in milliseconds (HTTP/2: of the body).
    pub trickle_ms: Option<u64>,
    /// First sends this number of informational responses, 103 and 100 in turn.
    pub informational: u32,
    /// Sends two answers to one request (HTTP/1.1).
    pub twice: bool,
    /// Answers before the request's body is read.
    pub early: bool,
    /// RST_STREAM with this code instead of the answer (HTTP/2).
    pub h2_reset: Option<u32>,
    /// GOAWAY with this code instead of the answer, and the end of the connection (HTTP/2).
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

    /// The exact bytes to send instead of an answer.
    pub(crate) fn raw_bytes(&self) -> Option<Bytes> {
        exact(&self.raw_base64, &self.raw)
    }

    /// The body that replaces the documented one, unless it is a repeated text.
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

/// Bytes that are base64 in JSON. A rule with invalid base64 is refused.
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

/// A rule, and how often it was applied.
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

/// The rules in their order, and the random generator of their chances.
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

    /// Whether the choice of a rule for this operation depends on the instance's id. The id of a
    /// deletion is known only once the body is read.
    pub(crate) fn depends_on_id(&self, operation: Operation) -> bool {
        self.rules.iter().any(|armed| {
            armed.rule.id.is_some() && armed.rule.method.meets(operation) && !armed.used_up()
        })
    }

    /// The fault for a request, if a rule matches.
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
            // A rule with a chance of 1 draws no number, so that adding one does not change the
            // numbers that other rules get.
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
    fn the_first_rule_that_is_not_used_up_applies() {
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
    fn the_same_seed_gives_the_same_choices() {
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
