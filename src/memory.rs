//! Memory that runs out must not end the host.
//!
//! Where an allocation fails, Rust ends the process, and there is no way to be told before. So the
//! library asks the system first, and when the system refuses, takes the block from a
//! [`reserve`] of its own and notes that memory is short. Nothing above sees a failure; what the
//! note is good for is to stop: the C edge refuses new work, the engine ends what it has not sent,
//! and what was sent is finished with the reserve. [`is_short`] asks the system again, so the note
//! lasts no longer than the shortage.
//!
//! Some of Rust's standard library goes past the allocator that a program sets, to malloc, and to
//! glibc's list of thread-local destructors, which ends the process by itself. In the shared
//! library [`linked`] has those too; in the static one they are the program's, and stay as they are.
//!
//! Beside [`crate::ffi`] and [`crate::process`] the only place with `unsafe`.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod linked;
mod reserve;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::outcome::Outcome;
use crate::status::Status;

/// What a call takes at most while it connects: with less than this, the system has none to give.
const ENOUGH: Layout = match Layout::from_size_align(64 * 1024, 16) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// That the system refused a block, and has not been found to have any since.
static SHORT: AtomicBool = AtomicBool::new(false);

/// For what has not been sent: nothing is begun while memory is short.
pub fn check() -> Result<(), Outcome> {
    match is_short() {
        true => Err(shortage()),
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

/// Whether the system has no memory to give, or the reserve is half spent.
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

/// Asks the system, and takes nothing.
pub fn has_some() -> bool {
    let block = unsafe { System.alloc(ENOUGH) };
    let refused = block.is_null() || reserve::holds(block);
    unsafe { release(block, ENOUGH) };
    !refused
}

/// A block that the system has refused; NULL if the reserve has none either.
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

/// Blocks up to this size are overwritten when they are given back, so that no token is left in
/// memory that is free: copies of it pass through many libraries, which do not wipe them. Larger
/// blocks hold none, and to overwrite them would touch memory that was never used.
const WIPED: usize = 128 * 1024;

/// # Safety
/// `block` has `size` bytes that nobody reads any more.
#[inline]
unsafe fn wipe(block: *mut u8, size: usize) {
    if size <= WIPED {
        unsafe { block.write_bytes(0, size) };
        // The compiler must not find that nobody reads them.
        std::hint::black_box(block);
    }
}

/// The system's allocator, with the reserve behind it. Only for this library: the program that it
/// is linked into keeps its own.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: each block comes from the system or from the reserve, whose addresses tell which.
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
        // A block that the system moves leaves what it held behind.
        let may_move_unwiped = shrinks || layout.size() > WIPED;
        if may_move_unwiped && !reserve::holds(block) {
            let moved = unsafe { System.realloc(block, layout, new_size) };
            if !moved.is_null() {
                return moved;
            }
            if shrinks {
                SHORT.store(true, Ordering::Relaxed);
                // The system does not need to be told a block's size when it gets it back.
                return block;
            }
        }
        // SAFETY: the alignment was valid, and the caller vouches for the size.
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
    fn the_note_lasts_no_longer_than_the_shortage() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        let block = refused(layout);
        assert!(reserve::holds(block));
        assert!(!is_short());
        assert!(!SHORT.load(Ordering::Relaxed));
        unsafe { block.write_bytes(7, 100) };
        // It moves back to the system when it grows.
        let grown = unsafe { ALLOCATOR.realloc(block, layout, 5000) };
        assert!(!reserve::holds(grown));
        assert_eq!(unsafe { std::slice::from_raw_parts(grown, 100) }, [7; 100]);
        unsafe { ALLOCATOR.dealloc(grown, Layout::from_size_align(5000, 8).unwrap()) };
    }
}
