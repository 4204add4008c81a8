//! A client: one account at one address, with its limits. Also carries out a deletion from its
//! start to its outcome.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::account::{Account, BeforeLogout};
use crate::answer::judge;
use crate::ask::Asker;
use crate::call::Call;
use crate::endpoint::{check_id, parse_token, Endpoint};
use crate::engine::{engine, Dispatcher, Engine};
use crate::failure::{Failure, Stage};
use crate::journal::{Claim, Journal};
use crate::memory;
use crate::options::{Options, Session};
use crate::outcome::Outcome;
use crate::pace::{Pace, Permit, Question, Requests};
use crate::process::PerProcess;
use crate::retry::{retry_after, Attempt, History, Limits, Step};
use crate::schedule;
use crate::secret::Secret;
use crate::session::Note;
use crate::status::Status;
use crate::submission::{Completer, Submission};
use crate::sync::lock;
use crate::transport::{RequestTemplate, Transport};
use crate::waiter::Waiter;

/// The ids that make a test build panic: on the caller's thread, after the request was sent, and
/// before it is sent.
#[cfg(feature = "inject-panics")]
pub(crate) const PANIC_AT_THE_BOUNDARY: i64 = 9_999_999_998;
#[cfg(feature = "inject-panics")]
const PANIC_AFTER_SENDING: i64 = 9_999_999_997;
#[cfg(feature = "inject-panics")]
const PANIC_IN_A_CALL: i64 = 9_999_999_999;

/// The number of submissions that are started or skipped at a time before other tasks run.
const DISPATCH_STEP: usize = 1024;

pub struct Client {
    endpoint: Endpoint,
    token: Secret,
    options: Options,
    request: RequestTemplate,
    journal: Option<Journal>,
    local: PerProcess<Local>,
}

/// The state of a client in one process; after a fork the child starts with a new one.
#[derive(Default)]
struct Local {
    schedule: Mutex<Requests>,
    /// See [`Pace`].
    turns: tokio::sync::Mutex<()>,
    /// The transport, with the engine that it belongs to.
    transport: Mutex<Option<(Arc<Engine>, Arc<Transport>)>>,
    account: Account,
}

/// The limits in time of one call.
#[derive(Clone, Copy)]
struct Times {
    /// When the submission was accepted.
    accepted: Instant,
    deadline: Instant,
}

impl Client {
    pub fn new(url: &str, token: Secret, mut options: Options) -> Result<Arc<Self>, Outcome> {
        memory::check()?;
        options.settle();
        let endpoint = Endpoint::parse(url, options.allow_http)?;
        let path = format!(
            "{}/partner/deleteInstanceAccount/{}",
            endpoint.prefix,
            token.path_segment()
        );
        let request = RequestTemplate::new(&endpoint, path, &options.user_agent);
        let journal = match &options.journal {
            Some(path) => Some(Journal::open(path, &endpoint.address(), &token)?),
            None => None,
        };
        let client = Arc::new(Self {
            endpoint,
            token,
            options,
            request,
            journal,
            local: PerProcess::new(),
        });
        // Refuse the client if it was allocated from the memory reserve, which is for short-lived
        // allocations only.
        memory::check()?;
        Ok(client)
    }

    /// The client for greenapi_delete_instance, with default options. The last one is kept, because
    /// most programs have one account.
    pub fn shared_default(url: &str, token: &str) -> Result<Arc<Self>, Outcome> {
        type Last = Option<(String, Arc<Client>)>;
        static LAST: PerProcess<Mutex<Last>> = PerProcess::new();
        let last = || lock(LAST.get());
        if let Some((its, client)) = &*last() {
            if its == url && client.token.expose() == token {
                return Ok(client.clone());
            }
        }
        let options = Options {
            independent: true,
            ..Options::default()
        };
        let client = Self::new(url, parse_token(token)?, options)?;
        *last() = Some((url.to_owned(), client.clone()));
        Ok(client)
    }

    fn account(&self) -> &Account {
        &self.local.get().account
    }

    /// Checks whether a request may have to be sent to delete `id`. If not, returns the outcome:
    /// the id is out of range, or the journal says that the instance is gone.
    pub fn admit(&self, id: i64) -> Result<(), Outcome> {
        check_id(id)?;
        match self.journal.as_ref().and_then(|journal| journal.known(id)) {
            Some(outcome) => Err(outcome),
            None => Ok(()),
        }
    }

    /// Deletes one instance and waits for the outcome.
    pub fn delete(self: &Arc<Self>, id: i64) -> Outcome {
        if let Err(outcome) = self.admit(id).and_then(|()| memory::check()) {
            return outcome;
        }
        let engine = match engine() {
            Ok(engine) => engine,
            Err(outcome) => return outcome,
        };
        let deadline = Instant::now().checked_add(self.options.timeout);
        let waiter = Arc::new(Waiter::new(id, deadline));
        engine.submit(self.clone(), Submission::blocking(waiter.clone()));
        waiter.wait(|| {
            engine.count_cancelled(1);
            self.not_started()
        })
    }

    /// The outcome of a blocking call whose turn did not come.
    fn not_started(&self) -> Outcome {
        let held = lock(&self.local.get().schedule).held_until();
        Outcome::new(
            Status::NotStarted,
            match held.is_some_and(|until| until > Instant::now()) {
                true => "Call again later: the API asked this client for a pause (429) that does not fit into the timeout, so no deletion was sent.",
                false => Status::NotStarted.message(),
            },
        )
    }

    pub fn pace(&self) -> Pace<'_> {
        Pace {
            schedule: &self.local.get().schedule,
            turns: &self.local.get().turns,
            limits: self.limits(),
            holds: !self.options.independent,
        }
    }

    /// Sends questions (requests that only read) for this client.
    pub fn asker<'a>(&'a self, transport: &'a Transport) -> Asker<'a> {
        Asker {
            endpoint: &self.endpoint,
            token: &self.token,
            options: &self.options,
            pace: self.pace(),
            transport,
        }
    }

    fn limits(&self) -> schedule::Limits {
        match self.options.independent {
            true => schedule::Limits::NONE,
            false => schedule::Limits {
                max_in_flight: self.options.max_in_flight,
                interval: self.options.interval,
                at_once: self.sends_at_once(),
            },
        }
    }

    /// Whether nothing happens between a deletion's permit and its request.
    fn sends_at_once(&self) -> bool {
        self.journal.is_none() && self.options.session == Session::Ignore
    }

    /// Starts the call of a submission, or refuses it while memory is short; false if it was
    /// cancelled meanwhile.
    fn start(self: &Arc<Self>, engine: &Arc<Engine>, submission: Submission) -> bool {
        let permit = Permit::new(self.clone(), engine.clone());
        if let Err(outcome) = memory::check() {
            submission.refuse(outcome);
            permit.give_back();
            return true;
        }
        let call = Arc::new(Call::default());
        let now = Instant::now();
        let deadline = submission
            .deadline()
            .unwrap_or_else(|| self.options.deadline(now));
        let times = Times {
            accepted: submission.accepted().unwrap_or(now),
            deadline,
        };
        let Some((completer, id)) = submission.start(&call) else {
            permit.give_back();
            return false;
        };
        lock(&self.local.get().schedule).count_deletion(now, self.limits());
        let transport = self.transport(engine);
        let run = self
            .clone()
            .run(transport, id, call, times, completer, permit);
        engine.runtime().spawn(run);
        true
    }

    /// Requests the permit for a question that belongs to no deletion. `starts`: whether the permit
    /// is for a new request, which must keep to the pace; otherwise it is for continuing to read a
    /// response after the permit was returned. Must be called on the engine's thread.
    pub fn permit(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        starts: bool,
    ) -> oneshot::Receiver<Permit> {
        let (question, permit) = Question::new(starts);
        lock(&self.local.get().schedule).enqueue_question(question);
        self.clone().dispatch(engine);
        permit
    }

    fn grant(self: &Arc<Self>, engine: &Arc<Engine>, question: Question) {
        if question.starts && question.is_wanted() {
            lock(&self.local.get().schedule).count_start(Instant::now(), self.limits());
        }
        question.grant(Permit::new(self.clone(), engine.clone()));
    }

    pub fn transport(&self, engine: &Arc<Engine>) -> Arc<Transport> {
        let slot = &self.local.get().transport;
        let mut slot = lock(slot);
        match &*slot {
            Some((its, transport)) if Arc::ptr_eq(its, engine) => transport.clone(),
            _ => {
                let transport = engine.transport(&self.options);
                *slot = Some((engine.clone(), transport.clone()));
                transport
            }
        }
    }

    async fn run(
        self: Arc<Self>,
        transport: Arc<Transport>,
        id: i64,
        call: Arc<Call>,
        times: Times,
        completer: Completer,
        permit: Permit,
    ) {
        let mut claim = None;
        let ended = {
            let work = self.outcome(&transport, id, &call, times, &mut claim);
            let work = pin!(std::panic::AssertUnwindSafe(work).catch_unwind());
            call.unless_cancelled(work).await
        };
        let outcome = match ended {
            Some(Ok(outcome)) => Some(outcome),
            // After a panic the completer is dropped, which delivers `INTERNAL`.
            Some(Err(_)) => return,
            None => None,
        };
        let cancelled = (!call.end()).then(|| call.cancelled());
        let Some(claim) = claim else {
            // The cancellation has delivered its result.
            if let (Some(outcome), None) = (outcome, cancelled) {
                completer.complete(outcome);
            }
            return;
        };
        // The next request may start before the journal has recorded the end of this one.
        drop(permit);
        let deadline = match cancelled {
            Some(_) => Instant::now(),
            None => times.deadline,
        };
        let outcome = outcome.unwrap_or_else(|| call.cancelled());
        let result = Box::pin(claim.end(outcome, cancelled, deadline)).await;
        completer.complete(result);
    }

    /// Carries out one deletion: the journal, the session policy, then the deletion itself.
    async fn outcome(
        &self,
        transport: &Arc<Transport>,
        id: i64,
        call: &Arc<Call>,
        times: Times,
        claim: &mut Option<Box<Claim>>,
    ) -> Outcome {
        let Times { accepted, deadline } = times;
        // Boxed, because most calls use neither the journal nor a session policy, and their futures
        // should be small.
        if let Some(journal) = &self.journal {
            match Box::pin(journal.claim(id, call, deadline)).await {
                Ok(own) => *claim = Some(Box::new(own)),
                Err(outcome) => return outcome,
            }
        }
        let mut note = Note::Nothing;
        let mut tokens = Vec::new();
        let account = self.account();
        if self.options.session != Session::Ignore {
            let asker = self.asker(transport);
            let before_logout = NotesLogout {
                claim: claim.as_deref_mut(),
                call,
                deadline,
            };
            let check =
                account.check_session(asker, id, accepted, deadline, before_logout, &mut tokens);
            match Box::pin(check).await {
                Ok(found) => note = found,
                Err(outcome) => return outcome,
            }
        }
        // Without a policy nothing was learned, and what is forgotten takes memory until the next list.
        let _forgets = (self.options.session != Session::Ignore).then(|| ForgetsOnceSent {
            account,
            call,
            id,
        });
        let noted = match claim {
            Some(claim) => Box::pin(claim.begin(deadline)).await,
            None => Ok(()),
        };
        let outcome = match noted {
            Ok(()) => {
                self.send_with_retries(transport, id, call, deadline, &tokens)
                    .await
            }
            Err(outcome) => outcome,
        };
        note.applied_to(outcome)
    }

    /// Sends the deletion, with retries, and returns its outcome. `tokens`: those of the instance
    /// that are known.
    async fn send_with_retries(
        &self,
        transport: &Arc<Transport>,
        id: i64,
        call: &Call,
        deadline: Instant,
        tokens: &[Secret],
    ) -> Outcome {
        #[cfg(feature = "inject-panics")]
        assert_ne!(id, PANIC_IN_A_CALL);
        let body = format!("{{\"idInstance\":{id}}}");
        let request = self.request.request(body.as_bytes());
        let token = [&self.token];
        let mut with_others = Vec::new();
        let secrets = match (transport.secrets(), tokens) {
            ([], []) => &token[..],
            (logins, tokens) => {
                with_others.extend(token.into_iter().chain(tokens).chain(logins));
                &with_others
            }
        };
        if !self.sends_at_once() && !self.pace().turn(deadline).await {
            return self.not_started();
        }
        let mut history = History::default();
        let mut not_before = None;
        loop {
            let before = call.attempts();
            let exchange = transport.exchange(&request, call, not_before);
            let attempt = match tokio::time::timeout_at(deadline.into(), exchange).await {
                Ok(Ok(answer)) => {
                    let pause = answer
                        .retry_after
                        .as_deref()
                        .and_then(|header| retry_after(header, SystemTime::now()));
                    Attempt::Answered {
                        http_status: answer.http_status,
                        verdict: judge(answer.http_status, answer.body.body()),
                        retry_after: pause,
                        kept: answer.kept,
                    }
                }
                Ok(Err(failure)) => Attempt::Failed(failure),
                Err(_) => Attempt::Failed(self.out_of_time(transport, call.attempts() > before)),
            };
            #[cfg(feature = "inject-panics")]
            assert_ne!(id, PANIC_AFTER_SENDING);
            let now = Instant::now();
            if attempt.blames_the_connection() {
                // Other connections of the same age may be dead too.
                not_before = Some(now);
            }
            if let Attempt::Answered {
                verdict,
                retry_after: Some(pause),
                ..
            } = &attempt
            {
                if verdict.status == Status::RateLimited {
                    self.pace().hold(*pause);
                }
            }
            call.settle(!attempt.deleted_nothing());
            let limits = Limits {
                max_retries: self.options.max_retries,
                left: deadline.saturating_duration_since(now),
                held_back: self.pace().held_back(now),
                jitter: fastrand::f64(),
            };
            match history.next(attempt, call.attempts(), limits, secrets) {
                Step::Finish(outcome) => return outcome,
                Step::Retry(pause) => {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    if !self.pace().start(Some(deadline)).await || !self.pace().turn(deadline).await
                    {
                        return history.conclude(call.attempts());
                    }
                }
            }
        }
    }

    fn out_of_time(&self, transport: &Transport, sent: bool) -> Failure {
        let timeout = self.options.timeout.as_millis();
        if sent {
            return Failure::new(Stage::TimedOut, format!("the timeout is {timeout} ms"));
        }
        let slow_look_up = transport.slow_look_up(&self.endpoint, self.options.timeout);
        slow_look_up.unwrap_or_else(|| {
            Failure::new(
                Stage::Connect,
                format!(
                    "the timeout of {timeout} ms passed before {} could be reached",
                    self.endpoint.host_and_port()
                ),
            )
        })
    }
}

impl Dispatcher for Client {
    fn enqueue(&self, engine: &Engine, submission: Submission) {
        let mut schedule = lock(&self.local.get().schedule);
        let hopeless = submission
            .deadline()
            .is_some_and(|deadline| schedule.held_until().is_some_and(|until| until > deadline));
        if hopeless {
            drop(schedule);
            submission.refuse(self.not_started());
            return;
        }
        engine.count_waiting();
        schedule.enqueue(submission);
    }

    fn dispatch(self: Arc<Self>, engine: &Arc<Engine>) {
        for _ in 0..DISPATCH_STEP {
            let next = lock(&self.local.get().schedule).next(Instant::now(), self.limits());
            match next {
                schedule::Next::Nothing => return,
                schedule::Next::NotBefore(opening) => {
                    let (client, engine) = (self.clone(), engine.clone());
                    engine.clone().runtime().spawn(async move {
                        tokio::time::sleep_until(opening.into()).await;
                        client.dispatch(&engine);
                    });
                    return;
                }
                schedule::Next::Start(submission) => {
                    let started = self.start(engine, submission);
                    engine.forget(1, usize::from(!started));
                }
                schedule::Next::Ask(question) => self.grant(engine, question),
            }
        }
        // Let other tasks run before the rest is dispatched.
        let engine = engine.clone();
        engine
            .clone()
            .runtime()
            .spawn(async move { self.dispatch(&engine) });
    }

    fn finish(&self) {
        lock(&self.local.get().schedule).finish();
    }

    fn sweep(&self, position: &mut usize) -> Option<usize> {
        lock(&self.local.get().schedule).sweep(position, Submission::is_wanted)
    }

    fn has_waiting(&self) -> bool {
        lock(&self.local.get().schedule).has_waiting()
    }
}

/// Records in the journal and in the call, for a cancellation, that a logout may be sent.
struct NotesLogout<'a> {
    claim: Option<&'a mut Claim>,
    call: &'a Call,
    deadline: Instant,
}

impl BeforeLogout for NotesLogout<'_> {
    async fn note(&mut self) -> Result<(), Outcome> {
        if let Some(claim) = &mut self.claim {
            claim.log_out(self.deadline).await?;
        }
        self.call.logs_out();
        Ok(())
    }
}

/// If a deletion may have been sent, forgets what is known about the instance, however the call
/// ends, so that a later call asks the API anew.
struct ForgetsOnceSent<'a> {
    account: &'a Account,
    call: &'a Call,
    id: i64,
}

impl Drop for ForgetsOnceSent<'_> {
    fn drop(&mut self) {
        if self.call.attempts() > 0 {
            self.account.forget(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    /// Each call under way takes this memory, and there may be ten thousand.
    #[test]
    fn the_future_of_a_call_holds_its_parts_only_once() {
        type Run<F> =
            fn(Arc<Client>, Arc<Transport>, i64, Arc<Call>, Times, Completer, Permit) -> F;
        fn size<F>(_: Run<F>) -> usize {
            size_of::<F>()
        }
        let size = size(Client::run);
        assert!(size < 2500, "{size} bytes");
    }

    /// A client may live for years and delete millions of instances.
    #[test]
    fn without_a_session_policy_a_deletion_leaves_nothing_behind() {
        const COUNT: usize = 3;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        // Each request is received and its connection closed, so it may have been carried out.
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().take(COUNT) {
                let _ = stream.expect("a connection").read(&mut [0; 4096]);
            }
        });
        let options = Options {
            max_retries: 0,
            ..Options::default()
        };
        let client = Client::new(&url, Secret::new("token"), options).expect("a client");
        for id in 1..=COUNT as i64 {
            assert_eq!(client.delete(id).status, Status::ConnectionLost);
        }
        server.join().expect("the server ends");
        assert_eq!(client.account().forgotten(), 0);
    }
}
