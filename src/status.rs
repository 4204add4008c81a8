//! What happened, as one stable number: the vocabulary of the whole library.

/// What happened to a deletion.
///
/// The values are stable for ever. The tens tell the effect, so one comparison is enough for a
/// caller who wants only that: 0–9 the instance is gone; 10–29 nothing was deleted by this call;
/// 30–49 it may or may not have been deleted, and calling again with the same id is safe and
/// tells. `greenapi_status_effect` says the same as an enum.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The API said `"deleteInstanceAccount": true`.
    Ok = 0,
    /// An earlier attempt of this same call may have been carried out (its answer was lost, or
    /// was a 5xx or 499), and a retry was told 404: it is gone, most likely by this call.
    Gone = 1,
    /// The API's own `code` 404: no such instance, or it had been deleted before.
    NotFound = 10,
    /// 401: the partner token is wrong.
    Unauthorized = 11,
    /// 403: this token may not delete this instance.
    Forbidden = 12,
    /// 429, and the retries are used up, or the pause that the API asked for does not fit into
    /// the timeout.
    RateLimited = 13,
    /// Any other refusal: `"deleteInstanceAccount": false`, another `code`, a redirect, another
    /// 4xx. A 404 page that is not the API's own JSON is here: check the URL.
    Rejected = 14,
    /// The session policy forbade it: the instance is (or may be) logged in on a device.
    SessionActive = 15,
    /// The session policy could not be checked, so no deletion was sent.
    SessionUnknown = 16,
    /// Rejected before anything was sent.
    InvalidArgument = 20,
    /// DNS, refused, unreachable, connect timeout: no request was sent.
    ConnectFailed = 21,
    /// Certificate or handshake: no request was sent.
    TlsFailed = 22,
    /// Cancelled before the request was sent.
    Cancelled = 23,
    /// Memory, threads or descriptors ran out before the request was sent.
    OutOfResources = 24,
    /// No answer in time, after the request may have been sent.
    Timeout = 30,
    /// The connection broke after the request may have been sent, and the retries are used up.
    ConnectionLost = 31,
    /// 5xx or 499, and the retries are used up.
    ServerError = 32,
    /// A success status whose body is not an answer of this API: not JSON, wrong types,
    /// contradictory, too large, or empty.
    BadResponse = 33,
    /// Cancelled after the request may have been sent.
    CancelledInFlight = 34,
    /// A defect in the library itself. Please report it.
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
    /// It may or may not have been deleted (every other number): call again with the same id.
    Unknown = 2,
}

/// Every status with its C name and its sentence: the one list that the functions below read.
const ALL: [(Status, &str, &str); 20] = [
    (
        Status::Ok,
        "GREENAPI_STATUS_OK\0",
        "The instance was deleted.\0",
    ),
    (
        Status::Gone,
        "GREENAPI_STATUS_GONE\0",
        "The instance is gone, most likely by this call: the answer to an earlier attempt was lost and a retry found it missing.\0",
    ),
    (
        Status::NotFound,
        "GREENAPI_STATUS_NOT_FOUND\0",
        "The instance does not exist, or had been deleted before.\0",
    ),
    (
        Status::Unauthorized,
        "GREENAPI_STATUS_UNAUTHORIZED\0",
        "The API does not accept the partner token: check it.\0",
    ),
    (
        Status::Forbidden,
        "GREENAPI_STATUS_FORBIDDEN\0",
        "This partner token may not delete this instance: check that the instance belongs to the account.\0",
    ),
    (
        Status::RateLimited,
        "GREENAPI_STATUS_RATE_LIMITED\0",
        "The API asked for fewer requests, and nothing was deleted: call again later, or set requests_per_second.\0",
    ),
    (
        Status::Rejected,
        "GREENAPI_STATUS_REJECTED\0",
        "The request was refused and nothing was deleted: check the URL and the request.\0",
    ),
    (
        Status::SessionActive,
        "GREENAPI_STATUS_SESSION_ACTIVE\0",
        "The session policy forbids the deletion: the instance may still be logged in on a device.\0",
    ),
    (
        Status::SessionUnknown,
        "GREENAPI_STATUS_SESSION_UNKNOWN\0",
        "The session policy could not be checked, so no deletion was sent: call again.\0",
    ),
    (
        Status::InvalidArgument,
        "GREENAPI_STATUS_INVALID_ARGUMENT\0",
        "An argument cannot be used, and nothing was sent: correct it.\0",
    ),
    (
        Status::ConnectFailed,
        "GREENAPI_STATUS_CONNECT_FAILED\0",
        "No connection could be made and no request was sent: check the host and the network.\0",
    ),
    (
        Status::TlsFailed,
        "GREENAPI_STATUS_TLS_FAILED\0",
        "The TLS handshake failed and no request was sent: check the server's certificate and the trusted certificates.\0",
    ),
    (
        Status::Cancelled,
        "GREENAPI_STATUS_CANCELLED\0",
        "Cancelled before the request was sent: nothing was deleted.\0",
    ),
    (
        Status::OutOfResources,
        "GREENAPI_STATUS_OUT_OF_RESOURCES\0",
        "Memory, threads or descriptors ran out before the request was sent: free some and call again.\0",
    ),
    (
        Status::Timeout,
        "GREENAPI_STATUS_TIMEOUT\0",
        "No answer came in time, so the instance may or may not have been deleted: call again with the same id.\0",
    ),
    (
        Status::ConnectionLost,
        "GREENAPI_STATUS_CONNECTION_LOST\0",
        "The connection broke before the answer, so the instance may or may not have been deleted: call again with the same id.\0",
    ),
    (
        Status::ServerError,
        "GREENAPI_STATUS_SERVER_ERROR\0",
        "The server failed, so the instance may or may not have been deleted: call again with the same id.\0",
    ),
    (
        Status::BadResponse,
        "GREENAPI_STATUS_BAD_RESPONSE\0",
        "The answer is not one of this API, so the instance may or may not have been deleted: check the URL and call again with the same id.\0",
    ),
    (
        Status::CancelledInFlight,
        "GREENAPI_STATUS_CANCELLED_IN_FLIGHT\0",
        "Cancelled after the request may have been sent, so the instance may or may not have been deleted: call again with the same id.\0",
    ),
    (
        Status::Internal,
        "GREENAPI_STATUS_INTERNAL\0",
        "A defect in the library: the instance may or may not have been deleted. Please report it.\0",
    ),
];

impl Status {
    /// What this status means for the instance.
    pub fn effect(self) -> Effect {
        effect(self as i32)
    }

    /// One plain sentence.
    pub fn message(self) -> &'static str {
        message(self as i32).trim_end_matches('\0')
    }
}

/// The effect of any number. One that is no enumerator may come from a newer library: its tens
/// still tell, and outside them nothing is certain.
pub fn effect(number: i32) -> Effect {
    match number {
        0..=9 => Effect::Deleted,
        10..=29 => Effect::NotDeleted,
        _ => Effect::Unknown,
    }
}

/// The C name of any number, NUL-terminated.
pub fn name(number: i32) -> &'static str {
    find(number).map_or("GREENAPI_STATUS_UNKNOWN\0", |(_, name, _)| name)
}

/// The sentence of any number, NUL-terminated.
pub fn message(number: i32) -> &'static str {
    find(number).map_or(
        "This number is no status of this version of greenapi.\0",
        |(.., message)| message,
    )
}

fn find(number: i32) -> Option<&'static (Status, &'static str, &'static str)> {
    ALL.iter().find(|(status, ..)| *status as i32 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_own_name_and_a_sentence() {
        let mut names = std::collections::HashSet::new();
        for (status, name, message) in ALL {
            assert!(names.insert(name), "{name} stands twice");
            assert_eq!(super::name(status as i32), name);
            let stem: String = name
                .trim_start_matches("GREENAPI_STATUS_")
                .trim_end_matches('\0')
                .split('_')
                .map(|word| word[..1].to_owned() + &word[1..].to_lowercase())
                .collect();
            assert_eq!(stem, format!("{status:?}"));
            for text in [name, message] {
                assert_eq!(text.find('\0'), Some(text.len() - 1), "{text:?}");
            }
            // The sentence has to fit into greenapi_result.message.
            assert!(message.len() <= 224, "{message}");
        }
    }

    #[test]
    fn the_tens_tell_the_effect() {
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
