//! Starts the library's threads, but only if there is memory for a thread's first steps.
//!
//! In its first steps a thread allocates memory without the library's allocator (Rust's handle of
//! the thread, glibc's list of thread-local destructors), and the process ends if there is none.
//! The shared library replaces these allocations ([`crate::memory`]). In the static library they
//! belong to the program, so this module first checks that the system has memory, and then takes
//! those steps immediately.

use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex};

use tokio::runtime::Handle;

use crate::memory;
use crate::outcome::Outcome;
use crate::process;
use crate::sync::{lock, unpoisoned};

thread_local! {
    static SETTLED: Cell<bool> = const { Cell::new(false) };
}

/// Prepares a caller's thread, once, for waking the engine: makes the first access to tokio's
/// thread-local here, after a check of the memory, because without memory that access ends the
/// process.
pub fn settle() -> Result<(), Outcome> {
    if !SETTLED.get() {
        if !memory::has_some() {
            return Err(memory::shortage());
        }
        let _ = Handle::try_current();
        SETTLED.set(true);
    }
    Ok(())
}

fn take_first_steps() {
    let _ = (Handle::try_current(), std::thread::current());
}

fn no_memory<T>() -> io::Result<T> {
    Err(io::ErrorKind::OutOfMemory.into())
}

/// Starts a thread of the library. `name`: at most 15 bytes.
pub fn start(name: &'static CStr, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    if !memory::has_some() {
        return no_memory();
    }
    process::start(name, move || {
        take_first_steps();
        crate::panics::keep_quiet();
        body();
    })
}

/// Starts a thread and waits until `body` has reported, with its [`Tell`], whether it could begin.
/// The new thread itself checks that there is memory, immediately before its first steps.
pub fn start_and_wait<T: Send + 'static>(
    name: &'static CStr,
    body: impl FnOnce(Tell<io::Result<T>>) + Send + 'static,
) -> io::Result<T> {
    let beginning = Arc::new(Beginning {
        state: Mutex::new(State::Waiting),
        changed: Condvar::new(),
    });
    let tell = Tell(beginning.clone());
    process::start(name, move || {
        if !memory::has_some() {
            return tell.tell(no_memory());
        }
        take_first_steps();
        crate::panics::keep_quiet();
        body(tell);
    })?;
    let mut state = lock(&beginning.state);
    loop {
        match mem::replace(&mut *state, State::Waiting) {
            State::Told(told) => return told,
            State::Ended => return Err(io::Error::other("its thread ended")),
            State::Waiting => state = unpoisoned(beginning.changed.wait(state)),
        }
    }
}

/// With this a thread reports once to its starter whether it could begin.
pub struct Tell<T>(Arc<Beginning<T>>);

/// Used instead of a channel of the standard library, because waiting on one allocates memory
/// without the library's allocator too.
struct Beginning<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Waiting,
    Told(T),
    /// The thread ended without a report.
    Ended,
}

impl<T> Tell<T> {
    pub fn tell(self, told: T) {
        *lock(&self.0.state) = State::Told(told);
    }
}

impl<T> Drop for Tell<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if matches!(*state, State::Waiting) {
            *state = State::Ended;
        }
        drop(state);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_tells_how_it_began_or_that_it_ended() {
        let told = start_and_wait(c"test", |tell| tell.tell(Ok(7)));
        assert_eq!(told.unwrap(), 7);
        let silent: io::Result<()> = start_and_wait(c"test", |_| panic!("it says nothing"));
        assert_eq!(silent.unwrap_err().to_string(), "its thread ended");
    }
}
