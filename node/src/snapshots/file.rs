//! A snapshot's file: `cairn-snapshot-1`, then frames of `u32 little-endian length ‖ bytes`: the head, and the chunks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_crypto::Verifier;
use cairn_state::{CHUNK_BYTES_MAX, SignatureCheck, SnapshotHead};
use cairn_types::{CommitCert, EpochProof, ValidatorSet, decode, encode};

use crate::home::OPEN_MODE;

/// The beginning of every snapshot file.
const MAGIC: &[u8] = b"cairn-snapshot-1";

/// A file being written under another name, so that nobody takes it for a whole one. Dropped unfinished, it is removed.
pub(crate) struct Writer {
    file: BufWriter<File>,
    temporary: PathBuf,
    head_bytes: usize,
    finished: bool,
}

impl Writer {
    /// Begins the file, with room for a head as long as this one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn create(temporary: &Path, head: &SnapshotHead) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(OPEN_MODE).open(temporary)?;
        let head = encode(head);
        let mut writer = Self {
            file: BufWriter::new(file),
            temporary: temporary.to_owned(),
            head_bytes: head.len(),
            finished: false,
        };
        writer.file.write_all(MAGIC)?;
        writer.frame(&head)?;
        Ok(writer)
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// When the disk refuses, or the chunk is longer than any reader takes.
    pub(crate) fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > CHUNK_BYTES_MAX {
            let why = format!("a chunk of {} bytes; at most {CHUNK_BYTES_MAX} are read", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(bytes)
    }

    /// Puts the head in its place, and everything on disk. The file still has its other name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn sync(&mut self, head: &SnapshotHead) -> io::Result<u64> {
        let head = encode(head);
        if head.len() != self.head_bytes {
            return Err(io::Error::other("the head is not as long as the room left for it"));
        }
        let at = MAGIC.len().saturating_add(size_of::<u32>());
        self.file.seek(SeekFrom::Start(at as u64))?;
        self.file.write_all(&head)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.file.get_ref().metadata()?.len())
    }

    /// Gives the synced file its name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn publish(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.temporary, path)?;
        self.finished = true;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // What is left behind is removed at the next start.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The next frame.
///
/// # Errors
/// When the file ends within it, or it claims to be longer than any chunk is.
pub(crate) fn read_frame(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > CHUNK_BYTES_MAX {
        let why = format!("a chunk of {length} bytes; at most {CHUNK_BYTES_MAX} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut frame = vec![0; length];
    file.read_exact(&mut frame)?;
    Ok(frame)
}

/// The head of a snapshot file, which stays before the first chunk.
///
/// # Errors
/// When the file is no snapshot.
pub(crate) fn read_head(file: &mut impl Read) -> io::Result<SnapshotHead> {
    let none = || io::Error::new(io::ErrorKind::InvalidData, "it is no snapshot");
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(|_| none())?;
    if magic != MAGIC {
        return Err(none());
    }
    decode(&read_frame(file)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Signatures, checked against the sets that the hand-overs lead to.
pub(crate) struct Signatures(pub(crate) Verifier);

impl SignatureCheck for Signatures {
    fn commit(&self, set: &ValidatorSet, certificate: &Arc<CommitCert>) -> Result<(), String> {
        self.0.commit_cert(set, Arc::clone(certificate)).map(drop).map_err(|fault| fault.to_string())
    }

    fn epoch_proof(&self, set: &ValidatorSet, proof: &EpochProof) -> Result<(), String> {
        self.0.epoch_proof(set, Arc::new(proof.clone())).map(drop).map_err(|fault| fault.to_string())
    }
}
