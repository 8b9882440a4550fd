//! The rules of shared control: proposing, approving, voting against, and when a proposal is carried out.

use cairn_types::event::IdentityStep;
use cairn_types::identity::IdentityEntry;
use cairn_types::multisig::{
    MultisigOp, Outcome, PROPOSAL_LIFETIME_MAX_MS, PROPOSALS_OPEN_MAX, ProposalEntry, Proposed, Vote,
};
use cairn_types::{Address, TxId};

use crate::execute::Halt;
use crate::identity::{Moment, check_purpose, usable};
use crate::refusal::TxRefusal;
use crate::registry::Registry;

/// Who speaks: one key of an identity, in one transaction. `identity` is as the parent's state has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) account: Address,
    pub(crate) identity: &'a IdentityEntry,
    pub(crate) key: u16,
    pub(crate) tx_id: TxId,
}

/// A proposal that has just met the threshold, to be carried out before anything of the step is kept.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) payload: Proposed,
}

/// A step worked out, not kept yet.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    id: TxId,
    entry: ProposalEntry,
    events: Vec<IdentityStep>,
    /// The identity's open proposals, when they change; and those that lapsed on the way.
    open: Option<Vec<TxId>>,
    lapsed: Vec<(TxId, ProposalEntry)>,
    /// What is to be carried out now.
    pub(crate) ready: Option<Ready>,
}

/// Works out one step of shared control.
pub(crate) fn step(registry: &Registry<'_>, member: Member<'_>, op: &MultisigOp) -> Result<Step, Halt> {
    match op {
        MultisigOp::Propose { payload, expires_ms } => propose(registry, member, payload, *expires_ms),
        MultisigOp::Approve { proposal } => {
            let mut entry = open_proposal(registry, member, *proposal)?;
            if entry.approvals.iter().any(|vote| vote.key == member.key) {
                return Err(TxRefusal::AlreadyVoted { proposal: *proposal, key: member.key }.into());
            }
            entry.rejections.retain(|vote| vote.key != member.key);
            entry.approvals.push(Vote { key: member.key, height: registry.at.height });
            let said = IdentityStep::Approved { proposal: *proposal, key: member.key };
            let mut step = Step::new(*proposal, entry, said);
            step.execute_when_met(member, registry.at);
            step.close_when_ended(member, registry)?;
            Ok(step)
        }
        MultisigOp::Cancel { proposal } => cancel(registry, member, *proposal),
    }
}

fn propose(
    registry: &Registry<'_>,
    member: Member<'_>,
    payload: &Proposed,
    expires_ms: u64,
) -> Result<Step, Halt> {
    let Moment { height, time_ms } = registry.at;
    let key = usable(member.identity, member.account, member.key, Some(time_ms))?;
    check_purpose(key, member.account, member.key, payload.purpose())?;
    let latest_ms = time_ms.saturating_add(PROPOSAL_LIFETIME_MAX_MS);
    if expires_ms <= time_ms || expires_ms > latest_ms {
        return Err(TxRefusal::ProposalExpiry { expires_ms, time_ms, latest_ms }.into());
    }
    let id = member.tx_id;
    let vote = Vote { key: member.key, height };
    let entry = ProposalEntry {
        payload: payload.clone(),
        expires_ms,
        proposed: vote,
        approvals: vec![vote],
        rejections: Vec::new(),
        outcome: None,
    };
    let mut step = Step::new(id, entry, IdentityStep::Proposed { proposal: id, key: member.key });
    let mut open = Vec::new();
    for held in &member.identity.proposals {
        match registry.proposal(member.account, *held)? {
            Some(mut old) if old.outcome.is_none() && old.expires_ms <= time_ms => {
                old.outcome = Some(Outcome::Lapsed { height });
                step.events.push(IdentityStep::Lapsed { proposal: *held });
                step.lapsed.push((*held, old));
            }
            Some(old) if old.outcome.is_none() => open.push(*held),
            _ => {}
        }
    }
    if open.len() >= PROPOSALS_OPEN_MAX {
        return Err(TxRefusal::TooManyProposals { address: member.account }.into());
    }
    open.push(id);
    step.open = Some(open);
    step.execute_when_met(member, registry.at);
    step.close_when_ended(member, registry)?;
    Ok(step)
}

fn cancel(registry: &Registry<'_>, member: Member<'_>, id: TxId) -> Result<Step, Halt> {
    let height = registry.at.height;
    let mut entry = open_proposal(registry, member, id)?;
    if entry.rejections.iter().any(|vote| vote.key == member.key) {
        return Err(TxRefusal::AlreadyVoted { proposal: id, key: member.key }.into());
    }
    let withdrawn = entry.proposed.key == member.key;
    entry.approvals.retain(|vote| vote.key != member.key);
    entry.rejections.push(Vote { key: member.key, height });
    let mut step = Step::new(id, entry, IdentityStep::Rejected { proposal: id, key: member.key });
    let against = step.voices(member, registry.at, &step.entry.rejections);
    let all: Vec<Vote> = (0u16..).zip(&member.identity.keys).map(|(key, _)| Vote { key, height }).collect();
    let left = step.voices(member, registry.at, &all).saturating_sub(against);
    if withdrawn || left < usize::from(member.identity.threshold) {
        step.entry.outcome = Some(Outcome::Cancelled { height });
        step.events.push(IdentityStep::Cancelled { proposal: id });
    }
    step.close_when_ended(member, registry)?;
    Ok(step)
}

/// A proposal that this member may still speak on.
fn open_proposal(registry: &Registry<'_>, member: Member<'_>, id: TxId) -> Result<ProposalEntry, Halt> {
    let (account, time_ms) = (member.account, registry.at.time_ms);
    let entry =
        registry.proposal(account, id)?.ok_or(TxRefusal::UnknownProposal { account, proposal: id })?;
    if let Some(outcome) = entry.outcome {
        return Err(TxRefusal::ProposalClosed { proposal: id, outcome }.into());
    }
    if entry.expires_ms <= time_ms {
        let expires_ms = entry.expires_ms;
        return Err(TxRefusal::ProposalExpired { proposal: id, expires_ms, time_ms }.into());
    }
    let key = usable(member.identity, account, member.key, Some(time_ms))?;
    check_purpose(key, account, member.key, entry.payload.purpose())?;
    Ok(entry)
}

impl Step {
    fn new(id: TxId, entry: ProposalEntry, said: IdentityStep) -> Self {
        Self { id, entry, events: vec![said], open: None, lapsed: Vec::new(), ready: None }
    }

    /// How many of these votes are of keys that may still sign for what is proposed.
    fn voices(&self, member: Member<'_>, at: Moment, votes: &[Vote]) -> usize {
        let purpose = self.entry.payload.purpose();
        let counts = |vote: &&Vote| {
            usable(member.identity, member.account, vote.key, Some(at.time_ms))
                .is_ok_and(|key| key.purposes.has(purpose))
        };
        votes.iter().filter(counts).count()
    }

    fn execute_when_met(&mut self, member: Member<'_>, at: Moment) {
        let voices = self.voices(member, at, &self.entry.approvals);
        if voices < usize::from(member.identity.threshold) {
            return;
        }
        self.entry.outcome = Some(Outcome::Executed { height: at.height, tx: member.tx_id });
        self.events.push(IdentityStep::Executed { proposal: self.id });
        self.ready = Some(Ready { payload: self.entry.payload.clone() });
    }

    /// Takes an ended proposal off the identity's list.
    fn close_when_ended(&mut self, member: Member<'_>, registry: &Registry<'_>) -> Result<(), Halt> {
        if self.entry.outcome.is_none() {
            return Ok(());
        }
        let open = self.open.take().unwrap_or_else(|| member.identity.proposals.clone());
        registry.check_unchanged(member.account)?;
        self.open = Some(open.into_iter().filter(|held| *held != self.id).collect());
        Ok(())
    }

    /// Keeps the step. The payload, when one was ready, has been carried out before, and the identity may
    /// have been changed by it.
    pub(crate) fn keep(self, registry: &mut Registry<'_>, member: Member<'_>) -> Result<(), Halt> {
        let account = member.account;
        for (id, entry) in self.lapsed {
            registry.set_proposal(account, id, entry);
        }
        registry.set_proposal(account, self.id, self.entry);
        if let Some(open) = self.open
            && let Some(mut entry) = registry.identity(account)?
        {
            entry.proposals = open;
            registry.set_identity(account, entry);
        }
        for said in self.events {
            registry.record(account, member.tx_id, said);
        }
        Ok(())
    }
}
