//! Locks that go on after a panic, and the primitives of [`crate::completions`]: the standard ones,
//! or loom's when it is the one to try every order (`cargo test --lib --features loom loom_`).

use std::sync::{LockResult, PoisonError};

#[cfg(all(test, feature = "loom"))]
pub use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, feature = "loom")))]
pub use std::sync::{Condvar, Mutex, MutexGuard};

/// Locks `mutex`, also after a panic of a thread that held it: a panic is one call's `INTERNAL`
/// and must not become everybody's, and no state behind a lock here is ever left half changed.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// The same for what waits at a lock, and for loom's locks.
pub fn unpoisoned<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
