//! The result of one call, as C sees it.

use std::ffi::c_char;

use crate::completions::Record;
use crate::outcome::{Outcome, MESSAGE_SIZE};
use crate::status::Status;

/// Everything that is known about one deletion. 256 bytes without pointers: a result can be copied
/// and kept, and there is nothing to free.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct greenapi_result {
    /// The tag given to greenapi_queue_submit; 0 for blocking calls.
    pub tag: u64,
    /// The id of the instance that the call was to delete; 0: the call had no id.
    pub id: i64,
    /// What happened.
    pub status: Status,
    /// The API's own `code` when its body had one, else the HTTP status, else 0.
    pub code: i32,
    /// The HTTP status of the answer that determined the status. 0: there was no answer, or the status
    /// follows from an answer without an error to a question of the session policy (the list, a
    /// state).
    pub http_status: i32,
    /// The number of deletion requests that may have been sent, retries included; 0: none was sent.
    pub attempts: u32,
    /// What happened and what to do: NUL-terminated UTF-8, one line, without secrets.
    pub message: [c_char; 224],
}

const _: () = assert!(size_of::<greenapi_result>() == 256 && MESSAGE_SIZE == 224);

impl greenapi_result {
    pub(super) fn new(tag: u64, id: i64, outcome: &Outcome) -> Self {
        let mut message = [0; MESSAGE_SIZE];
        // An outcome's message is always shorter, which leaves the NUL.
        for (to, from) in message[..MESSAGE_SIZE - 1]
            .iter_mut()
            .zip(outcome.message.bytes())
        {
            *to = from as c_char;
        }
        Self {
            tag,
            id,
            status: outcome.status,
            code: outcome.code,
            http_status: outcome.http_status,
            attempts: outcome.attempts,
            message,
        }
    }

    pub(super) fn of(record: &Record) -> Self {
        Self::new(record.tag, record.id, &record.outcome)
    }
}
