//! Files that one process holds exclusively: locked until the process ends. While such a file is
//! open, nobody can remove or rename it.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io;
use std::mem;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::{Component, Path, Prefix};

use windows_sys::Win32::Foundation as system;
use windows_sys::Win32::Storage::FileSystem::{
    FileAllocationInfo, FileStandardInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
    GetFileType, LockFileEx, SetFileInformationByHandle, BY_HANDLE_FILE_INFORMATION,
    FILE_ALLOCATION_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_STANDARD_INFO, FILE_TYPE_DISK, LOCKFILE_EXCLUSIVE_LOCK,
    LOCKFILE_FAIL_IMMEDIATELY,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

/// Why a file could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The path leads to something else than a file, like "a directory".
    NotAFile(&'static str),
    Failed(io::Error),
}

/// Identifies a file: equal for all paths and handles of the same file, as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u32, u64);

/// A file for reading and appending, whose lock ends with this process.
#[derive(Debug)]
pub struct HeldFile {
    pub file: File,
}

impl HeldFile {
    /// Opens or creates the file at `path`; a new file inherits the access rights of its directory.
    /// Symbolic links are not followed, and only regular files are opened, because opening a device
    /// or a pipe can block or have side effects.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        refuse_device(path)?;
        match path.symlink_metadata() {
            Ok(there) => check(there.file_type())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::Failed(error)),
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
            .open(path)
            .map_err(OpenError::Failed)?;
        // The file may have been replaced between the check and the opening.
        check_open(&file)?;
        Ok(Self { file })
    }

    pub fn identity(&self) -> io::Result<Identity> {
        identity(&self.file)
    }

    /// Whether `path` still names this file.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let there = OpenOptions::new()
            .access_mode(0)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)?;
        Ok(self.identity()? == identity(&there)?)
    }

    /// Takes the lock; false while another process has it.
    ///
    /// Locks are mandatory on this system. The lock is on the last byte that a file could have, so
    /// that the host can still read its journal.
    pub fn lock(&self) -> io::Result<bool> {
        let mut place = unsafe { mem::zeroed::<OVERLAPPED>() };
        place.Anonymous.Anonymous.Offset = u32::MAX - 1;
        place.Anonymous.Anonymous.OffsetHigh = i32::MAX as u32;
        let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
        let handle = self.file.as_raw_handle();
        if unsafe { LockFileEx(handle, flags, 0, 1, 0, &mut place) } != 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match code(&error) {
            system::ERROR_LOCK_VIOLATION | system::ERROR_IO_PENDING => Ok(false),
            _ => Err(error),
        }
    }

    /// Writes at the end of the file.
    pub fn append(&self, mut bytes: &[u8]) -> io::Result<()> {
        /// The offset that the system takes for the end of the file.
        const END: u64 = u64::MAX;
        while !bytes.is_empty() {
            match self.file.seek_write(bytes, END)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// The file's length; `None` if the file is about to be removed. While it is open, nobody can
    /// rename it, so its path need not be looked up.
    pub fn length_at(&self, _: &Path, _: Identity) -> io::Result<Option<u64>> {
        let mut about = unsafe { mem::zeroed::<FILE_STANDARD_INFO>() };
        let done = unsafe {
            GetFileInformationByHandleEx(
                self.file.as_raw_handle(),
                FileStandardInfo,
                (&raw mut about).cast(),
                size_of_val(&about) as u32,
            )
        };
        match done {
            0 => Err(io::Error::last_os_error()),
            _ => {
                let named = about.NumberOfLinks > 0 && !about.DeletePending;
                Ok(named.then_some(about.EndOfFile as u64))
            }
        }
    }

    /// Reserves disk space for `bytes` bytes from `start` on, without changing the file's length.
    /// Fails only if there is no space; where the system or the file system cannot reserve, a later
    /// write may still fail.
    pub fn make_room(&self, start: u64, bytes: u64) -> io::Result<()> {
        let room = FILE_ALLOCATION_INFO {
            AllocationSize: (start + bytes) as i64,
        };
        let done = unsafe {
            SetFileInformationByHandle(
                self.file.as_raw_handle(),
                FileAllocationInfo,
                (&raw const room).cast(),
                size_of_val(&room) as u32,
            )
        };
        match io::Error::last_os_error() {
            error if done == 0 && is_disk_full(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Nothing to do: a new file has the access rights of its directory.
    pub fn make_private(&self) {}
}

/// Opens an existing file for reading. Symbolic links are followed, but only regular files are
/// opened.
pub fn open_to_read(path: &Path) -> Result<File, OpenError> {
    refuse_device(path)?;
    check(path.metadata().map_err(OpenError::Failed)?.file_type())?;
    let file = File::open(path).map_err(OpenError::Failed)?;
    check_open(&file)?;
    Ok(file)
}

/// In an absolute path, NUL, COM1 and \\.\pipe\… have this prefix.
fn refuse_device(path: &Path) -> Result<(), OpenError> {
    let full = std::path::absolute(path).map_err(OpenError::Failed)?;
    match full.components().next() {
        Some(Component::Prefix(prefix)) if matches!(prefix.kind(), Prefix::DeviceNS(_)) => {
            Err(OpenError::NotAFile("a device"))
        }
        _ => Ok(()),
    }
}

fn check_open(file: &File) -> Result<(), OpenError> {
    if unsafe { GetFileType(file.as_raw_handle()) } != FILE_TYPE_DISK {
        return Err(OpenError::NotAFile("a device"));
    }
    check(file.metadata().map_err(OpenError::Failed)?.file_type())
}

fn check(kind: FileType) -> Result<(), OpenError> {
    match () {
        () if kind.is_symlink() => Err(OpenError::NotAFile("a symbolic link")),
        () if kind.is_dir() => Err(OpenError::NotAFile("a directory")),
        () => Ok(()),
    }
}

/// The identity of the file that is described; `None` where the system tells it only for open files.
pub fn identity_of(_: &Metadata) -> Option<Identity> {
    None
}

fn identity(file: &File) -> io::Result<Identity> {
    let mut about = unsafe { mem::zeroed::<BY_HANDLE_FILE_INFORMATION>() };
    match unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut about) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(Identity(
            about.dwVolumeSerialNumber,
            u64::from(about.nFileIndexHigh) << 32 | u64::from(about.nFileIndexLow),
        )),
    }
}

/// Nothing to do: FlushFileBuffers also makes the name of a new file durable, and this system
/// cannot sync a directory.
pub fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether the disk, or the user's quota of it, is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        code(error),
        system::ERROR_DISK_FULL
            | system::ERROR_HANDLE_DISK_FULL
            | system::ERROR_DISK_QUOTA_EXCEEDED
            | system::ERROR_FILE_TOO_LARGE
    )
}

/// Whether the disk failed to read or write.
pub fn is_broken_disk(error: &io::Error) -> bool {
    matches!(
        code(error),
        system::ERROR_CRC
            | system::ERROR_SECTOR_NOT_FOUND
            | system::ERROR_READ_FAULT
            | system::ERROR_WRITE_FAULT
            | system::ERROR_IO_DEVICE
            | system::ERROR_DEVICE_HARDWARE_ERROR
    )
}

fn code(error: &io::Error) -> u32 {
    error.raw_os_error().unwrap_or_default() as u32
}
