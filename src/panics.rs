//! What happens to a panic: it becomes `INTERNAL`, and nothing is printed into somebody else's
//! program.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// How deep this thread is inside the library.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

static HOOKED: AtomicBool = AtomicBool::new(false);

/// Runs `body`; nothing if it panicked.
pub fn catch<T>(body: impl FnOnce() -> T) -> Option<T> {
    hook();
    INSIDE.set(INSIDE.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    INSIDE.set(INSIDE.get() - 1);
    result.ok()
}

/// For a thread of the library's own: whatever panics on it keeps quiet.
pub fn keep_quiet() {
    hook();
    INSIDE.set(1);
}

/// Panics elsewhere are printed as before: where the library is linked into a Rust program, the
/// hook is that program's too.
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
