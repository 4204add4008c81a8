//! The locks of [`crate::completions`]: the standard ones, or loom's when it is the one to try
//! every order (`RUSTFLAGS="--cfg loom" cargo test --test loom`).

#[cfg(loom)]
pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub use std::sync::{Arc, Condvar, Mutex, MutexGuard};
