//! Receipts as files, written whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_receipt::to_json;
use cairn_types::receipt::Receipt;

use crate::fault::{ClientFault, io_fault};

/// Tells apart the temporary files of one process.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Where the receipt of a file goes: its name with `.cairn` appended.
pub fn receipt_path(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(format!(".{}", cairn_receipt::EXTENSION));
    PathBuf::from(name)
}

/// Replaces `path` by a file with these bytes: after a crash it holds the old content or all of the new.
///
/// # Errors
/// [`ClientFault::Io`] with the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ClientFault> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = OsString::from(".");
    temporary.push(path.file_name().unwrap_or_default());
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!(".{}.{number}.tmp", std::process::id()));
    let temporary = directory.join(temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(io_fault(path))
}

/// A verified receipt of one file or digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileReceipt(pub Receipt);

impl FileReceipt {
    /// The receipt's JSON text.
    pub fn to_json(&self) -> String {
        to_json(&self.0)
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, path: &Path) -> Result<(), ClientFault> {
        write_atomically(path, self.to_json().as_bytes())
    }

    /// Writes it beside `file`, as [`receipt_path`] names it, and gives that path.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save_beside(&self, file: &Path) -> Result<PathBuf, ClientFault> {
        let path = receipt_path(file);
        self.save(&path)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_lies_beside_its_file() {
        assert_eq!(receipt_path(Path::new("a/model.bin")), Path::new("a/model.bin.cairn"));
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.cairn");
        write_atomically(&path, b"first").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let nowhere = directory.path().join("missing").join("y");
        assert!(write_atomically(&nowhere, b"x").unwrap_err().to_string().contains("missing"));
        assert!(write_atomically(directory.path(), b"x").is_err(), "a directory is not replaced");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
