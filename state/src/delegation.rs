//! The rules of delegations and agents: who may grant, what a proof may be anchored under, and what is used
//! up by it.

use cairn_types::delegation::{DelegationEntry, DelegationOp, GRANTS_MAX, Grant, Lack, Terms, Usage};
use cairn_types::event::IdentityStep;
use cairn_types::identity::{Agent, IdentityEntry, IdentityOp};
use cairn_types::{Address, Admission, Proof, StateKey, TxId};

use crate::error::StateError;
use crate::execute::Halt;
use crate::identity::change;
use crate::refusal::TxRefusal;
use crate::registry::Registry;

/// Applies a delegation operation of `sender`, whose keys were found to suffice.
pub(crate) fn apply(
    registry: &mut Registry<'_>,
    sender: Address,
    op: &DelegationOp,
    tx_id: TxId,
    admission: Admission,
) -> Result<(), Halt> {
    match op {
        DelegationOp::Grant { delegate, terms } => grant(registry, sender, *delegate, *terms, tx_id),
        DelegationOp::Revoke { delegate } => {
            let step = IdentityStep::DelegationRevoked { delegate: *delegate };
            end(registry, (sender, *delegate), tx_id, step)
        }
        DelegationOp::Renounce { principal } => {
            let step = IdentityStep::DelegationRenounced { delegate: sender };
            end(registry, (*principal, sender), tx_id, step)
        }
        DelegationOp::SetAgent { agent, mandate } => {
            let (mut entry, known) = owned_agent(registry, sender, *agent)?;
            let revision = known.revision.saturating_add(1);
            entry.agent = Some(Agent { mandate: Some(*mandate), revision, ..known });
            // Whoever may anchor may let its agents.
            let owner = registry.resolve(sender)?;
            entry.admitted |= admission == Admission::Open || owner.is_some_and(|owner| owner.admitted);
            registry.set_identity(*agent, entry);
            registry.record(sender, tx_id, IdentityStep::AgentMandated { agent: *agent, revision });
            Ok(())
        }
        DelegationOp::RetireAgent { agent } => {
            let (entry, _) = owned_agent(registry, sender, *agent)?;
            let retired =
                change((*agent, None), &IdentityOp::Deactivate, Some(entry), admission, registry.at)?;
            registry.apply(retired, tx_id);
            registry.record(sender, tx_id, IdentityStep::AgentRetired { agent: *agent });
            Ok(())
        }
    }
}

/// The agent as it stands now, when `owner` is its owner and it has not been retired.
fn owned_agent(
    registry: &mut Registry<'_>,
    owner: Address,
    agent: Address,
) -> Result<(IdentityEntry, Agent), Halt> {
    registered(registry, owner)?;
    let entry = registry.identity(agent)?.ok_or(TxRefusal::UnknownIdentity { address: agent })?;
    if let Some(since) = entry.deactivated {
        return Err(TxRefusal::IdentityDeactivated { address: agent, since }.into());
    }
    match entry.agent.clone().filter(|known| known.owner == owner) {
        Some(known) => Ok((entry, known)),
        None => Err(TxRefusal::NotAgentOf { agent, owner }.into()),
    }
}

fn registered(registry: &mut Registry<'_>, address: Address) -> Result<(), Halt> {
    match registry.resolve(address)? {
        Some(_) => Ok(()),
        None => Err(TxRefusal::UnknownIdentity { address }.into()),
    }
}

fn grant(
    registry: &mut Registry<'_>,
    principal: Address,
    delegate: Address,
    terms: Terms,
    tx_id: TxId,
) -> Result<(), Halt> {
    registered(registry, principal)?;
    if registry.resolve(principal)?.is_some_and(|entry| entry.agent.is_some()) {
        // Else an agent would lend out more than its mandate.
        return Err(TxRefusal::AgentMayNotDelegate { agent: principal }.into());
    }
    if let Some(entry) = registry.identity(delegate)?
        && let Some(since) = entry.deactivated
    {
        return Err(TxRefusal::IdentityDeactivated { address: delegate, since }.into());
    }
    let at = registry.at;
    if let Some(expires_ms) = terms.expires_ms
        && expires_ms <= at.time_ms
    {
        return Err(TxRefusal::GrantExpiryPast { expires_ms, time_ms: at.time_ms }.into());
    }
    let mut entry = registry.delegation(principal, delegate)?.unwrap_or_default();
    if entry.grants.len() >= GRANTS_MAX {
        return Err(TxRefusal::TooManyGrants { principal, delegate }.into());
    }
    close(&mut entry, at.height);
    entry.grants.push(Grant { terms, from: at.height, until: None });
    registry.set_delegation(principal, delegate, entry);
    registry.record(principal, tx_id, IdentityStep::DelegationGranted { delegate });
    Ok(())
}

/// Ends the open grant, when there is one.
fn close(entry: &mut DelegationEntry, height: cairn_types::Height) -> bool {
    match entry.grants.last_mut().filter(|grant| grant.until.is_none()) {
        Some(open) => {
            open.until = Some(height);
            true
        }
        None => false,
    }
}

fn end(
    registry: &mut Registry<'_>,
    (principal, delegate): (Address, Address),
    tx_id: TxId,
    step: IdentityStep,
) -> Result<(), Halt> {
    let mut entry = registry.delegation(principal, delegate)?.unwrap_or_default();
    if !close(&mut entry, registry.at.height) {
        return Err(TxRefusal::NoDelegation { principal, delegate }.into());
    }
    registry.set_delegation(principal, delegate, entry);
    registry.record(principal, tx_id, step);
    Ok(())
}

/// What proofs use up, worked out before anything is kept.
#[derive(Debug, Default)]
pub(crate) struct Spending {
    used: Vec<(StateKey, Usage)>,
}

impl Spending {
    fn of(&self, registry: &Registry<'_>, key: StateKey) -> Result<Usage, StateError> {
        match self.used.iter().find(|(held, _)| *held == key) {
            Some((_, usage)) => Ok(*usage),
            None => registry.usage(key),
        }
    }

    fn set(&mut self, key: StateKey, usage: Usage) {
        match self.used.iter_mut().find(|(held, _)| *held == key) {
            Some(slot) => slot.1 = usage,
            None => self.used.push((key, usage)),
        }
    }

    /// Keeps it.
    pub(crate) fn settle(self, registry: &mut Registry<'_>) {
        self.used.into_iter().for_each(|(key, usage)| registry.set_usage(key, usage));
    }
}

/// Whether `sender` may anchor this proof (number `index` of its transaction), in its own name and in that of
/// whom it acts for.
pub(crate) fn check_proof(
    registry: &mut Registry<'_>,
    spending: &mut Spending,
    (sender, identity): (Address, Option<&IdentityEntry>),
    (index, proof): (usize, &Proof),
) -> Result<(), Halt> {
    if let Some(agent) = identity.and_then(|identity| identity.agent.as_ref()) {
        let lacks = |lack| TxRefusal::MandateMissing { index, agent: sender, owner: agent.owner, lack };
        let mandate = agent.mandate.ok_or_else(|| lacks(Lack::NoMandate))?;
        mandate.scope.check(proof).map_err(lacks)?;
        if mandate.rate.is_some() {
            let key = StateKey::AgentUsage(sender);
            let mut usage = spending.of(registry, key)?;
            let time_ms = registry.at.time_ms;
            usage.spend(agent.revision, None, mandate.rate, time_ms).map_err(lacks)?;
            spending.set(key, usage);
        }
    }
    let Some(principal) = proof.on_behalf_of else { return Ok(()) };
    let lacks = |lack| TxRefusal::DelegationMissing { index, sender, principal, lack };
    match registry.resolve(principal)? {
        None => return Err(lacks(Lack::NoPrincipal).into()),
        Some(entry) => {
            if let Some(at) = entry.deactivated {
                return Err(lacks(Lack::PrincipalGone { at }).into());
            }
        }
    }
    let at = registry.at;
    let entry = registry.granted(principal, sender)?.unwrap_or_default();
    let (number, grant) = entry.in_force(at.height, at.time_ms).map_err(lacks)?;
    grant.terms.scope.check(proof).map_err(lacks)?;
    if grant.terms.proofs_max.is_some() || grant.terms.rate.is_some() {
        let key = StateKey::DelegationUsage { principal, delegate: sender };
        let mut usage = spending.of(registry, key)?;
        usage.spend(number, grant.terms.proofs_max, grant.terms.rate, at.time_ms).map_err(lacks)?;
        spending.set(key, usage);
    }
    Ok(())
}
