//! Files that one process holds exclusively: opened without blocking, locked until the process
//! ends.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use once_cell::race::OnceBox;

use super::off_standard;

/// Why a file could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The path leads to something else than a file, like "a directory".
    NotAFile(&'static str),
    Failed(io::Error),
}

/// Identifies a file: equal for all paths and descriptors of the same file, as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u64, u64);

/// A file for reading and appending, whose lock ends with this process. A forked child closes its
/// copy of the descriptor at once, because the child would otherwise share the lock and keep it
/// after the parent's end.
#[derive(Debug)]
pub struct HeldFile {
    pub file: File,
    slot: &'static Slot,
}

impl HeldFile {
    /// Opens the file at `path`, or creates it with mode 0600. Symbolic links are not followed, and
    /// only regular files are opened, because opening a FIFO or a device can block or have side
    /// effects.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        match path.symlink_metadata() {
            Ok(there) => check(there.file_type())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::Failed(error)),
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let file = file.map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => OpenError::NotAFile("a symbolic link"),
            _ => OpenError::Failed(error),
        })?;
        // A line that the host writes to standard error must not end up in the file.
        let file = off_standard(file).map_err(OpenError::Failed)?;
        let slot = Slot::take(file.as_raw_fd());
        let held = Self { file, slot };
        // The file may have been replaced between the check and the opening.
        let there = held.file.metadata().map_err(OpenError::Failed)?;
        check(there.file_type())?;
        Ok(held)
    }

    pub fn identity(&self) -> io::Result<Identity> {
        Ok(identity(&self.file.metadata()?))
    }

    /// Whether `path` still names this file.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.identity()? == identity(&path.symlink_metadata()?))
    }

    /// Takes the lock; false while another process has it.
    ///
    /// The lock is a `flock` and not a POSIX lock, because a POSIX lock ends when the process
    /// closes any descriptor of the file: a host that reads its own journal would release the lock.
    pub fn lock(&self) -> io::Result<bool> {
        loop {
            if unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return Ok(true);
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            }
        }
    }

    /// Writes at the end of the file.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    /// The file's length; `None` if `path` no longer names the file with this identity, or if the
    /// host has closed the descriptor and it became another file.
    pub fn length_at(&self, path: &Path, known: Identity) -> io::Result<Option<u64>> {
        let own = self.file.metadata()?;
        let named = match path.symlink_metadata() {
            Ok(there) => identity(&there) == known,
            // A host that has given up privileges may no longer look into the directory.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => own.nlink() > 0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok((named && identity(&own) == known).then_some(own.len()))
    }

    /// Reserves disk space for `bytes` bytes from `start` on, without changing the file's length.
    /// Fails only if there is no space; where the system or the file system cannot reserve, a later
    /// write may still fail.
    pub fn make_room(&self, start: u64, bytes: u64) -> io::Result<()> {
        let mut limit = unsafe { std::mem::zeroed::<libc::rlimit>() };
        let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } == 0;
        // The limit is signed on FreeBSD.
        let beyond = i128::from(start + bytes) > i128::from(limit.rlim_cur);
        if known && limit.rlim_cur != libc::RLIM_INFINITY && beyond {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        #[cfg(target_os = "linux")]
        loop {
            let number = self.file.as_raw_fd();
            let mode = libc::FALLOC_FL_KEEP_SIZE;
            let done = unsafe { libc::fallocate64(number, mode, start as i64, bytes as i64) } == 0;
            match io::Error::last_os_error() {
                _ if done => break,
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if is_disk_full(&error) => return Err(error),
                _ => break,
            }
        }
        Ok(())
    }

    /// Restricts the file to its owner (mode 0600), whatever the umask.
    pub fn make_private(&self) {
        // Only the owner can change the mode; a file of another owner keeps its mode.
        let _ = self
            .file
            .set_permissions(std::fs::Permissions::from_mode(0o600));
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // Unlocked explicitly, because closing does not unlock a file of which a child has a copy: one
        // forked after the next step, or between the opening of the file and the taking of the slot.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
        // Freed before the file is closed, because after that the number may be reused at once, and
        // a child would close another file.
        self.slot.descriptor.store(FREE, Ordering::Relaxed);
    }
}

/// Opens an existing file for reading. Symbolic links are followed, but only regular files are
/// opened.
pub fn open_to_read(path: &Path) -> Result<File, OpenError> {
    check(path.metadata().map_err(OpenError::Failed)?.file_type())?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(OpenError::Failed)?;
    // The file may have been replaced between the check and the opening.
    check(file.metadata().map_err(OpenError::Failed)?.file_type())?;
    Ok(file)
}

fn check(kind: FileType) -> Result<(), OpenError> {
    match () {
        () if kind.is_file() => Ok(()),
        () if kind.is_symlink() => Err(OpenError::NotAFile("a symbolic link")),
        () if kind.is_dir() => Err(OpenError::NotAFile("a directory")),
        () if kind.is_fifo() => Err(OpenError::NotAFile("a FIFO")),
        () if kind.is_socket() => Err(OpenError::NotAFile("a socket")),
        () => Err(OpenError::NotAFile("a device")),
    }
}

/// The identity of the file that is described; `None` where the system tells it only for open files.
pub fn identity_of(metadata: &Metadata) -> Option<Identity> {
    Some(identity(metadata))
}

fn identity(metadata: &Metadata) -> Identity {
    Identity(metadata.dev(), metadata.ino())
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        // Some file systems cannot sync a directory, and a directory may be writable but not
        // readable. Then the sync of the new file itself has to be enough.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EACCES | libc::EINVAL | libc::ENOTSUP | libc::EBADF)
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Whether the disk, or the user's quota of it, is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
    )
}

/// Whether the disk failed to read or write.
pub fn is_broken_disk(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

const FREE: libc::c_int = -1;

/// A descriptor that a forked child must close. Slots are never freed, so that a child can go
/// through the list whatever its parent's threads were doing at the fork.
#[derive(Debug)]
struct Slot {
    descriptor: AtomicI32,
    next: OnceBox<Slot>,
}

static SLOTS: Slot = Slot {
    descriptor: AtomicI32::new(FREE),
    next: OnceBox::new(),
};

impl Slot {
    fn take(descriptor: libc::c_int) -> &'static Self {
        let mut slot = &SLOTS;
        loop {
            let taken = slot.descriptor.compare_exchange(
                FREE,
                descriptor,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if taken.is_ok() {
                return slot;
            }
            slot = slot.next.get_or_init(|| {
                Box::new(Self {
                    descriptor: AtomicI32::new(FREE),
                    next: OnceBox::new(),
                })
            });
        }
    }
}

/// Closes all held files. Runs in the child of a fork, where only async-signal-safe work is
/// allowed.
pub(super) fn close_in_child() {
    let mut slot = Some(&SLOTS);
    while let Some(Slot { descriptor, next }) = slot {
        let number = descriptor.swap(FREE, Ordering::Relaxed);
        if number != FREE {
            unsafe { libc::close(number) };
        }
        slot = next.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn place(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("greenapi-held-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    fn child(body: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child makes system calls only and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(!body());
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        unsafe { libc::waitpid(child, &mut status, 0) };
        status == 0
    }

    #[test]
    fn a_child_has_neither_the_file_nor_the_lock() {
        let path = place("child");
        let held = HeldFile::open(&path).unwrap();
        let other = HeldFile::open(&path).unwrap();
        assert!(held.lock().unwrap());
        assert!(!other.lock().unwrap());
        for number in [held.file.as_raw_fd(), other.file.as_raw_fd()] {
            assert!(child(|| unsafe { libc::fcntl(number, libc::F_GETFD) } == -1));
        }
        assert!(!other.lock().unwrap(), "the child gave the lock away");
        drop(held);
        assert!(other.lock().unwrap());
    }

    #[test]
    fn only_a_file_is_opened_and_no_link_is_followed() {
        let target = place("target");
        std::fs::write(&target, "x").unwrap();
        let link = place("link");
        let dangling = place("dangling");
        let fifo = place("fifo");
        for path in [&link, &dangling, &fifo] {
            let _ = std::fs::remove_file(path);
        }
        std::os::unix::fs::symlink(&target, &link).unwrap();
        std::os::unix::fs::symlink(place("nowhere"), &dangling).unwrap();
        let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for (path, what) in [
            (&link, "a symbolic link"),
            (&dangling, "a symbolic link"),
            (&fifo, "a FIFO"),
            (&std::env::temp_dir(), "a directory"),
            (&std::path::PathBuf::from("/dev/null"), "a device"),
        ] {
            match HeldFile::open(path) {
                Err(OpenError::NotAFile(its)) => assert_eq!(its, what),
                other => panic!("{path:?}: {other:?}"),
            }
        }
        assert!(!place("nowhere").exists());
    }

    #[test]
    fn a_new_file_is_its_owners_alone() {
        let path = place("mode");
        let _ = std::fs::remove_file(&path);
        let held = HeldFile::open(&path).unwrap();
        assert_eq!(held.file.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(held.is_at(&path).unwrap());
    }

    #[test]
    fn a_file_that_lost_its_name_or_its_descriptor_is_noticed() {
        let (folder, elsewhere) = (place("folder"), place("elsewhere"));
        for old in [&folder, &elsewhere] {
            let _ = std::fs::remove_dir_all(old);
        }
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("held");
        let other = folder.join("other");
        let held = HeldFile::open(&path).unwrap();
        let known = held.identity().unwrap();
        let is_there = || held.length_at(&path, known).unwrap() == Some(0);
        assert!(is_there());
        std::fs::rename(&path, &other).unwrap();
        assert!(!is_there());
        std::fs::write(&path, "").unwrap();
        assert!(!is_there());
        std::fs::rename(&other, &path).unwrap();
        assert!(is_there());
        std::fs::hard_link(&path, &other).unwrap();
        assert!(is_there());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_there());
        std::fs::rename(&other, &path).unwrap();
        std::fs::rename(&folder, &elsewhere).unwrap();
        assert!(!is_there());
        std::fs::rename(&elsewhere, &folder).unwrap();
        assert!(is_there());
        // The number of a descriptor that the host closed now belongs to another file.
        std::fs::write(&other, "").unwrap();
        let stranger = File::open(&other).unwrap();
        let number = held.file.as_raw_fd();
        assert_eq!(unsafe { libc::dup2(stranger.as_raw_fd(), number) }, number);
        assert!(!is_there());
    }
}
