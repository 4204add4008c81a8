//! The locks of [`crate::completions`]: the standard ones, or loom's when it is the one to try
//! every order (`cargo test --lib --features loom loom_`).

#[cfg(all(test, feature = "loom"))]
pub use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, feature = "loom")))]
pub use std::sync::{Condvar, Mutex, MutexGuard};
