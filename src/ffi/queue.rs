//! Queues: many deletions at once, for programs with an event loop.

use std::ffi::c_int;
use std::ptr;
use std::time::{Duration, Instant};

use super::{enter, greenapi_client, greenapi_result, guard, handle, write};
use crate::outcome::Outcome;
use crate::queue::Queue;
use crate::status::Status;

/// A queue: it holds the results of submitted deletions until they are taken. Made by
/// greenapi_queue_new, freed by greenapi_queue_free. Any number of threads may use a queue at once.
/// After fork() the queue is empty in the child, because the deletions under way belong to the
/// parent.
pub struct greenapi_queue(Queue);

/// What an event loop watches: a descriptor, on Windows a SOCKET (for select, WSAPoll,
/// WSAEventSelect). (greenapi_fd)-1 is none.
#[cfg(windows)]
pub type greenapi_fd = usize;
/// What an event loop watches: a descriptor, on Windows a SOCKET (for select, WSAPoll,
/// WSAEventSelect). (greenapi_fd)-1 is none.
#[cfg(not(windows))]
pub type greenapi_fd = c_int;

pub(super) const NO_FD: greenapi_fd = !0;

/// Makes a queue.
///
/// `out_queue`: where to write the queue, or NULL on failure; required.
///
/// Returns GREENAPI_STATUS_OK, GREENAPI_STATUS_INVALID_ARGUMENT, or
/// GREENAPI_STATUS_OUT_OF_RESOURCES when no descriptor or memory is left.
///
/// The caller frees the queue with greenapi_queue_free. Any thread.
///
/// # Safety
/// `out_queue` is NULL or may be written to.
#[no_mangle]
pub unsafe extern "C" fn greenapi_queue_new(out_queue: *mut *mut greenapi_queue) -> Status {
    let mut made = ptr::null_mut();
    let outcome = guard(|| {
        if out_queue.is_null() {
            return Outcome::invalid("out_queue is NULL: give the address of a greenapi_queue *.");
        }
        match Queue::new() {
            Ok(queue) => {
                made = Box::into_raw(Box::new(greenapi_queue(queue)));
                Outcome::plain(Status::Ok)
            }
            Err(outcome) => outcome,
        }
    });
    unsafe { write(out_queue, made) };
    outcome.status
}

/// Frees a queue, cancels its deletions that are still under way and returns at once. Results that
/// were not taken are lost, and the descriptor is closed.
///
/// `queue`: the queue; NULL does nothing. No other thread may be using the queue, and nobody may
/// use it afterwards. Remove its descriptor from the event loop first.
///
/// Any thread.
///
/// # Safety
/// `queue` is NULL or came from greenapi_queue_new and has not been freed.
#[no_mangle]
pub unsafe extern "C" fn greenapi_queue_free(queue: *mut greenapi_queue) {
    if !queue.is_null() {
        enter(|| {
            unsafe { Box::from_raw(queue) }.0.close();
        });
    }
}

/// The descriptor that is readable exactly while results wait (level-triggered), for poll, epoll,
/// kqueue, asyncio or Go's netpoller; on Windows a socket, for select or WSAPoll.
///
/// `queue`: the queue.
///
/// Returns the descriptor; -1 for NULL, and in a child of a fork() that has no descriptor left. The
/// descriptor belongs to the queue and lives as long as the queue: the caller only watches it, and
/// never reads or closes it. Close-on-exec.
///
/// Any thread.
///
/// # Safety
/// `queue` is NULL or a living queue.
#[no_mangle]
pub unsafe extern "C" fn greenapi_queue_fd(queue: *const greenapi_queue) -> greenapi_fd {
    enter(|| unsafe { handle("queue", queue) }?.0.descriptor())
        .and_then(Result::ok)
        .unwrap_or(NO_FD)
}

/// Submits the deletion of one instance. Deleting cannot be undone.
///
/// Never blocks, and never fails because of the network: every accepted submission gives exactly
/// one result, which greenapi_queue_take returns. A submission that waits because of the client's
/// max_in_flight takes some hundred bytes. timeout_ms counts from the moment when the request is
/// started.
///
/// `queue`: the queue that gets the result.
/// `client`: the client whose account and options are used. It may be freed at once; the submission
/// still completes.
/// `id`: the instance, 1 to 9 999 999 999.
/// `tag`: any number; the result carries it. Tags need not be unique.
///
/// Returns GREENAPI_STATUS_OK when the submission was accepted (one with an `id` out of range is
/// accepted too; its result is GREENAPI_STATUS_INVALID_ARGUMENT); else
/// GREENAPI_STATUS_INVALID_ARGUMENT (a NULL) or GREENAPI_STATUS_OUT_OF_RESOURCES, and there will be
/// no result.
///
/// Any thread.
///
/// # Safety
/// `queue` and `client` are NULL or living.
#[no_mangle]
pub unsafe extern "C" fn greenapi_queue_submit(
    queue: *mut greenapi_queue,
    client: *mut greenapi_client,
    id: i64,
    tag: u64,
) -> Status {
    let submit = || {
        let queue = unsafe { handle("queue", queue) }?;
        let client = unsafe { handle("client", client) }?;
        queue.0.submit(&client.0, id, tag)
    };
    guard(|| match submit() {
        Ok(()) => Outcome::plain(Status::Ok),
        Err(outcome) => outcome,
    })
    .status
}

/// Cancels every submission with this tag that has no result yet. Each still gives its result:
/// GREENAPI_STATUS_CANCELLED if its request had not been sent, else
/// GREENAPI_STATUS_CANCELLED_IN_FLIGHT. With a journal, the result of a deletion that had begun comes
/// when its end is recorded, or after a second.
///
/// `queue`: the queue.
/// `tag`: the tag given to greenapi_queue_submit.
///
/// Returns how many submissions were cancelled; 0 for NULL.
///
/// Never waits for the network. Any thread.
///
/// # Safety
/// `queue` is NULL or a living queue.
#[no_mangle]
pub unsafe extern "C" fn greenapi_queue_cancel(queue: *mut greenapi_queue, tag: u64) -> usize {
    enter(|| {
        let queue = unsafe { handle("queue", queue) }.ok()?;
        Some(queue.0.cancel(tag))
    })
    .flatten()
    .unwrap_or(0)
}

/// Takes results, in the order in which the deletions ended; while memory is short, those that ended
/// before they began come last.
///
/// `queue`: the queue.
/// `out_results`: room for `capacity` results; NULL takes none.
/// `capacity`: how many results to take at most.
/// `timeout_ms`: milliseconds to wait for the first result: 0 = do not wait, -1 = until there is
/// one.
///
/// Returns how many results were taken; 0 when none came in time, when nothing is under way (then
/// without waiting), and for NULL.
///
/// Any thread, several at once; each result is given to one of them.
///
/// # Safety
/// `queue` is NULL or living; `out_results` is NULL or has room for `capacity` results.
#[no_mangle]
pub unsafe extern "C" fn greenapi_queue_take(
    queue: *mut greenapi_queue,
    out_results: *mut greenapi_result,
    capacity: usize,
    timeout_ms: c_int,
) -> usize {
    enter(|| {
        let queue = unsafe { handle("queue", queue) }.ok()?;
        if out_results.is_null() {
            return None;
        }
        let until = u64::try_from(timeout_ms)
            .ok()
            .and_then(|timeout| Instant::now().checked_add(Duration::from_millis(timeout)));
        let taken = queue.0.take(capacity, until);
        for (index, record) in taken.iter().enumerate() {
            unsafe { out_results.add(index).write(greenapi_result::of(record)) };
        }
        Some(taken.len())
    })
    .flatten()
    .unwrap_or(0)
}
