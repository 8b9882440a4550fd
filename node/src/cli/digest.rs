//! Digests of files, with progress for large ones.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use cairn_client::{Algorithm, hash_reader};
use cairn_types::Hash;
use indicatif::ProgressBar;

use crate::cli::output::Output;

/// Files smaller than this are hashed before a progress bar could be drawn.
const PROGRESS_BYTES_MIN: u64 = 256 << 20;

/// The algorithm a receipt names.
///
/// # Errors
/// When this build cannot compute it.
pub(crate) fn algorithm(name: &str) -> anyhow::Result<Algorithm> {
    match Algorithm::from_name(name) {
        Some(known) => Ok(known),
        None => {
            bail!(
                "the receipt's digest is `{name}`, which this build cannot compute; it knows blake3 and sha256"
            )
        }
    }
}

/// The digest of a file, read once.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn of_file(path: &Path, algorithm: Algorithm, output: Output) -> anyhow::Result<Hash> {
    let fault = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(fault)?;
    let metadata = file.metadata().with_context(fault)?;
    if metadata.is_dir() {
        bail!("{} is a directory; expected a file", path.display());
    }
    if metadata.len() < PROGRESS_BYTES_MIN {
        return hash_reader(algorithm, &mut file).with_context(fault);
    }
    let bar = output.progress(metadata.len() >> 20, "hashing, MiB");
    let digest = hash_reader(algorithm, &mut Watched { file, read: 0, bar: bar.clone() }).with_context(fault);
    bar.finish_and_clear();
    digest
}

/// A file that moves a progress bar as it is read.
struct Watched {
    file: File,
    read: u64,
    bar: ProgressBar,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read = self.read.saturating_add(count as u64);
        self.bar.set_position(self.read >> 20);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_hashed_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let said = of_file(scratch.path(), Algorithm::Blake3, Output::new(true)).expect_err("directory");
        assert!(said.to_string().contains("is a directory"), "{said}");
        let said = algorithm("md5").expect_err("unknown").to_string();
        assert!(said.contains("`md5`") && said.contains("blake3 and sha256"), "{said}");
    }

    #[test]
    fn a_watched_file_gives_the_same_digest() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        let bar = ProgressBar::hidden();
        let mut watched = Watched { file: File::open(&path).unwrap(), read: 0, bar: bar.clone() };
        let digest = hash_reader(Algorithm::Blake3, &mut watched).unwrap();
        assert_eq!(digest, of_file(&path, Algorithm::Blake3, Output::new(true)).unwrap());
        assert_eq!(bar.position(), 3);
    }
}
