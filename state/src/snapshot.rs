//! State snapshots: what a node needs to go on from a final block without the blocks below it, in chunks that
//! are each checked against the certified header, whoever they come from.
//!
//! * Hand-overs lead from the genesis validators to those that signed the header, one epoch after another.
//! * The three logs' peaks give the header's roots.
//! * The authenticated map's leaves come in runs in key order. A run proves against `state_root` that it is
//!   all there is between its first and its last key; the next one begins with that last key.
//! * The blocks of the replay window, whose length the map says, newest first, are linked to the header by hash;
//!   each lists the ids and witnesses of its transactions, which give its `tx_root`.
//!
//! What is not in a snapshot (older blocks, records) is fetched elsewhere or, by role, never.

use std::fmt;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::block::HEADER_VERSION;
use cairn_types::identity::{IDENTITY_KEYS_MAX, IdentityEntry};
use cairn_types::log::TreeHash;
use cairn_types::transaction::block_leaf;
use cairn_types::tree::{self, Peaks};
use cairn_types::validator::SetFault;
use cairn_types::{
    Address, CommitCert, Epoch, EpochProof, Genesis, Hash, Header, Height, Params, PublicKey, StateKey, TxId,
    ValidatorSet, decode,
};
use thiserror::Error;

use crate::authenticated::read_value;
use crate::sparse::{Edges, Leaf, PLACEHOLDER, root};

/// The form of this build's snapshots.
pub const SNAPSHOT_VERSION: u8 = 2;
/// Bytes of values and keys gathered into one chunk before the next begins.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Longest chunk read: one identity with all its keys, or one full block's list, and as much again.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// A snapshot's first part.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SnapshotHead {
    /// [`SNAPSHOT_VERSION`].
    pub version: u8,
    /// The block it was taken at.
    pub header: Header,
    /// A commit certificate that names exactly that block.
    pub certificate: CommitCert,
    /// Peaks of the anchor log.
    pub anchors: Peaks,
    /// Peaks of the SHA-256 anchor log.
    pub anchors_sha256: Peaks,
    /// Peaks of the history log.
    pub history: Peaks,
    /// How many chunks follow.
    pub chunks: u32,
}

/// A block of the replay window.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WindowBlock {
    /// Its header.
    pub header: Header,
    /// Id and witness of each of its transactions, in order.
    pub transactions: Vec<(TxId, Hash)>,
}

/// A run of the authenticated map's leaves.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct MapRun {
    /// Key hash and value, in key order.
    pub leaves: Vec<(Hash, Vec<u8>)>,
    /// What lies left of the first leaf's path, from the root down.
    pub left: Vec<Hash>,
    /// What lies right of the last leaf's path, from the root down.
    pub right: Vec<Hash>,
    /// The public keys that the identities among the values name.
    pub keys: Vec<PublicKey>,
}

/// The end of an epoch, and who comes after.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SnapshotHandover {
    /// What ended the epoch.
    pub proof: EpochProof,
    /// The validators of the next one, whom the epoch's last block names.
    pub next: ValidatorSet,
}

/// One chunk; they come in this order.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum SnapshotChunk {
    /// Ends of epochs, beginning with epoch 0. None in a snapshot of epoch 0.
    Handovers(Vec<SnapshotHandover>),
    /// A run of the authenticated map.
    Map(MapRun),
    /// Blocks of the replay window, newest first, beginning with the snapshot's own.
    Window(Vec<WindowBlock>),
}

/// Checks signatures for an [`Intake`]: this crate knows none.
pub trait SignatureCheck: Send + Sync {
    /// Whether the commit certificate is signed by a quorum of `set`.
    ///
    /// # Errors
    /// What is wrong with it.
    fn commit(&self, set: &ValidatorSet, certificate: &Arc<CommitCert>) -> Result<(), String>;
    /// Whether an epoch's commit proof is signed by a quorum of `set`.
    ///
    /// # Errors
    /// What is wrong with it.
    fn epoch_proof(&self, set: &ValidatorSet, proof: &EpochProof) -> Result<(), String>;
}

/// Why a snapshot, or one chunk of it, is not believed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum SnapshotFault {
    #[error("the snapshot has version {got}; this build reads version {SNAPSHOT_VERSION}")]
    Version { got: u8 },
    #[error("the snapshot is of chain {got}; the genesis file defines chain {expected}")]
    WrongChain { got: cairn_types::ChainId, expected: cairn_types::ChainId },
    #[error("the certificate given for height {height} names another block, view or epoch")]
    WrongCertificate { height: Height },
    #[error("the certificate given for height {height} is not signed by its epoch's validators: {why}")]
    Unsigned { height: Height, why: String },
    #[error("the block at height {height} ends its epoch; a snapshot is taken at another one")]
    EndsEpoch { height: Height },
    #[error("the hand-over that ends epoch {epoch}: {why}")]
    Handover { epoch: Epoch, why: String },
    #[error("hand-overs up to epoch {got} where the header is of epoch {expected}")]
    HandoversShort { got: Epoch, expected: Epoch },
    #[error("hand-overs after the last one")]
    HandoversOver,
    #[error("the map's {what} are not those of the header, or cannot be read")]
    Rules { what: &'static str },
    #[error("window blocks before the whole map, which says how long the window is")]
    WindowEarly,
    #[error("the peaks of the {log} log give {got}, the certified header says {expected}")]
    Peaks { log: &'static str, got: Hash, expected: Hash },
    #[error(
        "a window block of height {got} where {expected} is expected, or not the parent of the one above"
    )]
    WindowLink { got: Height, expected: Height },
    #[error("the transactions listed for height {height} are not those its header commits to")]
    WindowTransactions { height: Height },
    #[error("window blocks after the window's end")]
    WindowOver,
    #[error("the replay window is not complete: it ends at height {height}")]
    WindowShort { height: Height },
    #[error("a run of the map does not lead to the certified state root")]
    MapRoot,
    #[error("a run of the map does not begin where the last one ended")]
    MapOrder,
    #[error("the map is not complete")]
    MapShort,
    #[error("the public keys of identity {address} are not those it names")]
    Keys { address: String },
    #[error("the chunk holds nothing new")]
    Empty,
    #[error("the chunk does not decode: {0}")]
    Malformed(String),
}

/// What a snapshot's chunks have brought so far, all of it verified.
pub struct Intake {
    signatures: Arc<dyn SignatureCheck>,
    pub(crate) head: SnapshotHead,
    /// The validators of the epoch reached so far.
    pub(crate) set: ValidatorSet,
    pub(crate) handovers: Vec<SnapshotHandover>,
    pub(crate) leaves: Vec<(Hash, Vec<u8>)>,
    pub(crate) keys: Vec<PublicKey>,
    /// What the header's epoch is run by, once the whole map is here.
    pub(crate) rules: Option<(Params, u8)>,
    pub(crate) window: Vec<WindowBlock>,
    window_done: bool,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (height, epoch) = (self.head.header.height, self.set.epoch());
        f.debug_struct("Intake").field("height", &height).field("epoch", &epoch).finish_non_exhaustive()
    }
}

impl Intake {
    /// Begins with a head.
    ///
    /// # Errors
    /// When it is of another chain, its parts contradict its header, or it is of epoch 0 and not signed.
    pub fn new(
        head: SnapshotHead,
        genesis: &Genesis,
        signatures: Arc<dyn SignatureCheck>,
    ) -> Result<Self, SnapshotFault> {
        let header = &head.header;
        if head.version != SNAPSHOT_VERSION {
            return Err(SnapshotFault::Version { got: head.version });
        }
        let expected = genesis.chain();
        if header.chain != expected {
            return Err(SnapshotFault::WrongChain { got: header.chain, expected });
        }
        if header.ends_epoch() {
            return Err(SnapshotFault::EndsEpoch { height: header.height });
        }
        for (log, got, expected) in [
            ("anchor", head.anchors.root(TreeHash::Anchors), header.anchors_root),
            ("SHA-256 anchor", head.anchors_sha256.root(TreeHash::AnchorsSha256), header.anchors_sha256),
            ("history", head.history.root(TreeHash::History), header.history_root),
        ] {
            if got != expected {
                return Err(SnapshotFault::Peaks { log, got, expected });
            }
        }
        let bad = |fault: SetFault| SnapshotFault::Handover { epoch: Epoch::ZERO, why: fault.to_string() };
        let intake = Self {
            signatures,
            set: genesis.validator_set().map_err(bad)?,
            head,
            handovers: Vec::new(),
            leaves: Vec::new(),
            keys: Vec::new(),
            rules: None,
            window: Vec::new(),
            window_done: false,
        };
        intake.check_certificate(&intake.set)?;
        Ok(intake)
    }

    /// The block the snapshot was taken at.
    pub fn header(&self) -> &Header {
        &self.head.header
    }

    /// The epoch that the hand-overs have led to. When it is the header's, the header is certified.
    pub fn epoch(&self) -> Epoch {
        self.set.epoch()
    }

    /// Takes the next chunk, from its bytes.
    ///
    /// # Errors
    /// What is wrong with it; the intake is then as before, and the chunk can be had from elsewhere.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), SnapshotFault> {
        let chunk = decode(bytes).map_err(|error| SnapshotFault::Malformed(error.to_string()))?;
        // So that there is an end to what anybody can give.
        match chunk {
            SnapshotChunk::Handovers(none) if none.is_empty() => Err(SnapshotFault::Empty),
            SnapshotChunk::Window(none) if none.is_empty() => Err(SnapshotFault::Empty),
            SnapshotChunk::Handovers(handovers) => self.add_handovers(handovers),
            SnapshotChunk::Map(run) => self.add_map(run),
            SnapshotChunk::Window(blocks) => self.add_window(blocks),
        }
    }

    /// Whether everything is here.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_complete(&self) -> Result<(), SnapshotFault> {
        let header = &self.head.header;
        let (got, expected) = (self.set.epoch(), header.epoch);
        if got != expected {
            return Err(SnapshotFault::HandoversShort { got, expected });
        }
        if self.rules.is_none() {
            return Err(SnapshotFault::MapShort);
        }
        if self.window_done {
            return Ok(());
        }
        let lowest = self.window.last().map_or(header.height, |last| last.header.height);
        Err(SnapshotFault::WindowShort { height: lowest })
    }

    /// Checks the head's certificate once the validators of its epoch are known.
    fn check_certificate(&self, set: &ValidatorSet) -> Result<(), SnapshotFault> {
        let (header, certificate) = (&self.head.header, &self.head.certificate);
        let height = header.height;
        if set.epoch() != header.epoch {
            return Ok(());
        }
        let names_it = certificate.block == header.id()
            && certificate.view == header.view
            && certificate.epoch == header.epoch
            && header.validators == set.digest();
        if !names_it {
            return Err(SnapshotFault::WrongCertificate { height });
        }
        let certificate = Arc::new(certificate.clone());
        self.signatures.commit(set, &certificate).map_err(|why| SnapshotFault::Unsigned { height, why })
    }

    fn add_handovers(&mut self, handovers: Vec<SnapshotHandover>) -> Result<(), SnapshotFault> {
        let mut set = self.set.clone();
        for handover in &handovers {
            let epoch = set.epoch();
            if epoch >= self.head.header.epoch {
                return Err(SnapshotFault::HandoversOver);
            }
            let fault = |why: String| SnapshotFault::Handover { epoch, why };
            let SnapshotHandover { proof, next } = handover;
            proof.check_shape(self.head.header.chain, &set).map_err(|why| fault(why.to_string()))?;
            let last = proof.last_block().map_err(|why| fault(why.to_string()))?;
            if next.epoch() != epoch.next() || last.next_validators != next.digest() {
                return Err(fault("its last block names another set".to_owned()));
            }
            self.signatures.epoch_proof(&set, proof).map_err(fault)?;
            set = next.clone();
        }
        self.check_certificate(&set)?;
        self.set = set;
        self.handovers.extend(handovers);
        Ok(())
    }

    fn add_window(&mut self, blocks: Vec<WindowBlock>) -> Result<(), SnapshotFault> {
        let (params, _) = self.rules.as_ref().ok_or(SnapshotFault::WindowEarly)?;
        let own = &self.head.header;
        let newest = self.window.last().map(|last| (last.header.parent, last.header.height.previous()));
        let (mut id, mut height) = newest.unwrap_or((own.id(), Some(own.height)));
        let mut done = self.window_done;
        for block in &blocks {
            let expected = height.filter(|_| !done).ok_or(SnapshotFault::WindowOver)?;
            let header = &block.header;
            if header.height != expected || header.id() != id {
                return Err(SnapshotFault::WindowLink { got: header.height, expected });
            }
            let leaves: Vec<Hash> =
                block.transactions.iter().map(|(id, witness)| block_leaf(*id, *witness)).collect();
            if tree::tx_root(&leaves) != header.tx_root {
                return Err(SnapshotFault::WindowTransactions { height: header.height });
            }
            (id, height) = (header.parent, header.height.previous());
            done = height.is_none() || header.time_ms.saturating_add(params.replay_window_ms) <= own.time_ms;
        }
        self.window.extend(blocks);
        self.window_done = done;
        Ok(())
    }

    fn add_map(&mut self, run: MapRun) -> Result<(), SnapshotFault> {
        let hashed: Vec<Leaf> = run.leaves.iter().map(|(key, value)| Leaf::new(key.0, value)).collect();
        let edges = Edges { left: run.left, right: run.right };
        if root(&hashed, &edges) != Some(self.head.header.state_root) {
            return Err(SnapshotFault::MapRoot);
        }
        let all_empty = |side: &[Hash]| side.iter().all(|hash| *hash == PLACEHOLDER);
        let begins = match self.leaves.last() {
            // A leaf of the run before, so that nothing can hide between the two.
            Some(last) => run.leaves.first() == Some(last),
            None => all_empty(&edges.left),
        };
        if !begins || self.rules.is_some() {
            return Err(SnapshotFault::MapOrder);
        }
        let skip = usize::from(!self.leaves.is_empty());
        if run.leaves.len() <= skip {
            return Err(SnapshotFault::Empty);
        }
        let fresh: Vec<_> = run.leaves.into_iter().skip(skip).collect();
        check_keys(&fresh, &run.keys)?;
        let rules = match all_empty(&edges.right) {
            true => Some(rules_of(&self.head.header, self.leaves.iter().chain(&fresh))?),
            false => None,
        };
        self.leaves.extend(fresh);
        self.keys.extend(run.keys);
        self.rules = rules;
        Ok(())
    }
}

/// What the map says the next block is run by: parameters and protocol. Its validator set is the header's.
fn rules_of<'a>(
    header: &Header,
    leaves: impl Iterator<Item = &'a (Hash, Vec<u8>)>,
) -> Result<(Params, u8), SnapshotFault> {
    let wanted = [StateKey::Params, StateKey::Protocol, StateKey::Validators].map(|key| key.hash());
    let mut found = [None; 3];
    for (key, value) in leaves {
        if let Some(at) = wanted.iter().position(|hash| hash == key)
            && let Some(slot) = found.get_mut(at)
        {
            *slot = Some(value.as_slice());
        }
    }
    let [params, protocol, set] = found;
    let params = params.and_then(|bytes| read_value::<Params>("parameters", bytes).ok());
    let params = params.ok_or(SnapshotFault::Rules { what: "parameters" })?;
    let protocol = match protocol {
        Some(bytes) => read_value::<u8>("protocol version", bytes).ok(),
        None => Some(HEADER_VERSION),
    };
    let protocol = protocol.filter(|it| *it == header.version);
    let protocol = protocol.ok_or(SnapshotFault::Rules { what: "protocol version" })?;
    let set = set.and_then(|bytes| read_value::<ValidatorSet>("validator set", bytes).ok());
    set.filter(|set| set.digest() == header.validators).ok_or(SnapshotFault::Rules { what: "validators" })?;
    Ok((params, protocol))
}

/// The identity a leaf holds, if it holds one. Only an identity's own key is the hash of its first key's
/// address, so that no other value can pass for one.
pub(crate) fn identity_of(key: &Hash, value: &[u8]) -> Option<(Address, IdentityEntry)> {
    let entry = read_value::<IdentityEntry>("identity", value).ok()?;
    let address = entry.keys.first().map(|first| first.address)?;
    let is_own = StateKey::Identity(address).hash() == *key;
    (is_own && entry.keys.len() <= IDENTITY_KEYS_MAX).then_some((address, entry))
}

/// Every key that an identity names must come with it, and nothing else.
fn check_keys(leaves: &[(Hash, Vec<u8>)], keys: &[PublicKey]) -> Result<(), SnapshotFault> {
    let mut given = keys.iter().map(PublicKey::address);
    for (key, value) in leaves {
        for held in identity_of(key, value).map(|(_, entry)| entry.keys).unwrap_or_default() {
            if given.next() != Some(held.address) {
                return Err(SnapshotFault::Keys { address: held.address.to_string() });
            }
        }
    }
    match given.next() {
        None => Ok(()),
        Some(address) => Err(SnapshotFault::Keys { address: address.to_string() }),
    }
}
