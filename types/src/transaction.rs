//! Transactions and the PROOF payload (FORMATS, "Transactions").

use std::fmt;
use std::io::{Read, Result as IoResult, Write};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use thiserror::Error;

use crate::codec::{DecodeError, encode, encode_sized, invalid};
use crate::delegation::{DelegationFault, DelegationOp};
use crate::evidence::Evidence;
use crate::governance::{CHANGES_MAX, GovernanceOp};
use crate::hash::{Context, Hash};
use crate::id::{Address, ChainId, ProofId, TxId};
use crate::identity::{IdentityOp, Purpose};
use crate::key::{PublicKey, Signature};
use crate::multisig::{MultisigFault, MultisigOp, Proposed};
use crate::signing::Tag;

/// The only transaction version.
pub const TRANSACTION_VERSION: u8 = 1;
/// Proofs in one transaction, at most.
pub const PROOFS_MAX: usize = 256;
/// Bytes of a proof's `reference`, at most.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Bytes of a proof's `metadata`, at most.
pub const METADATA_BYTES_MAX: usize = 1_024;
/// Keys that sign one transaction, at most. Bounds verification work before any signature is looked at.
pub const KEYS_MAX: usize = 16;

/// What a sender asks the chain to do. Signed by every key in `keys`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Transaction {
    /// [`TRANSACTION_VERSION`].
    pub version: u8,
    /// The chain it is for.
    pub chain: ChainId,
    /// The identity that sends it.
    pub sender: Address,
    /// Any number; tells apart transactions that are otherwise equal. Not a sequence.
    pub nonce: u64,
    /// Unix milliseconds. Valid only in a block with `time_ms < expires_ms <= time_ms + replay window`.
    pub expires_ms: u64,
    /// The signing keys, strictly ascending.
    pub keys: Vec<KeyRef>,
    /// The request.
    pub payload: Payload,
}

/// How a transaction names one of its signing keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub enum KeyRef {
    /// The key itself; only for an address that was never registered, which must hash from it.
    Inline(PublicKey),
    /// A key of the sender's registered identity, by its index. Indexes are never reused.
    Registered(u16),
}

/// The request of a transaction. The discriminants are the protocol's transaction types.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Payload {
    /// A change to an identity.
    Identity(IdentityOp) = 1,
    /// What others may do on the sender's behalf, and the sender's agents.
    Delegation(DelegationOp) = 2,
    /// A step of shared control, signed by one key of the sender.
    Multisig(MultisigOp) = 3,
    /// A validator's part in changing validators, parameters or protocol. Signed by its validator key.
    Governance(GovernanceOp) = 4,
    /// Two contradicting signatures of a validator, which loses its power for it.
    Evidence(Evidence) = 5,
    /// PROOF: 1 to [`PROOFS_MAX`] proofs, all of the sender.
    Proofs(Proofs) = 7,
}

/// The proofs of a PROOF transaction: 1 to [`PROOFS_MAX`], bounded while decoding.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub struct Proofs(pub Vec<Proof>);

impl BorshDeserialize for Proofs {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let count = u32::deserialize_reader(reader)? as usize;
        if !(1..=PROOFS_MAX).contains(&count) {
            return Err(invalid(format!("{count} proofs where 1 to {PROOFS_MAX} are allowed")));
        }
        (0..count).map(|_| Proof::deserialize_reader(reader)).collect::<IoResult<_>>().map(Self)
    }
}

/// One proof: the commitment to a Merkle root, under the sender's name.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Proof {
    /// What the root stands for.
    pub kind: ProofKind,
    /// How the root was built.
    pub tree: TreeKind,
    /// The batch root, leaf count included.
    pub root: Hash,
    /// Number of leaves under the root, at least 1.
    pub leaves: u64,
    /// The client's own id, UTF-8, at most [`REFERENCE_BYTES_MAX`] bytes; may be empty.
    pub reference: String,
    /// The proof this one continues. Not checked by consensus.
    pub previous: Option<ProofId>,
    /// The proof this one speaks about. Not checked by consensus.
    pub subject: Option<ProofId>,
    /// The identity on whose behalf the sender acts; needs a delegation in force.
    pub on_behalf_of: Option<Address>,
    /// Opaque, at most [`METADATA_BYTES_MAX`] bytes.
    pub metadata: Vec<u8>,
}

/// What a proof's root stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum ProofKind {
    Batch = 0,
    Claim = 1,
    Identity = 2,
    Work = 3,
    Truth = 4,
    Value = 5,
    Decision = 6,
    Relation = 7,
    History = 8,
    Knowledge = 9,
    Contract = 10,
    Trust = 11,
    Delegation = 12,
    Revocation = 13,
    Attestation = 14,
    Dispute = 15,
    Custom = 16,
}

impl ProofKind {
    /// Every kind, by discriminant, with the name used in JSON.
    pub const NAMES: [(Self, &'static str); 17] = [
        (Self::Batch, "batch"),
        (Self::Claim, "claim"),
        (Self::Identity, "identity"),
        (Self::Work, "work"),
        (Self::Truth, "truth"),
        (Self::Value, "value"),
        (Self::Decision, "decision"),
        (Self::Relation, "relation"),
        (Self::History, "history"),
        (Self::Knowledge, "knowledge"),
        (Self::Contract, "contract"),
        (Self::Trust, "trust"),
        (Self::Delegation, "delegation"),
        (Self::Revocation, "revocation"),
        (Self::Attestation, "attestation"),
        (Self::Dispute, "dispute"),
        (Self::Custom, "custom"),
    ];

    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("custom", |(_, name)| name)
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// How a batch tree hashes (FORMATS, "Batch tree").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum TreeKind {
    /// `cairn-b3-v1`: BLAKE3, one context each for leaf, node and root.
    CairnB3V1 = 1,
    /// `rfc9162-sha256`: RFC 9162 hashing over SHA-256.
    Rfc9162Sha256 = 2,
}

impl TreeKind {
    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CairnB3V1 => "cairn-b3-v1",
            Self::Rfc9162Sha256 => "rfc9162-sha256",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::CairnB3V1, Self::Rfc9162Sha256].into_iter().find(|kind| kind.name() == name)
    }
}

/// Why a transaction's own bytes break the rules, whatever the state.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum TxFault {
    #[error("transaction version {got}, expected {TRANSACTION_VERSION}")]
    Version { got: u8 },
    #[error("the transaction is for chain {got}, this chain is {expected}")]
    WrongChain { got: ChainId, expected: ChainId },
    #[error("no signing key; expected 1 to {KEYS_MAX}")]
    NoKeys,
    #[error("{got} signing keys; expected 1 to {KEYS_MAX}")]
    TooManyKeys { got: usize },
    #[error("signing keys must be strictly ascending")]
    KeysNotAscending,
    #[error("{got} signatures for {expected} keys; expected exactly one per key, in order")]
    SignatureCount { got: usize, expected: usize },
    #[error("{got} proofs; expected 1 to {PROOFS_MAX}")]
    ProofCount { got: usize },
    #[error("proof {index} stands for 0 leaves; expected at least 1")]
    NoLeaves { index: usize },
    #[error("proof {index}: the reference has {got} bytes; expected at most {REFERENCE_BYTES_MAX}")]
    ReferenceTooLong { index: usize, got: usize },
    #[error("proof {index}: the metadata has {got} bytes; expected at most {METADATA_BYTES_MAX}")]
    MetadataTooLong { index: usize, got: usize },
    #[error("proof {index} repeats an earlier proof of the same transaction")]
    ProofRepeated { index: usize },
    #[error("{got} changes; expected 1 to {CHANGES_MAX}")]
    ChangeCount { got: usize },
    #[error("evidence must hold two different contents of a view above 0, the lower first")]
    EvidenceMalformed,
    #[error("{0}")]
    Delegation(DelegationFault),
    #[error("{0}")]
    Multisig(MultisigFault),
}

impl Payload {
    /// What every key that signs it must be for. A recovery is signed by the recovery key; a step of
    /// shared control by one key of the purpose that the proposed payload asks for, so it names none itself.
    pub const fn purpose(&self) -> Option<Purpose> {
        match self {
            Self::Identity(IdentityOp::Recover { .. }) => Some(Purpose::Recovery),
            Self::Identity(_) => Some(Purpose::Control),
            Self::Delegation(_) => Some(Purpose::Delegation),
            Self::Multisig(_) => None,
            Self::Governance(_) => Some(Purpose::Control),
            Self::Evidence(_) | Self::Proofs(_) => Some(Purpose::Assertion),
        }
    }
}

impl Transaction {
    /// The transaction's id: `H[tx](borsh Transaction)`.
    pub fn id(&self) -> TxId {
        TxId::new(Context::Tx.hash(&encode(self)))
    }

    /// The bytes each key signs.
    pub fn preimage(&self) -> Vec<u8> {
        Tag::Tx.preimage(self.chain, &encode(self))
    }

    /// The proofs it carries; empty for other payloads.
    pub fn proofs(&self) -> &[Proof] {
        match &self.payload {
            Payload::Proofs(proofs) => &proofs.0,
            Payload::Identity(_)
            | Payload::Delegation(_)
            | Payload::Multisig(_)
            | Payload::Governance(_)
            | Payload::Evidence(_) => &[],
        }
    }

    /// Checks every rule that needs neither state nor time.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check_shape(&self, chain: ChainId) -> Result<(), TxFault> {
        if self.version != TRANSACTION_VERSION {
            return Err(TxFault::Version { got: self.version });
        }
        if self.chain != chain {
            return Err(TxFault::WrongChain { got: self.chain, expected: chain });
        }
        if self.keys.is_empty() {
            return Err(TxFault::NoKeys);
        }
        if self.keys.len() > KEYS_MAX {
            return Err(TxFault::TooManyKeys { got: self.keys.len() });
        }
        if !self.keys.is_sorted_by(|a, b| a < b) {
            return Err(TxFault::KeysNotAscending);
        }
        match &self.payload {
            Payload::Proofs(proofs) => check_proofs(&proofs.0),
            Payload::Governance(op) => check_governance(op),
            Payload::Evidence(evidence) if !evidence.is_well_formed() => Err(TxFault::EvidenceMalformed),
            Payload::Identity(_) | Payload::Evidence(_) => Ok(()),
            Payload::Delegation(op) => op.check_shape(self.sender).map_err(TxFault::Delegation),
            Payload::Multisig(op) => check_multisig(op, self.sender),
        }
    }

    /// Whether a validator may sign this with its validator key, whatever its account's policy: governance
    /// always, evidence by choice (FORMATS, "Governance").
    pub const fn may_use_validator_key(&self) -> bool {
        matches!(self.payload, Payload::Governance(_) | Payload::Evidence(_))
    }
}

fn check_governance(op: &GovernanceOp) -> Result<(), TxFault> {
    match op {
        GovernanceOp::Propose { changes, .. } if !(1..=CHANGES_MAX).contains(&changes.0.len()) => {
            Err(TxFault::ChangeCount { got: changes.0.len() })
        }
        _ => Ok(()),
    }
}

fn check_multisig(op: &MultisigOp, sender: Address) -> Result<(), TxFault> {
    op.check_shape().map_err(TxFault::Multisig)?;
    match op {
        MultisigOp::Propose { payload: Proposed::Proofs(proofs), .. } => check_proofs(&proofs.0),
        MultisigOp::Propose { payload: Proposed::Delegation(op), .. } => {
            op.check_shape(sender).map_err(TxFault::Delegation)
        }
        _ => Ok(()),
    }
}

fn check_proofs(proofs: &[Proof]) -> Result<(), TxFault> {
    if !(1..=PROOFS_MAX).contains(&proofs.len()) {
        return Err(TxFault::ProofCount { got: proofs.len() });
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, proof) in proofs.iter().enumerate() {
        if proof.leaves == 0 {
            return Err(TxFault::NoLeaves { index });
        }
        if proof.reference.len() > REFERENCE_BYTES_MAX {
            return Err(TxFault::ReferenceTooLong { index, got: proof.reference.len() });
        }
        if proof.metadata.len() > METADATA_BYTES_MAX {
            return Err(TxFault::MetadataTooLong { index, got: proof.metadata.len() });
        }
        if proofs.len() > 1 && !seen.insert(encode(proof)) {
            return Err(TxFault::ProofRepeated { index });
        }
    }
    Ok(())
}

impl Proof {
    /// A batch of `leaves` under `root`, and nothing more said about it.
    pub const fn batch(tree: TreeKind, root: Hash, leaves: u64) -> Self {
        Self {
            kind: ProofKind::Batch,
            tree,
            root,
            leaves,
            reference: String::new(),
            previous: None,
            subject: None,
            on_behalf_of: None,
            metadata: Vec::new(),
        }
    }

    /// `H[proof](chain ‖ sender ‖ borsh Proof)`: the same for a repeated or re-signed submission.
    pub fn id(&self, chain: ChainId, sender: Address) -> ProofId {
        ProofId::new(Context::Proof.hash_parts(&[chain.as_bytes(), sender.as_bytes(), &encode(self)]))
    }
}

/// The parts of a [`SignedTransaction`], open for changes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedParts {
    /// What is signed.
    pub transaction: Transaction,
    /// One per entry of `transaction.keys`, in the same order.
    pub signatures: Vec<Signature>,
}

/// A transaction with exactly one signature per key, in key order. What follows from its parts (the canonical
/// bytes, the id, the witness) is worked out once, at first use, and shared by everyone who holds it.
#[derive(Clone)]
pub struct SignedTransaction {
    parts: SignedParts,
    canonical: OnceLock<Bytes>,
    id: OnceLock<TxId>,
    witness: OnceLock<Hash>,
}

impl SignedTransaction {
    /// A signed transaction with these parts. Nothing is checked.
    pub const fn new(transaction: Transaction, signatures: Vec<Signature>) -> Self {
        Self {
            parts: SignedParts { transaction, signatures },
            canonical: OnceLock::new(),
            id: OnceLock::new(),
            witness: OnceLock::new(),
        }
    }

    /// Decodes canonical bytes and keeps them, so that they are never made again.
    ///
    /// # Errors
    /// When they are not exactly one signed transaction.
    pub fn from_canonical(bytes: impl Into<Bytes>) -> Result<Self, DecodeError> {
        let bytes = bytes.into();
        let signed = Self::sharing(&bytes)
            .map_err(|error| DecodeError { expected: "SignedTransaction", why: error.to_string() })?;
        // The codec has one encoding for each value, so these bytes are what encoding would give.
        let _ = signed.canonical.set(bytes);
        Ok(signed)
    }

    /// Decodes all of `bytes`, which the signatures share: they are nearly all of it.
    fn sharing(bytes: &Bytes) -> IoResult<Self> {
        let mut rest: &[u8] = bytes;
        let transaction = Transaction::deserialize(&mut rest)?;
        let count = u32::deserialize(&mut rest)?;
        let mut place = bytes.len().saturating_sub(rest.len());
        let signatures: Vec<_> =
            (0..count).map(|_| Signature::read_shared(bytes, &mut place)).collect::<IoResult<_>>()?;
        let left = bytes.len().saturating_sub(place);
        if left > 0 {
            return Err(invalid(format!("bytes left over: {left}")));
        }
        Ok(Self::new(transaction, signatures))
    }

    /// The parts alone.
    pub fn into_parts(self) -> SignedParts {
        self.parts
    }

    /// `borsh(transaction) ‖ borsh(signatures)`.
    pub fn canonical(&self) -> &Bytes {
        self.canonical.get_or_init(|| encode_sized(&self.parts, self.size_hint()).into())
    }

    /// The transaction's id: `H[tx](borsh Transaction)`.
    pub fn id(&self) -> TxId {
        *self.id.get_or_init(|| TxId::new(Context::Tx.hash(self.halves().0)))
    }

    /// `H[witness](borsh signatures)`.
    pub fn witness(&self) -> Hash {
        *self.witness.get_or_init(|| Context::Witness.hash(self.halves().1))
    }

    /// The block leaf: `H[tx-leaf](tx id ‖ witness)`.
    pub fn block_leaf(&self) -> Hash {
        block_leaf(self.id(), self.witness())
    }

    /// The bytes each key signs: as [`Transaction::preimage`].
    pub fn preimage(&self) -> Vec<u8> {
        Tag::Tx.preimage(self.transaction.chain, self.halves().0)
    }

    /// The canonical bytes of the transaction and of the signatures.
    fn halves(&self) -> (&[u8], &[u8]) {
        let canonical = self.canonical();
        let signatures = self.signatures.iter().fold(LIST_PREFIX_BYTES, |bytes, signature| {
            bytes.saturating_add(LIST_PREFIX_BYTES).saturating_add(signature.as_bytes().len())
        });
        canonical.split_at_checked(canonical.len().saturating_sub(signatures)).unwrap_or_default()
    }

    /// Bytes that the canonical form of a transaction with one short proof has.
    fn size_hint(&self) -> usize {
        let keys = self.transaction.keys.len().saturating_mul(KEY_BYTES_USUAL);
        let signatures = self.signatures.len().saturating_mul(Signature::BYTES_MAX);
        keys.saturating_add(signatures).saturating_add(REST_BYTES_USUAL)
    }
}

/// Bytes of a list's length in the canonical codec.
const LIST_PREFIX_BYTES: usize = 4;
/// Bytes that an inline key takes in the canonical form.
const KEY_BYTES_USUAL: usize = 1_958;
/// Bytes of everything but keys and signatures, when one proof has no long metadata.
const REST_BYTES_USUAL: usize = 512;

impl From<SignedParts> for SignedTransaction {
    fn from(parts: SignedParts) -> Self {
        Self::new(parts.transaction, parts.signatures)
    }
}

impl Deref for SignedTransaction {
    type Target = SignedParts;

    fn deref(&self) -> &SignedParts {
        &self.parts
    }
}

impl DerefMut for SignedTransaction {
    /// Whatever was worked out may be wrong after the change, and is forgotten.
    fn deref_mut(&mut self) -> &mut SignedParts {
        (self.canonical, self.id, self.witness) = Default::default();
        &mut self.parts
    }
}

impl PartialEq for SignedTransaction {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for SignedTransaction {}

impl fmt::Debug for SignedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.fmt(f)
    }
}

impl BorshSerialize for SignedTransaction {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        match self.canonical.get() {
            Some(bytes) => writer.write_all(bytes),
            None => self.parts.serialize(writer),
        }
    }
}

impl BorshDeserialize for SignedTransaction {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        SignedParts::deserialize_reader(reader).map(Self::from)
    }
}

/// The block leaf of a transaction known by its id and witness: `H[tx-leaf](tx id ‖ witness)`.
pub fn block_leaf(id: TxId, witness: Hash) -> Hash {
    Context::TxLeaf.hash_parts(&[id.as_bytes(), witness.as_bytes()])
}

/// A signed transaction together with what was worked out while checking it: its id, its length and
/// the public keys its signatures were checked against. Inside [`crate::Verified`] the signatures
/// are good *for these keys*; execution still compares the keys with those in the parent's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthenticatedTx {
    /// The transaction as received.
    pub signed: Arc<SignedTransaction>,
    /// Its id.
    pub id: TxId,
    /// Length of the canonical bytes of `signed`.
    pub bytes: usize,
    /// The resolved key of each entry of `keys`, in order; after them, for evidence, the key of the accused.
    pub keys: Vec<PublicKey>,
}
