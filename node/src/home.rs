//! A node's home: the layout of its files, their permissions, and the lock that keeps a second process out.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use zeroize::Zeroizing;

/// The layout this build reads and writes. A different number in `VERSION` is refused.
const LAYOUT_VERSION: u32 = 1;
/// Only the owner may enter.
const DIRECTORY_MODE: u32 = 0o700;
/// Only the owner may read.
const SECRET_MODE: u32 = 0o600;
/// Bytes of an Ed25519 seed.
const SEED_BYTES: usize = 32;

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
    #[error("{} is damaged: expected {SEED_BYTES} bytes as hex; restore it from a backup, or delete it: the next `cairn start` makes a new one, and with it a new network identity", path.display())]
    Seed { path: PathBuf },
}

/// A home directory. The lock, once taken, lives as long as this value.
#[derive(Debug)]
pub(crate) struct Home {
    root: PathBuf,
    lock: Option<File>,
}

impl Home {
    /// Makes a new, empty home: directories of mode 0700 and a `VERSION` file.
    ///
    /// # Errors
    /// When it is a home already, or a file cannot be written.
    pub(crate) fn create(root: &Path) -> Result<Self, HomeFault> {
        if root.join("VERSION").exists() {
            return Err(HomeFault::AlreadyAHome { root: root.to_owned() });
        }
        for directory in ["", "keys", "data", "run"] {
            create_directory(&root.join(directory))?;
        }
        let home = Self { root: absolute(root)?, lock: None };
        write_new(&home.path("VERSION"), format!("{LAYOUT_VERSION}\n").as_bytes(), 0o644)?;
        Ok(home)
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
            .mode(SECRET_MODE)
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

    /// `sign/`: the safety journal. No command but `init` makes it, and none deletes or resets it.
    pub(crate) fn sign(&self) -> PathBuf {
        self.path("sign")
    }

    /// `data/`: RocksDB.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// `address_book`: peers seen before.
    pub(crate) fn address_book(&self) -> PathBuf {
        self.path("address_book")
    }

    /// The Ed25519 seed of the mesh swarm, `keys/mesh.key`.
    ///
    /// # Errors
    /// When the file is missing, unreadable or damaged.
    pub(crate) fn mesh_seed(&self) -> Result<Zeroizing<[u8; SEED_BYTES]>, HomeFault> {
        self.read_seed("keys/mesh.key")
    }

    /// The Ed25519 seed of the public swarm, `keys/public.key`.
    ///
    /// # Errors
    /// When the file is missing, unreadable or damaged.
    pub(crate) fn public_seed(&self) -> Result<Zeroizing<[u8; SEED_BYTES]>, HomeFault> {
        self.read_seed("keys/public.key")
    }

    /// Makes whichever of the two node keys does not exist yet; gives the names of those made.
    ///
    /// # Errors
    /// When there is no randomness or a file cannot be written.
    pub(crate) fn create_node_keys(&self) -> Result<Vec<&'static str>, HomeFault> {
        let mut made = Vec::new();
        for name in ["keys/mesh.key", "keys/public.key"] {
            let path = self.path(name);
            if path.exists() {
                continue;
            }
            let mut seed = Zeroizing::new([0; SEED_BYTES]);
            getrandom::fill(seed.as_mut()).map_err(|error| HomeFault::Io {
                action: "draw random bytes for",
                path: path.clone(),
                error: std::io::Error::other(error.to_string()),
            })?;
            let text = Zeroizing::new(format!("{}\n", hex::encode(seed.as_ref())));
            write_new(&path, text.as_bytes(), SECRET_MODE)?;
            made.push(name);
        }
        Ok(made)
    }

    fn read_seed(&self, name: &str) -> Result<Zeroizing<[u8; SEED_BYTES]>, HomeFault> {
        let path = self.path(name);
        let text = fs::read_to_string(&path)
            .map_err(|error| HomeFault::Io { action: "read", path: path.clone(), error })?;
        let text = Zeroizing::new(text);
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        hex::decode_to_slice(text.trim(), seed.as_mut()).map_err(|_| HomeFault::Seed { path })?;
        Ok(seed)
    }
}

fn absolute(root: &Path) -> Result<PathBuf, HomeFault> {
    std::path::absolute(root).map_err(|error| HomeFault::Io { action: "resolve", path: root.to_owned(), error })
}

/// Makes a directory (and its parents) that only its owner may enter.
fn create_directory(path: &Path) -> Result<(), HomeFault> {
    let fault = |error| HomeFault::Io { action: "create", path: path.to_owned(), error };
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(fault)?;
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE)).map_err(fault)
}

/// Writes a file that must not exist yet, synced, with these permissions from the first moment on.
///
/// # Errors
/// When it exists or cannot be written.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HomeFault> {
    let fault = |error| HomeFault::Io { action: "write", path: path.to_owned(), error };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)
}

/// Writes a file that must not exist yet and that only its owner may read.
///
/// # Errors
/// When it exists or cannot be written.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), HomeFault> {
    write_new(path, bytes, SECRET_MODE)
}

#[cfg(test)]
#[path = "home_tests.rs"]
mod tests;
