//! Four validators with real keys, and one valid message of every kind.

use std::sync::Arc;

use cairn_crypto::KeyPair;
use cairn_types::certificate::{BallotCert, First, Phase, Second};
use cairn_types::evidence::Pair;
use cairn_types::log::TreeHash;
use cairn_types::message::Ballot;
use cairn_types::node_record::{NodeRecord, SignedNodeRecord};
use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::{
    Admission, Block, BlockCert, BlockId, Carried, ChainId, CommitCert, Conflict, Epoch, EpochProof,
    Evidence, Genesis, Hash, Header, KeyRef, Message, Params, Payload, Proof, Proposal, Scheme, Signature,
    SignedTransaction, Timeout, TimeoutCert, TimeoutEntry, Transaction, TreeKind, Validator, ValidatorIndex,
    ValidatorSet, View, tree,
};

pub(crate) const CHAIN: ChainId = ChainId::new(Hash([7; 32]));
/// The block of view 0.
pub(crate) const ROOT: BlockId = BlockId::new(Hash([3; 32]));
/// The verifier's clock, Unix ms.
pub(crate) const NOW_MS: u64 = 1_000_000;
const EPOCH: Epoch = Epoch::ZERO;

/// Four validators of equal power, keys in set order.
pub(crate) struct Network {
    pub(crate) set: ValidatorSet,
    keys: Vec<KeyPair>,
}

pub(crate) fn block_id(number: u8) -> BlockId {
    BlockId::new(Hash([number; 32]))
}

impl Network {
    pub(crate) fn new(scheme: Scheme) -> Self {
        let mut keys: Vec<_> = (0..4).map(|_| KeyPair::generate(scheme)).collect();
        keys.sort_by_key(KeyPair::address);
        let validator =
            |key: &KeyPair| Validator { address: key.address(), key: key.public().clone(), power: 1 };
        let set = ValidatorSet::new(EPOCH, keys.iter().map(validator).collect()).expect("a set");
        Self { set, keys }
    }

    fn sign(&self, validator: ValidatorIndex, preimage: &[u8]) -> Signature {
        self.keys[usize::from(validator.0)].sign(preimage)
    }

    pub(crate) fn ballot<P: Phase>(&self, view: u64, block: BlockId, validator: u16) -> Ballot<P> {
        let validator = ValidatorIndex(validator);
        let mut vote = Ballot::<P>::new(EPOCH, View::new(view), block, validator, Signature::empty());
        vote.signature = self.sign(validator, &vote.preimage(CHAIN));
        vote
    }

    fn cert<P: Phase>(&self, view: u64, block: BlockId, signers: [u16; 3]) -> BallotCert<P> {
        let vote = |at: u16| (ValidatorIndex(at), self.ballot::<P>(view, block, at).signature);
        BallotCert::new(EPOCH, View::new(view), block, self.set.count(), signers.map(vote).to_vec())
    }

    pub(crate) fn quorum(&self, view: u64, block: BlockId) -> BlockCert {
        BlockCert::Quorum(Arc::new(self.cert::<First>(view, block, [0, 1, 3])))
    }

    pub(crate) fn commit(&self, view: u64, block: BlockId) -> Arc<CommitCert> {
        Arc::new(self.cert::<Second>(view, block, [0, 2, 3]))
    }

    /// Two of the three signers name `high_qc`, one an older certificate.
    pub(crate) fn timeout_cert(&self, view: u64, high_qc: &BlockCert) -> Arc<TimeoutCert> {
        let high_qc = high_qc.clone();
        let mut cert = TimeoutCert { epoch: EPOCH, view: View::new(view), entries: Vec::new(), high_qc };
        for (at, high_qc_view) in [(0, cert.high_qc.view()), (1, View::new(1)), (2, cert.high_qc.view())] {
            let validator = ValidatorIndex(at);
            let mut entry = TimeoutEntry { validator, high_qc_view, signature: Signature::empty() };
            entry.signature = self.sign(validator, &cert.preimage(CHAIN, &entry));
            cert.entries.push(entry);
        }
        Arc::new(cert)
    }

    pub(crate) fn timeout(
        &self,
        view: u64,
        validator: u16,
        high_qc: &BlockCert,
        tc: &Arc<TimeoutCert>,
    ) -> Timeout {
        let mut timeout = Timeout {
            epoch: EPOCH,
            view: View::new(view),
            high_qc_view: high_qc.view(),
            high_qc: Carried::Inline(high_qc.clone()),
            tc: Some(Carried::Inline(Arc::clone(tc))),
            validator: ValidatorIndex(validator),
            signature: Signature::empty(),
        };
        timeout.signature = self.sign(timeout.validator, &timeout.preimage(CHAIN));
        timeout
    }

    /// A block of two signed transactions on `justify`.
    pub(crate) fn proposal(&self, view: u64, justify: &BlockCert, tc: &Arc<TimeoutCert>) -> Proposal {
        let genesis = Genesis {
            version: 1,
            name: "mutations".into(),
            time_ms: 1,
            params: Params::default(),
            admission: Admission::Open,
            validators: self.set.validators().to_vec(),
        };
        let transactions: Vec<_> = (0..2).map(|nonce| self.transaction(nonce)).collect();
        let leaves: Vec<Hash> = transactions.iter().map(|tx| tx.block_leaf()).collect();
        let mut header = genesis.header(Hash([1; 32])).expect("a set");
        header.chain = CHAIN;
        header.view = View::new(view);
        header.proposer = self.set.leader(header.view);
        header.parent = justify.block();
        header.parent_view = justify.view();
        header.tx_root = tree::tx_root(&leaves);
        header.tx_count = 2;
        let proposer = header.proposer;
        let mut proposal = Proposal {
            block: Arc::new(Block::new(header, transactions)),
            justify: Carried::Inline(justify.clone()),
            tc: Some(Carried::Inline(Arc::clone(tc))),
            signature: Signature::empty(),
        };
        proposal.signature = self.sign(proposer, &proposal.preimage(CHAIN));
        proposal
    }

    fn transaction(&self, nonce: u64) -> Arc<SignedTransaction> {
        let key = &self.keys[0];
        let proof = Proof {
            reference: "invoice 7".into(),
            metadata: vec![1, 2, 3],
            ..Proof::batch(TreeKind::CairnB3V1, Hash([9; 32]), 5)
        };
        let transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain: CHAIN,
            sender: key.address(),
            nonce,
            expires_ms: NOW_MS,
            keys: vec![KeyRef::Inline(key.public().clone())],
            payload: Payload::Proofs(Proofs(vec![proof])),
        };
        let signature = key.sign(&transaction.preimage());
        Arc::new(SignedTransaction::new(transaction, vec![signature]))
    }

    /// An epoch's last block and one carrier, committed by three of four.
    pub(crate) fn epoch_proof(&self, view: u64) -> Arc<EpochProof> {
        let last = self.proposal(
            view,
            &self.quorum(4, block_id(1)),
            &self.timeout_cert(4, &self.quorum(3, block_id(1))),
        );
        let mut last = last.block.header().clone();
        last.next_validators = Hash([8; 32]);
        let carrier = Header {
            view: View::new(view + 1),
            height: last.height.next(),
            parent: last.id(),
            parent_view: last.view,
            time_ms: last.time_ms + 1,
            tx_root: TreeHash::Transactions.empty(),
            tx_count: 0,
            ..last.clone()
        };
        let certificate = self.commit(view + 1, carrier.id());
        Arc::new(EpochProof { headers: vec![last, carrier], certificate })
    }

    /// Validator 0 accuses validator 2 of voting for both blocks.
    pub(crate) fn evidence(&self, blocks: [u8; 2]) -> Arc<SignedTransaction> {
        let [one, other] = blocks.map(|number| self.ballot::<First>(5, block_id(number), 2));
        let pair = Pair::new((one.block, one.signature), (other.block, other.signature)).expect("two blocks");
        let validator = ValidatorIndex(2);
        let evidence =
            Evidence { epoch: EPOCH, view: View::new(5), validator, conflict: Conflict::Votes(pair) };
        let key = &self.keys[0];
        let transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain: CHAIN,
            sender: key.address(),
            nonce: 3,
            expires_ms: NOW_MS,
            keys: vec![KeyRef::Inline(key.public().clone())],
            payload: Payload::Evidence(evidence),
        };
        let signature = key.sign(&transaction.preimage());
        Arc::new(SignedTransaction::new(transaction, vec![signature]))
    }

    pub(crate) fn node_record(&self, validator: usize, seq: u64) -> SignedNodeRecord {
        let record = NodeRecord {
            chain: CHAIN,
            address: self.keys[validator].address(),
            mesh_peer: vec![1; 38],
            public_peer: vec![2; 38],
            mesh_addresses: vec!["/ip4/127.0.0.1/tcp/1".into(), "/ip4/127.0.0.1/tcp/3".into()],
            public_addresses: vec!["/ip4/127.0.0.1/tcp/2".into()],
            seq,
            expires_ms: NOW_MS + 1_000 + seq,
        };
        let signature = self.keys[validator].sign(&record.preimage());
        SignedNodeRecord { record, signature }
    }
}

/// The signatures and public keys inside a message: sampled, where everything else is changed bit by bit.
pub(crate) fn opaque_parts(message: &Message) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut push = |signature: &Signature| parts.push(signature.as_bytes().to_vec());
    match message {
        Message::Proposal(m) => push(&m.signature),
        Message::Vote(m) => push(&m.signature),
        Message::CommitVote(m) => push(&m.signature),
        Message::Timeout(m) => push(&m.signature),
        Message::EpochProof(m) => m.certificate.signatures.iter().for_each(&mut push),
        _ => {}
    }
    for certificate in cairn_crypto::Certificate::of(message) {
        match certificate {
            cairn_crypto::Certificate::Block(BlockCert::Root { .. }) => {}
            cairn_crypto::Certificate::Block(BlockCert::Quorum(it)) => {
                it.signatures.iter().for_each(&mut push)
            }
            cairn_crypto::Certificate::Block(BlockCert::Commit(it))
            | cairn_crypto::Certificate::Commit(it) => {
                it.signatures.iter().for_each(&mut push);
            }
            cairn_crypto::Certificate::Timeout(it) => {
                it.entries.iter().for_each(|entry| push(&entry.signature))
            }
        }
    }
    if let Message::Proposal(proposal) = message {
        for signed in proposal.block.transactions() {
            parts.extend(signed.signatures.iter().map(|signature| signature.as_bytes().to_vec()));
            parts.extend(signed.transaction.keys.iter().filter_map(|key| match key {
                KeyRef::Inline(key) => Some(key.as_bytes().to_vec()),
                KeyRef::Registered(_) => None,
            }));
        }
    }
    parts
}
