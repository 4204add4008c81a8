//! Unix: forks, signals, threads, descriptors, files.
//!
//! **Fork.** A child inherits all memory but only the thread that called fork(): a lock that
//! another thread of the parent held is never released, and every connection is shared with the
//! parent. So a child never touches the parent's engine, not even to free it. All state that
//! threads share is in a [`PerProcess`](super::PerProcess), which gives each process a separate
//! value.
//!
//! **Signals.** The library's threads block every signal that another thread or process can send,
//! so the host's handlers run on the host's threads only, and a write to a closed connection cannot
//! raise SIGPIPE in the host. Fault signals (SIGSEGV and its like) are not blocked, so that the
//! host's crash reporter gets them.

mod thread;

pub mod file;

use std::io;
#[cfg(not(target_os = "linux"))]
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(target_os = "linux")]
pub use thread::run_at_thread_exit;
pub use thread::start;

/// A file descriptor that event loops watch.
pub type Descriptor = libc::c_int;

/// The number of forks between this process and the one that loaded the library.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Whether the fork handler is registered.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Runs in the child of every `fork`, where only async-signal-safe work is allowed.
extern "C" fn enter_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    file::close_in_child();
}

extern "C" fn at_load() {
    prepare_for_threads();
    thread::prepare();
}

/// Registers the fork handler when the library is loaded, before a fork could meet any of its
/// state.
#[used]
#[cfg_attr(target_vendor = "apple", link_section = "__DATA,__mod_init_func")]
#[cfg_attr(not(target_vendor = "apple"), link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

/// Registers the fork handler if that failed at load time (for want of memory); returns whether it
/// is registered. Without it the library must not start a thread.
pub fn prepare_for_threads() -> bool {
    if WATCHED.load(Ordering::Relaxed) {
        return true;
    }
    // Two threads may both register the handler; counting each fork twice does no harm.
    let watched = unsafe { libc::pthread_atfork(None, None, Some(enter_child)) } == 0;
    WATCHED.fetch_or(watched, Ordering::Relaxed) || watched
}

/// A number that differs between this process and all its ancestors that had the library loaded.
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A guard that postpones a pthread_cancel() of the current thread until the guard is dropped,
/// because the forced unwinding of a cancellation must not pass through Rust frames.
pub struct Uncancellable {
    #[cfg(not(target_os = "android"))]
    before: libc::c_int,
}

/// Android has no pthread_cancel().
#[cfg(not(target_os = "android"))]
mod cancellation {
    // Declared here because the libc crate does not have it for every system.
    extern "C" {
        pub fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
    }
    pub const DISABLE: libc::c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };
}

impl Uncancellable {
    #[cfg(not(target_os = "android"))]
    pub fn begin() -> Self {
        let mut before = 0;
        unsafe { cancellation::pthread_setcancelstate(cancellation::DISABLE, &mut before) };
        Self { before }
    }

    #[cfg(target_os = "android")]
    pub fn begin() -> Self {
        Self {}
    }
}

impl Drop for Uncancellable {
    fn drop(&mut self) {
        #[cfg(not(target_os = "android"))]
        unsafe {
            cancellation::pthread_setcancelstate(self.before, std::ptr::null_mut())
        };
    }
}

/// An environment variable; `None` in a program that runs with more rights than its caller
/// (set-user-ID), because the caller could direct such a program to the caller's own proxy.
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

/// Whether an operating system error means that a resource of the process has run out.
pub fn is_exhaustion(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN)
        )
}

/// The text of an operating system error, without its number.
pub fn describe(error: &io::Error) -> String {
    super::without_number(error).to_lowercase()
}

/// Moves a descriptor to a number above 2. A host that has closed its standard input, output or error
/// may still write to that number, or put another file there.
pub fn off_standard<D: AsFd + From<OwnedFd>>(descriptor: D) -> io::Result<D> {
    match descriptor.as_fd().as_raw_fd() {
        // The copy has a number above 2, and closes on exec.
        0..=2 => Ok(descriptor.as_fd().try_clone_to_owned()?.into()),
        _ => Ok(descriptor),
    }
}

/// A descriptor that can be made readable and unreadable: an eventfd on Linux, a pipe elsewhere.
/// Close-on-exec and non-blocking.
#[derive(Debug)]
pub struct Notifier {
    readable: libc::c_int,
    #[cfg(not(target_os = "linux"))]
    writable: libc::c_int,
}

impl Notifier {
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Self> {
        let readable = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if readable < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made.
        let readable = off_standard(unsafe { OwnedFd::from_raw_fd(readable) })?.into_raw_fd();
        Ok(Self { readable })
    }

    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptors were just made.
        let [readable, writable] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let ends = [off_standard(readable)?, off_standard(writable)?].map(IntoRawFd::into_raw_fd);
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

    /// In a forked child: a new notifier under the descriptor number of the inherited one, because
    /// the host may have given that number to its event loop. The parent's notifier is not
    /// affected.
    fn replace(old: NotifierId) -> io::Result<Self> {
        let mut notifier = Self::new()?;
        let number = old.number;
        if old.object.is_none()
            || notifier.readable == number
            || object_behind(number) != old.object
        {
            // The child closed the inherited descriptor (as a daemon does), and its number may have
            // been reused, perhaps by the new notifier.
            return Ok(notifier);
        }
        #[cfg(target_os = "linux")]
        let moved = unsafe { libc::dup3(notifier.readable, number, libc::O_CLOEXEC) };
        #[cfg(not(target_os = "linux"))]
        let moved = unsafe {
            let moved = libc::dup2(notifier.readable, number);
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            moved
        };
        if moved < 0 {
            return Err(io::Error::last_os_error());
        }
        unsafe { libc::close(notifier.readable) };
        notifier.readable = number;
        Ok(notifier)
    }

    pub fn number(&self) -> Descriptor {
        self.readable
    }

    fn id(&self) -> NotifierId {
        NotifierId {
            number: self.readable,
            object: object_behind(self.readable),
        }
    }

    /// Makes the descriptor readable. To be called only while it is not readable.
    pub fn set(&self) {
        #[cfg(target_os = "linux")]
        let end = self.readable;
        #[cfg(not(target_os = "linux"))]
        let end = self.writable;
        let one = 1u64.to_ne_bytes();
        let length = if cfg!(target_os = "linux") { 8 } else { 1 };
        // The write cannot fail, because the counter (or the pipe) is empty.
        unsafe { libc::write(end, one.as_ptr().cast(), length) };
    }

    /// Makes the descriptor unreadable again. To be called only while it is readable.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        let length = if cfg!(target_os = "linux") { 8 } else { 1 };
        unsafe { libc::read(self.readable, count.as_mut_ptr().cast(), length) };
    }
}

/// Identifies a notifier, so that the child of a fork can check whether a number still refers to
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NotifierId {
    number: libc::c_int,
    /// The system's identifier of the eventfd or pipe that the number refers to; `None` if unknown.
    object: Option<u32>,
}

/// The notifier that a forked child inherits: descriptor number and object, packed into one atomic
/// word so that a fork cannot copy a half-written value.
pub struct InheritedNotifier(AtomicU64);

impl InheritedNotifier {
    pub fn new(notifier: &Notifier) -> Self {
        Self(AtomicU64::new(Self::pack(notifier.id())))
    }

    /// In a forked child: a new notifier, under the number of the parent's notifier if possible.
    pub fn replace(&self) -> io::Result<Notifier> {
        let word = self.0.load(Ordering::Relaxed);
        let notifier = Notifier::replace(NotifierId {
            number: (word >> 32) as libc::c_int,
            object: (word as u32).checked_sub(1),
        })?;
        self.0.store(Self::pack(notifier.id()), Ordering::Relaxed);
        Ok(notifier)
    }

    fn pack(notifier: NotifierId) -> u64 {
        // 0 stands for an unknown object; the system's identifiers are below i32::MAX.
        let object = notifier.object.map_or(0, |object| object.wrapping_add(1));
        u64::from(notifier.number as u32) << 32 | u64::from(object)
    }
}

/// All eventfds share one inode, so only /proc distinguishes them (since Linux 5.2).
#[cfg(target_os = "linux")]
fn object_behind(number: libc::c_int) -> Option<u32> {
    let described = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let id = described
        .lines()
        .find_map(|line| line.strip_prefix("eventfd-id:"))?;
    id.trim().parse().ok()
}

/// Each pipe has its own inode; the lower half of the number is enough to distinguish two pipes.
#[cfg(not(target_os = "linux"))]
fn object_behind(number: libc::c_int) -> Option<u32> {
    let mut stat = unsafe { mem::zeroed::<libc::stat>() };
    let known = unsafe { libc::fstat(number, &mut stat) } == 0
        && stat.st_mode & libc::S_IFMT == libc::S_IFIFO
        && stat.st_ino != 0;
    known.then_some(stat.st_ino as u32)
}

impl Drop for Notifier {
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
    use std::mem;

    #[test]
    fn a_notifier_is_replaced_under_its_number_and_nothing_else_is() {
        let notifier = Notifier::new().unwrap();
        let id = notifier.id();
        assert!(id.object.is_some(), "Linux before 5.2, or no /proc");
        mem::forget(notifier);
        let new = Notifier::replace(id).unwrap();
        assert_eq!(new.number(), id.number);
        assert_ne!(new.id(), id);

        // The number now refers to another eventfd, as after a host closed all descriptors.
        let another = Notifier::replace(id).unwrap();
        assert_ne!(another.number(), id.number);
        // The object is unknown, so the number is left alone.
        let unknown = NotifierId {
            object: None,
            ..new.id()
        };
        assert_ne!(Notifier::replace(unknown).unwrap().number(), id.number);
        new.set();
        new.clear();

        // A grandchild replaces its parent's notifier, whatever the grandparent's number was.
        let first = Notifier::new().unwrap();
        let inherited = InheritedNotifier::new(&first);
        drop(first);
        let parents = mem::ManuallyDrop::new(inherited.replace().unwrap());
        assert_eq!(inherited.replace().unwrap().number(), parents.number());
    }
}
