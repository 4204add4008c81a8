//! Statuses and the version.

use std::ffi::c_char;

use crate::status::{self, Effect};

/// The C name of a status, like "GREENAPI_STATUS_NOT_FOUND".
///
/// `status`: any number; a number that is no enumerator gives "GREENAPI_STATUS_UNKNOWN".
///
/// Returns a string that lives as long as the process; never NULL. Any thread.
#[no_mangle]
pub extern "C" fn greenapi_status_name(status: i32) -> *const c_char {
    status::name(status).as_ptr().cast()
}

/// One plain English sentence about a status: what happened, and what to do.
///
/// `status`: any number; for a number that is no enumerator the sentence says that.
///
/// Returns a string that lives as long as the process; never NULL. Any thread.
#[no_mangle]
pub extern "C" fn greenapi_status_message(status: i32) -> *const c_char {
    status::message(status).as_ptr().cast()
}

/// What a status means for the instance: deleted, not deleted by this call, or unknown.
///
/// `status`: any number. A number that is no enumerator may come from a newer library: its range
/// shows the effect (see greenapi_status).
///
/// Returns the effect; GREENAPI_EFFECT_UNKNOWN for a number below 0 or above 49. Any thread.
#[no_mangle]
pub extern "C" fn greenapi_status_effect(status: i32) -> Effect {
    status::effect(status)
}

/// The version of the loaded library, like "0.2.0". GREENAPI_VERSION_MAJOR, _MINOR and _PATCH are
/// the version of the header that the program was compiled with.
///
/// Returns a string that lives as long as the process; never NULL. Any thread.
#[no_mangle]
pub extern "C" fn greenapi_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
