//! Digests of files, streamed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use cairn_types::Hash;
use sha2::{Digest, Sha256};

use crate::fault::{ClientFault, io_fault};

/// Read at once: large enough that hashing, not system calls, takes the time.
const BUFFER_BYTES: usize = 1 << 20;

/// How a file becomes a digest. Receipts name it in `subject.algorithm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// BLAKE3.
    #[default]
    Blake3,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// The name used in receipts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// The algorithm with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Blake3, Self::Sha256].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// The digest of everything `reader` gives.
///
/// # Errors
/// Those of the reader.
pub fn hash_reader(algorithm: Algorithm, reader: &mut impl Read) -> io::Result<Hash> {
    match algorithm {
        Algorithm::Blake3 => {
            let mut hasher = blake3::Hasher::new();
            stream(reader, |bytes| {
                hasher.update(bytes);
            })?;
            Ok(Hash(*hasher.finalize().as_bytes()))
        }
        Algorithm::Sha256 => {
            let mut hasher = Sha256::new();
            stream(reader, |bytes| hasher.update(bytes))?;
            Ok(Hash(hasher.finalize().into()))
        }
    }
}

/// The digest of a file.
///
/// # Errors
/// [`ClientFault::Io`] with the path.
pub fn hash_file(algorithm: Algorithm, path: &Path) -> Result<Hash, ClientFault> {
    let mut file = File::open(path).map_err(io_fault(path))?;
    hash_reader(algorithm, &mut file).map_err(io_fault(path))
}

fn stream(reader: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_come_out() {
        let digest = |algorithm, mut bytes: &[u8]| hash_reader(algorithm, &mut bytes).unwrap().to_string();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(Algorithm::Sha256, b"abc"), abc);
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(digest(Algorithm::Blake3, b""), empty);
        let long = vec![7u8; BUFFER_BYTES * 2 + 3];
        assert_eq!(digest(Algorithm::Blake3, &long), blake3::hash(&long).to_hex().to_string());
    }

    #[test]
    fn a_missing_file_is_named() {
        let fault = hash_file(Algorithm::Blake3, Path::new("/nowhere/at all")).unwrap_err();
        assert!(fault.to_string().contains("/nowhere/at all"), "{fault}");
    }
}
