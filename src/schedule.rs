//! Decides when each request of a client may start: `max_in_flight`, the pace, and the pause that a
//! 429 asks for. Deletions wait in one queue and questions in another; while both queues have
//! entries, they take turns. Pure: the time is a parameter, and the waiting values have any type.
//!
//! The pace is kept twice, because a call may do something else between its start and its request,
//! such as waiting for the journal. Each request is *started* once, at the latest before the call
//! prepares it; this limits how many there are in a second. Right before it is sent, it takes its
//! *turn*, which spaces the requests evenly even if the preparations of many of them end at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::pieces::Pieces;

/// The longest pause that a server can impose, so that a header cannot stop a client for days.
const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// How much delay of a late timer the pace may catch up; timers are usually late by about a
/// millisecond.
const CATCH_UP: Duration = Duration::from_millis(5);

/// The limits for the requests of a client.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_in_flight: u32,
    /// The least time between the starts of two requests; zero: no limit.
    pub interval: Duration,
    /// Whether a deletion is sent as soon as it has its permit, so that its start is its turn too.
    pub at_once: bool,
}

impl Limits {
    /// For calls that do not limit one another.
    pub const NONE: Self = Self {
        max_in_flight: u32::MAX,
        interval: Duration::ZERO,
        at_once: true,
    };
}

/// The waiting requests of one client, and when the next may start: deletions `D`, each with all
/// requests of its call, and questions `Q` that belong to no deletion.
#[derive(Debug)]
pub struct Schedule<D, Q> {
    waiting: Pieces<D>,
    questions: VecDeque<Q>,
    /// Whether a question has the next turn when both queues have entries.
    question_is_next: bool,
    in_flight: u32,
    /// Because of the pace, no request starts before this time.
    next_start: Option<Instant>,
    /// Because of the pace, no request is sent before this time.
    next_turn: Option<Instant>,
    /// Because of a 429, no request starts or is sent before this time.
    held_until: Option<Instant>,
    /// A timer is set to this time, at which [`Schedule::next`] will be called again.
    timer_until: Option<Instant>,
}

/// The result of [`Schedule::next`].
#[derive(Debug, PartialEq, Eq)]
pub enum Next<D, Q> {
    /// This deletion may start.
    Start(D),
    /// This question may start.
    Ask(Q),
    /// Nothing may start before this time, to which the caller has to set a timer.
    NotBefore(Instant),
    /// Nothing to do until a permit is returned, the timer fires or another value is added.
    Nothing,
}

impl<D, Q> Default for Schedule<D, Q> {
    fn default() -> Self {
        Self {
            waiting: Pieces::default(),
            questions: VecDeque::new(),
            question_is_next: false,
            in_flight: 0,
            next_start: None,
            next_turn: None,
            held_until: None,
            timer_until: None,
        }
    }
}

impl<D, Q> Schedule<D, Q> {
    /// Adds a deletion at the end of its queue.
    pub fn enqueue(&mut self, deletion: D) {
        self.waiting.push_back(deletion);
    }

    /// Adds a question at the end of its queue.
    pub fn enqueue_question(&mut self, question: Q) {
        self.questions.push_back(question);
    }

    /// Whether deletions wait.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the next value if it may start now. The value holds a permit until
    /// [`Schedule::finish`]; the pace advances only with [`Schedule::count_start`].
    pub fn next(&mut self, now: Instant, limits: Limits) -> Next<D, Q> {
        let is_empty = self.waiting.is_empty() && self.questions.is_empty();
        if is_empty || self.in_flight >= limits.max_in_flight {
            return Next::Nothing;
        }
        let turn = self.next_turn.filter(|_| limits.at_once);
        if let Err(opening) = open(self.opening().max(turn), now) {
            if self.timer_until >= Some(opening) {
                return Next::Nothing;
            }
            self.timer_until = Some(opening);
            return Next::NotBefore(opening);
        }
        let asks = self.waiting.is_empty() || self.question_is_next;
        let question = asks.then(|| self.questions.pop_front()).flatten();
        let next = match question {
            Some(question) => Some(Next::Ask(question)),
            None => self.waiting.pop_front().map(Next::Start),
        };
        self.question_is_next = matches!(next, Some(Next::Start(_)));
        self.in_flight += u32::from(next.is_some());
        next.unwrap_or(Next::Nothing)
    }

    /// Takes back the permit of a value that [`Schedule::next`] returned.
    pub fn finish(&mut self) {
        self.in_flight -= 1;
    }

    /// Counts the start of a deletion that [`Schedule::next`] returned.
    pub fn count_deletion(&mut self, now: Instant, limits: Limits) {
        self.count_start(now, limits);
        if limits.at_once {
            advance(&mut self.next_turn, now, limits);
        }
    }

    /// Counts the start of a request whose turn is yet to come.
    pub fn count_start(&mut self, now: Instant, limits: Limits) {
        advance(&mut self.next_start, now, limits);
    }

    /// Counts the start of a request that is not the first of its call; fails with the time before
    /// which the request may not start.
    pub fn try_start(&mut self, now: Instant, limits: Limits) -> Result<(), Instant> {
        open(self.opening(), now)?;
        self.count_start(now, limits);
        Ok(())
    }

    /// Takes the turn of a request whose start has been counted; fails with the time before which
    /// the request may not be sent.
    pub fn try_turn(&mut self, now: Instant, limits: Limits) -> Result<(), Instant> {
        open(self.next_turn.max(self.held_until), now)?;
        advance(&mut self.next_turn, now, limits);
        Ok(())
    }

    /// Notes a pause that the API asked for: no request starts before the pause is over.
    pub fn hold(&mut self, now: Instant, pause: Duration) {
        let until = now.checked_add(pause.min(LONGEST_HOLD));
        self.held_until = self.held_until.max(until);
    }

    /// The end of the pause that the API asked for.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// How long a request that is not the first of its call has to wait.
    pub fn held_back(&self, now: Instant) -> Duration {
        self.opening().map_or(Duration::ZERO, |opening| {
            opening.saturating_duration_since(now)
        })
    }

    /// Removes the waiting deletions that `keep` rejects, in steps: [`Pieces::sweep`].
    pub fn sweep(&mut self, position: &mut usize, keep: impl FnMut(&D) -> bool) -> Option<usize> {
        self.waiting.sweep(position, keep)
    }

    /// When the next request may start.
    fn opening(&self) -> Option<Instant> {
        self.next_start.max(self.held_until)
    }
}

/// Fails with `opening` if that is later than `now`.
fn open(opening: Option<Instant>, now: Instant) -> Result<(), Instant> {
    match opening {
        Some(opening) if opening > now => Err(opening),
        _ => Ok(()),
    }
}

/// Sets `next`, the earliest time of the next request, after one at `now`.
fn advance(next: &mut Option<Instant>, now: Instant, limits: Limits) {
    if limits.interval.is_zero() {
        return;
    }
    let due = next.unwrap_or(now);
    let due = due.max(now.checked_sub(CATCH_UP).unwrap_or(now));
    *next = due.checked_add(limits.interval);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[derive(Debug)]
    enum Do {
        Enqueue(u32),
        /// Enqueues a question. The numbers of questions have three digits.
        Ask(u32),
        Finish,
        Hold(u32),
        /// A call that has its permit wants to send a retry or a question about a session; the flag
        /// says whether it may.
        TryStart(bool),
        /// A call wants to send a request whose start was counted; the flag says whether it may.
        TryTurn(bool),
        /// The values that start now, and the time to which a timer must be set afterwards.
        Start(&'static [u32], Option<u32>),
    }
    use Do::*;

    /// Each row tests one schedule: what happens at which millisecond.
    #[test]
    fn lives() {
        let paced = |ms: u32, max_in_flight| Limits {
            max_in_flight,
            interval: MS * ms,
            at_once: true,
        };
        // The deletions of a client with a session policy or a journal.
        let prepared = |ms: u32, max_in_flight| Limits {
            at_once: false,
            ..paced(ms, max_in_flight)
        };
        type Row = (&'static str, Limits, Vec<(u32, Do)>);
        #[rustfmt::skip]
        let rows: Vec<Row> = vec![
            ("no limit: everything starts at once, in order", Limits::NONE, vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Enqueue(3)), (0, Start(&[1, 2, 3], None)),
            ]),
            ("max_in_flight: the next one starts when one ends", paced(0, 2), vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Enqueue(3)), (0, Start(&[1, 2], None)),
                (5, Start(&[], None)), (6, Finish), (6, Start(&[3], None)),
            ]),
            ("the pace spaces starts evenly, and one timer is enough", paced(100, 64), vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Enqueue(3)), (0, Start(&[1], Some(100))),
                (50, Start(&[], None)), (100, Start(&[2], Some(200))), (200, Start(&[3], None)),
            ]),
            ("a late timer is caught up with by 5 ms, an idle hour is not", paced(100, 64), vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Start(&[1], Some(100))),
                (104, Start(&[2], None)), (105, Enqueue(3)), (105, Start(&[], Some(200))),
                (3_600_000, Start(&[3], None)), (3_600_000, Enqueue(4)),
                (3_600_000, Start(&[], Some(3_600_095))),
            ]),
            ("a retry counts like a start", paced(100, 64), vec![
                (0, Enqueue(1)), (0, Start(&[1], None)), (10, TryStart(false)), (100, TryStart(true)),
                (100, Enqueue(2)), (100, Start(&[], Some(200))),
            ]),
            ("a 429 holds back everything, and the longest pause counts", Limits::NONE, vec![
                (0, Hold(500)), (0, Hold(100)), (0, Enqueue(1)), (0, Start(&[], Some(500))),
                (100, TryStart(false)), (500, TryStart(true)), (500, Start(&[1], None)),
            ]),
            ("a pause of days is one of five minutes", Limits::NONE, vec![
                (0, Hold(86_400_000)), (0, Enqueue(1)), (0, Start(&[], Some(300_000))),
                (300_000, Start(&[1], None)),
            ]),
            ("a later opening wants a timer of its own", paced(100, 64), vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Start(&[1], Some(100))), (10, Hold(490)),
                (100, Start(&[], Some(500))), (500, Start(&[2], None)),
            ]),
            ("questions need permits as deletions do", paced(0, 2), vec![
                (0, Ask(101)), (0, Enqueue(1)), (0, Ask(102)), (0, Start(&[1, 101], None)),
                (1, Start(&[], None)), (2, Finish), (2, Start(&[102], None)), (3, Enqueue(2)),
                (3, Start(&[], None)), (4, Finish), (4, Start(&[2], None)),
            ]),
            ("deletions and questions take turns, even if there are more of one kind", paced(0, 1), vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Enqueue(3)), (0, Ask(101)), (0, Ask(102)),
                (0, Start(&[1], None)), (1, Finish), (1, Start(&[101], None)),
                (2, Finish), (2, Start(&[2], None)), (3, Finish), (3, Start(&[102], None)),
                (4, Finish), (4, Start(&[3], None)), (5, Ask(103)), (5, Ask(104)), (5, Finish),
                (5, Start(&[103], None)), (6, Finish), (6, Start(&[104], None)),
            ]),
            ("while one queue is empty, the other does not wait", paced(0, 9), vec![
                (0, Ask(101)), (0, Ask(102)), (0, Start(&[101, 102], None)),
                (1, Enqueue(1)), (1, Enqueue(2)), (1, Start(&[1, 2], None)),
            ]),
            ("both queues share the pace and a pause", paced(100, 9), vec![
                (0, Enqueue(1)), (0, Ask(101)), (0, Enqueue(2)), (0, Start(&[1], Some(100))),
                (100, Start(&[101], Some(200))), (150, Hold(350)), (200, Start(&[], Some(500))),
                (500, Start(&[2], None)),
            ]),
            ("deletions prepared at one time are sent one by one, and are not counted again", prepared(100, 9), vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Enqueue(3)), (0, Start(&[1], Some(100))),
                (100, Start(&[2], Some(200))), (150, TryTurn(true)), (150, TryTurn(false)),
                (200, Start(&[3], None)), (249, TryTurn(false)), (250, TryTurn(true)),
                (300, TryStart(true)), (349, TryTurn(false)), (350, TryTurn(true)),
            ]),
            ("a deletion that needs no preparation has its turn with its permit", paced(100, 9), vec![
                (0, Enqueue(1)), (0, Start(&[1], None)), (50, TryTurn(false)), (100, TryTurn(true)),
                (150, Enqueue(2)), (150, Start(&[], Some(200))), (200, Start(&[2], None)),
            ]),
            ("a 429 holds back what has its permit", prepared(0, 9), vec![
                (0, Enqueue(1)), (0, Enqueue(2)), (0, Start(&[1, 2], None)), (10, TryTurn(true)),
                (20, Hold(500)), (30, TryTurn(false)), (520, TryTurn(true)),
            ]),
        ];
        for (name, limits, life) in rows {
            let origin = Instant::now();
            let mut schedule = Schedule::default();
            for (ms, step) in life {
                let now = origin + MS * ms;
                let described = format!("{name}, at {ms} ms: {step:?}");
                match step {
                    Enqueue(value) => schedule.enqueue(value),
                    Ask(value) => schedule.enqueue_question(value),
                    Finish => schedule.finish(),
                    Hold(pause) => schedule.hold(now, MS * pause),
                    TryStart(expected) => {
                        assert_eq!(
                            schedule.try_start(now, limits).is_ok(),
                            expected,
                            "{described}"
                        );
                    }
                    TryTurn(expected) => {
                        assert_eq!(
                            schedule.try_turn(now, limits).is_ok(),
                            expected,
                            "{described}"
                        );
                    }
                    Start(expected, timer) => {
                        let mut started = Vec::new();
                        let wanted = loop {
                            match schedule.next(now, limits) {
                                Next::Start(value) => {
                                    started.push(value);
                                    schedule.count_deletion(now, limits);
                                }
                                Next::Ask(value) => {
                                    started.push(value);
                                    schedule.count_start(now, limits);
                                }
                                Next::NotBefore(opening) => break Some(opening),
                                Next::Nothing => break None,
                            }
                        };
                        assert_eq!(started, expected, "{described}");
                        assert_eq!(wanted, timer.map(|ms| origin + MS * ms), "{described}");
                    }
                }
            }
        }
    }

    const PIECE: usize = Pieces::<u32>::PIECE;

    #[test]
    fn a_sweep_in_steps_removes_what_it_should_and_keeps_the_order() {
        let now = Instant::now();
        let mut schedule = Schedule::<_, ()>::default();
        let count = 5 * PIECE as u32;
        (0..count).for_each(|value| schedule.enqueue(value));
        let (mut position, mut removed) = (0, 0);
        // Of one piece all values are rejected, of the others every second value. Between the
        // steps some values start and others are added.
        let keep = |value: &u32| *value as usize / PIECE != 3 && value % 2 == 1;
        let mut started = Vec::new();
        while let Some(count_of_step) = schedule.sweep(&mut position, keep) {
            removed += count_of_step;
            schedule.enqueue(count + 1 + 2 * started.len() as u32);
            if let Next::Start(value) = schedule.next(now, Limits::NONE) {
                started.push(value);
            }
        }
        let early = started.len();
        while let Next::Start(value) = schedule.next(now, Limits::NONE) {
            started.push(value);
        }
        assert!(!schedule.has_waiting());
        assert!(started.is_sorted(), "the order was lost");
        assert!(started[early..].iter().all(keep), "one was passed over");
        let kept = (0..count).filter(keep).count();
        let rejected = count as usize - kept;
        let rejected_early = started[..early].iter().filter(|value| !keep(value)).count();
        assert_eq!(removed, rejected - rejected_early);
    }
}
