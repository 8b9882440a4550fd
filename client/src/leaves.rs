//! A batch of any size as a file: every digest with its salt, 32 or 48 bytes each, durable before the root is
//! submitted. The tree is built and paths are made by streaming over it, in bounded memory.
//!
//! ```text
//! "cairn-leaves-v1\0"  tree u8  salted u8  algorithm [32], zero padded  0 [6]  count u64     64 bytes
//! (salt [16]) digest [32]                                                                  count times
//! ```

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cairn_receipt::AnchorReceipt;
use cairn_types::log::TreeHash;
use cairn_types::receipt::{BatchPath, Receipt, Subject};
use cairn_types::tree::{BatchTree, batch_leaves, bind_leaf_count, level_above, path, root};
use cairn_types::{Hash, Proof, ProofKind, TreeKind};

use crate::batch::{SALT_BYTES, Salting};
use crate::fault::{ClientFault, io_fault};
use crate::hashing::Algorithm;

const MAGIC: &[u8; 16] = b"cairn-leaves-v1\0";
const HEAD_BYTES: usize = 64;
const DIGEST_BYTES: usize = 32;
/// Leaves worked on at once, a power of two: 3 MiB of file and 4 MiB of hashes.
const CHUNK_LEAVES: usize = 1 << 16;
/// Written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A batch on disk.
#[derive(Debug)]
pub struct LeafFile {
    path: PathBuf,
    kind: TreeKind,
    salted: bool,
    algorithm: String,
    count: u64,
    /// The hash over each chunk of leaves, left to right: 32 bytes for 65,536 leaves.
    chunks: Vec<Hash>,
}

/// Writes a leaf file. It is one only once [`LeafWriter::finish`] is done.
pub struct LeafWriter {
    target: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    kind: TreeKind,
    salting: Salting,
    algorithm: String,
    count: u64,
    salts: Vec<u8>,
}

impl LeafWriter {
    /// Begins the file that will be `path`.
    ///
    /// # Errors
    /// Those of the file system; a file that exists already.
    pub fn create(
        path: &Path,
        kind: TreeKind,
        algorithm: Algorithm,
        salting: Salting,
    ) -> Result<Self, ClientFault> {
        if path.exists() {
            return Err(io_fault(path)(io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let mut name = path.to_owned().into_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(name);
        let file = File::create(&temporary).map_err(io_fault(&temporary))?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        out.write_all(&[0; HEAD_BYTES]).map_err(io_fault(&temporary))?;
        let (target, algorithm) = (path.to_owned(), algorithm.name().to_owned());
        Ok(Self { target, temporary, out, kind, salting, algorithm, count: 0, salts: Vec::new() })
    }

    /// Adds a digest, with a fresh salt where leaves have them.
    ///
    /// # Errors
    /// Those of the file system, or of randomness.
    pub fn push(&mut self, digest: &Hash) -> Result<(), ClientFault> {
        let failed = io_fault(&self.temporary);
        let salted = self.salting == Salting::Random;
        if salted {
            if self.salts.is_empty() {
                // Salts for many leaves from one call of the operating system.
                self.salts.resize(SALT_BYTES * 4_096, 0);
                getrandom::fill(&mut self.salts)
                    .map_err(|error| ClientFault::NoRandomness { why: error.to_string() })?;
            }
            let at = self.salts.len().saturating_sub(SALT_BYTES);
            let written = self.out.write_all(self.salts.get(at..).unwrap_or_default());
            self.salts.truncate(at);
            if let Err(error) = written {
                return Err(failed(error));
            }
        }
        self.out.write_all(digest.as_bytes()).map_err(io_fault(&self.temporary))?;
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Makes the file durable under its name, and builds its tree.
    ///
    /// # Errors
    /// Those of the file system; no leaf at all.
    pub fn finish(mut self) -> Result<LeafFile, ClientFault> {
        if self.count == 0 {
            let _ = fs::remove_file(&self.temporary);
            return Err(ClientFault::EmptyBatch);
        }
        let mut head = [0; HEAD_BYTES];
        let fields = [
            MAGIC.as_slice(),
            &[self.kind as u8, u8::from(self.salting == Salting::Random)],
            &padded(&self.algorithm),
            &[0; 6],
            &self.count.to_le_bytes(),
        ];
        for (to, from) in head.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        let durable = |out: &mut BufWriter<File>| {
            out.flush()?;
            let file = out.get_mut();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&head)?;
            file.sync_all()
        };
        durable(&mut self.out).map_err(io_fault(&self.temporary))?;
        fs::rename(&self.temporary, &self.target).map_err(io_fault(&self.target))?;
        let directory = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        File::open(directory).and_then(|it| it.sync_all()).map_err(io_fault(directory))?;
        LeafFile::open(&self.target)
    }
}

fn padded(algorithm: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(algorithm.bytes()) {
        *to = from;
    }
    bytes
}

impl LeafFile {
    /// Opens a leaf file and builds its tree: one pass, on all cores, a few megabytes of memory.
    ///
    /// # Errors
    /// Those of the file system; [`ClientFault::BadPending`] for what is no leaf file, or of another length.
    pub fn open(path: &Path) -> Result<Self, ClientFault> {
        let bad = |why: &str| ClientFault::BadPending { path: path.to_owned(), why: why.to_owned() };
        let mut file = File::open(path).map_err(io_fault(path))?;
        let mut head = [0; HEAD_BYTES];
        file.read_exact(&mut head).map_err(|_| bad("too short for a leaf file"))?;
        let (magic, rest) = head.split_at(16);
        let (flags, rest) = rest.split_at(2);
        let (name, rest) = rest.split_at(32);
        if magic != MAGIC {
            return Err(bad("it does not begin like a leaf file"));
        }
        let kinds = [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256];
        let kind = kinds.into_iter().find(|kind| flags.first() == Some(&(*kind as u8)));
        let kind = kind.ok_or_else(|| bad("an unknown kind of tree"))?;
        let salted = match flags.get(1) {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(bad("neither salted nor not")),
        };
        let algorithm = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let count = rest.get(6..14).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let width = Self::width_of(salted) as u64;
        let expected = count.checked_mul(width).and_then(|bytes| bytes.checked_add(HEAD_BYTES as u64));
        let length = file.metadata().map_err(io_fault(path))?.len();
        if count == 0 || expected != Some(length) {
            return Err(bad("its length is not that of its leaves"));
        }
        let mut leaves = Self { path: path.to_owned(), kind, salted, algorithm, count, chunks: Vec::new() };
        leaves.chunks = leaves.chunk_roots(&mut file)?;
        Ok(leaves)
    }

    const fn width_of(salted: bool) -> usize {
        if salted { SALT_BYTES + DIGEST_BYTES } else { DIGEST_BYTES }
    }

    fn chunk_roots(&self, file: &mut File) -> Result<Vec<Hash>, ClientFault> {
        let hash = TreeHash::of_batch(self.kind);
        let mut chunks = Vec::new();
        let mut left = self.count;
        while left > 0 {
            let many = left.min(CHUNK_LEAVES as u64);
            let mut level = self.hashes(&read_exactly(file, many * self.width(), &self.path)?);
            while level.len() > 1 {
                level = level_above(hash, &level);
            }
            chunks.extend(level);
            left -= many;
        }
        Ok(chunks)
    }

    fn width(&self) -> u64 {
        Self::width_of(self.salted) as u64
    }

    /// The leaf hashes of stored leaves.
    fn hashes(&self, stored: &[u8]) -> Vec<Hash> {
        if self.salted {
            batch_leaves(self.kind, stored.as_chunks::<{ SALT_BYTES + DIGEST_BYTES }>().0)
        } else {
            batch_leaves(self.kind, stored.as_chunks::<DIGEST_BYTES>().0)
        }
    }

    /// Number of leaves.
    pub const fn leaves(&self) -> u64 {
        self.count
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root to anchor.
    pub fn root(&self) -> Hash {
        bind_leaf_count(self.kind, self.count, &root(TreeHash::of_batch(self.kind), &self.chunks))
    }

    /// The proof that anchors it.
    pub fn proof(&self, kind: ProofKind, reference: String) -> Proof {
        Proof { kind, reference, ..Proof::batch(self.kind, self.root(), self.count) }
    }

    /// The receipt of leaf `index`, from what a node gave for the root. Verifies nothing.
    ///
    /// # Errors
    /// When there is no such leaf, or those of the file system.
    pub fn receipt(&self, core: &AnchorReceipt, index: u64) -> Result<Receipt, ClientFault> {
        let no_leaf = || ClientFault::NoLeaf { index, leaves: self.count };
        if index >= self.count {
            return Err(no_leaf());
        }
        let (chunk, within) = (index / CHUNK_LEAVES as u64, index % CHUNK_LEAVES as u64);
        let first = chunk * CHUNK_LEAVES as u64;
        let many = (self.count - first).min(CHUNK_LEAVES as u64);
        let mut file = File::open(&self.path).map_err(io_fault(&self.path))?;
        file.seek(SeekFrom::Start(HEAD_BYTES as u64 + first * self.width())).map_err(io_fault(&self.path))?;
        let stored = read_exactly(&mut file, many * self.width(), &self.path)?;
        let tree = BatchTree::new(self.kind, self.hashes(&stored)).ok_or_else(no_leaf)?;
        let mut siblings = tree.path(within).ok_or_else(no_leaf)?;
        let at = usize::try_from(chunk).map_err(|_| no_leaf())?;
        siblings.extend(path(TreeHash::of_batch(self.kind), &self.chunks, at).ok_or_else(no_leaf)?);
        let width = Self::width_of(self.salted);
        let place = usize::try_from(within).map_err(|_| no_leaf())? * width;
        let leaf = stored.get(place..place + width).ok_or_else(no_leaf)?;
        let (salt, digest) = leaf.split_at(width - DIGEST_BYTES);
        let subject = Subject {
            digest: Hash(digest.try_into().unwrap_or_default()),
            algorithm: self.algorithm.clone(),
            salt: salt.to_vec(),
        };
        let batch = (self.count > 1).then_some(BatchPath { index, path: siblings });
        Ok(core.clone().complete(subject, batch))
    }

    /// The index of the first leaf with this digest: one pass over the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn find(&self, digest: &Hash) -> Result<Option<u64>, ClientFault> {
        let mut file = File::open(&self.path).map_err(io_fault(&self.path))?;
        file.seek(SeekFrom::Start(HEAD_BYTES as u64)).map_err(io_fault(&self.path))?;
        let width = Self::width_of(self.salted);
        let mut first = 0;
        while first < self.count {
            let many = (self.count - first).min(CHUNK_LEAVES as u64);
            let stored = read_exactly(&mut file, many * self.width(), &self.path)?;
            let held = stored.chunks_exact(width).position(|leaf| leaf.ends_with(digest.as_bytes()));
            if let Some(at) = held {
                return Ok(Some(first + at as u64));
            }
            first += many;
        }
        Ok(None)
    }
}

fn read_exactly(file: &mut File, bytes: u64, path: &Path) -> Result<Vec<u8>, ClientFault> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.read_exact(&mut buffer).map_err(io_fault(path))?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, Item};
    use cairn_types::tree::{batch_leaf, verify_batch_path};

    fn digest(index: u64) -> Hash {
        Hash(*blake3::hash(&index.to_le_bytes()).as_bytes())
    }

    fn made(directory: &Path, count: u64, kind: TreeKind, salting: Salting) -> LeafFile {
        let path = directory.join(format!("{count}-{}-{salting:?}", kind.name()));
        let mut writer = LeafWriter::create(&path, kind, Algorithm::Sha256, salting).unwrap();
        (0..count).for_each(|index| writer.push(&digest(index)).unwrap());
        writer.finish().unwrap()
    }

    fn core() -> AnchorReceipt {
        AnchorReceipt {
            record_bytes: Vec::new(),
            anchor_path: Vec::new(),
            header_bytes: Vec::new(),
            finality: cairn_types::receipt::Finality::Checkpoint,
            epochs: Vec::new(),
        }
    }

    #[test]
    fn it_is_the_tree_of_a_batch_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let chunk = CHUNK_LEAVES as u64;
        for count in [1, 2, 5, chunk - 1, chunk, chunk + 1, 3 * chunk + 7] {
            let leaves = made(directory.path(), count, TreeKind::CairnB3V1, Salting::None);
            let items =
                (0..count).map(|at| Item { digest: digest(at), algorithm: "sha256".into() }).collect();
            let batch = Batch::new(items, TreeKind::CairnB3V1, Salting::None).unwrap();
            assert_eq!(leaves.root(), batch.root(), "{count}");
            for index in [0, count / 2, count - 1] {
                let receipt = leaves.receipt(&core(), index).unwrap();
                assert_eq!(receipt, batch.receipt(&core(), index).unwrap(), "{index} of {count}");
            }
            assert!(matches!(leaves.receipt(&core(), count), Err(ClientFault::NoLeaf { .. })));
        }
    }

    #[test]
    fn salted_leaves_lead_to_the_root_and_are_found_again() {
        let directory = tempfile::tempdir().unwrap();
        for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
            let leaves = made(directory.path(), 70_000, kind, Salting::Random);
            let again = LeafFile::open(leaves.path()).unwrap();
            assert_eq!(again.root(), leaves.root());
            for index in [0, 65_535, 65_536, 69_999] {
                let receipt = again.receipt(&core(), index).unwrap();
                let subject = &receipt.subject;
                assert_eq!((subject.digest, subject.salt.len()), (digest(index), SALT_BYTES));
                let leaf = batch_leaf(kind, &subject.salt, &subject.digest);
                let path = receipt.batch.unwrap().path;
                assert_eq!(verify_batch_path(kind, leaf, index, 70_000, &path, &again.root()), Ok(true));
                assert_eq!(again.find(&digest(index)).unwrap(), Some(index));
            }
            assert_eq!(again.find(&Hash([0; 32])).unwrap(), None);
        }
    }

    #[test]
    fn damage_and_repetition_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let leaves = made(directory.path(), 10, TreeKind::CairnB3V1, Salting::Random);
        let path = leaves.path().to_owned();
        let again = LeafWriter::create(&path, TreeKind::CairnB3V1, Algorithm::Blake3, Salting::None);
        assert!(matches!(again, Err(ClientFault::Io { .. })), "no leaf file is replaced");
        let bytes = fs::read(&path).unwrap();
        for (at, value) in [(0, b'x'), (16, 9), (17, 2), (56, 11)] {
            let mut changed = bytes.clone();
            changed[at] = value;
            fs::write(&path, changed).unwrap();
            assert!(matches!(LeafFile::open(&path), Err(ClientFault::BadPending { .. })), "byte {at}");
        }
        for cut in [0, 63, 64, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(LeafFile::open(&path).is_err(), "cut at {cut}");
        }
        let empty = directory.path().join("empty");
        let writer =
            LeafWriter::create(&empty, TreeKind::CairnB3V1, Algorithm::Blake3, Salting::Random).unwrap();
        assert!(matches!(writer.finish(), Err(ClientFault::EmptyBatch)));
        assert!(
            !empty.exists() && fs::read_dir(directory.path()).unwrap().count() == 1,
            "nothing is left behind"
        );
    }
}
