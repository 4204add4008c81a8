//! The C interface: one file for each concept of the header; this file holds what they share.
//!
//! Only here are C pointers turned into Rust references, and no panic leaves a C function: it
//! becomes `INTERNAL`. The comments on public items become the text of the header, written for
//! readers who have only the header.
#![allow(non_camel_case_types)]

mod call;
mod client;
mod instance;
mod list;
mod options;
mod queue;
mod result;
mod status;

use std::ffi::{c_char, CStr};

pub use call::*;
pub use client::*;
pub use instance::*;
pub use list::*;
pub use options::*;
pub use queue::*;
pub use result::*;
pub use status::*;

use crate::outcome::Outcome;
use crate::panics;
use crate::process::Uncancellable;
use crate::status::Status;

/// Runs the body of a C function; returns `None` if it panicked. Nothing unwinds through the C
/// function: panics are caught, and a pthread_cancel() takes effect only after the call.
fn enter<T>(body: impl FnOnce() -> T) -> Option<T> {
    let _uncancellable = Uncancellable::begin();
    panics::catch(body)
}

/// Like [`enter`], for a body that reports an outcome; a panic becomes `INTERNAL`.
fn guard(body: impl FnOnce() -> Outcome) -> Outcome {
    enter(body).unwrap_or_else(|| Outcome::plain(Status::Internal))
}

/// Reads a required C string; `name` is the parameter's, for the message.
///
/// # Safety
/// `pointer` is NULL or points to a NUL-terminated string that outlives the result.
unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Result<&'a str, Outcome> {
    if pointer.is_null() {
        return Err(Outcome::invalid(format!("{name} is NULL: give a string.")));
    }
    unsafe { CStr::from_ptr(pointer) }
        .to_str()
        .map_err(|_| Outcome::invalid(format!("{name} is not UTF-8: give a UTF-8 string.")))
}

/// Writes through an `out_*` pointer, which may be NULL.
///
/// # Safety
/// `out` is NULL or may be written to.
unsafe fn write<T>(out: *mut T, value: T) {
    if !out.is_null() {
        unsafe { out.write(value) };
    }
}

/// Dereferences a handle; `name` is the parameter's, for the message.
///
/// # Safety
/// `handle` is NULL or came from the matching `*_new` and has not been freed.
unsafe fn handle<'a, T>(name: &str, handle: *const T) -> Result<&'a T, Outcome> {
    unsafe { handle.as_ref() }.ok_or_else(|| {
        Outcome::invalid(format!(
            "{name} is NULL: give a {name} made by greenapi_{name}_new."
        ))
    })
}
