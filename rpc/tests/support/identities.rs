//! The fake node's identities: one with two keys, a delegation, a proposal.

use cairn_rpc::*;
use cairn_types::delegation::{Delegation, DelegationEntry, Grant, Scope, Side, Terms, Usage};
use cairn_types::event::{IdentityEvent, IdentityStep};
use cairn_types::identity::{Identity, IdentityEntry, IdentityOp, KeyEntry, Purposes};
use cairn_types::login::{LoginChallenge, LoginResponse};
use cairn_types::multisig::{Proposal, ProposalEntry, Proposed, Vote};
use cairn_types::record::Naming;
use cairn_types::state_key::StateSubject;
use cairn_types::*;
use serde_json::json;

use super::{ADDRESS, Fake, PROOF, TX, answer, chain_time, key, record};

pub fn who() -> Address {
    Address::from_hex(ADDRESS).expect("hex")
}

fn tx() -> TxId {
    TxId::from_hex(TX).expect("hex")
}

fn entry(keys: Vec<KeyEntry>) -> IdentityEntry {
    IdentityEntry {
        threshold: 1,
        admitted: true,
        deactivated: None,
        agent: None,
        proposals: vec![tx()],
        keys,
    }
}

fn held(key: &PublicKey, from: u64, until: Option<u64>, purposes: Purposes) -> KeyEntry {
    KeyEntry {
        address: key.address(),
        purposes,
        from: Height::new(from),
        until: until.map(Height::new),
        expires_ms: None,
    }
}

pub fn event(height: u64, what: IdentityStep) -> IdentityEvent {
    IdentityEvent {
        identity: who(),
        tx_id: tx(),
        height: Height::new(height),
        time_ms: chain_time(height),
        what,
    }
}

fn proposal() -> Proposal {
    let vote = Vote { key: 1, height: Height::new(1) };
    let entry = ProposalEntry {
        payload: Proposed::Identity(IdentityOp::RevokeKey(1)),
        expires_ms: u64::MAX / 4,
        proposed: vote,
        approvals: vec![vote],
        rejections: vec![],
        outcome: None,
    };
    Proposal { id: tx(), account: who(), entry }
}

fn delegation(principal: Address, delegate: Address) -> Delegation {
    let terms = Terms { scope: Scope::ALL, proofs_max: Some(9), rate: None, expires_ms: None };
    let grant = Grant { terms, from: Height::new(1), until: None };
    let usage = Usage { total: 4, ..Usage::default() };
    Delegation { principal, delegate, entry: DelegationEntry { grants: vec![grant] }, usage }
}

impl IdentityBackend for Fake {
    fn identity(&self, address: Address, at: Option<Height>) -> Answer<'_, Option<Identity>> {
        let known = address == who() && at != Some(Height::ZERO);
        answer(known.then(|| Identity {
            address,
            entry: entry(vec![
                held(&key(1), 0, Some(1), Purposes::ORDINARY),
                held(&key(2), 1, None, Purposes::ORDINARY),
                held(&key(3), 1, None, Purposes::RECOVERY),
            ]),
            keys: vec![key(1), key(2), key(3)],
        }))
    }

    fn height_at_time(&self, time_ms: u64) -> Answer<'_, Option<Height>> {
        answer((0..100).take_while(|height| chain_time(*height) <= time_ms).last().map(Height::new))
    }

    fn identity_events(&self, address: Address, page: PageRequest) -> Answer<'_, PageOf<IdentityEvent>> {
        let all = [event(1, IdentityStep::Registered), event(2, IdentityStep::KeyRevoked { index: 0 })];
        let skip = usize::from(page.cursor.is_some());
        let items: Vec<_> =
            all.into_iter().filter(|_| address == who()).skip(skip).take(page.limit).collect();
        let next = (skip + items.len() < 2 && !items.is_empty()).then(|| vec![1]);
        answer(PageOf { items, next })
    }

    fn state_document(&self, subject: StateSubject, _: ReceiptForm) -> Answer<'_, Option<String>> {
        answer(Some(json!({ "version": 1, "about": format!("{subject:?}") }).to_string()))
    }

    fn delegation(&self, principal: Address, delegate: Address) -> Answer<'_, Option<Delegation>> {
        answer((principal == who()).then(|| delegation(principal, delegate)))
    }

    fn delegations(&self, address: Address, side: Side, _: PageRequest) -> Answer<'_, PageOf<Delegation>> {
        let other = key(9).address();
        let items = match side {
            Side::Given => vec![delegation(address, other)],
            Side::Received => vec![delegation(other, address)],
        };
        answer(PageOf { items, next: None })
    }

    fn agent_usage(&self, _: Address) -> Answer<'_, Usage> {
        answer(Usage::default())
    }

    fn proposal(&self, account: Address, id: TxId) -> Answer<'_, Option<Proposal>> {
        answer((account == who() && id == tx()).then(proposal))
    }

    fn proposals(&self, _: Address, _: PageRequest) -> Answer<'_, PageOf<Proposal>> {
        answer(PageOf { items: vec![proposal()], next: None })
    }

    /// Record 1 continues, and disputes, the proof of the examples.
    fn records_naming(
        &self,
        proof: ProofId,
        naming: Naming,
        from: u64,
        _: usize,
    ) -> Answer<'_, (Vec<Record>, Option<u64>)> {
        let known = ProofId::from_hex(PROOF).expect("hex") == proof && from <= 1;
        let mut by = record(1, 1);
        match naming {
            Naming::Continues => by.previous = Some(proof),
            Naming::SpeaksOf => {
                by.subject = Some(proof);
                by.kind = ProofKind::Dispute;
            }
        }
        answer((known.then_some(by).into_iter().collect(), None))
    }

    fn login_challenge(&self, audience: String, address: Address) -> Answer<'_, LoginChallenge> {
        answer(LoginChallenge { audience, address, nonce: [7; 32], issued_ms: 1, expires_ms: 300_001 })
    }

    fn login(&self, audience: String, response: LoginResponse) -> Answer<'_, Result<(), String>> {
        let same = response.challenge.audience == audience;
        answer(if same { Ok(()) } else { Err("another service".to_owned()) })
    }
}
