//! Digests of files, under the names that receipts use.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use cairn_types::Hash;
use sha2::Digest as _;

use crate::cli::output::Output;

/// Bytes read at once: large enough for BLAKE3's wide instructions, small enough for any machine.
const CHUNK_BYTES: usize = 1 << 20;
/// Files smaller than this are hashed before a progress bar could be drawn.
const PROGRESS_BYTES_MIN: u64 = 256 << 20;

/// How a file is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    /// BLAKE3, plain mode, 32 bytes.
    Blake3,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// The name in a receipt.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// The algorithm a receipt names.
    ///
    /// # Errors
    /// When this build cannot compute it.
    pub(crate) fn from_name(name: &str) -> anyhow::Result<Self> {
        match [Self::Blake3, Self::Sha256].into_iter().find(|known| known.name() == name) {
            Some(known) => Ok(known),
            None => bail!("the receipt's digest is `{name}`, which this build cannot compute; it knows blake3 and sha256"),
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
    let bar = (metadata.len() >= PROGRESS_BYTES_MIN).then(|| output.progress(metadata.len() >> 20, "hashing, MiB"));
    let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = 0u64;
    loop {
        let got = file.read(&mut chunk).with_context(fault)?;
        if got == 0 {
            break;
        }
        match algorithm {
            Algorithm::Blake3 => {
                blake3.update(&chunk[..got]);
            }
            Algorithm::Sha256 => sha256.update(&chunk[..got]),
        }
        done = done.saturating_add(got as u64);
        if let Some(bar) = &bar {
            bar.set_position(done >> 20);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(match algorithm {
        Algorithm::Blake3 => Hash(*blake3.finalize().as_bytes()),
        Algorithm::Sha256 => Hash(sha256.finalize().into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_b3sum_and_sha256sum() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        std::fs::write(&path, b"abc").unwrap();
        let digest = |algorithm| of_file(&path, algorithm, Output::new(true)).unwrap().to_string();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let blake3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(digest(Algorithm::Sha256), sha256);
        assert_eq!(digest(Algorithm::Blake3), blake3);
    }

    #[test]
    fn what_cannot_be_hashed_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let said = of_file(scratch.path(), Algorithm::Blake3, Output::new(true)).expect_err("directory");
        assert!(said.to_string().contains("is a directory"), "{said}");
        let said = Algorithm::from_name("md5").expect_err("unknown").to_string();
        assert!(said.contains("`md5`") && said.contains("blake3 and sha256"), "{said}");
    }
}
