//! Lists: the instances of an account.

use std::ffi::c_int;
use std::ptr;
use std::time::{Duration, Instant};

use super::{
    enter, greenapi_client, greenapi_fd, greenapi_instance, greenapi_result, guard, handle, write,
    NO_FD,
};
use crate::list::List;
use crate::outcome::Outcome;
use crate::status::Status;

/// A list of instances that is being read. Made by greenapi_client_list_instances, freed by
/// greenapi_list_free. Any number of threads may use a list at once. After fork() the list goes on
/// in the parent; in the child it has ended, with GREENAPI_STATUS_CANCELLED.
pub struct greenapi_list(List);

/// `flags`: ask each instance that is not deleted for its state, within the client's max_in_flight
/// and requests_per_second, each instance at most once a second.
pub const GREENAPI_LIST_STATES: u32 = 1;

/// Asks for the list of the account's instances, deleted ones included. Returns at once:
/// greenapi_list_take returns the instances in the API's order, while the list is still being read.
/// At most about 1 MiB of instances waits to be taken: while a caller is slow to take them, the
/// library reads no further. (With GREENAPI_LIST_STATES up to 16,384 instances more are read ahead,
/// about 5 MiB.)
///
/// The client's options apply: max_retries, until the first instance has come; timeout_ms once for
/// the list, not counting the time in which the library waits for the caller to take instances, and
/// again for each question about a state.
///
/// `client`: from greenapi_client_new; it may be freed at once, and the list goes on.
/// `flags`: 0, or GREENAPI_LIST_STATES.
/// `out_list`: where to write the list, or NULL on failure; required.
/// `out_error`: NULL, or where to write what is wrong, in `message`; written whatever the outcome.
///
/// Returns GREENAPI_STATUS_OK when the list was begun; else GREENAPI_STATUS_INVALID_ARGUMENT or
/// GREENAPI_STATUS_OUT_OF_RESOURCES. greenapi_list_ended reports how the list ended. Any thread.
/// The caller owns the list and frees it with greenapi_list_free.
///
/// # Safety
/// `client` is NULL or living; `out_list` and `out_error` are NULL or may be written to.
#[no_mangle]
pub unsafe extern "C" fn greenapi_client_list_instances(
    client: *mut greenapi_client,
    flags: u32,
    out_list: *mut *mut greenapi_list,
    out_error: *mut greenapi_result,
) -> Status {
    let mut made = ptr::null_mut();
    let outcome = guard(|| {
        if out_list.is_null() {
            return Outcome::invalid("out_list is NULL: give the address of a greenapi_list *.");
        }
        if flags & !GREENAPI_LIST_STATES != 0 {
            return Outcome::invalid(format!(
                "flags is {flags:#x}: give 0 or GREENAPI_LIST_STATES, because this version knows no other bit."
            ));
        }
        let attempt = || {
            let client = unsafe { handle("client", client) }?;
            List::of(&client.0, flags & GREENAPI_LIST_STATES != 0)
        };
        match attempt() {
            Ok(list) => {
                made = Box::into_raw(Box::new(greenapi_list(list)));
                Outcome::new(Status::Ok, "The list was begun.")
            }
            Err(outcome) => outcome,
        }
    });
    unsafe {
        write(out_list, made);
        write(out_error, greenapi_result::new(0, 0, &outcome));
    }
    outcome.status
}

/// Takes instances, in the API's order.
///
/// `list`: NULL gives 0.
/// `out_instances`: room for `capacity` instances; NULL takes none.
/// `capacity`: how many instances to take at most.
/// `timeout_ms`: milliseconds to wait for the first instance: 0 = do not wait, -1 = until there is
/// one or the list has ended.
///
/// Returns how many instances were taken; 0 when none came in time, and when the list has ended:
/// greenapi_list_ended tells the two apart. Any thread, several at once; each instance is given to
/// one of them.
///
/// # Safety
/// `list` is NULL or living; `out_instances` is NULL or has room for `capacity` instances.
#[no_mangle]
pub unsafe extern "C" fn greenapi_list_take(
    list: *mut greenapi_list,
    out_instances: *mut greenapi_instance,
    capacity: usize,
    timeout_ms: c_int,
) -> usize {
    enter(|| {
        let list = unsafe { living(list) }.ok()?;
        if out_instances.is_null() {
            return None;
        }
        let until = u64::try_from(timeout_ms)
            .ok()
            .and_then(|timeout| Instant::now().checked_add(Duration::from_millis(timeout)));
        let taken = list.0.take(capacity, until);
        for (index, instance) in taken.iter().enumerate() {
            unsafe {
                out_instances
                    .add(index)
                    .write(greenapi_instance::of(instance))
            };
        }
        Some(taken.len())
    })
    .flatten()
    .unwrap_or(0)
}

/// The descriptor that is readable while instances wait, and from the end of the list on
/// (level-triggered), for poll, epoll, kqueue, asyncio or Go's netpoller; on Windows a socket, for
/// select or WSAPoll.
///
/// `list`: the list.
///
/// Returns the descriptor; -1 for NULL, and in a child of a fork() that has no descriptor left. The
/// descriptor belongs to the list and lives as long as the list: the caller only watches it, and
/// never reads or closes it. Close-on-exec. Any thread.
///
/// # Safety
/// `list` is NULL or a living list.
#[no_mangle]
pub unsafe extern "C" fn greenapi_list_fd(list: *const greenapi_list) -> greenapi_fd {
    enter(|| {
        let list = unsafe { living(list) }.ok()?;
        list.0.watch().ok()
    })
    .flatten()
    .unwrap_or(NO_FD)
}

/// Whether the list has ended: it is complete or broke off, and every instance that came has been
/// taken.
///
/// `list`: NULL has ended, with GREENAPI_STATUS_INVALID_ARGUMENT.
/// `out_result`: NULL, or where to write how the list ended: its `id` and `tag` are 0, `attempts`
/// counts the requests for the list, `message` says what happened. GREENAPI_STATUS_OK: the list is
/// complete. Any other status: the instances that were taken are only a part of the list. Written
/// only when true is returned.
///
/// Returns false while more may come. Any thread.
///
/// # Safety
/// `list` is NULL or living; `out_result` is NULL or may be written to.
#[no_mangle]
pub unsafe extern "C" fn greenapi_list_ended(
    list: *const greenapi_list,
    out_result: *mut greenapi_result,
) -> bool {
    let ended = enter(|| match unsafe { living(list) } {
        Ok(list) => list.0.end(),
        Err(outcome) => Some(outcome),
    });
    match ended.unwrap_or_else(|| Some(Outcome::plain(Status::Internal))) {
        Some(outcome) => {
            unsafe { write(out_result, greenapi_result::new(0, 0, &outcome)) };
            true
        }
        None => false,
    }
}

/// Frees a list, stops reading it if it has not ended, and returns at once. Instances that were not
/// taken are lost, and the descriptor is closed.
///
/// `list`: the list; NULL does nothing. No other thread may be using the list, and nobody may use
/// it afterwards. Remove its descriptor from the event loop first. Any thread.
///
/// # Safety
/// `list` is NULL or came from greenapi_client_list_instances and has not been freed.
#[no_mangle]
pub unsafe extern "C" fn greenapi_list_free(list: *mut greenapi_list) {
    if !list.is_null() {
        enter(|| {
            let list = unsafe { Box::from_raw(list) };
            list.0.close();
        });
    }
}

/// Dereferences a list.
///
/// # Safety
/// `list` is NULL or living.
unsafe fn living<'a>(list: *const greenapi_list) -> Result<&'a greenapi_list, Outcome> {
    unsafe { list.as_ref() }.ok_or_else(|| {
        Outcome::invalid("list is NULL: give a list made by greenapi_client_list_instances.")
    })
}
