//! A chain of final blocks, made to order. A signature is a hash of what is signed under a secret that liars lack.

use std::sync::Arc;

use cairn_catchup::{Entry, Judge, Position, Proof};
use cairn_types::certificate::BallotCert;
use cairn_types::{
    Block, BlockId, ChainId, CommitCert, Context, Epoch, Hash, Header, Height, Signature, ValidatorIndex,
    View, tree,
};

/// Every so many heights a block became final by its child's certificate only.
const UNCERTIFIED_EVERY: u64 = 7;

pub(crate) struct Chain {
    pub(crate) entries: Vec<Entry>,
}

fn header(height: u64, parent: BlockId, salt: u8) -> Header {
    let zero = Hash::default();
    Header {
        version: 1,
        chain: ChainId::ZERO,
        epoch: Epoch::ZERO,
        view: View::new(height),
        height: Height::new(height),
        parent,
        parent_view: View::new(height.saturating_sub(1)),
        time_ms: height,
        proposer: ValidatorIndex(0),
        tx_root: tree::tx_root(&[]),
        tx_count: 0,
        state_root: Hash([salt; 32]),
        anchors_root: zero,
        anchors_size: 0,
        anchors_sha256: zero,
        history_root: zero,
        validators: zero,
        next_validators: zero,
    }
}

fn seal(secret: &[u8], header: &Header, id: BlockId) -> Arc<CommitCert> {
    let unsigned: CommitCert = BallotCert::new(header.epoch, header.view, id, 1, Vec::new());
    let hash = Context::Block.hash_parts(&[secret, &unsigned.preimage(header.chain)]);
    let signature = Signature::new(hash.as_bytes()).expect("short enough");
    Arc::new(BallotCert::new(header.epoch, header.view, id, 1, vec![(ValidatorIndex(0), signature)]))
}

/// What a driver's verifier says.
pub(crate) fn verify(header: &Header, proof: Proof<'_>) -> Judge {
    let Proof::Certificate(certificate) = proof else { return Judge::EpochUnknown };
    if *certificate == seal(b"quorum", header, header.id()) {
        Judge::Good
    } else {
        Judge::Bad("no quorum signed this".to_owned())
    }
}

impl Chain {
    /// Blocks 0 to `length`. Chains of other salts are forks that no quorum signed.
    pub(crate) fn new(length: u64, salt: u8) -> Self {
        let secret: &[u8] = if salt == 0 { b"quorum" } else { b"liar" };
        let (mut entries, mut parent) = (Vec::new(), BlockId::ZERO);
        for height in 0..=length {
            // All chains share block 0.
            let header = header(height, parent, if height == 0 { 0 } else { salt });
            let block = Arc::new(Block::new(header, Vec::new()));
            parent = block.id();
            let own = height > 0 && (!height.is_multiple_of(UNCERTIFIED_EVERY) || height == length);
            let certificate = own.then(|| seal(secret, block.header(), parent));
            entries.push(Entry { block, certificate, end: None });
        }
        Self { entries }
    }

    pub(crate) fn position(&self, height: u64) -> Position {
        let block = &self.entries[height as usize].block;
        Position { height: block.header().height, id: block.id() }
    }

    /// `count` blocks from `from`, none above `tip`.
    pub(crate) fn range(&self, from: u64, count: u64, tip: u64) -> Vec<Entry> {
        let end = from.saturating_add(count).min(tip.saturating_add(1)).min(self.entries.len() as u64);
        (from..end).map(|height| self.entries[height as usize].clone()).collect()
    }
}
