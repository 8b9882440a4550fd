//! Purposes, expiry, recovery, deactivation; delegations and agents; shared control; time travel.

mod support;

use cairn_state::{Batch, Durability, State, Storage as _, Table, TxRefusal};
use cairn_types::delegation::{DelegationOp, Kinds, Lack, Mandate, Rate, Scope, Side, Terms};
use cairn_types::event::IdentityStep;
use cairn_types::identity::{IdentityOp, NewKey, Purpose, Purposes, RecoveredKeys};
use cairn_types::multisig::{MultisigOp, Outcome, PROPOSALS_OPEN_MAX, Proposed};
use cairn_types::record::Naming;
use cairn_types::transaction::Proofs;
use cairn_types::*;
use support::*;

fn who(n: u64) -> Address {
    key(n).address()
}

fn next_time(state: &State) -> u64 {
    state.tip().header.time_ms + 1_000
}

/// A transaction of identity `n`, signed by these of its keys, for the next block.
fn by(state: &State, n: u64, keys: &[u16], payload: Payload) -> Transaction {
    let mut tx = registered(n, keys, next_time(state), payload);
    // Equal steps at different heights are different transactions.
    tx.nonce = state.tip().header.height.get();
    tx
}

/// Sends it alone in a block; gives its id, or why it was refused.
fn send(state: &State, n: u64, keys: &[u16], payload: Payload) -> Result<TxId, TxRefusal> {
    let tx = by(state, n, keys, payload);
    let resolved = state.resolve_keys(None, &tx)?;
    let (id, time) = (tx.id(), next_time(state));
    let tx = verified(tx, resolved);
    if let Err(why) = state.dry_run(None, &tx, time) {
        assert_eq!(refused(state, time, tx), why);
        return Err(why);
    }
    grow(state, time, vec![tx]);
    Ok(id)
}

fn register(state: &State, n: u64) {
    let time = next_time(state);
    grow(state, time, vec![verified(operation(n, IdentityOp::Register, time), vec![key(n)])]);
}

fn with_registered(identities: &[u64]) -> State {
    let state = open(&memory());
    identities.iter().for_each(|n| register(&state, *n));
    state
}

#[test]
fn a_key_stored_under_another_address_is_damage_unless_the_right_one_is_known() {
    for known in [false, true] {
        let store = memory();
        let state = open(&store);
        register(&state, 1);
        let resolve =
            |state: &State| state.resolve_keys(None, &by(state, 1, &[0], identity(IdentityOp::Register)));
        if known {
            assert_eq!(resolve(&state), Ok(vec![key(1)]));
        }
        let mut batch = Batch::new();
        batch.put(Table::PublicKeys, who(1).as_bytes(), &encode(&key(2)));
        store.write(&batch, Durability::Synced).unwrap();
        match resolve(&state) {
            Ok(keys) => assert!(known && keys == [key(1)]),
            Err(TxRefusal::Unavailable { why }) => assert!(!known && why.contains("is stored as the key of")),
            Err(other) => panic!("{other}"),
        }
    }
}

fn identity(op: IdentityOp) -> Payload {
    Payload::Identity(op)
}

fn new_key(n: u64, purposes: &[Purpose], expires_ms: Option<u64>) -> NewKey {
    NewKey { key: key(n), purposes: Purposes::of(purposes.iter().copied()).unwrap(), expires_ms }
}

fn add(n: u64, purposes: &[Purpose]) -> Payload {
    identity(IdentityOp::AddKey(new_key(n, purposes, None)))
}

fn anchoring(proof: Proof) -> Payload {
    proofs(vec![proof])
}

macro_rules! refuses {
    ($sent:expr, $shape:pat $(if $guard:expr)?) => {{
        let outcome = $sent;
        assert!(matches!(outcome, Err($shape) $(if $guard)?), "{outcome:?}");
    }};
}

#[test]
fn a_key_does_what_it_is_for_and_nothing_else() {
    let state = with_registered(&[1]);
    send(&state, 1, &[0], add(2, &[Purpose::Assertion])).unwrap();
    send(&state, 1, &[0], add(3, &[Purpose::Delegation, Purpose::Authentication])).unwrap();
    let grant = |delegate| {
        let terms = Terms { scope: Scope::ALL, proofs_max: None, rate: None, expires_ms: None };
        Payload::Delegation(DelegationOp::Grant { delegate, terms })
    };
    send(&state, 1, &[1], anchoring(proof(1))).unwrap();
    send(&state, 1, &[2], grant(who(9))).unwrap();
    refuses!(
        send(&state, 1, &[1], grant(who(8))),
        TxRefusal::KeyPurpose { index: 1, needed: Purpose::Delegation, .. }
    );
    refuses!(
        send(&state, 1, &[2], anchoring(proof(2))),
        TxRefusal::KeyPurpose { index: 2, needed: Purpose::Assertion, .. }
    );
    for index in [1, 2] {
        let op = identity(IdentityOp::Deactivate);
        refuses!(send(&state, 1, &[index], op), TxRefusal::KeyPurpose { needed: Purpose::Control, .. });
    }
    // Only key 0 may change the identity: it cannot be retired, nor can two be asked for.
    refuses!(
        send(&state, 1, &[0], identity(IdentityOp::RevokeKey(0))),
        TxRefusal::TooFewKeysLeft { left: 0, threshold: 1, .. }
    );
    refuses!(
        send(&state, 1, &[0], identity(IdentityOp::SetThreshold(2))),
        TxRefusal::BadThreshold { active: 1, .. }
    );
}

#[test]
fn a_key_expires_by_the_time_of_the_block() {
    let state = with_registered(&[1]);
    let soon = next_time(&state) + 2_000;
    let short = identity(IdentityOp::AddKey(new_key(2, &[Purpose::Assertion], Some(soon))));
    send(&state, 1, &[0], short).unwrap();
    send(&state, 1, &[1], anchoring(proof(1))).unwrap();
    assert_eq!(next_time(&state), soon, "the next block is the first that is too late");
    refuses!(send(&state, 1, &[1], anchoring(proof(2))), TxRefusal::KeyExpired { index: 1, .. });
    let past = identity(IdentityOp::AddKey(new_key(3, &[Purpose::Assertion], Some(soon))));
    refuses!(send(&state, 1, &[0], past), TxRefusal::KeyExpiryPast { .. });
    // A control key that will expire does not keep the identity alive.
    let lent = identity(IdentityOp::RotateKey { index: 0, key: key(4), expires_ms: Some(soon + 60_000) });
    refuses!(send(&state, 1, &[0], lent), TxRefusal::TooFewKeysLeft { left: 0, .. });
    // An expired key can still be rotated: its purposes live on.
    send(&state, 1, &[0], identity(IdentityOp::RotateKey { index: 1, key: key(5), expires_ms: None }))
        .unwrap();
    send(&state, 1, &[2], anchoring(proof(3))).unwrap();
    let held = state.identity(&who(1)).unwrap().unwrap().entry;
    assert_eq!(held.keys[2].purposes, held.keys[1].purposes);
}

#[test]
fn the_recovery_key_replaces_lost_keys_and_can_do_nothing_else() {
    let state = with_registered(&[1]);
    send(&state, 1, &[0], add(2, &[Purpose::Recovery])).unwrap();
    refuses!(
        send(&state, 1, &[0], add(3, &[Purpose::Recovery])),
        TxRefusal::RecoveryKeyHeld { index: 1, .. }
    );
    for payload in [
        anchoring(proof(1)),
        add(4, &[Purpose::Control]),
        identity(IdentityOp::Deactivate),
        identity(IdentityOp::RevokeKey(0)),
        Payload::Delegation(DelegationOp::Revoke { delegate: who(9) }),
    ] {
        refuses!(send(&state, 1, &[1], payload), TxRefusal::KeyPurpose { index: 1, .. });
    }
    let recover =
        |keys: Vec<NewKey>, threshold| identity(IdentityOp::Recover { keys: RecoveredKeys(keys), threshold });
    let two = || {
        vec![new_key(5, &[Purpose::Control, Purpose::Assertion], None), new_key(6, &[Purpose::Control], None)]
    };
    refuses!(
        send(&state, 1, &[0], recover(two(), 1)),
        TxRefusal::KeyPurpose { needed: Purpose::Recovery, .. }
    );
    refuses!(send(&state, 1, &[1], recover(two(), 3)), TxRefusal::BadThreshold { got: 3, active: 2 });
    refuses!(
        send(&state, 1, &[1], recover(vec![new_key(7, &[Purpose::Recovery], None)], 1)),
        TxRefusal::RecoveryKeyGiven { .. }
    );
    refuses!(
        send(&state, 1, &[1], recover(vec![new_key(1, &[Purpose::Control], None)], 1)),
        TxRefusal::KeyAlreadyHeld { index: 0, .. }
    );
    send(&state, 1, &[1], recover(two(), 2)).unwrap();
    refuses!(send(&state, 1, &[0], anchoring(proof(1))), TxRefusal::KeyRevoked { index: 0, .. });
    send(&state, 1, &[2, 3], add(8, &[Purpose::Assertion])).unwrap();
    // A threshold of two holds for every payload; the recovery key stays, alone.
    send(&state, 1, &[2, 4], anchoring(proof(2))).unwrap();
    send(&state, 1, &[1], recover(vec![new_key(9, &[Purpose::Control], None)], 1)).unwrap();
    let held = state.identity(&who(1)).unwrap().unwrap().entry;
    let active: Vec<_> =
        (0..).zip(&held.keys).filter(|(_, key)| key.until.is_none()).map(|(index, _)| index).collect();
    assert_eq!((active, held.threshold), (vec![1, 5], 1));
}

#[test]
fn a_deactivated_identity_is_over_and_what_it_gave_with_it() {
    let state = with_registered(&[1, 2]);
    send(&state, 1, &[0], add(3, &[Purpose::Recovery])).unwrap();
    let terms = Terms { scope: Scope::ALL, proofs_max: None, rate: None, expires_ms: None };
    send(&state, 1, &[0], Payload::Delegation(DelegationOp::Grant { delegate: who(2), terms })).unwrap();
    send(&state, 1, &[0], identity(IdentityOp::Deactivate)).unwrap();
    let since = state.tip().header.height;
    let keys = RecoveredKeys(vec![new_key(4, &[Purpose::Control], None)]);
    for (index, payload) in
        [(0, anchoring(proof(1))), (1, identity(IdentityOp::Recover { keys, threshold: 1 }))]
    {
        refuses!(send(&state, 1, &[index], payload), TxRefusal::IdentityDeactivated { since: at, .. } if at == since);
    }
    let acting = Proof { on_behalf_of: Some(who(1)), ..proof(5) };
    refuses!(
        send(&state, 2, &[0], anchoring(acting)),
        TxRefusal::DelegationMissing { lack: Lack::PrincipalGone { .. }, .. }
    );
    let inline_again = anchor(1, 1, next_time(&state));
    assert!(matches!(
        refused(&state, next_time(&state), inline_again),
        TxRefusal::InlineKeyOfRegistered { .. }
    ));
    let to_the_dead = Payload::Delegation(DelegationOp::Grant { delegate: who(1), terms });
    refuses!(send(&state, 2, &[0], to_the_dead), TxRefusal::IdentityDeactivated { .. });
}

fn acting_for(n: u64, kind: ProofKind, metadata: usize, principal: u64) -> Proof {
    Proof { kind, metadata: vec![1; metadata], on_behalf_of: Some(who(principal)), ..proof(n) }
}

fn grant(delegate: u64, terms: Terms) -> Payload {
    Payload::Delegation(DelegationOp::Grant { delegate: who(delegate), terms })
}

fn open_terms() -> Terms {
    Terms { scope: Scope::ALL, proofs_max: None, rate: None, expires_ms: None }
}

#[test]
fn a_delegation_covers_its_scope_until_it_ends() {
    let state = with_registered(&[1, 2]);
    let lacking = |proof: Proof| match send(&state, 2, &[0], anchoring(proof)) {
        Err(TxRefusal::DelegationMissing { lack, .. }) => lack,
        other => panic!("{other:?}"),
    };
    assert_eq!(lacking(acting_for(1, ProofKind::Batch, 0, 1)), Lack::NeverGranted);
    let scope = Scope {
        kinds: Kinds::of([ProofKind::Batch]).unwrap(),
        tree: Some(TreeKind::CairnB3V1),
        metadata_bytes_max: 4,
    };
    send(&state, 1, &[0], grant(2, Terms { scope, ..open_terms() })).unwrap();
    send(&state, 2, &[0], anchoring(acting_for(2, ProofKind::Batch, 4, 1))).unwrap();
    let record = state.record(0).unwrap().unwrap();
    assert_eq!((record.sender, record.on_behalf_of), (who(2), Some(who(1))), "the record names both");
    assert!(matches!(lacking(acting_for(3, ProofKind::Claim, 0, 1)), Lack::Kind { got: "claim", .. }));
    assert!(matches!(lacking(acting_for(3, ProofKind::Batch, 5, 1)), Lack::Metadata { got: 5, max: 4 }));
    let other_tree = Proof { tree: TreeKind::Rfc9162Sha256, ..acting_for(3, ProofKind::Batch, 0, 1) };
    assert!(matches!(lacking(other_tree), Lack::Tree { .. }));
    assert_eq!(lacking(acting_for(3, ProofKind::Batch, 0, 7)), Lack::NoPrincipal);
    let expires_ms = next_time(&state) + 2_000;
    send(&state, 1, &[0], grant(2, Terms { expires_ms: Some(expires_ms), ..open_terms() })).unwrap();
    send(&state, 2, &[0], anchoring(acting_for(4, ProofKind::Claim, 9, 1))).unwrap();
    assert_eq!(lacking(acting_for(5, ProofKind::Claim, 9, 1)), Lack::Expired { expires_ms });
    refuses!(
        send(&state, 1, &[0], grant(2, Terms { expires_ms: Some(expires_ms), ..open_terms() })),
        TxRefusal::GrantExpiryPast { .. }
    );
    let renounce = Payload::Delegation(DelegationOp::Renounce { principal: who(1) });
    send(&state, 2, &[0], renounce.clone()).unwrap();
    let at = state.tip().header.height;
    assert_eq!(lacking(acting_for(5, ProofKind::Claim, 9, 1)), Lack::Revoked { at });
    refuses!(send(&state, 2, &[0], renounce), TxRefusal::NoDelegation { .. });
    let entry = state.delegation(who(1), who(2)).unwrap().unwrap().entry;
    assert_eq!(entry.grants.iter().map(|grant| grant.until.is_some()).collect::<Vec<_>>(), [true, true]);
    // What was proved before stays valid: the newest state tells that it was in force then.
    assert!(entry.in_force(record.height, record.time_ms).is_ok());
    assert_eq!(state.delegations(&who(2), Side::Received, None, 9).unwrap().items.len(), 1);
    assert_eq!(state.delegations(&who(1), Side::Given, None, 9).unwrap().items[0].entry, entry);
    assert!(state.delegations(&who(2), Side::Given, None, 9).unwrap().items.is_empty());
}

#[test]
fn revoking_in_a_block_ends_the_delegates_turn_in_it() {
    let state = with_registered(&[1, 2]);
    send(&state, 1, &[0], grant(2, open_terms())).unwrap();
    let payload = |n| anchoring(acting_for(n, ProofKind::Batch, 0, 1));
    let first = signed_by_state(&state, by(&state, 2, &[0], payload(1)));
    let revoke = Payload::Delegation(DelegationOp::Revoke { delegate: who(2) });
    let revoke = signed_by_state(&state, by(&state, 1, &[0], revoke));
    let second = signed_by_state(&state, by(&state, 2, &[0], payload(2)));
    let time = next_time(&state);
    let built =
        state.build(slot_on(&state.tip().header, 0), time, vec![first, revoke, second.clone()]).unwrap();
    assert_eq!(built.block.transactions().len(), 2);
    assert!(matches!(built.refused[0].1, TxRefusal::IdentityChangedInBlock { address } if address == who(2)));
    state.commit(&[certified(&built.block)]).unwrap();
    assert!(matches!(
        refused(&state, next_time(&state), second),
        TxRefusal::DelegationMissing { lack: Lack::Revoked { .. }, .. }
    ));
}

#[test]
fn limits_count_within_a_block_and_across_blocks() {
    let state = with_registered(&[1, 2]);
    let rate = Some(Rate { count: 3, period_ms: 10_000 });
    send(&state, 1, &[0], grant(2, Terms { proofs_max: Some(5), rate, ..open_terms() })).unwrap();
    let many = |from: u64, count: u64| {
        proofs((from..from + count).map(|n| acting_for(n, ProofKind::Batch, 0, 1)).collect())
    };
    // Two transactions of one block share the allowance.
    let time = (state.tip().header.time_ms / 10_000 + 1) * 10_000;
    let tx = |n: u64, count, nonce| {
        let mut tx = registered(2, &[0], time, many(n, count));
        tx.nonce = nonce;
        signed_by_state(&state, tx)
    };
    let built = state
        .build(slot_on(&state.tip().header, 0), time, vec![tx(10, 2, 1), tx(20, 2, 2), tx(30, 1, 3)])
        .unwrap();
    assert_eq!(built.block.transactions().len(), 2);
    let (_, why) = &built.refused[0];
    assert!(
        matches!(why, TxRefusal::DelegationMissing { index: 1, lack: Lack::Rate { next_ms, .. }, .. } if *next_ms == time + 10_000)
    );
    assert!(why.may_pass_later());
    state.commit(&[certified(&built.block)]).unwrap();
    refuses!(
        send(&state, 2, &[0], many(40, 1)),
        TxRefusal::DelegationMissing { lack: Lack::Rate { .. }, .. }
    );
    let later = vec![signed_by_state(&state, registered(2, &[0], time + 10_000, many(50, 2)))];
    grow(&state, time + 10_000, later);
    let last = send(&state, 2, &[0], many(60, 1)).unwrap_err();
    assert!(
        matches!(last, TxRefusal::DelegationMissing { lack: Lack::Count { max: 5 }, .. })
            && !last.may_pass_later()
    );
    assert_eq!(state.delegation(who(1), who(2)).unwrap().unwrap().usage.total, 5);
    // A new grant counts from nothing.
    send(&state, 1, &[0], grant(2, Terms { proofs_max: Some(1), ..open_terms() })).unwrap();
    send(&state, 2, &[0], many(70, 1)).unwrap();
}

fn register_agent(state: &State, agent: u64, owner: u64) {
    let time = next_time(state);
    let op = IdentityOp::RegisterAgent { owner: who(owner) };
    grow(state, time, vec![verified(operation(agent, op, time), vec![key(agent)])]);
}

fn set_agent(agent: u64, mandate: Mandate) -> Payload {
    Payload::Delegation(DelegationOp::SetAgent { agent: who(agent), mandate })
}

#[test]
fn an_agent_does_what_its_owner_lets_it_and_no_more() {
    let state = with_registered(&[1, 2]);
    register_agent(&state, 5, 1);
    let lacking = |proof: Proof| match send(&state, 5, &[0], anchoring(proof)) {
        Err(TxRefusal::MandateMissing { lack, owner, .. }) if owner == who(1) => lack,
        other => panic!("{other:?}"),
    };
    let work = Scope { kinds: Kinds::of([ProofKind::Work, ProofKind::Batch]).unwrap(), ..Scope::ALL };
    let mandate = Mandate { scope: work, rate: Some(Rate { count: 2, period_ms: 3_600_000 }) };
    assert_eq!(lacking(proof(1)), Lack::NoMandate);
    refuses!(send(&state, 2, &[0], set_agent(5, mandate)), TxRefusal::NotAgentOf { .. });
    refuses!(send(&state, 1, &[0], set_agent(2, mandate)), TxRefusal::NotAgentOf { .. });
    send(&state, 1, &[0], set_agent(5, mandate)).unwrap();
    send(&state, 5, &[0], anchoring(proof(1))).unwrap();
    let acting = acting_for(2, ProofKind::Batch, 0, 1);
    refuses!(
        send(&state, 5, &[0], anchoring(acting.clone())),
        TxRefusal::DelegationMissing { lack: Lack::NeverGranted, .. }
    );
    send(&state, 1, &[0], grant(5, open_terms())).unwrap();
    assert!(
        matches!(lacking(acting_for(3, ProofKind::Claim, 0, 1)), Lack::Kind { .. }),
        "a delegation does not widen a mandate"
    );
    send(&state, 5, &[0], anchoring(acting)).unwrap();
    assert!(matches!(lacking(proof(9)), Lack::Rate { count: 2, .. }));
    assert_eq!(state.agent_usage(who(5)).unwrap().total, 2);
    send(&state, 1, &[0], set_agent(5, mandate)).unwrap();
    send(&state, 5, &[0], anchoring(proof(9))).unwrap();
    refuses!(send(&state, 5, &[0], grant(2, open_terms())), TxRefusal::AgentMayNotDelegate { .. });
    // The agent looks after its own keys.
    send(&state, 5, &[0], identity(IdentityOp::RotateKey { index: 0, key: key(6), expires_ms: None }))
        .unwrap();
    let retire = || Payload::Delegation(DelegationOp::RetireAgent { agent: who(5) });
    send(&state, 1, &[0], retire()).unwrap();
    refuses!(send(&state, 5, &[1], anchoring(proof(9))), TxRefusal::IdentityDeactivated { .. });
    refuses!(send(&state, 1, &[0], retire()), TxRefusal::IdentityDeactivated { .. });
}

/// Identity 1 with keys 1, 2 and 3, two of which must sign.
fn shared() -> State {
    let state = with_registered(&[1, 7]);
    send(&state, 1, &[0], add(2, &[Purpose::Control, Purpose::Assertion, Purpose::Delegation])).unwrap();
    send(&state, 1, &[0], add(3, &[Purpose::Control, Purpose::Assertion, Purpose::Delegation])).unwrap();
    send(&state, 1, &[0], identity(IdentityOp::SetThreshold(2))).unwrap();
    state
}

fn propose(state: &State, key: u16, payload: Proposed) -> Result<TxId, TxRefusal> {
    let expires_ms = next_time(state) + 600_000;
    send(state, 1, &[key], Payload::Multisig(MultisigOp::Propose { payload, expires_ms }))
}

fn approve(state: &State, key: u16, proposal: TxId) -> Result<TxId, TxRefusal> {
    send(state, 1, &[key], Payload::Multisig(MultisigOp::Approve { proposal }))
}

fn cancel(state: &State, key: u16, proposal: TxId) -> Result<TxId, TxRefusal> {
    send(state, 1, &[key], Payload::Multisig(MultisigOp::Cancel { proposal }))
}

fn outcome(state: &State, proposal: TxId) -> Option<Outcome> {
    state.proposal(who(1), proposal).unwrap().unwrap().entry.outcome
}

#[test]
fn a_proposal_is_carried_out_when_enough_stand_behind_it() {
    let state = shared();
    let id = propose(&state, 0, Proposed::Proofs(Proofs(vec![proof(1), proof(2)]))).unwrap();
    assert_eq!(state.log_sizes().anchors, 0);
    assert_eq!(state.identity(&who(1)).unwrap().unwrap().entry.proposals, [id]);
    refuses!(approve(&state, 0, id), TxRefusal::AlreadyVoted { key: 0, .. });
    let met = approve(&state, 2, id).unwrap();
    assert_eq!(
        state.records_by_tx(&met).unwrap().len(),
        2,
        "the records belong to the step that met the threshold"
    );
    let record = state.record(0).unwrap().unwrap();
    assert_eq!((record.sender, record.proof_id), (who(1), proof(1).id(state.chain(), who(1))));
    let height = state.tip().header.height;
    assert_eq!(outcome(&state, id), Some(Outcome::Executed { height, tx: met }));
    assert!(state.identity(&who(1)).unwrap().unwrap().entry.proposals.is_empty());
    refuses!(approve(&state, 1, id), TxRefusal::ProposalClosed { .. });
    let change = propose(&state, 1, Proposed::Identity(IdentityOp::SetThreshold(1))).unwrap();
    approve(&state, 0, change).unwrap();
    assert_eq!(state.identity(&who(1)).unwrap().unwrap().entry.threshold, 1);
    // With a threshold of one, proposing is doing.
    let terms = open_terms();
    let alone =
        propose(&state, 0, Proposed::Delegation(DelegationOp::Grant { delegate: who(7), terms })).unwrap();
    assert!(matches!(outcome(&state, alone), Some(Outcome::Executed { .. })));
    assert!(state.delegation(who(1), who(7)).unwrap().unwrap().entry.open().is_some());
    let steps: Vec<_> = events(&state, 1).into_iter().map(|step| step.name()).collect();
    assert_eq!(&steps[4..8], ["proposed", "approved", "executed", "proposed"]);
}

fn events(state: &State, n: u64) -> Vec<IdentityStep> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let part = state.identity_events(&who(n), cursor.as_deref(), 3).unwrap();
        all.extend(part.items.into_iter().map(|event| event.what));
        match part.next {
            Some(next) => cursor = Some(next),
            None => return all,
        }
    }
}

#[test]
fn a_proposal_ends_by_withdrawal_by_votes_and_by_time() {
    let state = shared();
    let proofs = |n| Proposed::Proofs(Proofs(vec![proof(n)]));
    let withdrawn = propose(&state, 0, proofs(1)).unwrap();
    cancel(&state, 0, withdrawn).unwrap();
    assert!(matches!(outcome(&state, withdrawn), Some(Outcome::Cancelled { .. })));
    // Two of three must agree: one vote against is not enough, two are.
    let disputed = propose(&state, 0, proofs(2)).unwrap();
    cancel(&state, 1, disputed).unwrap();
    assert_eq!(outcome(&state, disputed), None);
    refuses!(cancel(&state, 1, disputed), TxRefusal::AlreadyVoted { .. });
    cancel(&state, 2, disputed).unwrap();
    refuses!(approve(&state, 2, disputed), TxRefusal::ProposalClosed { .. });
    // A vote may be changed: whoever was against may still approve.
    let changed = propose(&state, 0, proofs(3)).unwrap();
    cancel(&state, 1, changed).unwrap();
    approve(&state, 1, changed).unwrap();
    assert!(matches!(outcome(&state, changed), Some(Outcome::Executed { .. })));
    let expires_ms = next_time(&state) + 1_500;
    let short = Payload::Multisig(MultisigOp::Propose { payload: proofs(4), expires_ms });
    let short = send(&state, 1, &[0], short).unwrap();
    grow(&state, next_time(&state), vec![]);
    refuses!(approve(&state, 1, short), TxRefusal::ProposalExpired { .. });
    let next = propose(&state, 1, proofs(5)).unwrap();
    assert!(matches!(outcome(&state, short), Some(Outcome::Lapsed { .. })), "noted by the next proposal");
    assert_eq!(state.identity(&who(1)).unwrap().unwrap().entry.proposals, [next]);
    for bad in [next_time(&state), next_time(&state) + 31 * 24 * 3_600_000] {
        let op = MultisigOp::Propose { payload: proofs(6), expires_ms: bad };
        refuses!(send(&state, 1, &[0], Payload::Multisig(op)), TxRefusal::ProposalExpiry { .. });
    }
    assert_eq!(state.proposals(&who(1), None, 100).unwrap().items.len(), 5);
}

#[test]
fn only_keys_that_may_sign_count_for_a_proposal() {
    let state = shared();
    send(&state, 1, &[0, 1], add(4, &[Purpose::Authentication])).unwrap();
    let id = propose(&state, 0, Proposed::Proofs(Proofs(vec![proof(1)]))).unwrap();
    refuses!(approve(&state, 3, id), TxRefusal::KeyPurpose { needed: Purpose::Assertion, .. });
    refuses!(approve(&state, 1, TxId::ZERO), TxRefusal::UnknownProposal { .. });
    // The proposer's key is retired: its word counts no more.
    send(&state, 1, &[1, 2], identity(IdentityOp::RotateKey { index: 0, key: key(9), expires_ms: None }))
        .unwrap();
    approve(&state, 1, id).unwrap();
    assert_eq!(outcome(&state, id), None);
    refuses!(approve(&state, 0, id), TxRefusal::KeyRevoked { .. });
    approve(&state, 2, id).unwrap();
    assert!(matches!(outcome(&state, id), Some(Outcome::Executed { .. })));
    let two = by(&state, 1, &[1, 2], Payload::Multisig(MultisigOp::Approve { proposal: id }));
    assert!(matches!(
        state.resolve_keys(None, &two),
        Err(TxRefusal::SuperfluousKeys { required: 1, got: 2, .. })
    ));
    // What is refused inside leaves the proposal open.
    let impossible = propose(&state, 1, Proposed::Identity(IdentityOp::RevokeKey(77))).unwrap();
    refuses!(approve(&state, 2, impossible), TxRefusal::UnknownKey { index: 77, .. });
    assert_eq!(outcome(&state, impossible), None);
    let nested = Proposed::Identity(IdentityOp::Register);
    refuses!(propose(&state, 1, nested), TxRefusal::Shape(_));
}

#[test]
fn open_proposals_are_bounded() {
    let state = shared();
    for n in 0..PROPOSALS_OPEN_MAX as u64 {
        propose(&state, 0, Proposed::Proofs(Proofs(vec![proof(n)]))).unwrap();
    }
    refuses!(
        propose(&state, 1, Proposed::Identity(IdentityOp::Deactivate)),
        TxRefusal::TooManyProposals { .. }
    );
}

#[test]
fn two_approvals_in_one_block_both_count() {
    let state = shared();
    send(&state, 1, &[0, 1], identity(IdentityOp::SetThreshold(3))).unwrap();
    let id = propose(&state, 0, Proposed::Proofs(Proofs(vec![proof(1)]))).unwrap();
    let approval = |key| {
        let op = Payload::Multisig(MultisigOp::Approve { proposal: id });
        signed_by_state(&state, by(&state, 1, &[key], op))
    };
    grow(&state, next_time(&state), vec![approval(1), approval(2)]);
    assert!(matches!(outcome(&state, id), Some(Outcome::Executed { .. })));
    assert_eq!(state.log_sizes().anchors, 1);
}

#[test]
fn an_identity_is_known_as_of_any_height_and_time() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        register(&state, 1);
        send(&state, 1, &[0], add(2, &[Purpose::Control])).unwrap();
        grow(&state, next_time(&state), vec![]);
        send(&state, 1, &[1], identity(IdentityOp::RevokeKey(0))).unwrap();
        let keys = |height| {
            let found = state.identity_at(&who(1), Height::new(height)).unwrap();
            found.map(|it| it.entry.keys.iter().map(|key| key.until.is_none()).collect::<Vec<_>>())
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 9].map(keys),
            [
                None,
                Some(vec![true]),
                Some(vec![true, true]),
                Some(vec![true, true]),
                Some(vec![false, true]),
                Some(vec![false, true]),
            ]
        );
        let at = |time_ms| state.height_at_time(time_ms).unwrap().map(Height::get);
        let times: Vec<_> = (0..5).map(|h| state.header(Height::new(h)).unwrap().unwrap().time_ms).collect();
        assert_eq!(at(times[0] - 1), None);
        for (height, time) in (0..).zip(&times) {
            assert_eq!((at(*time), at(*time + 1)), (Some(height), Some(height)));
        }
        assert_eq!(at(u64::MAX), Some(4));
    });
}

#[test]
fn proofs_that_name_others_are_found_from_them() {
    let state = with_registered(&[1, 2]);
    let first = proof(1);
    let id = first.id(state.chain(), who(1));
    send(&state, 1, &[0], anchoring(first)).unwrap();
    send(&state, 1, &[0], anchoring(Proof { previous: Some(id), ..proof(2) })).unwrap();
    let attest = |n| Proof { subject: Some(id), kind: ProofKind::Attestation, ..proof(n) };
    send(&state, 2, &[0], proofs(vec![attest(3), attest(4)])).unwrap();
    let seqs = |naming, from, limit| {
        let (records, next) = state.records_naming(&id, naming, from, limit).unwrap();
        (records.iter().map(|record| record.seq).collect::<Vec<_>>(), next)
    };
    assert_eq!(seqs(Naming::Continues, 0, 9), (vec![1], None));
    assert_eq!(seqs(Naming::SpeaksOf, 0, 1), (vec![2], Some(3)));
    assert_eq!(seqs(Naming::SpeaksOf, 3, 1), (vec![3], None));
}
