//! Clients: many calls with the caller's own options.

use std::ffi::{c_char, c_void};
use std::mem;
use std::ptr;
use std::slice;
use std::sync::Arc;

use super::{greenapi_options, greenapi_result, guard, handle, text, write};
use crate::bulk::{delete_all, Observer};
use crate::client::Client;
use crate::completions::Record;
use crate::endpoint::parse_token;
use crate::outcome::Outcome;
use crate::status::Status;

/// The largest array of results that any address space can hold.
const LARGEST_COUNT: usize = isize::MAX as usize / size_of::<greenapi_result>();

/// A client: one account at one address, with options. Made by greenapi_client_new, freed by
/// greenapi_client_free. Any number of threads may use a client at once, and after fork() the child
/// may use it too.
pub struct greenapi_client(pub(super) Arc<Client>);

/// A progress callback: greenapi_client_delete_instances calls it for each result, on the thread
/// that called that function.
///
/// `done` of `total` ids have a result; `last` is the latest result, valid until the callback
/// returns; `user_data` is what the caller gave. Return true to go on, false to cancel the rest.
/// The callback must return: no longjmp, no pthread_exit and no C++ exception may leave it. If the
/// callback calls fork(), the parent's deletions go on; in the child the callback is not called
/// again, and each id that had no result at that moment gets GREENAPI_STATUS_CANCELLED_IN_FLIGHT
/// there.
pub type greenapi_progress_fn = Option<
    unsafe extern "C" fn(
        done: usize,
        total: usize,
        last: *const greenapi_result,
        user_data: *mut c_void,
    ) -> bool,
>;

/// Makes a client. Nothing is sent yet, and no thread is started, except the journal's if the
/// options name a journal.
///
/// `url`: as for greenapi_delete_instance; copied.
/// `token`: as for greenapi_delete_instance; copied.
/// `options`: NULL = defaults; else set up by greenapi_options_init. An unusable value is refused
/// with a message that names the option. The options and their strings are copied.
/// `out_client`: where to write the client, or NULL on failure; required. The caller frees the
/// client with greenapi_client_free.
/// `out_error`: NULL, or where to write what is wrong, in `message`; written whatever the outcome.
///
/// Returns GREENAPI_STATUS_OK, GREENAPI_STATUS_INVALID_ARGUMENT, or
/// GREENAPI_STATUS_OUT_OF_RESOURCES when memory, or the journal's disk, has run out.
///
/// The environment (HTTPS_PROXY and its like, SSL_CERT_FILE, SSL_CERT_DIR) is read here, on the
/// calling thread, and so is `ca_file`; a set-user-ID program takes nothing from the environment.
/// Any thread.
///
/// # Safety
/// The pointers are NULL or what they are said to be.
#[no_mangle]
pub unsafe extern "C" fn greenapi_client_new(
    url: *const c_char,
    token: *const c_char,
    options: *const greenapi_options,
    out_client: *mut *mut greenapi_client,
    out_error: *mut greenapi_result,
) -> Status {
    let mut made = ptr::null_mut();
    let outcome = guard(|| {
        if out_client.is_null() {
            return Outcome::invalid(
                "out_client is NULL: give the address of a greenapi_client *.",
            );
        }
        let attempt = || {
            let url = unsafe { text("url", url) }?;
            let token = parse_token(unsafe { text("token", token) }?)?;
            let options = unsafe { super::options::check(options, &token) }?;
            Client::new(url, token, options)
        };
        match attempt() {
            Ok(client) => {
                made = Box::into_raw(Box::new(greenapi_client(client)));
                Outcome::new(Status::Ok, "The client was made.")
            }
            Err(outcome) => outcome,
        }
    });
    unsafe {
        write(out_client, made);
        write(out_error, greenapi_result::new(0, 0, &outcome));
    }
    outcome.status
}

/// Frees a client. Deletions that were submitted to a queue with this client still complete.
///
/// `client`: the client; NULL does nothing. No other thread may be inside a blocking call with the
/// client, and nobody may use the client afterwards.
///
/// Any thread; returns at once. The token is overwritten in memory once the last submission of the
/// client has its result.
///
/// # Safety
/// `client` is NULL or came from greenapi_client_new and has not been freed.
#[no_mangle]
pub unsafe extern "C" fn greenapi_client_free(client: *mut greenapi_client) {
    if !client.is_null() {
        guard(|| {
            drop(unsafe { Box::from_raw(client) });
            Outcome::plain(Status::Ok)
        });
    }
}

/// Deletes one instance with a client's options. Deleting cannot be undone.
///
/// `client`: from greenapi_client_new.
/// `id`: the instance, 1 to 9 999 999 999.
/// `out_result`: NULL, or where to write the result, message included; written whatever the
/// outcome.
///
/// Returns the status that is also in the result.
///
/// Blocks the calling thread for at most the client's timeout_ms; with a journal whose disk hangs, up
/// to a second more, for the record of the result. Any thread.
///
/// # Safety
/// `client` is NULL or a living client; `out_result` is NULL or may be written to.
#[no_mangle]
pub unsafe extern "C" fn greenapi_client_delete_instance(
    client: *mut greenapi_client,
    id: i64,
    out_result: *mut greenapi_result,
) -> Status {
    let outcome = guard(|| {
        #[cfg(feature = "inject-panics")]
        assert_ne!(id, crate::client::PANIC_AT_THE_BOUNDARY);
        match unsafe { handle("client", client) } {
            Ok(client) => client.0.delete(id),
            Err(outcome) => outcome,
        }
    });
    unsafe { write(out_result, greenapi_result::new(0, id, &outcome)) };
    outcome.status
}

/// Deletes many instances, as many at once as the client's max_in_flight allows, and waits for
/// all of them. Deleting cannot be undone.
///
/// `client`: from greenapi_client_new.
/// `ids`: the instances, each 1 to 9 999 999 999. An id out of that range gets
/// GREENAPI_STATUS_INVALID_ARGUMENT, and the others are still deleted.
/// `count`: how many ids there are.
/// `out_results`: NULL, or room for `count` results, written in the order of `ids`.
/// `on_progress`: NULL, or a callback for each result as it comes, on the calling thread. When the
/// callback returns false, the remaining deletions are cancelled, and every id still gets its
/// result.
/// `user_data`: passed to `on_progress` unchanged.
///
/// Returns GREENAPI_STATUS_OK when every id ended with a status from 0 to 9, else the first other
/// status in the order of `ids`.
///
/// Blocks the calling thread. For each id, timeout_ms counts from the moment when its request is
/// started. Any thread.
///
/// # Safety
/// `ids` and `out_results` are NULL or as long as `count` says; `client` is NULL or living.
#[no_mangle]
pub unsafe extern "C" fn greenapi_client_delete_instances(
    client: *mut greenapi_client,
    ids: *const i64,
    count: usize,
    out_results: *mut greenapi_result,
    on_progress: greenapi_progress_fn,
    user_data: *mut c_void,
) -> Status {
    if count > LARGEST_COUNT {
        // No array can be so long, so `count` is wrong and nothing is written to `out_results`.
        return Status::InvalidArgument;
    }
    let mut report = BulkReport {
        out_results,
        on_progress,
        user_data,
    };
    // If a panic interrupts the work below, ids without a result keep this one.
    report.refuse_all(ids, count, &Outcome::plain(Status::Internal));
    guard(|| {
        let mut delete = || {
            if ids.is_null() && count > 0 {
                return Err(Outcome::invalid(
                    "ids is NULL: give an array of instance ids.",
                ));
            }
            let client = unsafe { handle("client", client) }?;
            if count == 0 {
                return Ok(Status::Ok);
            }
            let ids = unsafe { slice::from_raw_parts(ids, count) };
            delete_all(&client.0, ids, &mut report)
        };
        match delete() {
            Ok(status) => Outcome::plain(status),
            Err(outcome) => {
                report.refuse_all(ids, count, &outcome);
                outcome
            }
        }
    })
    .status
}

/// Writes the results of greenapi_client_delete_instances and calls its callback.
struct BulkReport {
    out_results: *mut greenapi_result,
    on_progress: greenapi_progress_fn,
    user_data: *mut c_void,
}

impl BulkReport {
    fn write(&mut self, index: usize, result: greenapi_result) {
        if !self.out_results.is_null() {
            unsafe { self.out_results.add(index).write(result) };
        }
    }

    /// Writes `outcome` as the result of every id.
    fn refuse_all(&mut self, ids: *const i64, count: usize, outcome: &Outcome) {
        let count = if self.out_results.is_null() { 0 } else { count };
        for index in 0..count {
            let id = match ids.is_null() {
                true => 0,
                false => unsafe { ids.add(index).read() },
            };
            self.write(index, greenapi_result::new(0, id, outcome));
        }
    }
}

impl Observer for BulkReport {
    fn result(&mut self, index: usize, id: i64, outcome: &Outcome) {
        self.write(index, greenapi_result::new(0, id, outcome));
    }

    fn progress(&mut self, done: usize, total: usize, last: &Record) -> bool {
        let Some(on_progress) = self.on_progress else {
            return true;
        };
        let last = greenapi_result::new(0, last.id, &last.outcome);
        // SAFETY: the two types differ only in the return value, which has one byte in both. A C
        // callback may return a byte that is neither 0 nor 1, which must not become a Rust bool.
        let on_progress: unsafe extern "C" fn(
            usize,
            usize,
            *const greenapi_result,
            *mut c_void,
        ) -> u8 = unsafe { mem::transmute(on_progress) };
        (unsafe { on_progress(done, total, &last, self.user_data) }) != 0
    }
}
