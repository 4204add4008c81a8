//! Gives the caller the account's list while it is being read: a task on the engine's thread reads
//! the list and asks for states, and takers on any thread take the instances that are ready.
//!
//! At most [`WAITING`] instances wait to be taken. While so many wait, the task stops reading, and
//! TCP flow control stops the server; other calls are not delayed. With states, up to
//! [`READ_AHEAD`] instances are read ahead of the questions, so that the server does not time out
//! while thousands of instances are asked at a slow pace.
//!
//! Each request holds one of the client's permits: the list while it is being read, and each
//! question until it is answered. While the task does not read because a taker is slow, it returns
//! the permit, and it waits for another one before it continues to read.
//!
//! The notifier is readable while instances wait, and stays readable once the list has ended, like
//! a file at its end.

use std::slice::from_ref;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{FuturesOrdered, StreamExt};
use futures_util::FutureExt;
use tokio::sync::{oneshot, Notify};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::ask::{Asker, Unanswered};
use crate::client::Client;
use crate::engine::{engine, Engine};
use crate::instances::{Instance, Item, ListReader, NotAList, State};
use crate::memory;
use crate::outcome::Outcome;
use crate::pace::Permit;
use crate::pieces::Pieces;
use crate::process::{Descriptor, InheritedNotifier, Notifier, PerProcess};
use crate::status::Status;
use crate::sync::{lock, unpoisoned};

/// The number of instances that may wait to be taken: 1 MiB.
const WAITING: usize = 4096;

/// The number of instances that may wait to be asked for their state, and the bytes of their tokens:
/// together about 5 MiB.
const READ_AHEAD: usize = 16 * 1024;
const READ_AHEAD_TOKENS: usize = 1 << 20;

const WHAT: &str = "the list of instances";
const CUT_SHORT: &str = "so the list is not complete";

/// A list that is being read; only in the process that requested it.
pub struct List {
    notifier: InheritedNotifier,
    local: PerProcess<Mutex<Option<Local>>>,
}

#[derive(Clone)]
struct Local {
    number: Descriptor,
    hand_over: Arc<HandOver>,
    /// The task that reads the list; `None` in a forked child.
    task: Option<AbortHandle>,
}

/// The state that the task and the takers share.
struct HandOver {
    state: Mutex<Handed>,
    /// Notified when an instance came or the list ended.
    came: Condvar,
    /// Notified when more instances may wait.
    room: Notify,
}

struct Handed {
    waiting: Pieces<Instance>,
    ended: Option<Outcome>,
    /// The list was closed, so nobody takes any more.
    closed: bool,
    notifier: Option<Notifier>,
    watched: bool,
}

impl List {
    /// Requests the list of `client`'s account; `states`: with the state of each instance that is
    /// not deleted.
    pub fn of(client: &Arc<Client>, states: bool) -> Result<Self, Outcome> {
        memory::check()?;
        let engine = engine()?;
        let notifier = Notifier::new().map_err(no_descriptor)?;
        let inherited = InheritedNotifier::new(&notifier);
        let number = notifier.number();
        let hand_over = Arc::new(HandOver::new(notifier, None));
        let run = run(client.clone(), engine.clone(), states, hand_over.clone());
        let task = engine.runtime().spawn(run);
        let list = Self {
            notifier: inherited,
            local: PerProcess::new(),
        };
        *lock(list.local.get()) = Some(Local {
            number,
            hand_over,
            task: Some(task.abort_handle()),
        });
        Ok(list)
    }

    /// The descriptor that is readable while instances wait and once the list has ended.
    pub fn watch(&self) -> Result<Descriptor, Outcome> {
        let local = self.local()?;
        local.hand_over.watch();
        Ok(local.number)
    }

    /// Takes up to `limit` instances. Waits until there is one, the list has ended, or `until` has
    /// passed (`None`: without a time limit).
    pub fn take(&self, limit: usize, until: Option<Instant>) -> Vec<Instance> {
        match self.local() {
            Ok(local) => local.hand_over.take(limit, until),
            Err(_) => Vec::new(),
        }
    }

    /// How the list ended, once everything has been taken.
    pub fn end(&self) -> Option<Outcome> {
        match self.local() {
            Ok(local) => local.hand_over.end(),
            Err(outcome) => Some(outcome),
        }
    }

    /// Stops reading and closes the descriptor.
    pub fn close(&self) {
        if let Ok(local) = self.local() {
            local.hand_over.close();
            if let Some(task) = local.task {
                task.abort();
            }
        }
    }

    fn local(&self) -> Result<Local, Outcome> {
        let mut slot = lock(self.local.get());
        if let Some(local) = &*slot {
            return Ok(local.clone());
        }
        // This is the child of a fork: the parent's thread reads the list, for the parent only.
        let notifier = self.notifier.replace().map_err(no_descriptor)?;
        let local = Local {
            number: notifier.number(),
            hand_over: Arc::new(HandOver::new(
                notifier,
                Some(Outcome::new(
                    Status::Cancelled,
                    "Request the list again: this process is a forked child, and only its parent, which requested the list, can take it.",
                )),
            )),
            task: None,
        };
        // The event loop that the child inherited may already watch this descriptor's number.
        local.hand_over.watch();
        *slot = Some(local.clone());
        Ok(local)
    }
}

fn no_descriptor(error: std::io::Error) -> Outcome {
    Outcome::new(
        Status::OutOfResources,
        format!("Free descriptors and call again: there is none for the list ({error})."),
    )
}

impl HandOver {
    fn new(notifier: Notifier, ended: Option<Outcome>) -> Self {
        Self {
            state: Mutex::new(Handed {
                waiting: Pieces::default(),
                ended,
                closed: false,
                notifier: Some(notifier),
                watched: false,
            }),
            came: Condvar::new(),
            room: Notify::new(),
        }
    }

    fn watch(&self) {
        let mut state = lock(&self.state);
        if !state.watched {
            state.watched = true;
            if state.has_news() {
                state.set();
            }
        }
    }

    fn take(&self, limit: usize, until: Option<Instant>) -> Vec<Instance> {
        let mut state = lock(&self.state);
        while limit > 0 && !state.has_news() && !state.closed {
            state = match until {
                None => unpoisoned(self.came.wait(state)),
                Some(until) => match until.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => break,
                    left => unpoisoned(self.came.wait_timeout(state, left)).0,
                },
            };
        }
        let taken = state.waiting.take(limit);
        if !taken.is_empty() && !state.has_news() {
            state.clear();
        }
        let wake = !taken.is_empty() && state.waiting.len() <= WAITING / 2;
        drop(state);
        if wake {
            self.room.notify_one();
        }
        taken
    }

    fn end(&self) -> Option<Outcome> {
        let state = lock(&self.state);
        match state.waiting.is_empty() {
            true => state.ended.clone(),
            false => None,
        }
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.waiting = Pieces::default();
        state.notifier = None;
        drop(state);
        self.came.notify_all();
    }

    /// Adds instances for the takers until [`WAITING`] wait, and returns the number added.
    fn push(&self, ready: &mut Pieces<Instance>) -> usize {
        if ready.is_empty() {
            return 0;
        }
        let mut state = lock(&self.state);
        let count = ready.len().min(WAITING - state.waiting.len());
        if count == 0 {
            return 0;
        }
        let first = !state.has_news();
        for one in (0..count).map_while(|_| ready.pop_front()) {
            state.waiting.push_back(one);
        }
        if first {
            state.set();
        }
        drop(state);
        match count {
            1 => self.came.notify_one(),
            _ => self.came.notify_all(),
        }
        count
    }

    /// Notes the end of the list; only the first call has an effect.
    fn finish(&self, outcome: Outcome) {
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return;
        }
        let first = !state.has_news();
        state.ended = Some(outcome);
        if first {
            state.set();
        }
        drop(state);
        self.came.notify_all();
    }
}

impl Handed {
    /// Whether instances wait or the list has ended.
    fn has_news(&self) -> bool {
        !self.waiting.is_empty() || self.ended.is_some()
    }

    fn set(&self) {
        if let (Some(notifier), true) = (&self.notifier, self.watched) {
            notifier.set();
        }
    }

    fn clear(&self) {
        if let (Some(notifier), true) = (&self.notifier, self.watched) {
            notifier.clear();
        }
    }
}

/// Ends the list when the task ends in any way.
struct EndsAnyhow(Arc<HandOver>);

impl Drop for EndsAnyhow {
    fn drop(&mut self) {
        self.0.finish(Outcome::plain(Status::Internal));
    }
}

async fn run(client: Arc<Client>, engine: Arc<Engine>, states: bool, hand_over: Arc<HandOver>) {
    let end = EndsAnyhow(hand_over.clone());
    let transport = client.transport(&engine);
    let reading = Reading {
        client: &client,
        engine: &engine,
        asker: client.asker(&transport),
        states,
        hand_over: &hand_over,
    };
    // After a panic `end` is dropped, which ends the list with `INTERNAL`.
    let reading = std::panic::AssertUnwindSafe(reading.run()).catch_unwind();
    if let Ok(outcome) = reading.await {
        hand_over.finish(outcome);
    }
    drop(end);
}

struct Reading<'a> {
    client: &'a Arc<Client>,
    engine: &'a Arc<Engine>,
    asker: Asker<'a>,
    states: bool,
    hand_over: &'a HandOver,
}

/// What has come of the requests for the list.
#[derive(Default)]
struct Course {
    /// The number of instances handed over.
    handed_over: u64,
    /// The number of requests that may have been sent.
    sent: u32,
    /// Of the latest answer.
    http_status: u16,
}

impl Course {
    fn put_http_status(&self, outcome: &mut Outcome) {
        outcome.code = i32::from(self.http_status);
        outcome.http_status = outcome.code;
    }
}

fn may_have_been_sent(why: &Unanswered) -> bool {
    match why {
        Unanswered::Failed(failure) => !failure.stage.is_before_sending(),
        Unanswered::NotStarted { .. } => false,
        Unanswered::Refused(_) | Unanswered::Unreadable(_) => true,
    }
}

/// The instances that wait to be asked.
#[derive(Default)]
struct Ahead {
    items: Pieces<Item>,
    /// The bytes of their tokens.
    tokens: usize,
}

impl Ahead {
    fn is_full(&self) -> bool {
        self.items.len() >= READ_AHEAD || self.tokens >= READ_AHEAD_TOKENS
    }

    fn push(&mut self, item: Item) {
        self.tokens += item.token.expose().len();
        self.items.push_back(item);
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.tokens -= item.token.expose().len();
        Some(item)
    }
}

/// Whether the instance is deleted, or cannot be asked for want of a token.
fn is_not_asked(item: &Item) -> bool {
    item.instance.is_deleted || item.token.expose().is_empty()
}

/// The instance as it is handed over without a question.
fn unasked(item: Item) -> Box<Instance> {
    let mut instance = Box::new(item.instance);
    if !instance.is_deleted {
        instance.state = State::Unknown;
    }
    instance
}

/// The instances on their way from the response to the takers.
#[derive(Default)]
struct Way<'a> {
    reader: ListReader,
    /// Whether the response has come to its end, and is a complete list.
    is_whole: bool,
    // With states each instance passes through these three: its question waits, is under way, and
    // is answered; without states only through the last one.
    ahead: Ahead,
    /// Boxed, because the answered ones are kept in one large block.
    asked: FuturesOrdered<BoxFuture<'a, Box<Instance>>>,
    ready: Pieces<Instance>,
}

impl Way<'_> {
    fn is_over(&self) -> bool {
        self.is_whole
            && self.ahead.items.is_empty()
            && self.asked.is_empty()
            && self.ready.is_empty()
    }

    /// Whether a taker is slow.
    fn is_held_back(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether there is room for more of the list.
    fn reads(&self) -> bool {
        !self.is_whole && !self.is_held_back() && !self.ahead.is_full()
    }

    /// Whether the next instance may be asked. One slow answer holds back the order, so the answers
    /// behind it are limited too.
    fn asks(&self) -> bool {
        !self.is_held_back() && !self.ahead.items.is_empty() && self.asked.len() < WAITING
    }

    /// Takes a piece of the response in; the error means that it is not a list.
    fn take_in(&mut self, mut piece: &[u8], states: bool) -> Result<(), NotAList> {
        while let Some(item) = self.reader.next(&mut piece)? {
            match states {
                true => self.ahead.push(item),
                false => self.ready.push_back(item.instance),
            }
        }
        Ok(())
    }

    /// Lets those instances pass that are not asked; they only keep their places in the order.
    fn pass_unasked(&mut self) {
        while self.asked.len() < WAITING && self.ahead.items.front().is_some_and(is_not_asked) {
            let item = self.ahead.pop();
            self.asked
                .extend(item.map(|item| future::ready(unasked(item)).boxed()));
        }
    }
}

/// A permit that was requested.
type Coming = Option<oneshot::Receiver<Permit>>;

/// Waits for the permit. (The channel breaks only when the dispatcher panicked. This panic then
/// ends the list with `INTERNAL`.)
async fn arrival(coming: &mut Coming) -> Permit {
    let Some(permit) = coming else {
        return future::pending().await;
    };
    let permit = permit.await.expect("the client has its schedule");
    *coming = None;
    permit
}

/// The event that the task handles next.
#[allow(clippy::large_enum_variant, reason = "there is one of them at a time")]
enum Event {
    Read(Result<Option<Bytes>, Unanswered>),
    /// Reading the list may continue.
    ReadOn(Permit),
    /// The next question may start.
    Start(Permit),
    Asked(Box<Instance>),
    /// A taker has taken instances, so that more may wait.
    Room,
}

impl Reading<'_> {
    /// Reads the list, with retries, and returns its outcome.
    async fn run(&self) -> Outcome {
        let mut tries = 0;
        let mut course = Course::default();
        loop {
            let permit = arrival(&mut self.ask_for_permit(true)).await;
            let mut until = self.asker.deadline();
            let why = match self.read(permit, &mut until, &mut course).await {
                Ok(()) => {
                    let message = match course.handed_over {
                        1 => "The whole list came: 1 instance.".to_owned(),
                        count => format!("The whole list came: {count} instances."),
                    };
                    let mut outcome = Outcome::new(Status::Ok, message);
                    course.put_http_status(&mut outcome);
                    return outcome.after(course.sent);
                }
                Err(why) => why,
            };
            // After the first instance there is no retry, because instances would come twice.
            let pause = match course.handed_over {
                0 => self.asker.pause(tries, &why, until),
                _ => None,
            };
            tries += 1;
            match pause {
                Some(pause) => sleep(pause).await,
                None => {
                    let secrets = self.asker.secrets(&[]);
                    let mut outcome = why.explain(WHAT, CUT_SHORT, &secrets);
                    if outcome.status == Status::BadResponse {
                        course.put_http_status(&mut outcome);
                    }
                    return outcome.after(course.sent);
                }
            }
        }
    }

    fn ask_for_permit(&self, starts: bool) -> Coming {
        Some(self.client.permit(self.engine, starts))
    }

    /// Reads the list once, and succeeds if it is complete. `until` is the deadline,
    /// which is postponed by the time in which nothing is read because takers or the pace are slow.
    async fn read(
        &self,
        permit: Permit,
        until: &mut Instant,
        course: &mut Course,
    ) -> Result<(), Unanswered> {
        let asked = self.asker.list(*until).await;
        course.sent += u32::from(asked.as_ref().map_or_else(may_have_been_sent, |_| true));
        let mut response = asked?;
        course.http_status = response.http_status();
        let mut permit = Some(permit);
        let (mut to_read_on, mut to_ask) = (None, None);
        let mut way = Way::default();
        loop {
            course.handed_over += self.hand_over.push(&mut way.ready) as u64;
            if way.is_over() {
                return Ok(());
            }
            // Questions under way continue while a taker is slow, because deletions may wait for
            // their permits.
            let held_back = way.is_held_back();
            let reads = way.reads();
            way.pass_unasked();
            let asks = way.asks();
            match (reads, &permit) {
                (false, Some(_)) => permit = None,
                (true, None) if to_read_on.is_none() => to_read_on = self.ask_for_permit(false),
                _ => {}
            }
            if asks && to_ask.is_none() {
                to_ask = self.ask_for_permit(true);
            }
            let may_read = permit.is_some();
            let before = Instant::now();
            let event = tokio::select! {
                biased;
                Some(instance) = way.asked.next(), if !way.asked.is_empty() => Event::Asked(instance),
                permit = arrival(&mut to_read_on) => Event::ReadOn(permit),
                permit = arrival(&mut to_ask) => Event::Start(permit),
                () = self.hand_over.room.notified(), if held_back => Event::Room,
                chunk = self.asker.list_chunk(&mut response, *until), if may_read => Event::Read(chunk),
            };
            if !may_read {
                *until += before.elapsed();
            }
            match event {
                Event::Room => {}
                Event::Asked(instance) => way.ready.push_back(*instance),
                // A permit that is no longer needed goes to the next request.
                Event::ReadOn(new) => permit = reads.then_some(new),
                Event::Start(permit) => {
                    if asks {
                        let item = way.ahead.pop();
                        way.asked
                            .extend(item.map(|item| self.ask(item, permit).boxed()));
                    }
                }
                Event::Read(chunk) => match chunk? {
                    None if way.reader.is_whole() => way.is_whole = true,
                    None => return Err(response.no_list()),
                    Some(chunk) => {
                        if way.take_in(&chunk, self.states).is_err() {
                            drop(permit);
                            course.handed_over += self.push_all(way.ready).await;
                            return Err(response.no_list());
                        }
                    }
                },
            }
        }
    }

    /// Adds all instances that came before the list broke off, and returns their number.
    async fn push_all(&self, mut ready: Pieces<Instance>) -> u64 {
        let count = ready.len() as u64;
        loop {
            self.hand_over.push(&mut ready);
            if ready.is_empty() {
                return count;
            }
            self.hand_over.room.notified().await;
        }
    }

    /// Asks for an instance's state and returns the instance with it.
    async fn ask(&self, item: Item, permit: Permit) -> Box<Instance> {
        let Item { instance, token } = item;
        let mut instance = Box::new(instance);
        let until = self.asker.deadline();
        let reply = self.asker.state(instance.id, from_ref(&token), until).await;
        instance.state = reply.map_or(State::Unknown, |reply| reply.state());
        drop(permit);
        instance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many instances are read ahead if each has a token of this length.
    fn read_ahead(token: usize) -> usize {
        let mut ahead = Ahead::default();
        let mut add = || {
            let element = format!(
                r#"[{{"idInstance":1,"apiTokenInstance":"{}"}}]"#,
                "t".repeat(token)
            );
            let item = ListReader::default().next(&mut element.as_bytes());
            ahead.push(item.expect("a list").expect("an instance"));
            ahead.is_full()
        };
        let count = 1 + (0..).take_while(|_| !add()).count();
        assert!(ahead.pop().is_some() && !ahead.is_full());
        while ahead.pop().is_some() {}
        assert_eq!(ahead.tokens, 0);
        count
    }

    #[test]
    fn the_memory_of_what_is_read_ahead_is_limited() {
        assert_eq!([64, 50, 0].map(read_ahead), [READ_AHEAD; 3]);
        assert_eq!(read_ahead(4096), READ_AHEAD_TOKENS / 4096);
    }
}
