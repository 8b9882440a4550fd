//! The seam between the state and what keeps its bytes: ordered tables and atomic batches.

use std::ops::ControlFlow;
use std::path::PathBuf;

use thiserror::Error;

use crate::batch::Batch;

/// One ordered table of keys and values. The key layouts are in `layout.rs`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// Schema version, genesis hash, the committed tip, the newest commit certificate.
    Meta,
    /// Height -> header.
    Headers,
    /// Height -> the block's transactions with their signatures.
    Bodies,
    /// Height -> a commit certificate that names exactly the block of that height.
    Certificates,
    /// Block id -> height.
    Blocks,
    /// Transaction id -> where it landed. Also the replay window.
    Transactions,
    /// Seq -> record.
    Records,
    /// Proof id and seq of every record of that proof.
    Proofs,
    /// Root and seq of every record of that root.
    Roots,
    /// Digest of (sender, reference) and seq of every record with that reference.
    References,
    /// Sender and seq of every record.
    Senders,
    /// Kind and seq of every record.
    Kinds,
    /// Complete subtrees of the anchor logs, above their leaves.
    LogNodes,
    /// Nodes of the authenticated map, by version and path.
    TreeNodes,
    /// Current values of the authenticated map, by key hash.
    TreeValues,
    /// Nodes of the authenticated map that a later version replaced, by that version.
    TreeStale,
    /// Key address -> public key, for every key an identity ever held.
    PublicKeys,
    /// Epoch -> validators, parameters and protocol version, for every epoch after the first. Kept for ever.
    Epochs,
    /// Epoch -> the commit proof that ended it. Kept for ever.
    EpochProofs,
    /// Keys of the authenticated map that are found by listing: their own bytes, and (with another prefix) the
    /// same with the two addresses of a delegation exchanged.
    StateKeys,
    /// Address and height -> the identity as that block left it.
    IdentityVersions,
    /// Height and position -> what happened to identities in that block.
    IdentityEvents,
    /// Address, height and position of every event that concerns it.
    IdentityHistory,
    /// How a record names another proof (previous or subject), that proof, and the record's seq.
    Links,
    /// Complete subtrees of the history log, above its leaves.
    HistoryNodes,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 25] = [
        Self::Meta,
        Self::Headers,
        Self::Bodies,
        Self::Certificates,
        Self::Blocks,
        Self::Transactions,
        Self::Records,
        Self::Proofs,
        Self::Roots,
        Self::References,
        Self::Senders,
        Self::Kinds,
        Self::LogNodes,
        Self::TreeNodes,
        Self::TreeValues,
        Self::TreeStale,
        Self::PublicKeys,
        Self::Epochs,
        Self::EpochProofs,
        Self::StateKeys,
        Self::IdentityVersions,
        Self::IdentityEvents,
        Self::IdentityHistory,
        Self::Links,
        Self::HistoryNodes,
    ];

    /// The table's name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Headers => "headers",
            Self::Bodies => "bodies",
            Self::Certificates => "certificates",
            Self::Blocks => "blocks",
            Self::Transactions => "transactions",
            Self::Records => "records",
            Self::Proofs => "proofs",
            Self::Roots => "roots",
            Self::References => "references",
            Self::Senders => "senders",
            Self::Kinds => "kinds",
            Self::LogNodes => "log_nodes",
            Self::TreeNodes => "tree_nodes",
            Self::TreeValues => "tree_values",
            Self::TreeStale => "tree_stale",
            Self::PublicKeys => "public_keys",
            Self::Epochs => "epochs",
            Self::EpochProofs => "epoch_proofs",
            Self::StateKeys => "state_keys",
            Self::IdentityVersions => "identity_versions",
            Self::IdentityEvents => "identity_events",
            Self::IdentityHistory => "identity_history",
            Self::Links => "links",
            Self::HistoryNodes => "history_nodes",
        }
    }

    /// Its position in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Whether a write must survive a power cut once it returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Atomic and ordered after every earlier write, but a power cut may take it away.
    Buffered,
    /// As `Buffered`, and a power cut may take the bodies of blocks away alone, leaving everything else: the caller has them
    /// until a sync and brings them back ([`crate::State::mend_bodies`]).
    Backed,
    /// On disk, with every earlier write, when the call returns.
    Synced,
}

/// Direction of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Keys rising.
    Ascending,
    /// Keys falling.
    Descending,
}

/// An ordered walk over the keys that begin with `prefix`.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The table.
    pub table: Table,
    /// Only keys that begin with this; empty for the whole table.
    pub prefix: &'a [u8],
    /// The first key to consider, itself included; `None` for the prefix's first (or last) key.
    pub from: Option<&'a [u8]>,
    /// Which way to go.
    pub order: Order,
}

/// Why storage failed. None of these is a peer's fault; after a failed write the node must stop.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum StorageError {
    /// Another process has the data folder open.
    #[error("{} is in use by another process: stop it first, a data folder serves one node", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// No room on the device.
    #[error("the disk is full ({doing}): free some space and start again; nothing committed is lost")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
    },
    /// Stored bytes are damaged.
    #[error("stored data is damaged ({doing}): {why}")]
    Damaged {
        /// What was being done.
        doing: &'static str,
        /// What storage said.
        why: String,
    },
    /// Any other failure of the device or the library.
    #[error("storage failed ({doing}): {why}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What storage said.
        why: String,
    },
}

/// What a scan hands each key and value to; it breaks to end the scan.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Tables of bytes to read.
pub trait ReadStorage: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// When the device fails or the data is damaged.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Calls `visit` with each key and value of the scan, in order, until it breaks.
    ///
    /// # Errors
    /// When the device fails or the data is damaged.
    fn scan(&self, scan: Scan<'_>, visit: &mut Visitor<'_>) -> Result<(), StorageError>;
}

/// Tables of bytes with atomic batches. One writer, many readers.
pub trait Storage: ReadStorage + 'static {
    /// Applies all of `batch` or nothing.
    ///
    /// # Errors
    /// When the device fails. Whether the batch was applied is then unknown until it is opened again.
    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError>;

    /// Puts every write that returned before this call on disk.
    ///
    /// # Errors
    /// When the device fails. What is on disk is then unknown until it is opened again.
    fn sync(&self) -> Result<(), StorageError>;

    /// Looks for what is missing as a whole, without reading everything. What a power cut took and others bring back is to be here
    /// again.
    ///
    /// # Errors
    /// Names what is missing.
    fn check(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// All tables as they are now, whatever is written afterwards. Holds no writer up; what is overwritten or deleted
    /// meanwhile keeps its room until this is dropped.
    fn frozen(&self) -> Box<dyn ReadStorage + '_>;
}

/// The smallest key above every key that begins with `prefix`; `None` when there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}
