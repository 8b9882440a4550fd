//! A network's fixed parts: validators, stand-in signatures, and certificates made to order.
//!
//! A signature here is a hash of signer and preimage: as bound to its message as a real one, and quick. Only
//! the code in this folder makes one, and attackers make them for themselves alone.

use std::sync::Arc;

use cairn_consensus::{Config, Outgoing};
use cairn_types::certificate::{BallotCert, CertFault, Phase};
use cairn_types::log::TreeHash;
use cairn_types::message::{Ballot, Carried};
use cairn_types::signing::timeout_preimage;
use cairn_types::{
    Address, Block, BlockCert, BlockId, ChainId, CommitCert, Context, Epoch, EpochProof, Genesis, Hash,
    Header, Message, Params, Payload, Proof, Proposal, PublicKey, QuorumCert, Scheme, Signature,
    SignedTransaction, Slot, Timeout, TimeoutCert, TimeoutEntry, Transaction, TreeKind, Validator,
    ValidatorIndex, ValidatorSet, View,
    genesis::{Admission, GENESIS_VERSION},
    transaction::{Proofs, TRANSACTION_VERSION},
    tree,
};

/// The clock of every simulation starts here, Unix ms.
pub(crate) const START_MS: u64 = 1_000_000;

/// Transactions of this nonce and above end their epoch.
pub(crate) const TURNING_NONCE: u64 = 1 << 32;

/// Who signs which epoch: `seats` of `keys` validators, moving on by one with every epoch when it turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) keys: usize,
    pub(crate) seats: usize,
    pub(crate) turns: bool,
}

impl Schedule {
    fn set_of(self, epoch: Epoch) -> ValidatorSet {
        let first = if self.turns { epoch.get() as usize } else { 0 };
        let mut validators: Vec<Validator> = (0..self.seats)
            .map(|seat| {
                let mut key = vec![0; Scheme::Dilithium3.public_key_bytes()];
                let at = (first + seat) % self.keys;
                key[..8].copy_from_slice(&(at as u64).to_le_bytes());
                let key = PublicKey::new(Scheme::Dilithium3, &key).expect("the scheme's length");
                // Who stays gets other weights too.
                let power = if self.turns { 2 + ((first + at) % 2) as u64 } else { 1 };
                Validator { address: key.address(), key, power }
            })
            .collect();
        validators.sort_by_key(|validator| validator.address);
        ValidatorSet::new(epoch, validators).expect("a set")
    }
}

/// One epoch's fixed parts.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) chain: ChainId,
    pub(crate) set: Arc<ValidatorSet>,
    pub(crate) digest: Hash,
    pub(crate) schedule: Schedule,
    pub(crate) params: Params,
    pub(crate) root: Header,
    /// The root became final through a carrier.
    pub(crate) carried: bool,
    /// Certificates of a third of the power are taken for good, on purpose.
    pub(crate) weak: bool,
}

impl World {
    /// `n` validators of equal power.
    pub(crate) fn new(n: usize, params: Params) -> Self {
        Self::scheduled(Schedule { keys: n, seats: n, turns: false }, params)
    }

    /// Epoch 0 of this schedule.
    pub(crate) fn scheduled(schedule: Schedule, params: Params) -> Self {
        let validators = schedule.set_of(Epoch::ZERO).validators().to_vec();
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "simulation".into(),
            time_ms: START_MS - 1,
            params,
            admission: Admission::Open,
            validators,
        };
        let root = genesis.header(Context::State.hash(b"genesis")).expect("a set");
        let set = Arc::new(genesis.validator_set().expect("a set"));
        let digest = set.digest();
        Self { chain: genesis.chain(), set, digest, schedule, params, root, carried: false, weak: false }
    }

    /// The epoch that this proof begins.
    pub(crate) fn turned(&self, proof: &EpochProof) -> Self {
        let root = proof.last_block().expect("a header").clone();
        let set = Arc::new(self.schedule.set_of(root.epoch.next()));
        let digest = set.digest();
        assert_eq!(root.next_validators, digest, "the block names another set than the schedule's");
        Self { set, digest, root, carried: proof.is_carried(), ..self.clone() }
    }

    /// Every validator of the schedule, in no order.
    pub(crate) fn everyone(&self) -> Vec<Address> {
        let everyone = Schedule { seats: self.schedule.keys, ..self.schedule };
        everyone.set_of(Epoch::ZERO).validators().iter().map(|it| it.address).collect()
    }

    pub(crate) fn config(&self, me: Option<ValidatorIndex>) -> Config {
        Config {
            chain: self.chain,
            set: self.set.clone(),
            me,
            params: self.params,
            root: self.root.clone(),
            root_is_carried: self.carried,
        }
    }

    pub(crate) fn sign(&self, signer: ValidatorIndex, preimage: &[u8]) -> Signature {
        let hash = Context::Witness.hash_parts(&[&signer.0.to_le_bytes(), preimage]);
        Signature::new(&hash.as_bytes()[..8]).expect("short enough")
    }

    fn check(&self, signer: ValidatorIndex, preimage: &[u8], signature: &Signature) -> bool {
        self.set.get(signer).is_some() && self.sign(signer, preimage) == *signature
    }

    pub(crate) fn seal(&self, me: ValidatorIndex, outgoing: Outgoing) -> Message {
        outgoing.seal(self.chain, me, |preimage| self.sign(me, preimage))
    }

    /// What the verifier does: every signature of a message, those of its certificates included.
    pub(crate) fn verify(&self, message: &Message) -> bool {
        match message {
            Message::Proposal(p) => {
                p.justify.inline().is_some_and(|cert| self.verify_block_cert(cert))
                    && p.tc.iter().all(|tc| tc.inline().is_some_and(|tc| self.verify_tc(tc)))
                    && self.check(p.block.header().proposer, &p.preimage(self.chain), &p.signature)
            }
            Message::Vote(v) => self.check(v.validator, &v.preimage(self.chain), &v.signature),
            Message::CommitVote(v) => self.check(v.validator, &v.preimage(self.chain), &v.signature),
            Message::Timeout(t) => {
                t.high_qc.inline().is_some_and(|cert| self.verify_block_cert(cert))
                    && t.tc.iter().all(|tc| tc.inline().is_some_and(|tc| self.verify_tc(tc)))
                    && self.check(t.validator, &t.preimage(self.chain), &t.signature)
            }
            Message::Certificate(cert) => self.verify_block_cert(cert),
            Message::TimeoutCert(tc) => self.verify_tc(tc),
            Message::CommitCert(cert) => self.verify_ballots(cert.as_ref()),
            Message::Status(_) => true,
            Message::EpochProof(proof) => {
                proof.check_shape(self.chain, &self.set).is_ok()
                    && self.verify_ballots(proof.certificate.as_ref())
            }
        }
    }

    fn verify_block_cert(&self, cert: &BlockCert) -> bool {
        match cert {
            BlockCert::Root { epoch, block } => *epoch == self.set.epoch() && *block == self.root.id(),
            BlockCert::Quorum(cert) => self.verify_ballots(cert.as_ref()),
            BlockCert::Commit(cert) => self.verify_ballots(cert.as_ref()),
        }
    }

    fn verify_ballots<P: Phase>(&self, cert: &BallotCert<P>) -> bool {
        let preimage = cert.preimage(self.chain);
        let whole = match cert.check_shape(&self.set) {
            Err(CertFault::NoQuorum { got, .. }) => self.weak && self.set.is_weak(got),
            shape => shape.is_ok(),
        };
        whole
            && cert.signer_indexes().zip(&cert.signatures).all(|(signer, s)| self.check(signer, &preimage, s))
    }

    fn verify_tc(&self, tc: &TimeoutCert) -> bool {
        tc.check_shape(&self.set).is_ok()
            && self.verify_block_cert(&tc.high_qc)
            && tc.entries.iter().all(|e| self.check(e.validator, &tc.preimage(self.chain, e), &e.signature))
    }

    pub(crate) fn all(&self) -> Vec<ValidatorIndex> {
        self.set.indexed().map(|(index, _)| index).collect()
    }

    pub(crate) fn ballot<P: Phase>(&self, signer: ValidatorIndex, view: View, block: BlockId) -> Ballot<P> {
        let epoch = self.set.epoch();
        let empty = Signature::new(&[]).expect("short enough");
        let preimage = Ballot::<P>::new(epoch, view, block, signer, empty).preimage(self.chain);
        Ballot::new(epoch, view, block, signer, self.sign(signer, &preimage))
    }

    pub(crate) fn cert<P: Phase>(
        &self,
        signers: &[ValidatorIndex],
        view: View,
        block: BlockId,
    ) -> BallotCert<P> {
        let votes = signers.iter().map(|s| (*s, self.ballot::<P>(*s, view, block).signature)).collect();
        BallotCert::new(self.set.epoch(), view, block, self.set.count(), votes)
    }

    pub(crate) fn qc(&self, block: &Block) -> BlockCert {
        let signers = &self.all()[1..];
        let cert: QuorumCert = self.cert(signers, block.header().view, block.id());
        BlockCert::Quorum(Arc::new(cert))
    }

    pub(crate) fn commit_cert(&self, block: &Block) -> Arc<CommitCert> {
        Arc::new(self.cert(&self.all()[1..], block.header().view, block.id()))
    }

    pub(crate) fn root_cert(&self) -> BlockCert {
        BlockCert::Root { epoch: self.set.epoch(), block: self.root.id() }
    }

    pub(crate) fn timeout(
        &self,
        signer: ValidatorIndex,
        view: View,
        signed: View,
        high_qc: BlockCert,
        tc: Option<Arc<TimeoutCert>>,
    ) -> Timeout {
        let epoch = self.set.epoch();
        let signature = self.sign(signer, &timeout_preimage(self.chain, epoch, view, signed));
        let (high_qc, tc) = (Carried::Inline(high_qc), tc.map(Carried::Inline));
        Timeout { epoch, view, high_qc_view: signed, high_qc, tc, validator: signer, signature }
    }

    /// A timeout certificate of all validators but the first, all of whom had `high_qc`.
    pub(crate) fn tc(&self, view: View, high_qc: BlockCert) -> Arc<TimeoutCert> {
        let epoch = self.set.epoch();
        let preimage = timeout_preimage(self.chain, epoch, view, high_qc.view());
        let entry = |validator: &ValidatorIndex| TimeoutEntry {
            validator: *validator,
            high_qc_view: high_qc.view(),
            signature: self.sign(*validator, &preimage),
        };
        let entries = self.all()[1..].iter().map(entry).collect();
        Arc::new(TimeoutCert { epoch, view, entries, high_qc })
    }

    /// A block on `parent`, executed as the simulated executor does.
    pub(crate) fn block(
        &self,
        parent: &Header,
        slot: Slot,
        time_ms: u64,
        transactions: Vec<Arc<SignedTransaction>>,
    ) -> Arc<Block> {
        if parent.ends_epoch() && parent.epoch == slot.epoch {
            return carrier(parent, slot, time_ms);
        }
        let ends = transactions.iter().any(|tx| tx.transaction.nonce >= TURNING_NONCE);
        let next = self.set.epoch().next();
        let next_validators = if ends { self.schedule.set_of(next).digest() } else { self.digest };
        let leaves: Vec<Hash> = transactions.iter().map(|tx| tx.block_leaf()).collect();
        let tx_root = tree::tx_root(&leaves);
        let header = Header {
            epoch: slot.epoch,
            view: slot.view,
            height: slot.height,
            parent: slot.parent,
            parent_view: slot.parent_view,
            time_ms,
            proposer: slot.proposer,
            tx_root,
            tx_count: transactions.len() as u32,
            state_root: next_root(parent.state_root, tx_root),
            validators: self.digest,
            next_validators,
            ..self.root.clone()
        };
        Arc::new(Block::new(header, transactions))
    }

    /// A block of `view` on `parent`, whose certificate is of `parent_view`, one ms later.
    pub(crate) fn child(&self, parent: &Header, parent_view: u64, view: u64, txs: &[u64]) -> Arc<Block> {
        let view = View::new(view);
        let slot = Slot {
            epoch: self.set.epoch(),
            view,
            height: parent.height.next(),
            parent: parent.id(),
            parent_view: View::new(parent_view),
            proposer: self.set.leader(view),
        };
        self.block(parent, slot, parent.time_ms + 1, txs.iter().map(|n| self.transaction(*n)).collect())
    }

    pub(crate) fn proposal(
        &self,
        block: &Arc<Block>,
        justify: BlockCert,
        tc: Option<Arc<TimeoutCert>>,
    ) -> Proposal {
        let outgoing = Outgoing::Proposal { block: block.clone(), justify, tc };
        match self.seal(block.header().proposer, outgoing) {
            Message::Proposal(proposal) => proposal,
            other => unreachable!("{other:?}"),
        }
    }

    pub(crate) fn transaction(&self, nonce: u64) -> Arc<SignedTransaction> {
        let proof = Proof::batch(TreeKind::CairnB3V1, Context::BatchRoot.hash(&nonce.to_le_bytes()), 1);
        let transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain: self.chain,
            sender: self.set.validators()[0].address,
            nonce,
            expires_ms: u64::MAX,
            keys: Vec::new(),
            payload: Payload::Proofs(Proofs(vec![proof])),
        };
        Arc::new(SignedTransaction::new(transaction, Vec::new()))
    }
}

/// A block that only carries the end of its epoch: everything but its place is its parent's.
fn carrier(parent: &Header, slot: Slot, time_ms: u64) -> Arc<Block> {
    let header = Header {
        view: slot.view,
        height: slot.height,
        parent: slot.parent,
        parent_view: slot.parent_view,
        time_ms,
        proposer: slot.proposer,
        tx_root: TreeHash::Transactions.empty(),
        tx_count: 0,
        ..parent.clone()
    };
    Arc::new(Block::new(header, Vec::new()))
}

/// The simulated state machine: the root says which transactions came in which order.
pub(crate) fn next_root(parent: Hash, tx_root: Hash) -> Hash {
    if tx_root == TreeHash::Transactions.empty() {
        return parent;
    }
    Context::State.hash_parts(&[parent.as_bytes(), tx_root.as_bytes()])
}
