//! Epochs: governance, evidence, the ends of epochs and what is kept of them.

mod support;

use std::sync::Arc;

use cairn_state::{
    GovernanceRefusal, Intake, SignatureCheck, SnapshotChunk, SnapshotFault, SnapshotHandover, State,
    StateError, TxRefusal,
};
use cairn_types::evidence::Pair;
use cairn_types::*;
use support::*;

const LIFE_MS: u64 = 60_000;

/// A validator's transaction, signed with its validator key.
fn by(n: u64, key_of: u64, time_ms: u64, payload: Payload) -> Transaction {
    let keys = vec![KeyRef::Inline(key(key_of))];
    tx(genesis().chain(), key(n).address(), keys, time_ms + 5_000, payload)
}

fn propose(n: u64, changes: &[Change], time_ms: u64) -> Transaction {
    let op = GovernanceOp::Propose { changes: Changes(changes.to_vec()), life_ms: LIFE_MS };
    by(n, n, time_ms, Payload::Governance(op))
}

fn approve(n: u64, motion: TxId, time_ms: u64) -> Transaction {
    by(n, n, time_ms, Payload::Governance(GovernanceOp::Approve(motion)))
}

fn join(n: u64) -> Change {
    Change::Join { key: key(n), power: 2 }
}

fn signed(state: &State, tx: Transaction) -> Verified<AuthenticatedTx> {
    signed_by_state(state, tx)
}

fn cert_of(block: &Block) -> Arc<CommitCert> {
    certificate(block)
}

/// The slot above `parent` in this epoch; the next epoch's first block starts from view 0.
fn slot(state: &State, parent: &Header, view: u64) -> Slot {
    let epoch = state.epoch();
    let parent_view = if parent.epoch == epoch { parent.view } else { View::ZERO };
    let view = View::new(view);
    Slot {
        epoch,
        view,
        height: parent.height.next(),
        parent: parent.id(),
        parent_view,
        proposer: ValidatorIndex(0),
    }
}

/// Proposes `changes` by validator 900 and approves them by 901 and 902, all in one block, which ends the epoch.
fn enact(state: &State, changes: &[Change], time_ms: u64) -> Arc<Block> {
    let motion = propose(900, changes, time_ms);
    let id = motion.id();
    let block = build(state, time_ms, vec![motion, approve(901, id, time_ms), approve(902, id, time_ms)]);
    assert!(block.header().ends_epoch());
    end(state, &block, &[]);
    block
}

fn build(state: &State, time_ms: u64, txs: Vec<Transaction>) -> Arc<Block> {
    let txs = txs.into_iter().map(|tx| signed(state, tx)).collect();
    let tip = state.tip().header;
    let view = if tip.epoch == state.epoch() { tip.view.get() + 1 } else { 1 };
    let built = state.build(slot(state, &tip, view), time_ms, txs).unwrap();
    assert_eq!(built.refused, vec![]);
    built.block
}

fn proof_of(end: &Arc<Block>, carriers: &[Arc<Block>]) -> EpochProof {
    let blocks = std::iter::once(end).chain(carriers);
    let certificate = cert_of(carriers.last().unwrap_or(end));
    EpochProof { headers: blocks.map(|block| block.header().clone()).collect(), certificate }
}

fn end(state: &State, block: &Arc<Block>, carriers: &[Arc<Block>]) {
    let proof = proof_of(block, carriers);
    let certified = CertifiedBlock { block: block.clone(), certificate: proof.certificate.clone() };
    state.end_epoch(&[certified], &proof).unwrap();
}

fn governance(refusal: TxRefusal) -> GovernanceRefusal {
    match refusal {
        TxRefusal::Governance(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[test]
fn three_of_four_approvals_end_the_epoch_and_two_do_not() {
    on_both(|store| {
        let state = State::open(store.clone(), &genesis()).unwrap();
        let time = START_MS + 1_000;
        let motion = propose(900, &[join(950)], time);
        let id = motion.id();
        grow(&state, time, vec![signed(&state, motion)]);
        grow(&state, time + 1, vec![signed(&state, approve(901, id, time + 1))]);
        let open = state.motions().unwrap();
        assert_eq!((open.len(), open[0].id, open[0].power(&state.validators())), (1, id, 2));
        let again = refused(&state, time + 2, signed(&state, approve(901, id, time + 2)));
        let address = key(901).address();
        assert_eq!(governance(again), GovernanceRefusal::AlreadyApproved { address, id });
        let last = build(&state, time + 3, vec![approve(902, id, time + 3)]);
        assert_eq!(state.epoch(), Epoch::ZERO, "only a commit ends the epoch");
        end(&state, &last, &[]);
        assert_eq!((state.epoch(), state.validators().count()), (Epoch::new(1), 5));
        assert_eq!(last.header().next_validators, state.validators().digest());
        assert_eq!(state.motions().unwrap(), vec![]);
        assert_eq!(state.epoch_first(Epoch::new(1)).unwrap(), Some(Height::new(4)));
        // The same after opening anew, and the chain goes on with the new set's digest.
        drop(state);
        let state = State::open(store, &genesis()).unwrap();
        assert_eq!((state.epoch(), state.validators().count()), (Epoch::new(1), 5));
        let begin = state.epoch_begin().unwrap();
        assert_eq!((begin.root.id(), begin.root_is_carried), (last.id(), false));
        let first = build(&state, time + 4, vec![]);
        assert_eq!(first.header().validators, last.header().next_validators);
        assert_eq!((first.header().parent_view, first.header().height.get()), (View::ZERO, 4));
        state.commit(&[certified(&first)]).unwrap();
        assert_eq!(state.validators_of(Epoch::ZERO).unwrap().unwrap().count(), 4);
        assert_eq!(state.epoch_proof(Epoch::ZERO).unwrap(), Some(proof_of(&last, &[])));
        let handovers = state.handovers(Epoch::ZERO, Epoch::new(1), 9).unwrap();
        assert_eq!((handovers.len(), &handovers[0].validators), (1, &encode(state.validators().as_ref())));
    });
}

/// Refuses what one set signs.
struct RefusesEpoch(Epoch);

impl SignatureCheck for RefusesEpoch {
    fn commit(&self, set: &ValidatorSet, certificate: &Arc<CommitCert>) -> Result<(), String> {
        assert_eq!(set.epoch(), certificate.epoch);
        if set.epoch() == self.0 { Err("forged".to_owned()) } else { Ok(()) }
    }

    fn epoch_proof(&self, set: &ValidatorSet, proof: &EpochProof) -> Result<(), String> {
        assert_eq!((set.epoch(), set.digest()), (proof.epoch(), proof.headers[0].validators));
        if set.epoch() == self.0 { Err("forged".to_owned()) } else { Ok(()) }
    }
}

fn take_in(frames: &[Vec<u8>], signatures: impl SignatureCheck + 'static) -> Result<Intake, SnapshotFault> {
    let mut intake = Intake::new(decode(&frames[0]).unwrap(), &genesis(), Arc::new(signatures))?;
    frames[1..].iter().try_for_each(|frame| intake.add(frame))?;
    intake.check_complete()?;
    Ok(intake)
}

/// A state in epoch 2: other parameters in epoch 1, one more validator in epoch 2.
fn in_epoch_two() -> (State, u64) {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let params = Params { transaction_bytes_max: 50_000, ..genesis().params };
    enact(&state, &[Change::Params(params)], time);
    commit(&state, time + 1, 1);
    enact(&state, &[join(950)], time + 2);
    for n in 2..30 {
        commit(&state, time + 500 * n, n);
    }
    (state, time + 15_000)
}

fn commit(state: &State, time_ms: u64, n: u64) -> Arc<Block> {
    let tx = inline(7, time_ms + 5_000, proofs(vec![proof(n)]));
    let block = build(state, time_ms, vec![tx]);
    state.commit(&[certified(&block)]).unwrap();
    block
}

#[test]
fn a_node_goes_on_from_a_snapshot_of_a_later_epoch() {
    let (state, time) = in_epoch_two();
    let frames = snapshot_frames(&state);
    let store = memory();
    State::install(store.as_ref(), &genesis(), take_in(&frames, AnySignature).unwrap()).unwrap();
    for round in 0..2 {
        let restored = open(&store);
        assert_eq!((restored.tip(), restored.epoch()), (state.tip(), Epoch::new(2)));
        assert_eq!((restored.validators(), restored.params()), (state.validators(), state.params()));
        assert_eq!(restored.epoch_begin().unwrap().root, state.epoch_begin().unwrap().root);
        for epoch in (0..3).map(Epoch::new) {
            assert_eq!(restored.validators_of(epoch).unwrap(), state.validators_of(epoch).unwrap());
            assert_eq!(restored.epoch_first(epoch).unwrap(), state.epoch_first(epoch).unwrap());
            assert_eq!(restored.epoch_proof(epoch).unwrap(), state.epoch_proof(epoch).unwrap());
        }
        let all = |state: &State| state.handovers(Epoch::ZERO, Epoch::new(2), 9).unwrap();
        assert_eq!(all(&restored), all(&state));
        assert!(restored.regime_of(Epoch::new(2)).unwrap().is_some());
        let unknown = restored.regime_of(Epoch::new(1)).unwrap_err();
        assert!(matches!(unknown, StateError::Pruned { .. }), "parameters nobody proved: {unknown}");
        let block = commit(&state, time + 100 + round, 90 + round);
        restored.commit(&[certified(&block)]).unwrap();
    }
    let restored = open(&store);
    let motion = propose(900, &[Change::Leave(key(950).address())], time + 200);
    let id = motion.id();
    let votes = [901, 902, 903].map(|n| approve(n, id, time + 200));
    let by_950 = by(950, 950, time + 200, Payload::Governance(GovernanceOp::Approve(id)));
    let block = build(&state, time + 200, [motion].into_iter().chain(votes).chain([by_950]).collect());
    end(&state, &block, &[]);
    end(&restored, &block, &[]);
    assert_eq!((restored.tip(), restored.epoch()), (state.tip(), Epoch::new(3)));
}

#[test]
fn a_snapshot_of_a_later_epoch_is_believed_through_every_hand_over_only() {
    let (state, _) = in_epoch_two();
    let frames = snapshot_frames(&state);
    for epoch in (0..3).map(Epoch::new) {
        let fault = take_in(&frames, RefusesEpoch(epoch)).unwrap_err();
        assert!(fault.to_string().contains("forged"), "epoch {epoch}: {fault}");
    }
    take_in(&frames, RefusesEpoch(Epoch::new(3))).unwrap();
    let SnapshotChunk::Handovers(handovers) = decode(&frames[1]).unwrap() else {
        panic!("hand-overs come first")
    };
    assert_eq!(handovers.len(), 2);
    let with = |change: &dyn Fn(&mut Vec<SnapshotHandover>)| {
        let (mut frames, mut handovers) = (frames.clone(), handovers.clone());
        change(&mut handovers);
        frames[1] = encode(&SnapshotChunk::Handovers(handovers));
        take_in(&frames, AnySignature).unwrap_err()
    };
    assert!(matches!(with(&|it| it.swap(0, 1)), SnapshotFault::Handover { .. }));
    assert!(matches!(with(&|it| drop(it.remove(0))), SnapshotFault::Handover { .. }));
    assert!(matches!(with(&|it| drop(it.pop())), SnapshotFault::HandoversShort { .. }));
    assert!(matches!(with(&|it| it.push(it[1].clone())), SnapshotFault::HandoversOver));
    assert!(matches!(with(&|it| it[0].next = it[1].next.clone()), SnapshotFault::Handover { .. }));
    let mut without = frames.clone();
    without.remove(1);
    assert!(matches!(take_in(&without, AnySignature), Err(SnapshotFault::HandoversShort { .. })));
}

#[test]
fn no_snapshot_is_taken_where_an_epoch_ends() {
    let state = open(&memory());
    enact(&state, &[join(950)], START_MS + 1_000);
    assert!(state.freeze().unwrap().is_none());
}

#[test]
fn carriers_repeat_everything_and_never_enter_the_chain() {
    let (store, other) = (memory(), memory());
    let (state, checker) = (open(&store), open(&other));
    let time = START_MS + 1_000;
    let motion = propose(900, &[join(950)], time);
    let id = motion.id();
    let txs: Vec<_> = [motion, approve(901, id, time), approve(902, id, time)]
        .into_iter()
        .map(|tx| signed(&state, tx))
        .chain([anchor(1, 1, time)])
        .collect();
    let last = state.build(slot_on(&state.tip().header, 0), time, txs.clone()).unwrap().block;
    assert_eq!(last.transactions().len(), 4, "what comes after the end lands with it");
    checker.check(&last, &txs).unwrap();
    // Whatever is offered, a carrier is empty.
    let carrier = state.build(slot_on(last.header(), 0), time + 1, vec![anchor(2, 2, time)]).unwrap();
    assert_eq!((carrier.block.transactions().len(), carrier.refused.len()), (0, 0));
    let carrier = carrier.block;
    assert!(carrier.header().carries(last.header()) && carrier.header().is_carrier());
    checker.check(&carrier, &[]).unwrap();
    let above = state.build(slot_on(carrier.header(), 1), time + 2, vec![]).unwrap().block;
    checker.check(&above, &[]).unwrap();
    let mut wrong = carrier.header().clone();
    wrong.history_root = Hash([1; 32]);
    let wrong = Arc::new(Block::new(wrong, Vec::new()));
    assert!(checker.check(&wrong, &[]).unwrap_err().blames_proposer());
    // Committed without a proof, or with the carrier: refused.
    let alone = checker.commit(&[certified(&last)]).unwrap_err();
    assert_eq!(alone, StateError::EpochProofMissing { block: last.id(), epoch: Epoch::ZERO });
    let proof = proof_of(&last, &[carrier.clone(), above.clone()]);
    let certify = |block: &Arc<Block>| CertifiedBlock { block: block.clone(), certificate: cert_of(&above) };
    let both = checker.end_epoch(&[certify(&last), certify(&carrier)], &proof).unwrap_err();
    assert_eq!(both, StateError::EpochProofMissing { block: last.id(), epoch: Epoch::ZERO });
    let own = checker.end_epoch(&[certified(&last)], &proof).unwrap_err();
    assert_eq!(own, StateError::EpochProofMismatch { block: last.id(), epoch: Epoch::ZERO });
    end(&checker, &last, &[carrier.clone(), above.clone()]);
    assert_eq!((checker.tip().id, checker.overlays()), (last.id(), 0));
    assert!(checker.epoch_begin().unwrap().root_is_carried);
    assert_eq!(checker.carrier(&above.id()).unwrap().map(|block| block.id()), Some(above.id()));
    let first = build(&checker, time + 5, vec![]);
    assert_eq!(first.header().height, last.header().height.next());
    let carried = checker.commit(&[certified(&carrier)]).unwrap_err();
    assert!(matches!(
        carried,
        StateError::NotNext { .. } | StateError::CarrierCommitted { .. } | StateError::ForkedCommit { .. }
    ));
    // By its certificate alone, as in catching up, it executes to the same.
    let late = open(&memory());
    end(&late, &last, &[carrier, above]);
    assert_eq!(late.tip(), checker.tip());
}

#[test]
fn only_validators_govern_and_only_with_their_validator_key() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let resolve = |tx: &Transaction| governance(state.resolve_keys(None, tx).unwrap_err());
    let (stranger, member, epoch) = (key(950).address(), key(900).address(), Epoch::ZERO);
    assert_eq!(
        resolve(&propose(950, &[join(950)], time)),
        GovernanceRefusal::NotValidator { address: stranger, epoch }
    );
    let op = GovernanceOp::Propose { changes: Changes(vec![join(950)]), life_ms: LIFE_MS };
    let foreign = by(900, 901, time, Payload::Governance(op));
    assert_eq!(resolve(&foreign), GovernanceRefusal::NotValidatorKey { address: member, epoch });
    // After a rotation the old key governs no more, and the new one does, under the old address.
    enact(&state, &[Change::Rotate { validator: member, key: key(960) }], time);
    let later = time + 1_000;
    assert!(matches!(resolve(&propose(900, &[join(950)], later)), GovernanceRefusal::NotValidatorKey { .. }));
    let op = GovernanceOp::Propose { changes: Changes(vec![join(950)]), life_ms: LIFE_MS };
    build(&state, later, vec![by(900, 960, later, Payload::Governance(op))]);
}

#[test]
fn motions_are_bounded_expire_and_are_withdrawn_by_their_proposer() {
    let state = open(&memory());
    let mut time = START_MS + 1_000;
    let mut ids = Vec::new();
    for n in 0..4 {
        let motion = propose(900, &[join(950 + n)], time);
        ids.push(motion.id());
        grow(&state, time, vec![signed(&state, motion)]);
        time += 1;
    }
    let fifth = refused(&state, time, signed(&state, propose(900, &[join(970)], time)));
    let address = key(900).address();
    assert_eq!(governance(fifth), GovernanceRefusal::TooManyOfOne { address, open: 4 });
    let withdraw = |n| by(n, n, time, Payload::Governance(GovernanceOp::Withdraw(ids[0])));
    let foreign = refused(&state, time, signed(&state, withdraw(901)));
    assert_eq!(governance(foreign), GovernanceRefusal::NotProposer { id: ids[0], proposer: address });
    grow(&state, time, vec![signed(&state, withdraw(900))]);
    assert_eq!(state.motions().unwrap().len(), 3);
    let gone = refused(&state, time + 1, signed(&state, approve(901, ids[0], time + 1)));
    assert_eq!(governance(gone), GovernanceRefusal::UnknownMotion { id: ids[0] });
    let late = time + LIFE_MS;
    let expired = refused(&state, late, signed(&state, approve(901, ids[1], late)));
    assert_eq!(governance(expired), GovernanceRefusal::UnknownMotion { id: ids[1] });
    let useless =
        refused(&state, late, signed(&state, propose(901, &[Change::Leave(key(950).address())], late)));
    let address = key(950).address();
    assert_eq!(governance(useless), GovernanceRefusal::Change(ChangeFault::NotValidator { address }));
}

#[test]
fn what_became_impossible_is_not_enacted_and_a_second_end_waits_for_the_next_epoch() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let (leave, again) = (
        propose(900, &[Change::Leave(key(903).address())], time),
        propose(901, &[Change::Leave(key(903).address())], time),
    );
    let (first, second) = (leave.id(), again.id());
    grow(&state, time, vec![signed(&state, leave), signed(&state, again)]);
    let at = time + 1;
    let txs = [approve(901, first, at), approve(902, first, at), approve(900, second, at)];
    let txs: Vec<_> = txs.into_iter().map(|tx| signed(&state, tx)).collect();
    let built = state.build(slot_on(&state.tip().header, 0), at, txs).unwrap();
    let (_, refusal) = &built.refused[0];
    assert_eq!(governance(refusal.clone()), GovernanceRefusal::EpochEnds);
    assert!(refusal.may_pass_later());
    end(&state, &built.block, &[]);
    assert_eq!(state.validators().count(), 3);
    let at = at + 1;
    build(&state, at, vec![approve(900, second, at)]); // two of three are no quorum
    let mut txs = vec![signed(&state, approve(900, second, at))];
    txs.push(signed(&state, approve(902, second, at)));
    let tip = state.tip().header;
    let built = state.build(slot(&state, &tip, 2), at, txs).unwrap();
    let (_, refusal) = &built.refused[0];
    let address = key(903).address();
    assert_eq!(governance(refusal.clone()), GovernanceRefusal::Change(ChangeFault::NotValidator { address }));
}

#[test]
fn what_an_end_leaves_without_a_purpose_is_told_apart_from_what_may_still_land() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let motion = propose(900, &[join(950)], time);
    let id = motion.id();
    grow(&state, time, vec![signed(&state, motion)]);
    let at = time + 1;
    let late = signed(&state, approve(903, id, at));
    let other = signed(&state, propose(901, &[join(951)], at));
    let lapsed = |waiting: &[&Verified<AuthenticatedTx>]| {
        let waiting = waiting.iter().map(|tx| (*tx).clone());
        state
            .lapsed(waiting, at)
            .into_iter()
            .map(|(id, refusal)| (id, governance(refusal)))
            .collect::<Vec<_>>()
    };
    assert_eq!(lapsed(&[&late, &other]), vec![], "all of it may land");
    let last = build(&state, at, vec![approve(901, id, at), approve(902, id, at)]);
    assert_eq!(lapsed(&[&late, &other]), vec![], "an end that is not final takes nothing away");
    end(&state, &last, &[]);
    let gone = vec![(late.id, GovernanceRefusal::UnknownMotion { id })];
    assert_eq!(lapsed(&[&late, &other]), gone);
    assert_eq!(lapsed(&[&other, &late]), vec![], "a block that holds the first shows the rest");
}

fn accusation(validator: u16, epoch: u64) -> Evidence {
    let said = |n: u8| (BlockId::new(Hash([n; 32])), Signature::new(&[n; 100]).unwrap());
    let conflict = Conflict::Votes(Pair::new(said(1), said(2)).unwrap());
    Evidence { epoch: Epoch::new(epoch), view: View::new(5), validator: ValidatorIndex(validator), conflict }
}

#[test]
fn evidence_from_anyone_removes_the_culprit_and_names_its_key() {
    let state = open(&memory());
    let time = START_MS + 1_000;
    let culprit = state.validators().validators()[2].clone();
    let tx = inline(1, time + 5_000, Payload::Evidence(accusation(2, 0)));
    let keys = state.resolve_keys(None, &tx).unwrap();
    assert_eq!(keys, vec![key(1), culprit.key.clone()], "the accused's key comes last");
    let block = build(&state, time, vec![tx]);
    end(&state, &block, &[]);
    assert_eq!(state.validators().count(), 3);
    assert_eq!(state.validators().index_of(&culprit.address), None);
    // The offence of the epoch before still counts, against those who are left; older ones do not.
    let at = time + 1;
    let gone = inline(1, at + 5_000, Payload::Evidence(accusation(2, 0)));
    let gone = refused_alone(&state, at, gone);
    assert_eq!(gone, GovernanceRefusal::Change(ChangeFault::NotValidator { address: culprit.address }));
    let unknown = inline(1, at + 5_000, Payload::Evidence(accusation(3, 1)));
    let unknown = governance(state.resolve_keys(None, &unknown).unwrap_err());
    assert_eq!(
        unknown,
        GovernanceRefusal::UnknownAccused { got: ValidatorIndex(3), epoch: Epoch::new(1), count: 3 }
    );
    let block = build(&state, at, vec![inline(1, at + 5_000, Payload::Evidence(accusation(1, 0)))]);
    end(&state, &block, &[]);
    assert_eq!((state.epoch(), state.validators().count()), (Epoch::new(2), 2));
    let old = inline(1, at + 5_000, Payload::Evidence(accusation(0, 0)));
    let old = governance(state.resolve_keys(None, &old).unwrap_err());
    assert_eq!(old, GovernanceRefusal::EvidenceEpoch { got: Epoch::ZERO, current: Epoch::new(2) });
}

fn refused_alone(state: &State, time_ms: u64, tx: Transaction) -> GovernanceRefusal {
    governance(state.dry_run(None, &signed(state, tx), time_ms).unwrap_err())
}

#[test]
fn parameters_and_protocol_change_with_the_epoch_and_stay_readable() {
    let store = memory();
    let state = open(&store);
    let time = START_MS + 1_000;
    let old = state.params();
    let wanted = Params { interval_idle_ms: 30_000, ..old };
    enact(&state, &[Change::Params(wanted), Change::Protocol(2)], time);
    assert_eq!((state.params(), state.protocol()), (wanted, 2));
    assert_eq!(state.regime_of(Epoch::ZERO).unwrap().unwrap().params, old);
    drop(state);
    let state = open(&store);
    assert_eq!((state.params(), state.protocol()), (wanted, 2));
    let first = build(&state, time + 10, vec![]);
    assert_eq!(first.header().version, 2, "headers say the protocol version of their epoch");
}

#[test]
fn the_last_validator_is_never_removed() {
    let state = open(&memory());
    let others = [901, 902, 903].map(|n| Change::Leave(key(n).address()));
    enact(&state, &others, START_MS + 1_000);
    let at = START_MS + 2_000;
    let tx = inline(1, at + 5_000, Payload::Evidence(accusation(0, 1)));
    let refusal = refused_alone(&state, at, tx);
    assert!(refusal.to_string().contains("0 validators; expected 1"), "{refusal}");
    // Alone, it proposes and enacts with one transaction.
    let block = build(&state, at, vec![propose(900, &[join(901)], at)]);
    assert!(block.header().ends_epoch());
}
