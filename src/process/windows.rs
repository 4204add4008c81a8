//! Windows: the items of [`super::unix`] for a system without forks and signals.

pub mod file;

use std::ffi::{CStr, OsString};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::windows::io::AsRawSocket;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation as system;
use windows_sys::Win32::Networking::WinSock as winsock;
use windows_sys::Win32::System::LibraryLoader::{
    GetModuleHandleExW, GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN,
};

/// A SOCKET that event loops watch.
pub type Descriptor = usize;

/// Keeps the library loaded as long as the process lives, so that unloading it does not remove the
/// code that its threads run.
pub fn prepare_for_threads() -> bool {
    let mut module = ptr::null_mut();
    let flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN;
    let here = prepare_for_threads as *const u16;
    unsafe { GetModuleHandleExW(flags, here, &mut module) != 0 }
}

/// Always 0, because this system has no fork().
pub fn generation() -> u32 {
    0
}

/// Nothing to do: handles have no small numbers that stand for input and output.
pub fn off_standard<D>(descriptor: D) -> io::Result<D> {
    Ok(descriptor)
}

/// Starts a thread.
pub fn start<F>(name: &'static CStr, body: F) -> io::Result<()>
where
    F: FnOnce() + Send + 'static,
{
    let name = name.to_string_lossy().into_owned();
    thread::Builder::new()
        .name(name)
        // The panic hook has already reported a panic.
        .spawn(|| drop(catch_unwind(AssertUnwindSafe(body))))
        .map(drop)
}

/// Does nothing, because this system has no pthread_cancel().
pub struct Uncancellable;

impl Uncancellable {
    pub fn begin() -> Self {
        Self
    }
}

/// An environment variable.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Whether an operating system error means that a resource of the process has run out.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let short = |code: i32| {
        matches!(
            code as u32,
            system::ERROR_TOO_MANY_OPEN_FILES
                | system::ERROR_NOT_ENOUGH_MEMORY
                | system::ERROR_OUTOFMEMORY
                | system::ERROR_NO_SYSTEM_RESOURCES
                | system::ERROR_NONPAGED_SYSTEM_RESOURCES
                | system::ERROR_PAGED_SYSTEM_RESOURCES
                | system::ERROR_WORKING_SET_QUOTA
                | system::ERROR_PAGEFILE_QUOTA
                | system::ERROR_COMMITMENT_LIMIT
                | system::ERROR_NOT_ENOUGH_QUOTA
        ) || matches!(
            code,
            winsock::WSAEMFILE | winsock::WSAENOBUFS | winsock::WSAEPROCLIM
        )
    };
    error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error().is_some_and(short)
}

/// The text of an operating system error. Winsock errors get the texts of Unix, because the
/// system's own are in the user's language and too long for a message.
pub fn describe(error: &io::Error) -> String {
    let known = match error.raw_os_error().unwrap_or_default() {
        winsock::WSAEACCES => "permission denied",
        winsock::WSAEMFILE => "too many open files",
        winsock::WSAEADDRINUSE => "address already in use",
        winsock::WSAEADDRNOTAVAIL => "cannot assign requested address",
        winsock::WSAEAFNOSUPPORT => "address family not supported by protocol",
        winsock::WSAENETDOWN => "network is down",
        winsock::WSAENETUNREACH => "network is unreachable",
        winsock::WSAENETRESET => "network dropped connection on reset",
        winsock::WSAECONNABORTED => "software caused connection abort",
        winsock::WSAECONNRESET => "connection reset by peer",
        winsock::WSAENOBUFS => "no buffer space available",
        winsock::WSAETIMEDOUT => "connection timed out",
        winsock::WSAECONNREFUSED => "connection refused",
        winsock::WSAEHOSTDOWN => "host is down",
        winsock::WSAEHOSTUNREACH => "no route to host",
        winsock::WSAHOST_NOT_FOUND => "the name is not known",
        winsock::WSATRY_AGAIN => "temporary failure in name resolution",
        winsock::WSANO_RECOVERY => "failure in name resolution",
        winsock::WSANO_DATA => "the name has no address",
        _ => {
            let text = super::without_number(error);
            return text.trim_end_matches(['.', ' ', '\r', '\n']).to_lowercase();
        }
    };
    known.into()
}

/// A socket that can be made readable and unreadable: one of two UDP sockets that are connected to
/// each other, because select() and WSAPoll() watch only sockets. Child processes do not inherit
/// them.
#[derive(Debug)]
pub struct Notifier {
    readable: UdpSocket,
    writable: UdpSocket,
}

impl Notifier {
    pub fn new() -> io::Result<Self> {
        /// A datagram on loopback arrives at once, unless the system is overloaded.
        const PATIENCE: Duration = Duration::from_secs(1);
        let readable = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let writable = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        // A connected socket receives only from its peer.
        readable.connect(writable.local_addr()?)?;
        writable.connect(readable.local_addr()?)?;
        readable.set_read_timeout(Some(PATIENCE))?;
        let notifier = Self { readable, writable };
        notifier.discard_strangers()?;
        Ok(notifier)
    }

    /// Discards datagrams that came from other sockets between bind and connect.
    fn discard_strangers(&self) -> io::Result<()> {
        self.readable.set_nonblocking(true)?;
        while self.readable.recv(&mut [0]).is_ok() {}
        self.readable.set_nonblocking(false)
    }

    pub fn number(&self) -> Descriptor {
        self.readable.as_raw_socket() as Descriptor
    }

    /// Makes the socket readable. To be called only while it is not readable.
    pub fn set(&self) {
        /// Sending fails while the system has no buffer for a byte.
        const ATTEMPTS: usize = 1000;
        for _ in 0..ATTEMPTS {
            match self.writable.send(&[1]) {
                Ok(_) => return,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Makes the socket unreadable again. To be called only while it is readable.
    pub fn clear(&self) {
        let _ = self.readable.recv(&mut [0]);
    }
}

/// Exists only for the same interface as on Unix, because this system has no fork().
pub struct InheritedNotifier;

impl InheritedNotifier {
    pub fn new(_: &Notifier) -> Self {
        Self
    }

    pub fn replace(&self) -> io::Result<Notifier> {
        Notifier::new()
    }
}
