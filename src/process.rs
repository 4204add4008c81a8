//! The interface to the operating system: what the library does so that it can run in a process
//! that it does not own. Only this module, [`crate::ffi`] and [`crate::memory`] contain `unsafe`.
//!
//! `unix` and `windows` define the same items; this file holds what they share.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io::{self, Read};
use std::mem::{self, MaybeUninit};
use std::path::Path;
use std::ptr;

use once_cell::race::OnceBox;
use socket2::SockRef;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// A value that is separate in each process: after a fork, the child gets a new default value at
/// its first use. The parent's value stays in memory, unused. The values form a linked list with
/// one link for each generation of processes.
///
/// Access takes no lock, so it works whatever the parent's threads were doing at the fork.
pub struct PerProcess<T> {
    head: OnceBox<Link<T>>,
}

struct Link<T> {
    generation: u32,
    /// `None` only during the drop.
    value: Option<T>,
    next: OnceBox<Link<T>>,
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Default> PerProcess<T> {
    pub const fn new() -> Self {
        Self {
            head: OnceBox::new(),
        }
    }

    /// The value of the current process.
    pub fn get(&self) -> &T {
        let generation = generation();
        let mut link = &self.head;
        loop {
            let found = link.get_or_init(|| {
                Box::new(Link {
                    generation,
                    value: Some(T::default()),
                    next: OnceBox::new(),
                })
            });
            match &found.value {
                Some(value) if found.generation == generation => return value,
                _ => link = &found.next,
            }
        }
    }
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        if self.generation != generation() {
            // The value belongs to the parent. Dropping it here could wait for a lock that no
            // thread of this process holds, and would close connections that the parent still uses.
            mem::forget(self.value.take());
        }
    }
}

/// The system's text of an error, without the number that the standard library adds.
fn without_number(error: &io::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    text
}

/// Reads from a non-blocking socket without removing the bytes from it.
pub fn peek(socket: SockRef<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: both types have the same layout, and the system writes only initialized bytes.
    let buffer = unsafe { &mut *(ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
    socket.peek(buffer)
}

/// Why a file could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The path leads to something else than a file, like "a directory".
    NotAFile(&'static str),
    TooLong,
    Failed(io::Error),
}

impl From<file::OpenError> for ReadError {
    fn from(error: file::OpenError) -> Self {
        match error {
            file::OpenError::NotAFile(what) => Self::NotAFile(what),
            file::OpenError::Failed(error) => Self::Failed(error),
        }
    }
}

/// Reads a file of at most `limit` bytes. Links are followed. Only regular files are read, because a
/// FIFO may block for ever and a device may have no end.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let file = file::open_to_read(path)?;
    // Only a hint: a file of /proc has length 0, and a file may grow.
    let length = file.metadata().map_err(ReadError::Failed)?.len();
    if length > limit {
        return Err(ReadError::TooLong);
    }
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length as usize + 1)
        .map_err(|_| ReadError::Failed(io::ErrorKind::OutOfMemory.into()))?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Failed)?;
    match bytes.len() as u64 > limit {
        true => Err(ReadError::TooLong),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[cfg(unix)]
    #[test]
    fn each_generation_has_its_own_value_and_drops_no_other() {
        static DROPS: AtomicUsize = AtomicUsize::new(0);
        #[derive(Default)]
        struct Counted(AtomicUsize);
        impl Drop for Counted {
            fn drop(&mut self) {
                DROPS.fetch_add(1, Ordering::Relaxed);
            }
        }

        let cell = PerProcess::<Counted>::new();
        cell.get().0.store(7, Ordering::Relaxed);
        assert_eq!(cell.get().0.load(Ordering::Relaxed), 7);
        // SAFETY: the child only touches this cell and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let fresh = cell.get().0.load(Ordering::Relaxed) == 0;
            cell.get().0.store(8, Ordering::Relaxed);
            let kept = cell.get().0.load(Ordering::Relaxed) == 8;
            drop(cell);
            let one = DROPS.load(Ordering::Relaxed) == 1;
            unsafe { libc::_exit(i32::from(!(fresh && kept && one))) };
        }
        let mut status = 0;
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0, "in the child");
        assert_eq!(cell.get().0.load(Ordering::Relaxed), 7);
        drop(cell);
        assert_eq!(DROPS.load(Ordering::Relaxed), 1);
    }
}
