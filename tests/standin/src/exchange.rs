//! What happens between a request and its answer, for all versions of HTTP.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Answer, Call};
use crate::fault::{Fault, Stage};
use crate::world::Shared;

/// What is known about a request's fault before its body is read.
pub(crate) enum Choice {
    /// The fault is chosen; it may be the one that does nothing.
    Made(Arc<Fault>),
    /// The choice depends on the id in the body.
    Open,
}

/// How an exchange continues after the request was read.
pub(crate) enum Verdict {
    /// This answer is sent.
    Answer(Answer),
    /// The connection ends as the fault says, without an answer.
    HangUp,
    /// The client disconnected, or `POST /reset` dropped the request.
    Abandoned,
}

/// State shared by all requests of one listener.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) shared: Arc<Shared>,
    /// A fault of the listener itself, which replaces those of the rules.
    pub(crate) fixed: Option<Arc<Fault>>,
}

impl Exchange {
    /// Chooses the fault when the request's head is read.
    pub(crate) fn choose_early(&self, call: &Call) -> Choice {
        match &self.fixed {
            Some(fault) => Choice::Made(Arc::clone(fault)),
            None if call.id().is_none() && self.shared.fault_depends_on_id(call.operation()) => {
                Choice::Open
            }
            None => Choice::Made(self.choose(call)),
        }
    }

    /// Chooses the fault when everything about the request is known.
    pub(crate) fn choose(&self, call: &Call) -> Arc<Fault> {
        self.shared
            .pick_fault(call.operation(), call.id())
            .unwrap_or_default()
    }

    /// The answer to a request whose body is not read yet. For a deletion it reports success,
    /// whatever the body will contain.
    pub(crate) async fn answer_early(&self, call: &Call, fault: &Fault) -> Answer {
        delay(fault).await;
        let natural = match call {
            Call::Delete { .. } => Answer::json(200, r#"{"deleteInstanceAccount":true}"#),
            _ => self.shared.answer(call, fault.acts()),
        };
        natural.with(fault, &self.shared)
    }

    /// Counts and carries out a request that was answered before its body was read.
    pub(crate) fn act_late(&self, call: &Call, fault: &Fault) {
        self.note_deletion(call);
        if fault.acts() && matches!(call, Call::Delete { .. }) {
            self.shared.answer(call, true);
        }
    }

    /// Carries out a request that was read completely. `gone` completes when the client
    /// disconnects.
    pub(crate) async fn carry_out(
        &self,
        call: &Call,
        fault: &Fault,
        gone: impl Future<Output = ()>,
    ) -> Verdict {
        let hold = fault.holds().then(|| self.shared.hold());
        self.note_deletion(call);
        let stage = fault.stage();
        let work = async {
            let mut answer = None;
            if stage == Stage::Acted {
                answer = Some(self.shared.answer(call, fault.acts()));
            }
            if let Some(hold) = hold {
                if !hold.released().await {
                    return Verdict::Abandoned;
                }
            }
            if !matches!(stage, Stage::Received | Stage::Acted) {
                answer = Some(self.shared.answer(call, fault.acts()));
            }
            delay(fault).await;
            match answer {
                Some(answer) if stage != Stage::Acted => {
                    Verdict::Answer(answer.with(fault, &self.shared))
                }
                _ => Verdict::HangUp,
            }
        };
        tokio::select! {
            // `work` is polled first: without a hold or a delay it completes at once, and a client
            // that closes its sending side after the request still gets its answer.
            biased;
            verdict = work => verdict,
            () = gone => Verdict::Abandoned,
        }
    }

    fn note_deletion(&self, call: &Call) {
        if let Call::Delete { id: Some(id), .. } = call {
            self.shared.deletion_received(*id);
        }
    }
}

/// Waits for the fault's delay.
pub(crate) async fn delay(fault: &Fault) {
    if fault.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
}
