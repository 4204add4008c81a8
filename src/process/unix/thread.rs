//! Starts the library's threads, and runs destructors when a thread ends.
//!
//! Threads are started with `pthread_create`, because the standard library ends the process when it
//! has no memory for a thread's handle, and cannot set a new thread's signal mask.

use std::cell::Cell;
use std::ffi::{c_int, c_void, CStr};
use std::io;
use std::mem;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// The stack size of a thread, the same as in Rust's standard library.
const STACK_SIZE: usize = 2 * 1024 * 1024;

/// Signals that a thread gets for its own fault. If they were blocked, a fault would kill the
/// process without running the host's crash reporter.
const FAULTS: [c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
];

type Body = Box<dyn FnOnce() + Send>;

/// Starts a thread that gets none of the host's signals. Its CPUs and scheduling class are those
/// that the process had when it loaded the library, not those of the thread that makes the first
/// call.
/// `name`: at most 15 bytes.
pub fn start<F>(name: &'static CStr, body: F) -> io::Result<()>
where
    F: FnOnce() + Send + 'static,
{
    // The system refuses a longer name, and the thread would keep the name of its starter.
    debug_assert!(name.to_bytes().len() <= 15, "{name:?}");
    let body: Body = Box::new(move || {
        set_name(name);
        scheduling::restore();
        body();
    });
    let body = Box::into_raw(Box::new(body));
    // A new thread inherits the signal mask of its starter, so the signals are blocked here: at no
    // moment can the new thread get one.
    let mut blocked = unsafe { mem::zeroed::<libc::sigset_t>() };
    let mut before = unsafe { mem::zeroed::<libc::sigset_t>() };
    unsafe {
        libc::sigfillset(&mut blocked);
        for fault in FAULTS {
            libc::sigdelset(&mut blocked, fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &blocked, &mut before);
    }
    let problem = unsafe { create(body.cast()) };
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    if problem == 0 {
        return Ok(());
    }
    // SAFETY: no thread was started, so `body` is still owned here.
    drop(unsafe { Box::from_raw(body) });
    Err(io::Error::from_raw_os_error(problem))
}

unsafe fn create(body: *mut c_void) -> c_int {
    let mut attributes = unsafe { mem::zeroed::<libc::pthread_attr_t>() };
    let mut thread = unsafe { mem::zeroed::<libc::pthread_t>() };
    unsafe {
        let problem = libc::pthread_attr_init(&mut attributes);
        if problem != 0 {
            return problem;
        }
        libc::pthread_attr_setstacksize(&mut attributes, STACK_SIZE);
        libc::pthread_attr_setdetachstate(&mut attributes, libc::PTHREAD_CREATE_DETACHED);
        let problem = libc::pthread_create(&mut thread, &attributes, run, body);
        libc::pthread_attr_destroy(&mut attributes);
        problem
    }
}

extern "C" fn run(body: *mut c_void) -> *mut c_void {
    // SAFETY: `start` passed the ownership of the box to this thread.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    // The panic must not unwind into C; the panic hook has already reported it.
    let _ = catch_unwind(AssertUnwindSafe(body));
    ptr::null_mut()
}

fn set_name(name: &'static CStr) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    unsafe {
        libc::pthread_setname_np(libc::pthread_self(), name.as_ptr());
    }
    #[cfg(target_vendor = "apple")]
    unsafe {
        libc::pthread_setname_np(name.as_ptr());
    }
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_vendor = "apple"
    )))]
    let _ = name;
}

/// The CPUs and the scheduling class that the process had when it loaded the library.
#[cfg(target_os = "linux")]
mod scheduling {
    use std::cell::UnsafeCell;
    use std::ffi::c_int;
    use std::mem;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Scheduling {
        cpus: libc::cpu_set_t,
        class: c_int,
        parameters: libc::sched_param,
    }

    struct Loaded(UnsafeCell<Scheduling>);

    // SAFETY: written only once, at load time, before KNOWN is set; read only when KNOWN is set.
    unsafe impl Sync for Loaded {}

    static LOADED: Loaded = Loaded(UnsafeCell::new(unsafe { mem::zeroed() }));
    static KNOWN: AtomicBool = AtomicBool::new(false);

    /// Those of the current thread; `None` if the system does not tell them.
    fn current() -> Option<Scheduling> {
        let mut now = unsafe { mem::zeroed::<Scheduling>() };
        let known = unsafe {
            // A new thread does not inherit this flag, so it makes no difference.
            now.class = libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK;
            now.class >= 0
                && libc::sched_getparam(0, &mut now.parameters) == 0
                && libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut now.cpus) == 0
        };
        known.then_some(now)
    }

    pub fn note() {
        if let Some(now) = current() {
            unsafe { *LOADED.0.get() = now };
            KNOWN.store(true, Ordering::Release);
        }
    }

    /// Restores them for the current thread as far as the system allows: without privileges, a
    /// thread cannot leave SCHED_IDLE. Sets only what differs, because a filter of system calls may
    /// kill a process that sets any of them (systemd's `SystemCallFilter=~@resources`).
    pub fn restore() {
        if !KNOWN.load(Ordering::Acquire) {
            return;
        }
        let Some(now) = current() else {
            return;
        };
        let loaded = unsafe { &*LOADED.0.get() };
        if (now.class, now.parameters.sched_priority)
            != (loaded.class, loaded.parameters.sched_priority)
        {
            unsafe { libc::sched_setscheduler(0, loaded.class, &loaded.parameters) };
        }
        if unsafe { !libc::CPU_EQUAL(&now.cpus, &loaded.cpus) } {
            unsafe { libc::sched_setaffinity(0, size_of_val(&loaded.cpus), &loaded.cpus) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod scheduling {
    pub fn note() {}
    pub fn restore() {}
}

/// A destructor of a thread-local.
struct Exit {
    destructor: unsafe extern "C" fn(*mut c_void),
    object: *mut c_void,
    next: *mut Exit,
}

thread_local! {
    /// The destructors to run when this thread ends, the latest first. This variable itself needs
    /// no destructor, which would have to be registered in this very list.
    static EXITS: Cell<*mut Exit> = const { Cell::new(ptr::null_mut()) };
}

/// The pthread key whose destructor runs this list, plus one; 0: there is no key.
static EXIT_KEY: AtomicU32 = AtomicU32::new(0);

/// Calls `destructor` with `object` when this thread ends, or never, if the system has no memory
/// for registering it.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub fn run_at_thread_exit(destructor: unsafe extern "C" fn(*mut c_void), object: *mut c_void) {
    let next = EXITS.get();
    EXITS.set(Box::into_raw(Box::new(Exit {
        destructor,
        object,
        next,
    })));
    if let Some(key) = EXIT_KEY.load(Ordering::Relaxed).checked_sub(1) {
        // The value itself is not used, but for a NULL the system would not run the destructor.
        unsafe { libc::pthread_setspecific(key as libc::pthread_key_t, EXITS.get().cast()) };
    }
}

unsafe extern "C" fn run_exits(_: *mut c_void) {
    // A destructor may register another.
    loop {
        let latest = EXITS.get();
        if latest.is_null() {
            return;
        }
        // SAFETY: `run_at_thread_exit` made the box, and only this thread can reach it.
        let exit = unsafe { Box::from_raw(latest) };
        EXITS.set(exit.next);
        unsafe { (exit.destructor)(exit.object) };
    }
}

/// Runs when the library is loaded.
pub fn prepare() {
    scheduling::note();
    let mut key: libc::pthread_key_t = 0;
    if unsafe { libc::pthread_key_create(&mut key, Some(run_exits)) } == 0 {
        EXIT_KEY.store(key as u32 + 1, Ordering::Relaxed);
    }
    touch_thread_locals();
}

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
std::arch::global_asm!(
    ".pushsection .tbss.greenapi,\"awT\",%nobits",
    ".globl greenapi_thread_local",
    ".hidden greenapi_thread_local",
    ".type greenapi_thread_local,%object",
    ".balign 8",
    "greenapi_thread_local:",
    ".zero 8",
    ".size greenapi_thread_local, 8",
    ".popsection",
);

/// Makes the loader allocate the library's thread-locals together with those of the program.
/// Otherwise, for a library that is loaded at run time, glibc allocates them with malloc when a
/// thread first uses one, and ends the process if there is no memory. One access in this form
/// (initial-exec) is enough to change that for all of them.
#[inline(never)]
fn touch_thread_locals() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    unsafe {
        std::arch::asm!(
            "mov {offset}, qword ptr [rip + greenapi_thread_local@GOTTPOFF]",
            offset = out(reg) _,
        );
    }
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "aarch64"))]
    unsafe {
        std::arch::asm!(
            "adrp {offset}, :gottprel:greenapi_thread_local",
            "ldr {offset}, [{offset}, :gottprel_lo12:greenapi_thread_local]",
            offset = out(reg) _,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Runs `body` in a thread of the library and returns its result.
    fn in_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        start(c"test", move || tell.send(body()).unwrap()).unwrap();
        told.recv().unwrap()
    }

    #[test]
    fn threads_block_every_signal_but_faults_and_leave_the_starters_mask_alone() {
        fn blocked() -> Vec<i32> {
            let mut mask = unsafe { mem::zeroed::<libc::sigset_t>() };
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut mask) };
            (1..32)
                .filter(|signal| unsafe { libc::sigismember(&mask, *signal) } == 1)
                .collect()
        }
        let before = blocked();
        let unblocked = [&FAULTS[..], &[libc::SIGKILL, libc::SIGSTOP]].concat();
        let all: Vec<i32> = (1..32).filter(|s| !unblocked.contains(s)).collect();
        assert_eq!(in_thread(blocked), all);
        assert_eq!(blocked(), before);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_have_the_cpus_and_the_class_of_the_process() {
        fn cpus() -> Vec<usize> {
            let mut set = unsafe { mem::zeroed::<libc::cpu_set_t>() };
            unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
            (0..1024)
                .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
                .collect()
        }
        let all = cpus();
        let (started, class) = std::thread::spawn(move || {
            let mut one = unsafe { mem::zeroed::<libc::cpu_set_t>() };
            unsafe {
                libc::CPU_SET(all[0], &mut one);
                libc::sched_setaffinity(0, size_of_val(&one), &one);
                let none = mem::zeroed::<libc::sched_param>();
                libc::sched_setscheduler(0, libc::SCHED_BATCH, &none);
            }
            assert_eq!(cpus().len(), 1);
            let started = in_thread(|| (cpus(), unsafe { libc::sched_getscheduler(0) }));
            assert_eq!(started.0, all);
            started
        })
        .join()
        .map(|started| (started.0.len(), started.1))
        .unwrap();
        assert!(started >= 1);
        assert_eq!(class, unsafe { libc::sched_getscheduler(0) });
    }

    #[test]
    fn what_was_registered_runs_at_the_end_of_its_thread_the_latest_first() {
        static RAN: std::sync::Mutex<Vec<usize>> = std::sync::Mutex::new(Vec::new());
        unsafe extern "C" fn note(object: *mut c_void) {
            RAN.lock().unwrap().push(object as usize);
            if object as usize == 2 {
                run_at_thread_exit(note, ptr::without_provenance_mut(3));
            }
        }
        std::thread::spawn(|| {
            run_at_thread_exit(note, ptr::without_provenance_mut(1));
            run_at_thread_exit(note, ptr::without_provenance_mut(2));
            assert!(RAN.lock().unwrap().is_empty());
        })
        .join()
        .unwrap();
        assert_eq!(*RAN.lock().unwrap(), [2, 3, 1]);
    }
}
