//! What the micro-benchmarks work on: a chain of four validators, and signed transactions of new senders.
//!
//! Run them with `cargo bench --workspace --bench stages`; `scripts/bench.sh` measures the whole network.

use std::sync::Arc;

use cairn_crypto::{KeyPair, TransactionFault, Verifier};
use cairn_types::certificate::{First, Phase, Second};
use cairn_types::genesis::GENESIS_VERSION;
use cairn_types::message::Ballot;
use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::{
    Admission, AuthenticatedTx, Block, BlockCert, BlockId, Carried, ChainId, CommitCert, Epoch, Genesis,
    Hash, KeyRef, Params, Payload, Proof, Proposal, QuorumCert, Scheme, SignedTransaction, Transaction,
    TreeKind, Validator, ValidatorIndex, ValidatorSet, Verified, View, tree,
};

/// Validators of the chain.
pub const VALIDATORS: u16 = 4;
/// When its block 0 was made, Unix milliseconds. Blocks follow a second apart.
pub const START_MS: u64 = 1_000_000;
/// Different senders of transactions: as many as the pool serves in turn.
const SENDERS: usize = 8;

/// A chain and its validators' keys, in the order of the set.
pub struct Chain {
    /// Where it starts.
    pub genesis: Genesis,
    /// The validators.
    pub set: ValidatorSet,
    keys: Vec<KeyPair>,
    senders: Vec<KeyPair>,
}

impl Chain {
    /// A chain whose validators and senders sign with `scheme`.
    ///
    /// # Panics
    /// Never: four keys make a set.
    pub fn new(scheme: Scheme) -> Self {
        let mut keys: Vec<KeyPair> = (0..VALIDATORS).map(|_| KeyPair::generate(scheme)).collect();
        keys.sort_by_key(KeyPair::address);
        let validator =
            |key: &KeyPair| Validator { address: key.address(), key: key.public().clone(), power: 1 };
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "bench".to_owned(),
            time_ms: START_MS,
            params: Params::default(),
            admission: Admission::Open,
            validators: keys.iter().map(validator).collect(),
        };
        let set = genesis.validator_set().expect("four keys make a set");
        let senders = (0..SENDERS).map(|_| KeyPair::generate(scheme)).collect();
        Self { genesis, set, keys, senders }
    }

    /// The chain's identity.
    pub fn id(&self) -> ChainId {
        self.genesis.chain()
    }

    /// Transaction number `n`, with one proof, valid in the blocks of the first minutes.
    pub fn transaction(&self, n: u64) -> SignedTransaction {
        self.batches(n, 1)
    }

    /// Transaction number `n`, with that many proofs, valid in the blocks of the first minutes.
    pub fn batches(&self, n: u64, proofs: u16) -> SignedTransaction {
        let sender = &self.senders[n as usize % self.senders.len()];
        let proof = |at: u16| {
            let bytes = [n.to_le_bytes().as_slice(), &at.to_le_bytes()].concat();
            let root = Hash(*cairn_types::Context::BatchRoot.hash(&bytes).as_bytes());
            Proof::batch(TreeKind::CairnB3V1, root, 1_024)
        };
        let transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain: self.id(),
            sender: sender.address(),
            nonce: n,
            expires_ms: START_MS + self.genesis.params.replay_window_ms,
            keys: vec![KeyRef::Inline(sender.public().clone())],
            payload: Payload::Proofs(Proofs((0..proofs).map(proof).collect())),
        };
        let signature = sender.sign(&transaction.preimage());
        SignedTransaction::new(transaction, vec![signature])
    }

    /// `count` transactions from number `first` on, their signatures checked.
    ///
    /// # Errors
    /// Never: they are good.
    pub fn checked(
        &self,
        verifier: &Verifier,
        first: u64,
        count: u64,
    ) -> Result<Vec<Verified<AuthenticatedTx>>, TransactionFault> {
        (first..first + count).map(|n| check(verifier, &Arc::new(self.transaction(n)))).collect()
    }

    /// The first vote of validator `index`.
    pub fn vote<P: Phase>(&self, index: u16, view: View, block: BlockId) -> Ballot<P> {
        let index = ValidatorIndex(index);
        let unsigned = Ballot::<P>::new(Epoch::ZERO, view, block, index, cairn_types::Signature::empty());
        let signature = self.keys[usize::from(index.0)].sign(&unsigned.preimage(self.id()));
        Ballot::new(Epoch::ZERO, view, block, index, signature)
    }

    /// The certificate of a quorum of first votes.
    pub fn quorum(&self, view: View, block: BlockId) -> QuorumCert {
        let votes = (0..3).map(|i| (ValidatorIndex(i), self.vote::<First>(i, view, block).signature));
        QuorumCert::new(Epoch::ZERO, view, block, self.set.count(), votes.collect())
    }

    /// A proposal of a block that follows block 0 with these transactions and is not executed.
    ///
    /// # Panics
    /// Never: the genesis has a header.
    pub fn proposal(&self, txs: Vec<Arc<SignedTransaction>>) -> Proposal {
        let leaves: Vec<Hash> = txs.iter().map(|tx| tx.block_leaf()).collect();
        let mut header = self.genesis.header(Hash::default()).expect("a genesis has a header");
        (header.tx_root, header.tx_count) = (tree::tx_root(&leaves), leaves.len() as u32);
        let block = Arc::new(Block::new(header, txs));
        let quorum = self.quorum(View::new(1), block.id());
        let justify = Carried::Inline(BlockCert::Quorum(Arc::new(quorum)));
        let signature = self.vote::<First>(0, View::new(2), BlockId::ZERO).signature;
        Proposal { block, justify, tc: None, signature }
    }

    /// The certificate of a quorum of commit votes.
    pub fn commit(&self, view: View, block: BlockId) -> CommitCert {
        let votes = (0..3).map(|i| (ValidatorIndex(i), self.vote::<Second>(i, view, block).signature));
        CommitCert::new(Epoch::ZERO, view, block, self.set.count(), votes.collect())
    }
}

/// Checks a transaction under its inline keys.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    verifier: &Verifier,
    signed: &Arc<SignedTransaction>,
) -> Result<Verified<AuthenticatedTx>, TransactionFault> {
    let keys = signed.transaction.keys.iter().filter_map(|key| match key {
        KeyRef::Inline(key) => Some(key.clone()),
        KeyRef::Registered(_) => None,
    });
    verifier.transaction(Arc::clone(signed), signed.canonical().len(), keys.collect())
}
