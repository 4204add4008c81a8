//! The directory of the certificate files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Either the caller's directory, or a temporary one that is removed when this is dropped.
pub(crate) struct Directory {
    path: PathBuf,
    ours: bool,
}

impl Directory {
    /// Uses the given directory, which is created if necessary, or a new temporary one.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        match path {
            Some(path) => {
                std::fs::create_dir_all(&path)?;
                // Absolute, because readers of the start line may have another working directory.
                let path = std::path::absolute(path)?;
                Ok(Directory { path, ours: false })
            }
            None => Directory::fresh(),
        }
    }

    fn fresh() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("greenapi-standin-{}-{n}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Directory { path, ours: true }),
                // A process with the same id was killed and left its directory behind.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.ours {
            // A directory that cannot be removed does no harm.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
