//! A node's home: the layout of its files, their permissions, and the lock that keeps a second process out.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// The layout this build reads and writes. A different number in `VERSION` is refused.
const LAYOUT_VERSION: u32 = 1;
/// Only the owner may enter.
const DIRECTORY_MODE: u32 = 0o700;
/// Only the owner may read and write.
pub(crate) const PRIVATE_MODE: u32 = 0o600;
/// Everyone may read: nothing secret inside.
pub(crate) const OPEN_MODE: u32 = 0o644;

/// Why a home cannot be used.
#[derive(Debug, Error)]
pub(crate) enum HomeFault {
    #[error("{} is no Cairn home: {missing} is missing; run `cairn init --home {} --genesis FILE` first", root.display(), root.display())]
    NotAHome { root: PathBuf, missing: &'static str },
    #[error("{} is already a Cairn home; nothing was changed", root.display())]
    AlreadyAHome { root: PathBuf },
    #[error("{} was written with layout {got}; this build knows layout {LAYOUT_VERSION}: use the version of cairn that made it", root.display())]
    Layout { root: PathBuf, got: String },
    #[error("{} is in use by process {pid}; stop that one first, or give this one a home of its own with --home", root.display())]
    InUse { root: PathBuf, pid: String },
    #[error("cannot {action} {}: {error}", path.display())]
    Io { action: &'static str, path: PathBuf, error: std::io::Error },
}

/// A home directory. The lock, once taken, lives as long as this value.
#[derive(Debug)]
pub(crate) struct Home {
    root: PathBuf,
    lock: Option<File>,
}

impl Home {
    /// Makes the directories of a new home, of mode 0700. It is a home once [`Home::complete`] is done;
    /// until then `init` may be repeated.
    ///
    /// # Errors
    /// When it is a home already, or a directory cannot be made.
    pub(crate) fn create(root: &Path) -> Result<Self, HomeFault> {
        if root.join("VERSION").exists() {
            return Err(HomeFault::AlreadyAHome { root: root.to_owned() });
        }
        for directory in ["", "keys", "data", "run"] {
            create_directory(&root.join(directory))?;
        }
        Ok(Self { root: absolute(root)?, lock: None })
    }

    /// Writes `VERSION`, the last file of a new home.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn complete(&self) -> Result<(), HomeFault> {
        replace(&self.path("VERSION"), format!("{LAYOUT_VERSION}\n").as_bytes(), OPEN_MODE)
    }

    /// Opens an existing home without locking it.
    ///
    /// # Errors
    /// When it is no home, or of a layout this build does not know.
    pub(crate) fn open(root: &Path) -> Result<Self, HomeFault> {
        let version = root.join("VERSION");
        let text = match fs::read_to_string(&version) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(HomeFault::NotAHome { root: root.to_owned(), missing: "VERSION" });
            }
            Err(error) => return Err(HomeFault::Io { action: "read", path: version, error }),
        };
        if text.trim().parse() != Ok(LAYOUT_VERSION) {
            return Err(HomeFault::Layout { root: root.to_owned(), got: text.trim().to_owned() });
        }
        Ok(Self { root: absolute(root)?, lock: None })
    }

    /// Takes the home for this process; a no-op when this value holds it already. The kernel gives it
    /// back when the process ends, however it ends.
    ///
    /// # Errors
    /// [`HomeFault::InUse`] names the process that holds it.
    pub(crate) fn lock(&mut self) -> Result<(), HomeFault> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.path("LOCK");
        let fault = |action| {
            let path = path.clone();
            move |error| HomeFault::Io { action, path, error }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE_MODE)
            .open(&path)
            .map_err(fault("open"))?;
        if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(fault("lock")(errno.into()));
            }
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(fault("read"))?;
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
            return Err(HomeFault::InUse { root: self.root.clone(), pid });
        }
        file.set_len(0).map_err(fault("write"))?;
        file.seek(SeekFrom::Start(0)).map_err(fault("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(fault("write"))?;
        self.lock = Some(file);
        Ok(())
    }

    /// The directory itself, absolute.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `config.toml`.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("config.toml")
    }

    /// `genesis.json`.
    pub(crate) fn genesis(&self) -> PathBuf {
        self.path("genesis.json")
    }

    /// `keys/validator.json`, where `init --validator-key` puts the keystore.
    pub(crate) fn validator_key(&self) -> PathBuf {
        self.path("keys/validator.json")
    }

    /// `keys/note.key`: the Ed25519 key that signs log checkpoints for other tools.
    pub(crate) fn note_key(&self) -> PathBuf {
        self.path("keys/note.key")
    }

    /// `sign/`: the safety journal. No command but `init` makes it, and none deletes or resets it.
    pub(crate) fn sign(&self) -> PathBuf {
        self.path("sign")
    }

    /// `data/`: RocksDB.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// `snapshots/`: those that the running node makes.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path("snapshots")
    }

    /// `run/`: what lives only while a process does.
    pub(crate) fn run(&self) -> PathBuf {
        self.path("run")
    }

    /// `address_book`: peers seen before.
    pub(crate) fn address_book(&self) -> PathBuf {
        self.path("address_book")
    }
}

fn absolute(root: &Path) -> Result<PathBuf, HomeFault> {
    std::path::absolute(root).map_err(|error| HomeFault::Io {
        action: "resolve",
        path: root.to_owned(),
        error,
    })
}

/// Makes a directory (and its parents) that only its owner may enter.
pub(crate) fn create_directory(path: &Path) -> Result<(), HomeFault> {
    let fault = |error| HomeFault::Io { action: "create", path: path.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(fault)?;
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)).map_err(fault)
}

/// Writes a file whole or not at all, replacing one of the same name, synced, with these permissions
/// from the first moment on.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HomeFault> {
    let fault = |error| HomeFault::Io { action: "write", path: path.to_owned(), error };
    let Some(name) = path.file_name() else {
        return Err(fault(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a file name")));
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = directory.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = write_synced(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the fault that is reported is the one that mattered.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| File::open(directory)?.sync_all()).map_err(fault)
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod tests;
