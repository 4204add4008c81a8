//! Catches the library's panics, which become `INTERNAL`, and keeps their messages out of the host
//! program's stderr.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// How many calls of [`catch`] are active on this thread; a panic message is printed only at 0.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

static HOOKED: AtomicBool = AtomicBool::new(false);

/// Runs `body`; returns `None` if it panicked.
pub fn catch<T>(body: impl FnOnce() -> T) -> Option<T> {
    hook();
    INSIDE.set(INSIDE.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(INSIDE.get() - 1);
    result.ok()
}

/// Silences the messages of all panics on the current thread, which must be one of the library's
/// own.
pub fn keep_quiet() {
    hook();
    INSIDE.set(1);
}

/// Installs the panic hook once. The hook still prints panics outside the library, because a Rust
/// program that the static library is linked into has the same hook.
fn hook() {
    if HOOKED.swap(true, Ordering::Relaxed) {
        return;
    }
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if INSIDE.try_with(Cell::get).unwrap_or(0) == 0 {
            before(info);
        }
    }));
}
