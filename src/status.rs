//! The statuses: one stable number for everything that can happen to a deletion.

use std::ffi::CStr;

use strum::{EnumMessage, FromRepr, IntoStaticStr};

/// What happened to a deletion.
///
/// The values are stable for ever. Their ranges show the effect, so a caller who needs only the
/// effect compares once: 0–9 the instance is gone; 10–29 nothing was deleted by this call; 30–49
/// the instance may or may not have been deleted: calling again with the same id is safe, and the
/// new result shows which. greenapi_status_effect() gives the effect as an enum.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumMessage, FromRepr, IntoStaticStr)]
#[cfg_attr(test, derive(strum::VariantArray))]
// C reads the strings, so each ends in NUL.
#[strum(
    serialize_all = "SCREAMING_SNAKE_CASE",
    prefix = "GREENAPI_STATUS_",
    suffix = "\0"
)]
pub enum Status {
    /// The API said `"deleteInstanceAccount": true`.
    #[strum(message = "The instance was deleted.\0")]
    Ok = 0,
    /// The instance is gone, most likely deleted by this call: an earlier attempt of this call may
    /// have been carried out (its answer was lost, or was a 5xx or 499), and a retry was answered
    /// with 404.
    #[strum(
        message = "The instance is gone, most likely deleted by this call: the answer to an earlier attempt was lost, and a retry found no such instance.\0"
    )]
    Gone = 1,
    /// The API's own `code` 404: there is no such instance, or it had been deleted before.
    #[strum(message = "The instance does not exist, or had been deleted before.\0")]
    NotFound = 10,
    /// 401: the partner token is wrong.
    #[strum(message = "The API does not accept the partner token: check it.\0")]
    Unauthorized = 11,
    /// 403: this token may not delete this instance.
    #[strum(
        message = "This partner token may not delete this instance: check that the instance belongs to the account.\0"
    )]
    Forbidden = 12,
    /// 429, and the retries are used up, or the pause that the API asked for does not fit into
    /// the timeout.
    #[strum(
        message = "The API asked for fewer requests, and nothing was deleted: call again later, or at a slower pace.\0"
    )]
    RateLimited = 13,
    /// Any other refusal: `"deleteInstanceAccount": false`, another `code`, a redirect, another
    /// 4xx. An HTTP 404 whose body is not the API's own JSON belongs here too: check the URL.
    #[strum(
        message = "The request was refused and nothing was deleted: check the URL and the request.\0"
    )]
    Rejected = 14,
    /// The session policy forbade it: the instance is (or may be) logged in on a device.
    #[strum(
        message = "The session policy forbids the deletion: the instance may still be logged in on a device.\0"
    )]
    SessionActive = 15,
    /// The session policy could not be checked, so no deletion was sent: the list or the state was
    /// lost, unreadable or refused (401, 403 and 429 have statuses of their own), or the instance
    /// has expired, is being created or is starting. The message says which.
    #[strum(
        message = "The session policy could not be checked, so no deletion was sent: call again.\0"
    )]
    SessionUnknown = 16,
    /// An argument cannot be used, and nothing was sent.
    #[strum(message = "An argument cannot be used, and nothing was sent: correct it.\0")]
    InvalidArgument = 20,
    /// The DNS look-up failed, the connection was refused or timed out, or the host is unreachable:
    /// no request was sent, or each one that was sent was refused unprocessed (`attempts` counts
    /// them).
    #[strum(
        message = "No connection could be made and nothing was deleted: check the host and the network.\0"
    )]
    ConnectFailed = 21,
    /// The TLS handshake failed or the certificate was refused: no request was sent, or each one that
    /// was sent was refused unprocessed (`attempts` counts them).
    #[strum(
        message = "The TLS handshake failed and nothing was deleted: check the server's certificate and the trusted certificates.\0"
    )]
    TlsFailed = 22,
    /// Cancelled before the request was sent.
    #[strum(message = "Cancelled before the request was sent: nothing was deleted.\0")]
    Cancelled = 23,
    /// Memory, threads, descriptors or the journal's disk ran out before the request was sent.
    #[strum(
        message = "Memory, threads, descriptors or disk space ran out before the request was sent: free some and call again.\0"
    )]
    OutOfResources = 24,
    /// The server said that it did not process the request (HTTP/2: a GOAWAY whose last stream is
    /// below the request's, or REFUSED_STREAM before any byte of a response), and the retries are
    /// used up.
    #[strum(
        message = "The server said that it did not process the request, and the retries are used up; nothing was deleted: call again.\0"
    )]
    Unprocessed = 25,
    /// The turn of this call did not come within its timeout (because of max_in_flight, the pace or
    /// a pause that the API asked for), and nothing was sent.
    #[strum(
        message = "The turn of this call did not come within its timeout, and no request was sent: call again later, or raise the timeout or the number of requests in flight.\0"
    )]
    NotStarted = 26,
    /// No answer came in time after the request may have been sent.
    #[strum(
        message = "No answer came in time, so the instance may or may not have been deleted: call again with the same id.\0"
    )]
    Timeout = 30,
    /// The connection broke after the request may have been sent, and the retries are used up.
    #[strum(
        message = "The connection broke before the answer, so the instance may or may not have been deleted: call again with the same id.\0"
    )]
    ConnectionLost = 31,
    /// The server answered with 5xx or 499 (as the HTTP status, or as the API's `code` inside a
    /// success), and the retries are used up.
    #[strum(
        message = "The server failed, so the instance may or may not have been deleted: call again with the same id.\0"
    )]
    ServerError = 32,
    /// An HTTP success status with a body that is no valid response of this API: not JSON, of wrong
    /// types, contradictory, larger than 64 KiB, or empty. At the end of a list: a part of the list
    /// could not be read.
    #[strum(
        message = "The response did not come from this API, so the instance may or may not have been deleted: check the URL and call again with the same id.\0"
    )]
    BadResponse = 33,
    /// Cancelled after the request may have been sent.
    #[strum(
        message = "Cancelled after the request may have been sent, so the instance may or may not have been deleted: call again with the same id.\0"
    )]
    CancelledInFlight = 34,
    /// A defect in the library itself. Please report it.
    #[strum(
        message = "A defect in the library: the instance may or may not have been deleted. Please report it.\0"
    )]
    Internal = 40,
}

/// What a status means for the instance.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The instance is gone (statuses 0–9).
    Deleted = 0,
    /// Nothing was deleted by this call (statuses 10–29).
    NotDeleted = 1,
    /// The instance may or may not have been deleted (every other number): call again with the same
    /// id.
    Unknown = 2,
}

impl Status {
    /// What this status means for the instance.
    pub fn effect(self) -> Effect {
        effect(self as i32)
    }

    /// One plain sentence: what happened, and what to do.
    pub fn message(self) -> &'static str {
        message(self as i32).to_str().unwrap_or_default()
    }
}

/// The effect of any number. A number that is no enumerator may come from a newer library: its
/// range still shows the effect, and outside all ranges the effect is unknown.
pub fn effect(number: i32) -> Effect {
    match number {
        0..=9 => Effect::Deleted,
        10..=29 => Effect::NotDeleted,
        _ => Effect::Unknown,
    }
}

/// The C name of any number, NUL-terminated.
pub fn name(number: i32) -> &'static CStr {
    let name = Status::from_repr(number).map_or("GREENAPI_STATUS_UNKNOWN\0", Into::into);
    c_string(name)
}

/// The sentence of any number, NUL-terminated.
pub fn message(number: i32) -> &'static CStr {
    let message = Status::from_repr(number).and_then(|status| status.get_message());
    c_string(message.unwrap_or("This version of greenapi has no status with this number.\0"))
}

fn c_string(text: &'static str) -> &'static CStr {
    CStr::from_bytes_with_nul(text.as_bytes()).unwrap_or(c"")
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn every_status_has_a_name_and_a_sentence() {
        for status in Status::VARIANTS {
            let name = name(*status as i32).to_str().unwrap();
            let stem: String = name
                .trim_start_matches("GREENAPI_STATUS_")
                .split('_')
                .map(|word| word[..1].to_owned() + &word[1..].to_lowercase())
                .collect();
            assert_eq!(stem, format!("{status:?}"));
            // The sentence has to fit into greenapi_result.message.
            let message = status.message();
            assert!((20..224).contains(&message.len()), "{status:?}: {message}");
            assert!(message.ends_with('.'), "{status:?}: {message}");
        }
    }

    #[test]
    fn the_range_shows_the_effect() {
        for number in -5..60 {
            let expected = match number {
                0..=9 => Effect::Deleted,
                10..=29 => Effect::NotDeleted,
                _ => Effect::Unknown,
            };
            assert_eq!(effect(number), expected, "{number}");
        }
        assert_eq!(effect(i32::MIN), Effect::Unknown);
        assert_eq!(effect(i32::MAX), Effect::Unknown);
    }
}
