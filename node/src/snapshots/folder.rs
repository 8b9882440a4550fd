//! The home's `snapshots/`: named by height, the newest few kept.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use cairn_state::SnapshotHead;
use cairn_types::{Hash, Height};

use super::file::read_head;
use crate::home::create_directory;

/// What the name of a whole snapshot ends with.
const SUFFIX: &str = "snapshot";
/// What the name of the note beside a whole one ends with.
const NOTE: &str = "id";
/// What the name of one being written ends with.
const UNFINISHED: &str = "unfinished";

/// The folder itself.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// A snapshot in the folder.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Its file.
    pub(crate) path: PathBuf,
    /// The height in its name.
    pub(crate) height: Height,
}

impl Kept {
    /// What the file begins with, and its length.
    ///
    /// # Errors
    /// When it cannot be read or is no snapshot.
    pub(crate) fn head(&self) -> io::Result<(SnapshotHead, u64)> {
        let file = File::open(&self.path)?;
        let bytes = file.metadata()?.len();
        Ok((read_head(&mut BufReader::new(file))?, bytes))
    }
}

impl Folder {
    /// This folder, whether it exists or not.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the folder where it is missing, and removes what an interruption left unfinished.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        create_directory(&self.0)?;
        for entry in fs::read_dir(&self.0)?.filter_map(Result::ok) {
            let path = entry.path();
            if path.extension().is_some_and(|kind| kind == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the snapshot of this height is kept.
    pub(crate) fn path_of(&self, height: Height) -> PathBuf {
        self.0.join(format!("{:012}.{SUFFIX}", height.get()))
    }

    /// Notes by what name the snapshot of this height, made or verified here, is offered to peers.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn note(&self, height: Height, id: &Hash) -> io::Result<()> {
        fs::write(self.path_of(height).with_extension(NOTE), id.to_string())
    }

    /// That name; none for a file that came here by other ways.
    pub(crate) fn noted(&self, height: Height) -> Option<Hash> {
        Hash::from_hex(fs::read_to_string(self.path_of(height).with_extension(NOTE)).ok()?.trim())
    }

    /// Where it is written.
    pub(crate) fn unfinished(&self, height: Height) -> PathBuf {
        self.0.join(format!("{:012}.{UNFINISHED}", height.get()))
    }

    /// The snapshots here, newest first; none where there is no folder.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(crate) fn list(&self) -> io::Result<Vec<Kept>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let kept = |path: PathBuf| {
            let named = path.extension().is_some_and(|kind| kind == SUFFIX);
            let height = path.file_stem()?.to_str()?.parse().ok().filter(|_| named)?;
            Some(Kept { path, height: Height::new(height) })
        };
        let mut found: Vec<Kept> =
            entries.filter_map(Result::ok).filter_map(|entry| kept(entry.path())).collect();
        found.sort_by_key(|kept| std::cmp::Reverse(kept.height));
        Ok(found)
    }

    /// Removes all but the newest `keep`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn keep(&self, keep: usize) -> io::Result<()> {
        for old in self.list()?.into_iter().skip(keep) {
            // Not every snapshot has one.
            let _ = fs::remove_file(old.path.with_extension(NOTE));
            fs::remove_file(old.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_what_is_unfinished_goes() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(home.path().join("snapshots"));
        assert!(folder.list().unwrap().is_empty());
        folder.prepare().unwrap();
        // By number, not by text.
        for height in [9, 1_000_000_000_000, 10, 100] {
            fs::write(folder.path_of(Height::new(height)), "x").unwrap();
        }
        fs::write(folder.unfinished(Height::new(5_000)), "x").unwrap();
        fs::write(folder.path().join("notes.txt"), "an operator's own").unwrap();
        fs::write(folder.path().join("notes.snapshot"), "no height").unwrap();
        folder.prepare().unwrap();
        let heights = || folder.list().unwrap().iter().map(|kept| kept.height.get()).collect::<Vec<_>>();
        assert_eq!(heights(), [1_000_000_000_000, 100, 10, 9]);
        for height in [9, 100] {
            folder.note(Height::new(height), &Hash([9; 32])).unwrap();
        }
        let noted = || [9, 10, 100].map(|height| folder.noted(Height::new(height)));
        assert_eq!(noted(), [Some(Hash([9; 32])), None, Some(Hash([9; 32]))]);
        folder.keep(2).unwrap();
        assert_eq!(noted(), [None, None, Some(Hash([9; 32]))]);
        assert_eq!(heights(), [1_000_000_000_000, 100]);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left.len(), 5, "{left:?}");
        assert!(!folder.unfinished(Height::new(5_000)).exists());
    }
}
