//! The library's allocator: when memory runs out, the host must not end.
//!
//! When an allocation fails, Rust ends the process, and code cannot prevent that. So this allocator
//! takes a block from the library's own [`reserve`] when the system has none, and sets a flag that
//! memory is short. The other modules see no failed allocation, but check the flag: new calls are
//! refused, calls that have not been sent are ended, and calls that have been sent are finished
//! with the reserve. [`is_short`] asks the system again, so the flag is cleared as soon as the
//! shortage is over.
//!
//! Some code of Rust's standard library does not use the allocator that a program sets: it calls
//! malloc, and registers thread-local destructors with glibc, which ends the process when it has no
//! memory. In the shared library for Linux on x86-64 and aarch64 [`linked`] replaces these functions
//! too; in the static library they belong to the program and are left alone.
//!
//! Only this module, [`crate::ffi`] and [`crate::process`] contain `unsafe`.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod linked;
mod reserve;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Stage};
use crate::outcome::Outcome;
use crate::status::Status;

/// The most memory that a call needs while it connects; if the system cannot give this much, memory
/// is short.
const ENOUGH: Layout = match Layout::from_size_align(64 * 1024, 16) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// Set when the system refuses a block, cleared when the system is found to have memory again.
static SHORT: AtomicBool = AtomicBool::new(false);

/// Fails while memory is short; checked before new work begins.
pub fn check() -> Result<(), Outcome> {
    match is_short() {
        true => Err(shortage()),
        false => Ok(()),
    }
}

/// The same as the failure of a request, which is then not begun.
pub fn check_request() -> Result<(), Failure> {
    match is_short() {
        true => Err(Failure::new(
            Stage::Resources,
            "the system has no memory to give",
        )),
        false => Ok(()),
    }
}

/// The outcome of a call that is refused because memory is short.
pub fn shortage() -> Outcome {
    Outcome::new(
        Status::OutOfResources,
        "Free memory and call again: the system has none to give, and no request was sent.",
    )
}

/// Whether the system has no memory, or half of the reserve is in use.
pub fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed) && !has_ended()
}

#[cold]
fn has_ended() -> bool {
    let ended = !reserve::is_low() && has_some();
    if ended {
        SHORT.store(false, Ordering::Relaxed);
    }
    ended
}

/// Whether the system has memory; allocates a block and frees it at once.
pub fn has_some() -> bool {
    let block = unsafe { System.alloc(ENOUGH) };
    // Where `linked` replaces malloc, `System` gets a block of the reserve when the system has none.
    let refused = block.is_null() || reserve::holds(block);
    unsafe { release(block, ENOUGH) };
    !refused
}

/// Allocates from the reserve a block that the system has refused; NULL if the reserve is full.
#[cold]
fn refused(layout: Layout) -> *mut u8 {
    SHORT.store(true, Ordering::Relaxed);
    reserve::take(layout)
}

/// # Safety
/// `block` is NULL or came from this allocator, with `layout`, and is not used any more.
unsafe fn release(block: *mut u8, layout: Layout) {
    if reserve::holds(block) {
        unsafe { reserve::give_back(block) };
    } else if !block.is_null() {
        unsafe { System.dealloc(block, layout) };
    }
}

/// Blocks up to this size are overwritten when they are freed, so that no token stays in free
/// memory: libraries copy tokens and do not overwrite the copies. Larger blocks contain no token,
/// and overwriting them would touch memory that was never used.
const WIPED: usize = 128 * 1024;

/// # Safety
/// `block` has `size` bytes that nobody reads any more.
#[inline]
unsafe fn wipe(block: *mut u8, size: usize) {
    if size <= WIPED {
        unsafe { block.write_bytes(0, size) };
        // Without this, the compiler may remove the writing because nobody reads the bytes.
        std::hint::black_box(block);
    }
}

/// The system's allocator, backed by the reserve. Only this library uses it; the host program keeps
/// its own allocator.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: each block comes from the system or from the reserve, and its address shows from which.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = unsafe { System.alloc(layout) };
        match block.is_null() {
            true => refused(layout),
            false => block,
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            return block;
        }
        let block = refused(layout);
        if !block.is_null() {
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { wipe(block, layout.size()) };
        match reserve::holds(block) {
            true => unsafe { reserve::give_back(block) },
            false => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let shrinks = new_size <= layout.size();
        if shrinks {
            unsafe { wipe(block.add(new_size), layout.size() - new_size) };
        }
        // A block that the system moves leaves its old contents in free memory.
        let may_move_unwiped = shrinks || layout.size() > WIPED;
        if may_move_unwiped && !reserve::holds(block) {
            let moved = unsafe { System.realloc(block, layout, new_size) };
            if !moved.is_null() {
                return moved;
            }
            if shrinks {
                SHORT.store(true, Ordering::Relaxed);
                // The larger block can be kept, because the system frees it without its size.
                return block;
            }
        }
        // SAFETY: the alignment was valid, and the caller guarantees the size.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            unsafe {
                moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_lasts_no_longer_than_the_shortage() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        let block = refused(layout);
        assert!(reserve::holds(block));
        assert!(!is_short());
        assert!(!SHORT.load(Ordering::Relaxed));
        unsafe { block.write_bytes(7, 100) };
        // A block of the reserve moves to the system when it grows.
        let grown = unsafe { ALLOCATOR.realloc(block, layout, 5000) };
        assert!(!reserve::holds(grown));
        assert_eq!(unsafe { std::slice::from_raw_parts(grown, 100) }, [7; 100]);
        unsafe { ALLOCATOR.dealloc(grown, Layout::from_size_align(5000, 8).unwrap()) };
    }
}
