//! Decides whether a call tries again, and derives the outcome of a call from all its attempts.
//! Pure: no I/O and no clock.
//!
//! Deleting by id may be repeated safely, so temporary failures are retried. But once one attempt
//! may have been carried out, no later failure may turn the outcome of the call into "nothing was
//! deleted".

use std::time::{Duration, SystemTime};

use crate::answer::Verdict;
use crate::failure::{Failure, Purpose, Stage};
use crate::outcome::{name_of_code, sanitize, Outcome};
use crate::secret::Secret;
use crate::status::{Effect, Status};

/// The upper limit of the first pause; it doubles with each pause. The pauses are random.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How one attempt ended.
#[derive(Debug)]
pub enum Attempt {
    /// The server responded.
    Answered {
        http_status: u16,
        verdict: Verdict,
        retry_after: Option<Duration>,
        /// Whether the connection had served a request before.
        kept: bool,
    },
    /// There was no response.
    Failed(Failure),
}

impl Attempt {
    /// Whether it is certain that this attempt deleted nothing.
    pub fn deleted_nothing(&self) -> bool {
        match self {
            Self::Answered { verdict, .. } => verdict.status.effect() == Effect::NotDeleted,
            Self::Failed(_) => !self.is_in_doubt(),
        }
    }

    /// Whether the next attempt should use a new connection, because this one failed.
    pub fn blames_the_connection(&self) -> bool {
        match self {
            Self::Answered { .. } => self.was_too_late(),
            Self::Failed(failure) => matches!(failure.stage, Stage::Lost { .. }),
        }
    }

    /// Whether the server closed a kept connection (408) just when the request was sent.
    fn was_too_late(&self) -> bool {
        matches!(
            self,
            Self::Answered {
                http_status: 408,
                kept: true,
                verdict,
                ..
            } if verdict.status == Status::Rejected
        )
    }

    /// Whether it is unknown if the attempt was carried out.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Answered { verdict, .. } => verdict.status.effect() == Effect::Unknown,
            Self::Failed(failure) => matches!(failure.stage, Stage::Lost { .. } | Stage::TimedOut),
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// The call is over.
    Finish(Outcome),
    /// Wait this long, then try again.
    Retry(Duration),
}

/// The attempts of one call so far.
#[derive(Debug, Default)]
pub struct History {
    /// The number of attempts.
    tries: u32,
    /// The number of pauses, for the backoff; there is none after a dead kept connection.
    pauses: u32,
    /// The outcome of the latest attempt that may have been carried out.
    uncertain: Option<Outcome>,
    /// The outcome of the latest attempt.
    latest: Option<Outcome>,
}

/// The limits for the retries of a call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_retries: u32,
    /// Time left until the call's deadline.
    pub left: Duration,
    /// How long every request of this client has to wait (because another call got a 429).
    pub held_back: Duration,
    /// A random number in 0.0 … 1.0, by which the next pause's upper limit is multiplied.
    pub jitter: f64,
}

impl History {
    /// Adds an attempt and decides what to do next. `attempts` is the number of requests that may
    /// have been sent so far.
    pub fn next(
        &mut self,
        attempt: Attempt,
        attempts: u32,
        limits: Limits,
        secrets: &[&Secret],
    ) -> Step {
        self.tries += 1;
        let retry = retry_kind(&attempt);
        let in_doubt = attempt.is_in_doubt();
        let retry_after = match &attempt {
            Attempt::Answered { retry_after, .. } => *retry_after,
            Attempt::Failed(_) => None,
        };
        let mut outcome = report(&attempt, attempts, secrets).after(attempts);
        if outcome.status == Status::NotFound && self.uncertain.is_some() {
            outcome.status = Status::Gone;
            outcome.message = Status::Gone.message().into();
        }
        if in_doubt {
            self.uncertain = Some(outcome.clone());
        }
        self.latest = Some(outcome);

        if self.tries > limits.max_retries {
            return Step::Finish(self.conclude(attempts));
        }
        let pause = match retry {
            Retry::Never => return Step::Finish(self.conclude(attempts)),
            Retry::AtOnce => Duration::ZERO,
            Retry::AfterPause => {
                let pause = pause(self.pauses, limits.jitter, retry_after);
                self.pauses += 1;
                pause
            }
        }
        .max(limits.held_back);
        if pause >= limits.left {
            return Step::Finish(self.conclude(attempts));
        }
        Step::Retry(pause)
    }

    /// The outcome of the call when nothing more will be tried: the latest one, unless that says
    /// "not deleted" and an earlier attempt is in doubt.
    pub fn conclude(&mut self, attempts: u32) -> Outcome {
        let latest = self.latest.take();
        let outcome = match (latest, self.uncertain.take()) {
            (Some(latest), Some(uncertain)) if latest.status.effect() == Effect::NotDeleted => {
                uncertain
            }
            (Some(latest), _) => latest,
            (None, Some(uncertain)) => uncertain,
            (None, None) => Outcome::plain(Status::NotStarted),
        };
        outcome.after(attempts)
    }
}

enum Retry {
    Never,
    AtOnce,
    AfterPause,
}

fn retry_kind(attempt: &Attempt) -> Retry {
    match attempt {
        // This happens at most once in a row, because the next attempt uses a new connection.
        Attempt::Answered { .. } if attempt.was_too_late() => Retry::AtOnce,
        Attempt::Answered {
            http_status,
            verdict,
            ..
        } => {
            // A failure code of the API inside HTTP 200 counts like the same HTTP status.
            let number = match http_status {
                200..=299 => verdict.code,
                _ => i32::from(*http_status),
            };
            match (verdict.status, number) {
                (Status::RateLimited, _) => Retry::AfterPause,
                (Status::ServerError, 499 | 500 | 502 | 503 | 504) => Retry::AfterPause,
                _ => Retry::Never,
            }
        }
        Attempt::Failed(failure) => match failure.stage {
            Stage::Connect | Stage::Handshake | Stage::Unprocessed => Retry::AfterPause,
            Stage::Lost {
                again_at_once: false,
            } => Retry::AfterPause,
            Stage::Lost {
                again_at_once: true,
            } => Retry::AtOnce,
            Stage::Proxy
            | Stage::Certificate
            | Stage::ClientCertificate
            | Stage::Resources
            | Stage::TimedOut => Retry::Never,
        },
    }
}

/// The outcome of one attempt. `attempts`: the requests of the call that may have been sent so far.
fn report(attempt: &Attempt, attempts: u32, secrets: &[&Secret]) -> Outcome {
    match attempt {
        Attempt::Answered {
            http_status,
            verdict,
            ..
        } => {
            let mut outcome = Outcome::plain(verdict.status);
            if verdict.status != Status::Ok {
                outcome = Outcome::new(verdict.status, explain(*http_status, verdict, secrets));
            }
            outcome.code = verdict.code;
            outcome.http_status = i32::from(*http_status);
            outcome
        }
        Attempt::Failed(failure) => {
            failure.explain(Purpose::Deletion(attempts), secrets.iter().copied())
        }
    }
}

fn explain(http_status: u16, verdict: &Verdict, secrets: &[&Secret]) -> String {
    const DOUBT: &str = "so the instance may or may not have been deleted";
    let said = match http_status {
        0 | 200 => "the server answered".to_owned(),
        number => format!("the server said HTTP {number}"),
    };
    let mut text = match (verdict.status, verdict.reason) {
        (Status::BadResponse, reason) => {
            let reason = reason.unwrap_or("its answer cannot be interpreted");
            format!("Check the URL and call again with the same id: {said}, but {reason}, {DOUBT}.")
        }
        (Status::Rejected, Some(reason)) => {
            format!("Check the URL: {said}, and {reason}. Nothing was deleted.")
        }
        (Status::Rejected, None) if http_status == 407 => {
            "Check the proxy's user and password: it said HTTP 407. Nothing was deleted.".to_owned()
        }
        (Status::Rejected, None) if http_status != 200 => {
            format!("Check the URL and the id: {said}. Nothing was deleted.")
        }
        (Status::Rejected, None) if verdict.code != 200 => {
            let code = name_of_code(verdict.code);
            format!("Check the id: the API refused the deletion with {code}. Nothing was deleted.")
        }
        (Status::Rejected, None) => {
            "Check the id: the API refused the deletion. Nothing was deleted.".to_owned()
        }
        (Status::ServerError, _) => {
            // What a failing server writes into its body is not what it failed with.
            let code = name_of_code(match http_status {
                200..=299 => verdict.code,
                _ => http_status.into(),
            });
            format!("Call again with the same id: the server failed with {code}, {DOUBT}.")
        }
        (status, _) => status.message().to_owned(),
    };
    if let Some(description) = &verdict.description {
        let said = sanitize(description, secrets);
        if !said.is_empty() {
            text += &format!(" The API said: \"{said}\".");
        }
    }
    text
}

/// The pause after `earlier` other pauses: random, with an upper limit that doubles each time; or
/// the pause that the server asked for, if that is longer.
pub fn pause(earlier: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << earlier.min(16))
        .min(LONGEST_PAUSE)
        .mul_f64(jitter)
        .max(retry_after.unwrap_or_default())
}

/// Parses a `Retry-After` header, which is a number of seconds or an HTTP date.
pub fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too large for u64 means a very long time.
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{judge, Body};

    const LIMITS: Limits = Limits {
        max_retries: 3,
        left: Duration::from_secs(30),
        held_back: Duration::ZERO,
        jitter: 0.5,
    };

    fn answered(http_status: u16, body: &str) -> Attempt {
        Attempt::Answered {
            http_status,
            verdict: judge(http_status, Body::Whole(body.as_bytes())),
            retry_after: None,
            kept: false,
        }
    }

    fn too_late(kept: bool) -> Attempt {
        Attempt::Answered {
            http_status: 408,
            verdict: judge(408, Body::Whole(b"")),
            retry_after: None,
            kept,
        }
    }

    fn failed(stage: Stage) -> Attempt {
        Attempt::Failed(Failure::new(stage, "reason"))
    }

    const TRUE: &str = r#"{"deleteInstanceAccount":true}"#;
    const MISSING: &str = r#"{"code":404,"description":"Not found"}"#;
    const LOST: Stage = Stage::Lost {
        again_at_once: false,
    };
    const DEAD: Stage = Stage::Lost {
        again_at_once: true,
    };

    #[test]
    fn a_message_names_the_code_that_counts_and_no_other_number() {
        for (http_status, body, named) in [
            (500, r#"{"code":404}"#, "failed with 500"),
            (502, "", "failed with 502"),
            (200, r#"{"code":502}"#, "failed with 502"),
            (200, r#"{"code":77712345}"#, "failed with an unknown code"),
            (200, r#"{"code":466}"#, "the deletion with 466."),
            (
                200,
                r#"{"code":-412345}"#,
                "the deletion with an unknown code.",
            ),
            (200, r#"{"code":12}"#, "the deletion with an unknown code."),
        ] {
            let message = report(&answered(http_status, body), 1, &[]).message;
            assert!(message.contains(named), "{body}: {message}");
        }
    }

    /// Each row has the attempts of one call and the outcome that the call must have.
    #[test]
    fn lives() {
        use Status::*;
        let lives: Vec<(Vec<Attempt>, Status, i32)> = vec![
            (vec![answered(200, TRUE)], Ok, 200),
            (vec![answered(200, MISSING)], NotFound, 404),
            (vec![failed(LOST), answered(200, TRUE)], Ok, 200),
            (vec![failed(LOST), answered(200, MISSING)], Gone, 404),
            (vec![failed(DEAD), answered(200, MISSING)], Gone, 404),
            (vec![answered(502, ""), answered(200, MISSING)], Gone, 404),
            (vec![answered(499, ""), answered(200, MISSING)], Gone, 404),
            // After 429, a failed connection or a refused stream nothing is in doubt.
            (
                vec![failed(Stage::Unprocessed), answered(200, MISSING)],
                NotFound,
                404,
            ),
            (
                vec![answered(429, ""), answered(200, MISSING)],
                NotFound,
                404,
            ),
            (
                vec![failed(Stage::Connect), answered(200, MISSING)],
                NotFound,
                404,
            ),
            // After an attempt in doubt, a refusal does not settle the doubt.
            (
                vec![failed(LOST), failed(Stage::Certificate)],
                ConnectionLost,
                0,
            ),
            (vec![failed(LOST), answered(401, "")], ConnectionLost, 0),
            (vec![answered(502, ""), answered(403, "")], ServerError, 502),
            (
                vec![
                    answered(502, ""),
                    failed(Stage::Connect),
                    failed(Stage::Connect),
                    failed(Stage::Connect),
                ],
                ServerError,
                502,
            ),
            (
                vec![
                    failed(LOST),
                    answered(429, ""),
                    answered(429, ""),
                    answered(429, ""),
                ],
                ConnectionLost,
                0,
            ),
            // A later doubt replaces an earlier one.
            (
                vec![failed(LOST), answered(200, "<html>")],
                BadResponse,
                200,
            ),
            (vec![answered(502, ""), failed(Stage::TimedOut)], Timeout, 0),
            // Retries used up.
            (
                vec![
                    answered(429, ""),
                    answered(429, ""),
                    answered(429, ""),
                    answered(429, ""),
                ],
                RateLimited,
                429,
            ),
            (
                vec![
                    failed(Stage::Connect),
                    failed(Stage::Connect),
                    failed(Stage::Connect),
                    failed(Stage::Connect),
                ],
                ConnectFailed,
                0,
            ),
            (
                vec![
                    failed(Stage::Unprocessed),
                    failed(Stage::Unprocessed),
                    failed(Stage::Unprocessed),
                    failed(Stage::Unprocessed),
                ],
                Unprocessed,
                0,
            ),
            (
                vec![
                    failed(LOST),
                    failed(Stage::Unprocessed),
                    answered(200, MISSING),
                ],
                Gone,
                404,
            ),
            (
                vec![failed(LOST), failed(Stage::ClientCertificate)],
                ConnectionLost,
                0,
            ),
            // The server closed a kept connection just when the request was sent.
            (vec![too_late(true), answered(200, MISSING)], NotFound, 404),
            (vec![too_late(false)], Rejected, 408),
            // Not retried.
            (vec![failed(Stage::Proxy)], ConnectFailed, 0),
            (vec![failed(Stage::ClientCertificate)], TlsFailed, 0),
            (vec![answered(501, "")], ServerError, 501),
            (vec![answered(200, "<html>")], BadResponse, 200),
            (vec![failed(Stage::Certificate)], TlsFailed, 0),
            (vec![failed(Stage::Resources)], OutOfResources, 0),
            // The API's own failure inside HTTP 200.
            (
                vec![answered(200, r#"{"code":502}"#), answered(200, TRUE)],
                Ok,
                200,
            ),
        ];
        for (life, status, code) in lives {
            let described = format!("{life:?}");
            let (mut history, mut steps) = (History::default(), 0);
            let total = life.len();
            for attempt in life {
                steps += 1;
                match history.next(attempt, steps, LIMITS, &[]) {
                    Step::Finish(outcome) => {
                        assert_eq!(
                            (outcome.status, outcome.code),
                            (status, code),
                            "{described}"
                        );
                        break;
                    }
                    Step::Retry(_) => assert!((steps as usize) < total, "no end: {described}"),
                }
            }
            assert_eq!(steps as usize, total, "stopped early: {described}");
        }
    }

    #[test]
    fn pauses_grow_with_full_jitter_and_a_dead_kept_connection_needs_none() {
        let limits = Limits {
            max_retries: 100,
            ..LIMITS
        };
        let pauses = |jitter: f64| {
            let mut history = History::default();
            (0..8)
                .map(
                    |_| match history.next(failed(LOST), 1, Limits { jitter, ..limits }, &[]) {
                        Step::Retry(pause) => pause.as_millis(),
                        Step::Finish(outcome) => panic!("{outcome:?}"),
                    },
                )
                .collect::<Vec<_>>()
        };
        assert_eq!(pauses(1.0), [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(pauses(0.5), [100, 200, 400, 800, 1600, 2500, 2500, 2500]);
        assert_eq!(pauses(0.0), [0; 8]);
        assert!(matches!(
            History::default().next(failed(DEAD), 1, LIMITS, &[]),
            Step::Retry(Duration::ZERO)
        ));
    }

    #[test]
    fn a_pause_that_would_cross_the_deadline_ends_the_call() {
        let throttled = |seconds| Attempt::Answered {
            http_status: 429,
            verdict: judge(429, Body::Whole(b"")),
            retry_after: Some(Duration::from_secs(seconds)),
            kept: false,
        };
        let limits = Limits {
            left: Duration::from_secs(2),
            ..LIMITS
        };
        assert!(matches!(
            History::default().next(throttled(1), 1, limits, &[]),
            Step::Retry(pause) if pause == Duration::from_secs(1)
        ));
        assert!(matches!(
            History::default().next(throttled(2), 1, limits, &[]),
            Step::Finish(outcome) if outcome.status == Status::RateLimited
        ));
        let held_back = Limits {
            held_back: Duration::from_secs(3),
            ..limits
        };
        assert!(matches!(
            History::default().next(failed(LOST), 1, held_back, &[]),
            Step::Finish(outcome) if outcome.status == Status::ConnectionLost
        ));
    }

    #[test]
    fn only_a_call_without_a_request_says_that_none_was_sent() {
        for stage in [
            Stage::Connect,
            Stage::Proxy,
            Stage::Handshake,
            Stage::Certificate,
            Stage::Resources,
        ] {
            for (sent, said) in [
                (0, "No request was sent."),
                (1, "The request was not sent again: nothing was deleted."),
            ] {
                let mut history = History::default();
                let limits = Limits {
                    max_retries: sent,
                    ..LIMITS
                };
                if sent > 0 {
                    let step = history.next(answered(429, ""), sent, limits, &[]);
                    assert!(matches!(step, Step::Retry(_)));
                }
                match history.next(failed(stage), sent, limits, &[]) {
                    Step::Finish(outcome) => {
                        assert!(outcome.message.ends_with(said), "{}", outcome.message)
                    }
                    step => panic!("{stage:?}: {step:?}"),
                }
            }
        }
    }

    #[test]
    fn no_retry_means_one_attempt() {
        let limits = Limits {
            max_retries: 0,
            ..LIMITS
        };
        for stage in [LOST, DEAD, Stage::Connect] {
            assert!(matches!(
                History::default().next(failed(stage), 1, limits, &[]),
                Step::Finish(_)
            ));
        }
    }

    #[test]
    fn retry_after_has_two_forms() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 12:00:00 GMT").unwrap();
        let seconds = |header| retry_after(header, now).map(|pause| pause.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds(" 17 "), Some(17));
        assert_eq!(seconds("Sun, 22 Nov 2026 12:00:05 GMT"), Some(5));
        assert_eq!(seconds("Sun, 22 Nov 2026 11:00:00 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        for header in ["", "-1", "1.5", "soon", "１"] {
            assert_eq!(seconds(header), None, "{header:?}");
        }
    }

    #[test]
    fn messages_say_what_the_api_said_but_never_a_secret() {
        let token = Secret::new("gac.5ecre7");
        let attempt = answered(200, r#"{"code":404,"description":"No gac.5ecre7\nhere"}"#);
        let Step::Finish(outcome) = History::default().next(attempt, 1, LIMITS, &[&token]) else {
            panic!("a 404 is final")
        };
        assert!(
            outcome.message.ends_with("The API said: \"No … here\"."),
            "{}",
            outcome.message
        );
    }
}
