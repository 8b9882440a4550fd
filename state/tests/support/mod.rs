//! A small chain to test with: keys are made up, since nothing here looks at signatures.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::sync::Arc;

use cairn_state::{Frozen, MemoryStorage, RocksStorage, SignatureCheck, State, Storage};
use cairn_types::identity::{IdentityOp, NewKey, Purposes};
use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::*;

pub(crate) const START_MS: u64 = 1_000_000;
pub(crate) const WINDOW_MS: u64 = 10_000;

pub(crate) fn key(n: u64) -> PublicKey {
    let mut bytes = vec![7; Scheme::Dilithium3.public_key_bytes()];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    PublicKey::new(Scheme::Dilithium3, &bytes).unwrap()
}

pub(crate) fn genesis_with(admission: Admission) -> Genesis {
    let mut validators: Vec<Validator> =
        (900..904).map(key).map(|key| Validator { address: key.address(), key, power: 1 }).collect();
    validators.sort_by_key(|validator| validator.address);
    let params = Params { replay_window_ms: WINDOW_MS, ..Params::default() };
    Genesis { version: 1, name: "test".into(), time_ms: START_MS, params, admission, validators }
}

pub(crate) fn genesis() -> Genesis {
    genesis_with(Admission::Open)
}

pub(crate) fn memory() -> Arc<MemoryStorage> {
    Arc::new(MemoryStorage::new())
}

pub(crate) fn open(store: &Arc<MemoryStorage>) -> State {
    State::open(store.clone(), &genesis()).unwrap()
}

/// Runs `body` on both kinds of storage.
pub(crate) fn on_both(body: impl Fn(Arc<dyn Storage>)) {
    body(memory());
    let folder = tempfile::tempdir().unwrap();
    body(Arc::new(RocksStorage::open(folder.path()).unwrap()));
}

pub(crate) fn proof(n: u64) -> Proof {
    Proof {
        kind: if n.is_multiple_of(2) { ProofKind::Batch } else { ProofKind::Work },
        reference: format!("order-{n}"),
        metadata: vec![1, 2, 3],
        ..Proof::batch(TreeKind::CairnB3V1, Context::BatchRoot.hash(&n.to_le_bytes()), 1 + n)
    }
}

pub(crate) fn proofs(list: Vec<Proof>) -> Payload {
    Payload::Proofs(Proofs(list))
}

/// Takes every signature: those of tests are made up.
#[derive(Debug)]
pub(crate) struct AnySignature;

impl SignatureCheck for AnySignature {
    fn commit(&self, _: &ValidatorSet, _: &Arc<CommitCert>) -> Result<(), String> {
        Ok(())
    }

    fn epoch_proof(&self, _: &ValidatorSet, _: &EpochProof) -> Result<(), String> {
        Ok(())
    }
}

/// Every frame of a snapshot at the tip.
pub(crate) fn snapshot_frames(state: &State) -> Vec<Vec<u8>> {
    let frozen = state.freeze().unwrap().expect("the tip has a certificate and ends no epoch");
    assert_eq!(frozen.header().id(), state.tip().id);
    frozen_frames(&frozen)
}

/// Every frame of what was frozen.
pub(crate) fn frozen_frames(frozen: &Frozen<'_>) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let chunks = frozen.write_chunks(&mut |frame| {
        frames.push(frame);
        Ok(())
    });
    let head = encode(&frozen.head(chunks.unwrap()));
    assert_eq!(head.len(), encode(&frozen.head(0)).len(), "room for the head can be left");
    frames.insert(0, head);
    frames
}

/// A transaction of `sender`, signed with these keys.
pub(crate) fn tx(
    chain: ChainId,
    sender: Address,
    keys: Vec<KeyRef>,
    expires_ms: u64,
    payload: Payload,
) -> Transaction {
    Transaction { version: TRANSACTION_VERSION, chain, sender, nonce: 1, expires_ms, keys, payload }
}

pub(crate) fn inline(n: u64, expires_ms: u64, payload: Payload) -> Transaction {
    let key = key(n);
    tx(genesis().chain(), key.address(), vec![KeyRef::Inline(key)], expires_ms, payload)
}

/// Declares `tx` verified against `keys`.
#[expect(clippy::disallowed_methods, reason = "tests have no signatures")]
pub(crate) fn verified(tx: Transaction, keys: Vec<PublicKey>) -> Verified<AuthenticatedTx> {
    // The last key is then the accused's.
    let accused = usize::from(matches!(tx.payload, Payload::Evidence(_)));
    let count = keys.len() - accused;
    let signatures = (0..count).map(|_| Signature::new(&[9; 3_309]).unwrap()).collect();
    let id = tx.id();
    let signed = Arc::new(SignedTransaction::new(tx, signatures));
    let bytes = encode(signed.as_ref()).len();
    Verified::assume(AuthenticatedTx { signed, id, bytes, keys })
}

/// Resolves the keys of `tx` in the committed state, as a node does, and declares it verified.
pub(crate) fn signed_by_state(state: &State, tx: Transaction) -> Verified<AuthenticatedTx> {
    let keys = state.resolve_keys(None, &tx).unwrap();
    verified(tx, keys)
}

/// One proof from an unregistered sender.
pub(crate) fn anchor(sender: u64, n: u64, time_ms: u64) -> Verified<AuthenticatedTx> {
    verified(inline(sender, time_ms + 5_000, proofs(vec![proof(n)])), vec![key(sender)])
}

pub(crate) fn operation(n: u64, op: IdentityOp, time_ms: u64) -> Transaction {
    inline(n, time_ms + 5_000, Payload::Identity(op))
}

/// Adds key `n` with every ordinary purpose.
pub(crate) fn add_key(n: u64) -> IdentityOp {
    IdentityOp::AddKey(NewKey { key: key(n), purposes: Purposes::ORDINARY, expires_ms: None })
}

pub(crate) fn registered(sender: u64, indexes: &[u16], time_ms: u64, payload: Payload) -> Transaction {
    let keys = indexes.iter().copied().map(KeyRef::Registered).collect();
    tx(genesis().chain(), key(sender).address(), keys, time_ms + 5_000, payload)
}

/// The slot above `parent`, in the view after its own plus `skip`.
pub(crate) fn slot_on(parent: &Header, skip: u64) -> Slot {
    Slot {
        epoch: Epoch::ZERO,
        view: View::new(parent.view.get() + 1 + skip),
        height: parent.height.next(),
        parent: parent.id(),
        parent_view: parent.view,
        proposer: ValidatorIndex(0),
    }
}

pub(crate) fn certificate(block: &Block) -> Arc<CommitCert> {
    let header = block.header();
    let signature = Signature::new(&[5; 100]).unwrap();
    let votes = (0..3).map(|index| (ValidatorIndex(index), signature.clone())).collect();
    Arc::new(CommitCert::new(header.epoch, header.view, block.id(), 4, votes))
}

pub(crate) fn certified(block: &Arc<Block>) -> CertifiedBlock {
    CertifiedBlock { block: block.clone(), certificate: certificate(block) }
}

/// Builds a block on the tip with every transaction, and commits it.
pub(crate) fn grow(state: &State, time_ms: u64, txs: Vec<Verified<AuthenticatedTx>>) -> Arc<Block> {
    let built = state.build(slot_on(&state.tip().header, 0), time_ms, txs).unwrap();
    assert_eq!(built.refused, vec![], "every transaction must be valid");
    state.commit(&[certified(&built.block)]).unwrap();
    built.block
}

/// The refusal of the only transaction offered for the next block.
pub(crate) fn refused(state: &State, time_ms: u64, tx: Verified<AuthenticatedTx>) -> cairn_state::TxRefusal {
    let alone = state.dry_run(None, &tx, time_ms).unwrap_err();
    let built = state.build(slot_on(&state.tip().header, 0), time_ms, vec![tx]).unwrap();
    assert_eq!(built.block.transactions().len(), 0);
    let (_, refusal) = built.refused.into_iter().next().expect("a refusal");
    assert_eq!(alone, refusal, "a dry run says what building says");
    refusal
}
