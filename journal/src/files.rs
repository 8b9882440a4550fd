//! The seam to the file system: one flat directory of small files.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cairn_types::shortcut::{self, Step};
use rustix::fs::{FlockOperation, flock};

use crate::fault::JournalFault;

/// The lock file's name.
const LOCK: &str = "LOCK";
/// Only the owner may read what a validator has signed.
const FILE_MODE: u32 = 0o600;
/// As for files.
const DIRECTORY_MODE: u32 = 0o700;

/// What the journal needs of a directory. [`DiskFiles`] is the real one, [`crate::FaultyFiles`] its twin
/// that loses and tears what was not synced.
pub trait Files: Send {
    /// Where this is, for messages.
    fn place(&self) -> String;
    /// The names of all files.
    ///
    /// # Errors
    /// Those of the file system.
    fn names(&self) -> io::Result<Vec<String>>;
    /// The whole content, `None` when there is no such file.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes an empty file.
    ///
    /// # Errors
    /// When it exists, and those of the file system.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Those of the file system.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// Those of the file system.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// Makes the file's data and length durable (`fdatasync`).
    ///
    /// # Errors
    /// Those of the file system; the data is then in an unknown state for good.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Renames over whatever is there, atomically.
    ///
    /// # Errors
    /// Those of the file system.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// A directory on disk, locked for as long as this lives.
#[derive(Debug)]
pub struct DiskFiles {
    directory: PathBuf,
    handle: File,
    open: HashMap<String, File>,
    // Held, never read again: closing it gives the lock up.
    _lock: File,
}

impl DiskFiles {
    /// Locks an existing directory.
    ///
    /// # Errors
    /// [`JournalFault::Missing`] without the directory, [`JournalFault::Locked`] with the holder's pid.
    pub fn open(directory: &Path) -> Result<Self, JournalFault> {
        let place = directory.display().to_string();
        let fault =
            |doing| move |source| JournalFault::Io { place: directory.display().to_string(), doing, source };
        if !directory.is_dir() {
            return Err(JournalFault::Missing { place });
        }
        let handle = File::open(directory).map_err(fault("opening the directory"))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(directory.join(LOCK))
            .map_err(fault("opening LOCK"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // An unreadable pid still means that somebody holds the lock.
                let _ = lock.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
                return Err(JournalFault::Locked { place, pid });
            }
            Err(errno) => return Err(fault("locking LOCK")(errno.into())),
        }
        lock.set_len(0).map_err(fault("writing LOCK"))?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(fault("writing LOCK"))?;
        Ok(Self { directory: directory.to_owned(), handle, open: HashMap::new(), _lock: lock })
    }

    /// Makes the directory when it is missing, durably, and locks it.
    ///
    /// # Errors
    /// As [`DiskFiles::open`].
    pub fn open_or_make(directory: &Path) -> Result<Self, JournalFault> {
        let fault = |source| JournalFault::Io {
            place: directory.display().to_string(),
            doing: "making the directory",
            source,
        };
        if !directory.is_dir() {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(fault)?;
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new("."))).and_then(|file| file.sync_all()).map_err(fault)?;
        }
        Self::open(directory)
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        use std::collections::hash_map::Entry;
        match self.open.entry(name.to_owned()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let file = OpenOptions::new().read(true).write(true).open(self.directory.join(name))?;
                Ok(entry.insert(file))
            }
        }
    }
}

impl Files for DiskFiles {
    fn place(&self) -> String {
        self.directory.display().to_string()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.directory)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.directory.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(self.directory.join(name))?;
        self.open.insert(name.to_owned(), file);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        if shortcut::is_left_out(Step::Sync) {
            return Ok(());
        }
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.open.remove(to);
        fs::rename(self.directory.join(from), self.directory.join(to))?;
        if let Some(file) = self.open.remove(from) {
            self.open.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.handle.sync_all()
    }
}
