//! greenapi_delete_instance: one deletion in one call, without a client.

use std::ffi::{c_char, c_int};

use super::{guard, text, write};
use crate::client::Client;
use crate::status::Status;

/// Deletes one instance with the default options: 30 s for the whole call, 10 s to connect, 3
/// retries, the system's certificates and proxy settings, no session policy, no journal. Deleting
/// cannot be undone.
///
/// Sends `POST {url}/partner/deleteInstanceAccount/{token}` with `{"idInstance": id}`. This API
/// reports its errors inside HTTP 200, so only its `"deleteInstanceAccount": true` counts as a
/// deletion. The library keeps connections open and reuses them for later calls, also with another
/// token. Redirects are never followed: they would send the token to another address.
///
/// `url`: `https://host[:port][/prefix]`, at most 4096 bytes, from the partner's console, like
/// `https://api.green-api.com`. A trailing slash does not matter, a path prefix is kept. User
/// info, query and fragment are refused; `http://` is for loopback hosts only.
/// `token`: the partner token, 1 to 4096 bytes. It is percent-encoded, so no token can change the
/// path. Empty, ".", ".." and control characters are refused.
/// `id`: the instance, 1 to 9 999 999 999.
/// `out_code`: NULL, or where to write the API's own `code` (404, 401, …), else the HTTP status
/// (502, …), else 0; 200 after a deletion. Written whatever the outcome.
///
/// Returns GREENAPI_STATUS_OK, or another status that says what happened; greenapi_status_effect
/// says what a status means for the instance.
///
/// Blocks the calling thread for at most 30 s. Any number of threads may call it at once, and so
/// may the child of a fork(). The strings are copied and stay the caller's. The environment
/// (HTTPS_PROXY and its like, SSL_CERT_FILE, SSL_CERT_DIR) is read inside the call, on the calling
/// thread, when `url` or `token` differs from the previous call's: a later change of the
/// environment has no effect on calls that repeat both. A set-user-ID program takes nothing from
/// the environment.
///
/// # Safety
/// `url` and `token` are NULL or NUL-terminated strings; `out_code` is NULL or may be written to.
#[no_mangle]
pub unsafe extern "C" fn greenapi_delete_instance(
    url: *const c_char,
    token: *const c_char,
    id: i64,
    out_code: *mut c_int,
) -> Status {
    let outcome = guard(|| {
        let (url, token) = match unsafe { (text("url", url), text("token", token)) } {
            (Ok(url), Ok(token)) => (url, token),
            (Err(outcome), _) | (_, Err(outcome)) => return outcome,
        };
        match Client::shared_default(url, token) {
            Ok(client) => client.delete(id),
            Err(outcome) => outcome,
        }
    });
    unsafe { write(out_code, outcome.code) };
    outcome.status
}
