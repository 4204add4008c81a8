//! Where the certificates are written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory: somebody's own, or one that is removed in the end.
pub(crate) struct Directory {
    path: PathBuf,
    ours: bool,
}

impl Directory {
    /// Takes this directory, which is made if need be, or a fresh temporary one.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        match path {
            Some(path) => {
                std::fs::create_dir_all(&path)?;
                // Absolute, because whoever reads the start line may be elsewhere.
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
                // Left behind by a process of the same id that was killed.
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
            // Nothing depends on it being gone.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
