//! The edge to the operating system: what the library does so that it can live in a process that
//! it does not own. Beside [`crate::ffi`] the only place with `unsafe`.
//!
//! **Fork.** A child inherits every byte of memory and none of the other threads: whatever lock a
//! thread of the parent held is held for ever, and every connection is shared with the parent.
//! So nothing of the parent's engine is ever touched again in a child, not even to free it. All
//! state that threads share stands in a [`PerProcess`], which hands each process its own.
//!
//! **Signals.** Threads are started with every signal blocked, so the host's handlers run on the
//! host's threads only, and a write to a closed connection cannot raise SIGPIPE in the host.

pub mod file;

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};

use once_cell::race::OnceBox;

/// How many forks lie between this process and the one that loaded the library.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Runs in the child of every `fork`, where only async-signal-safe work is allowed.
extern "C" fn enter_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    file::close_in_child();
}

extern "C" fn watch_forks() {
    // It fails only for want of memory at load time, when nothing else would work either.
    unsafe { libc::pthread_atfork(None, None, Some(enter_child)) };
}

/// At load time rather than at the first call: a lock or a flag that says "already done" would
/// itself be state that a fork at the wrong moment leaves half done.
#[used]
#[cfg_attr(target_vendor = "apple", link_section = "__DATA,__mod_init_func")]
#[cfg_attr(not(target_vendor = "apple"), link_section = ".init_array")]
static WATCH_FORKS: extern "C" fn() = watch_forks;

/// The number of this process among its ancestors that had the library loaded.
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A value of which each process of a family of forks has its own, made from nothing at its first
/// use there. The ancestors' values stay where they are, unused: a list, one link a generation.
///
/// Finding it takes no lock, so it works whatever the parent's threads were doing at the fork.
pub struct PerProcess<T> {
    head: OnceBox<Link<T>>,
}

struct Link<T> {
    generation: u32,
    /// `None` only while it is dropped.
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

    /// This process' own value.
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
            // It belongs to the parent: to drop it would take its locks and close its sessions.
            mem::forget(self.value.take());
        }
    }
}

/// Starts a thread that no signal of the host ever reaches.
pub fn spawn<F>(name: &str, body: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    // A thread inherits the mask of the one that starts it. Blocking first leaves no moment in
    // which the new thread could be given a signal.
    let mut all = unsafe { mem::zeroed::<libc::sigset_t>() };
    let mut before = unsafe { mem::zeroed::<libc::sigset_t>() };
    unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
    }
    let result = Builder::new().name(name.to_owned()).spawn(body);
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    result
}

/// While it lives, pthread_cancel() of the calling thread waits: its forced unwinding must not
/// meet frames that know nothing of it.
pub struct Uncancellable {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    before: libc::c_int,
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
mod cancellation {
    // Not in the libc crate for every system.
    extern "C" {
        pub fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
    }
    pub const DISABLE: libc::c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };
}

impl Uncancellable {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    pub fn begin() -> Self {
        let mut before = 0;
        unsafe { cancellation::pthread_setcancelstate(cancellation::DISABLE, &mut before) };
        Self { before }
    }

    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    pub fn begin() -> Self {
        Self {}
    }
}

impl Drop for Uncancellable {
    fn drop(&mut self) {
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        unsafe {
            cancellation::pthread_setcancelstate(self.before, std::ptr::null_mut())
        };
    }
}

/// A variable of the environment; none in a program that runs with more rights than its caller
/// (set-user-ID), who could lead it to a proxy of his own.
pub fn variable(name: &str) -> Option<std::ffi::OsString> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let secure = unsafe { (libc::getuid(), libc::getgid()) != (libc::geteuid(), libc::getegid()) };
    match secure {
        true => None,
        false => std::env::var_os(name),
    }
}

/// What waits to be read on a socket, which leaves it there.
pub fn peek(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let start = buffer.as_mut_ptr().cast();
    match unsafe { libc::recv(socket.as_raw_fd(), start, buffer.len(), flags) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count as usize),
    }
}

/// Whether an operating system error means that the process has run out of something.
pub fn is_exhaustion(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN)
        )
}

/// A descriptor that can be made readable and unreadable: an eventfd, or a pipe where there is
/// none. Close-on-exec and non-blocking.
#[derive(Debug)]
pub struct Bell {
    readable: libc::c_int,
    #[cfg(not(target_os = "linux"))]
    writable: libc::c_int,
}

impl Bell {
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Self> {
        let readable = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if readable < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { readable })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        for end in ends {
            unsafe {
                libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC);
                libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK);
            }
        }
        Ok(Self {
            readable: ends[0],
            writable: ends[1],
        })
    }

    /// A new bell behind the number of an old one, of which a fork made this process a copy. The
    /// host may have given that number to its event loop; the parent keeps its own.
    pub fn replace(number: libc::c_int) -> io::Result<Self> {
        let mut bell = Self::new()?;
        if !is_alike(bell.readable, number) {
            // A child that becomes a daemon closes everything; the number is another's by now.
            return Ok(bell);
        }
        #[cfg(target_os = "linux")]
        let moved = unsafe { libc::dup3(bell.readable, number, libc::O_CLOEXEC) };
        #[cfg(not(target_os = "linux"))]
        let moved = unsafe {
            let moved = libc::dup2(bell.readable, number);
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            moved
        };
        if moved < 0 {
            return Err(io::Error::last_os_error());
        }
        unsafe { libc::close(bell.readable) };
        bell.readable = number;
        Ok(bell)
    }

    pub fn number(&self) -> libc::c_int {
        self.readable
    }

    /// Makes it readable. To be called only while it is not.
    pub fn ring(&self) {
        #[cfg(target_os = "linux")]
        let end = self.readable;
        #[cfg(not(target_os = "linux"))]
        let end = self.writable;
        let one = 1u64.to_ne_bytes();
        let length = if cfg!(target_os = "linux") { 8 } else { 1 };
        // It cannot fail: the counter, or the pipe, is empty.
        unsafe { libc::write(end, one.as_ptr().cast(), length) };
    }

    /// Makes it unreadable again. To be called only while it is readable.
    pub fn silence(&self) {
        let mut count = [0u8; 8];
        let length = if cfg!(target_os = "linux") { 8 } else { 1 };
        unsafe { libc::read(self.readable, count.as_mut_ptr().cast(), length) };
    }
}

/// Whether both are descriptors of the same kind of bell.
fn is_alike(a: libc::c_int, b: libc::c_int) -> bool {
    let stat = |number| {
        let mut stat = unsafe { mem::zeroed::<libc::stat>() };
        (unsafe { libc::fstat(number, &mut stat) } == 0).then_some(stat)
    };
    match (stat(a), stat(b)) {
        // All eventfds share one inode; pipes have one each, but are pipes.
        (Some(a), Some(b)) if cfg!(target_os = "linux") => {
            (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        }
        (Some(a), Some(b)) => a.st_mode & libc::S_IFMT == b.st_mode & libc::S_IFMT,
        _ => false,
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        unsafe { libc::close(self.readable) };
        #[cfg(not(target_os = "linux"))]
        unsafe {
            libc::close(self.writable)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

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

    #[test]
    fn threads_block_every_signal_and_leave_the_starters_mask_alone() {
        fn blocked() -> Vec<i32> {
            let mut mask = unsafe { mem::zeroed::<libc::sigset_t>() };
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &mut mask) };
            (1..32)
                .filter(|signal| unsafe { libc::sigismember(&mask, *signal) } == 1)
                .collect()
        }
        let before = blocked();
        let (tell, told) = std::sync::mpsc::channel();
        spawn("test", move || tell.send(blocked()).unwrap())
            .unwrap()
            .join()
            .unwrap();
        let uncatchable = [libc::SIGKILL, libc::SIGSTOP];
        let all: Vec<i32> = (1..32).filter(|s| !uncatchable.contains(s)).collect();
        assert_eq!(told.recv().unwrap(), all);
        assert_eq!(blocked(), before);
    }
}
