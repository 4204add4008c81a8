//! Locks that stay usable after a panic. The synchronization types are the standard library's; in
//! tests with the feature `loom` they are loom's, which runs every interleaving of the threads
//! (`cargo test --lib --features loom loom_`).

use std::sync::{LockResult, PoisonError};

#[cfg(all(test, feature = "loom"))]
pub use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, feature = "loom")))]
pub use std::sync::{Condvar, Mutex, MutexGuard};

/// Locks `mutex`, even if a thread panicked while it held the lock. The panic ends one call with
/// `INTERNAL` and must not fail every later call, and no state behind a lock is ever left half
/// changed.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// Ignores poisoning like [`lock`], for the results of condition variables and of loom's locks.
pub fn unpoisoned<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
