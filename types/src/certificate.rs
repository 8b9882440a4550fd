//! Certificates: quorums of signatures over one block or one timed-out view.

use std::io::{Read, Result as IoResult, Write};
use std::marker::PhantomData;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::codec::{encode, invalid};
use crate::hash::Hash;
use crate::id::{BlockId, ChainId, Epoch, ValidatorIndex, View};
use crate::key::Signature;
use crate::signing::{Tag, block_preimage, timeout_preimage};
use crate::validator::{VALIDATORS_MAX, ValidatorSet};

/// Which of the two votes a ballot or certificate is about.
pub trait Phase: Copy + std::fmt::Debug + Eq + Send + Sync + 'static {
    /// The signing tag of the phase's vote.
    const TAG: Tag;
}

/// The first vote: the block is valid and may be certified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct First;
/// The second vote: the block's certificate was seen and may be committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Second;

impl Phase for First {
    const TAG: Tag = Tag::Vote;
}
impl Phase for Second {
    const TAG: Tag = Tag::Commit;
}

/// A quorum of votes: the block is certified.
pub type QuorumCert = BallotCert<First>;
/// A quorum of commit votes: the block and its ancestors are final.
pub type CommitCert = BallotCert<Second>;

/// A quorum of one phase's votes for one block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BallotCert<P> {
    /// The epoch whose validators signed.
    pub epoch: Epoch,
    /// The block's view.
    pub view: View,
    /// The block.
    pub block: BlockId,
    /// Who signed: bit i is validator i in address order, least significant bit of the first byte first.
    pub signers: Vec<u8>,
    /// One signature per set bit, in bit order.
    pub signatures: Vec<Signature>,
    phase: PhantomData<P>,
}

/// Why a certificate's shape is refused, before any signature is looked at.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum CertFault {
    #[error("the certificate is of epoch {got}, the validator set of epoch {expected}")]
    WrongEpoch { got: Epoch, expected: Epoch },
    #[error("the certificate is of view 0, which has no signatures")]
    ViewZero,
    #[error("the signer bitmap has {got} bytes; {expected} expected for this validator set")]
    BitmapLength { got: usize, expected: usize },
    #[error("the signer bitmap sets bit {bit}; the set has {count} validators")]
    UnusedBit { bit: usize, count: usize },
    #[error("{got} signatures for {expected} signers")]
    SignatureCount { got: usize, expected: usize },
    #[error("the signers hold power {got} of {total}, which is no quorum")]
    NoQuorum { got: u64, total: u64 },
    #[error(
        "timeout entries must name validators of the set in strictly ascending order; entry {position} does not"
    )]
    EntryOrder { position: usize },
    #[error(
        "timeout entries claim a certificate of view {claimed}; the one carried is of view {carried}, and must be below view {view}"
    )]
    HighCertificate { claimed: View, carried: View, view: View },
    #[error("the implicit certificate of view 0 names block {got}, the epoch starts at {expected}")]
    WrongRoot { got: BlockId, expected: BlockId },
}

impl<P: Phase> BallotCert<P> {
    /// A certificate from each signer's signature, in any order. Nothing is checked.
    pub fn new(
        epoch: Epoch,
        view: View,
        block: BlockId,
        count: usize,
        mut votes: Vec<(ValidatorIndex, Signature)>,
    ) -> Self {
        votes.sort_by_key(|(index, _)| *index);
        let mut signers = vec![0u8; count.div_ceil(8)];
        for (index, _) in &votes {
            let at = usize::from(index.0);
            if let Some(byte) = signers.get_mut(at >> 3) {
                *byte |= 1u8.wrapping_shl(u32::from(index.0 & 7));
            }
        }
        let signatures = votes.into_iter().map(|(_, signature)| signature).collect();
        Self { epoch, view, block, signers, signatures, phase: PhantomData }
    }

    /// The validators whose bits are set, in order.
    pub fn signer_indexes(&self) -> impl Iterator<Item = ValidatorIndex> + '_ {
        (0u16..).zip(&self.signers).flat_map(|(at, byte)| {
            (0u16..8)
                .filter(move |bit| byte.wrapping_shr(u32::from(*bit)) & 1 == 1)
                .map(move |bit| ValidatorIndex(at.saturating_mul(8).saturating_add(bit)))
        })
    }

    /// The bytes every signer signed.
    pub fn preimage(&self, chain: ChainId) -> Vec<u8> {
        block_preimage(P::TAG, chain, self.epoch, self.view, self.block)
    }

    /// Checks everything but the signatures: epoch, bitmap, counts, quorum.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check_shape(&self, set: &ValidatorSet) -> Result<(), CertFault> {
        if self.epoch != set.epoch() {
            return Err(CertFault::WrongEpoch { got: self.epoch, expected: set.epoch() });
        }
        if self.view == View::ZERO {
            return Err(CertFault::ViewZero);
        }
        let expected = set.count().div_ceil(8);
        if self.signers.len() != expected {
            return Err(CertFault::BitmapLength { got: self.signers.len(), expected });
        }
        let signers: Vec<_> = self.signer_indexes().collect();
        if let Some(outside) = signers.iter().find(|index| set.get(**index).is_none()) {
            return Err(CertFault::UnusedBit { bit: usize::from(outside.0), count: set.count() });
        }
        if self.signatures.len() != signers.len() {
            return Err(CertFault::SignatureCount { got: self.signatures.len(), expected: signers.len() });
        }
        let power = signers.iter().fold(0u64, |sum, index| sum.saturating_add(set.power(*index)));
        if !set.is_quorum(power) {
            return Err(CertFault::NoQuorum { got: power, total: set.total_power() });
        }
        Ok(())
    }

    /// A digest of the whole certificate, signatures included: names *this* certificate among the many
    /// that may exist for one block. Never part of a block id.
    pub fn digest(&self) -> Hash {
        digest_of_bytes(&encode(self))
    }
}

impl<P> BorshSerialize for BallotCert<P> {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.epoch.serialize(writer)?;
        self.view.serialize(writer)?;
        self.block.serialize(writer)?;
        self.signers.serialize(writer)?;
        self.signatures.serialize(writer)
    }
}

impl<P> BorshDeserialize for BallotCert<P> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let epoch = Epoch::deserialize_reader(reader)?;
        let view = View::deserialize_reader(reader)?;
        let block = BlockId::deserialize_reader(reader)?;
        let signers = crate::key::read_bytes(reader, VALIDATORS_MAX.div_ceil(8))?;
        let signatures = read_list(reader, VALIDATORS_MAX)?;
        Ok(Self { epoch, view, block, signers, signatures, phase: PhantomData })
    }
}

/// A borsh list of at most `count_max` items, refused before anything is allocated for it.
pub(crate) fn read_list<T: BorshDeserialize, R: Read>(reader: &mut R, count_max: usize) -> IoResult<Vec<T>> {
    let count = u32::deserialize_reader(reader)? as usize;
    if count > count_max {
        return Err(invalid(format!("a list of {count} items where at most {count_max} are allowed")));
    }
    (0..count).map(|_| T::deserialize_reader(reader)).collect()
}

/// Any certificate that a block's child may build on.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum BlockCert {
    /// The implicit certificate of view 0: block 0, or the last block of the previous epoch.
    Root {
        /// The epoch that starts there.
        epoch: Epoch,
        /// The block it starts from.
        block: BlockId,
    },
    /// A quorum of votes.
    Quorum(Arc<QuorumCert>),
    /// A quorum of commit votes; serves wherever a `QuorumCert` of its view does.
    Commit(Arc<CommitCert>),
}

impl BlockCert {
    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Root { epoch, .. } => *epoch,
            Self::Quorum(cert) => cert.epoch,
            Self::Commit(cert) => cert.epoch,
        }
    }

    /// The certified block's view; 0 for the root.
    pub fn view(&self) -> View {
        match self {
            Self::Root { .. } => View::ZERO,
            Self::Quorum(cert) => cert.view,
            Self::Commit(cert) => cert.view,
        }
    }

    /// The certified block.
    pub fn block(&self) -> BlockId {
        match self {
            Self::Root { block, .. } => *block,
            Self::Quorum(cert) => cert.block,
            Self::Commit(cert) => cert.block,
        }
    }

    /// Digest of the canonical bytes, signatures included.
    pub fn digest(&self) -> Hash {
        digest_of_bytes(&encode(self))
    }
}

/// One validator's part of a timeout certificate.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct TimeoutEntry {
    /// Who timed out.
    pub validator: ValidatorIndex,
    /// The view of the highest certificate it had, as signed.
    pub high_qc_view: View,
    /// Its signature over `epoch ‖ view ‖ high_qc view`.
    pub signature: Signature,
}

/// A quorum of timeouts of one view, with a certificate at least as high as any of them named.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub struct TimeoutCert {
    /// The epoch whose validators signed.
    pub epoch: Epoch,
    /// The view that was given up.
    pub view: View,
    /// One entry per validator, in strictly ascending order.
    pub entries: Vec<TimeoutEntry>,
    /// `max(entries.high_qc_view) <= high_qc.view < view`.
    pub high_qc: BlockCert,
}

impl BorshDeserialize for TimeoutCert {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        Ok(Self {
            epoch: Epoch::deserialize_reader(reader)?,
            view: View::deserialize_reader(reader)?,
            entries: read_list(reader, VALIDATORS_MAX)?,
            high_qc: BlockCert::deserialize_reader(reader)?,
        })
    }
}

impl TimeoutCert {
    /// The bytes that `entry` signed.
    pub fn preimage(&self, chain: ChainId, entry: &TimeoutEntry) -> Vec<u8> {
        timeout_preimage(chain, self.epoch, self.view, entry.high_qc_view)
    }

    /// The highest certificate view that any entry names. At most `high_qc.view`, which is what rule V
    /// compares a later proposal's justify with.
    pub fn high_qc_view(&self) -> View {
        self.entries.iter().map(|entry| entry.high_qc_view).max().unwrap_or(View::ZERO)
    }

    /// Checks everything but signatures and the shape of `high_qc`: epoch, unique signers, quorum,
    /// and `max(entries) <= high_qc.view < view`.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check_shape(&self, set: &ValidatorSet) -> Result<(), CertFault> {
        let expected = set.epoch();
        if let Some(got) = [self.epoch, self.high_qc.epoch()].into_iter().find(|got| *got != expected) {
            return Err(CertFault::WrongEpoch { got, expected });
        }
        if self.view == View::ZERO {
            return Err(CertFault::ViewZero);
        }
        let mut power = 0u64;
        let mut before: Option<ValidatorIndex> = None;
        for (position, entry) in self.entries.iter().enumerate() {
            if before.is_some_and(|before| before >= entry.validator) || set.get(entry.validator).is_none() {
                return Err(CertFault::EntryOrder { position });
            }
            before = Some(entry.validator);
            power = power.saturating_add(set.power(entry.validator));
        }
        if !set.is_quorum(power) {
            return Err(CertFault::NoQuorum { got: power, total: set.total_power() });
        }
        let (claimed, carried) = (self.high_qc_view(), self.high_qc.view());
        if claimed > carried || carried >= self.view {
            return Err(CertFault::HighCertificate { claimed, carried, view: self.view });
        }
        Ok(())
    }

    /// Digest of the canonical bytes, signatures included.
    pub fn digest(&self) -> Hash {
        digest_of_bytes(&encode(self))
    }
}

/// Digest that names one certificate by its bytes. Local and on the wire only; never signed, and
/// never part of an id.
pub fn digest_of_bytes(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}
