//! A chain of final blocks, made to order. A signature is a hash of what is signed under a secret that liars lack.

use std::sync::Arc;

use cairn_catchup::{Covering, Entry, Judge, Position, Proof};
use cairn_types::certificate::BallotCert;
use cairn_types::{
    Block, BlockId, ChainId, CommitCert, Context, Epoch, EpochProof, Hash, Header, Height, Signature,
    ValidatorIndex, View, tree,
};

/// Every so many heights a block became final by its child's certificate only.
const UNCERTIFIED_EVERY: u64 = 7;
/// Every so many epochs end through a carrier.
const CARRIED_EVERY: u64 = 3;

pub(crate) struct Chain {
    pub(crate) entries: Vec<Entry>,
}

/// The epoch of a height where each has `per_epoch` blocks, and its view there, which starts at 1.
fn place(height: u64, per_epoch: u64) -> (u64, u64) {
    let before = height.saturating_sub(1);
    (before / per_epoch, if height == 0 { 0 } else { before % per_epoch + 1 })
}

fn header(height: u64, parent: BlockId, salt: u8, per_epoch: u64) -> Header {
    let zero = Hash::default();
    let (epoch, view) = place(height, per_epoch);
    let ends = height > 0 && view == per_epoch;
    let set =
        |epoch: u64| if per_epoch == u64::MAX { zero } else { Context::Block.hash(&epoch.to_le_bytes()) };
    Header {
        version: 1,
        chain: ChainId::ZERO,
        epoch: Epoch::new(epoch),
        view: View::new(view),
        height: Height::new(height),
        parent,
        parent_view: View::new(view.saturating_sub(1)),
        time_ms: height,
        proposer: ValidatorIndex(0),
        tx_root: tree::tx_root(&[]),
        tx_count: 0,
        state_root: Hash([salt; 32]),
        anchors_root: zero,
        anchors_size: 0,
        anchors_sha256: zero,
        history_root: zero,
        validators: set(epoch),
        next_validators: set(epoch + u64::from(ends)),
    }
}

/// The proof that `last` ends its epoch: by a certificate of its own, or by one of a carrier.
fn proof_of(secret: &[u8], last: &Header) -> EpochProof {
    let mut headers = vec![last.clone()];
    if last.epoch.get() % CARRIED_EVERY == CARRIED_EVERY - 1 {
        let (view, parent) = (last.view.next(), last.id());
        let height = last.height.next();
        headers.push(Header { view, height, parent, parent_view: last.view, ..last.clone() });
    }
    let named = headers.last().expect("one at least");
    EpochProof { certificate: seal(secret, named, named.id()), headers }
}

fn seal(secret: &[u8], header: &Header, id: BlockId) -> Arc<CommitCert> {
    let unsigned: CommitCert = BallotCert::new(header.epoch, header.view, id, 1, Vec::new());
    let hash = Context::Block.hash_parts(&[secret, &unsigned.preimage(header.chain)]);
    let signature = Signature::new(hash.as_bytes()).expect("short enough");
    Arc::new(BallotCert::new(header.epoch, header.view, id, 1, vec![(ValidatorIndex(0), signature)]))
}

/// What a driver's verifier says whose state is in epoch `known`.
pub(crate) fn verify(known: Epoch, header: &Header, proof: Proof<'_>) -> Judge {
    if header.epoch > known {
        return Judge::EpochUnknown;
    }
    let good = match proof {
        Proof::Certificate(certificate) => *certificate == seal(b"quorum", header, header.id()),
        Proof::End(proof) => *proof.as_ref() == proof_of(b"quorum", header),
    };
    if good { Judge::Good } else { Judge::Bad("no quorum signed this".to_owned()) }
}

impl Chain {
    /// Blocks 0 to `length`. Chains of other salts are forks that no quorum signed.
    pub(crate) fn new(length: u64, salt: u8) -> Self {
        Self::with_epochs(length, salt, u64::MAX)
    }

    /// The same with an epoch's end after every `per_epoch` blocks.
    pub(crate) fn with_epochs(length: u64, salt: u8, per_epoch: u64) -> Self {
        let secret: &[u8] = if salt == 0 { b"quorum" } else { b"liar" };
        let (mut entries, mut parent) = (Vec::new(), BlockId::ZERO);
        for height in 0..=length {
            // All chains share block 0.
            let header = header(height, parent, if height == 0 { 0 } else { salt }, per_epoch);
            let block = Arc::new(Block::new(header, Vec::new()));
            parent = block.id();
            let own = height > 0 && (!height.is_multiple_of(UNCERTIFIED_EVERY) || height == length);
            let certificate = own.then(|| seal(secret, block.header(), parent));
            let end = block.header().ends_epoch().then(|| Arc::new(proof_of(secret, block.header())));
            let certificate = certificate.filter(|_| end.as_ref().is_none_or(|end| end.headers.len() == 1));
            entries.push(Entry { block, certificate, end, above: Vec::new() });
        }
        Self { entries }
    }

    pub(crate) fn position(&self, height: u64) -> Position {
        let block = &self.entries[height as usize].block;
        Position { height: block.header().height, id: block.id() }
    }

    /// The epoch of a state whose newest block is this one.
    pub(crate) fn epoch_after(&self, height: u64) -> Epoch {
        let header = self.entries[height as usize].block.header();
        if header.ends_epoch() { header.epoch.next() } else { header.epoch }
    }

    /// `count` blocks from `from`, none above `tip`, with what covers the last of them.
    pub(crate) fn range(&self, from: u64, count: u64, tip: u64) -> Vec<Entry> {
        let mut entries = self.bare_range(from, count, tip);
        let at = |height: Height| {
            let found = self.entries.get(height.get() as usize).filter(|_| height.get() <= tip);
            Ok::<_, ()>(found.map(|it| Covering {
                header: it.block.header().clone(),
                certificate: it.certificate.clone(),
                end: it.end.clone(),
            }))
        };
        entries.last_mut().map_or(Ok(()), |last| last.cover(at)).expect("nothing fails");
        entries
    }

    /// The same without that.
    pub(crate) fn bare_range(&self, from: u64, count: u64, tip: u64) -> Vec<Entry> {
        let end = from.saturating_add(count).min(tip.saturating_add(1)).min(self.entries.len() as u64);
        (from..end).map(|height| self.entries[height as usize].clone()).collect()
    }
}
