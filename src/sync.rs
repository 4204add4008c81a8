//! The locks of [`crate::completions`]: the standard ones, or loom's when it is the one to try
//! every order (`RUSTFLAGS="--cfg greenapi_loom" cargo test --lib loom_`).

#[cfg(greenapi_loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(greenapi_loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard};
