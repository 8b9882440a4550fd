//! Identities, delegations and proposals while a block is executed: what the parent's state says of them, and
//! what the block's transactions change.
//!
//! Keys, policies and delegations are judged by the parent's state. Whoever's identity or delegations (given
//! or received) a transaction changes sends nothing more in the block, so that checking ahead of time and
//! execution agree. What counts up (approvals of a proposal, proofs under a limit) is judged as it stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cairn_types::delegation::{DelegationEntry, Usage};
use cairn_types::event::{IdentityEvent, IdentityStep};
use cairn_types::identity::IdentityEntry;
use cairn_types::multisig::ProposalEntry;
use cairn_types::state_key::state_value;
use cairn_types::{Address, Hash, PublicKey, StateKey, TxId};

use crate::error::StateError;
use crate::identity::{IdentityChange, Moment};
use crate::overlay::{RegistryEffects, View};
use crate::refusal::TxRefusal;

/// The working set of one block.
pub(crate) struct Registry<'a> {
    view: &'a View<'a>,
    pub(crate) at: Moment,
    /// As the parent's state has them.
    resolved: HashMap<Address, Option<Arc<IdentityEntry>>>,
    /// As this block leaves them.
    identities: BTreeMap<Address, IdentityEntry>,
    delegations: BTreeMap<(Address, Address), DelegationEntry>,
    proposals: BTreeMap<(Address, TxId), ProposalEntry>,
    usage: BTreeMap<StateKey, Usage>,
    /// Who sends nothing more in this block.
    sealed: BTreeSet<Address>,
    public_keys: Vec<PublicKey>,
    events: Vec<IdentityEvent>,
}

impl<'a> Registry<'a> {
    /// The working set of the block at `at`; `view` is the state after its parent.
    pub(crate) fn new(view: &'a View<'a>, at: Moment) -> Self {
        Self {
            view,
            at,
            resolved: HashMap::new(),
            identities: BTreeMap::new(),
            delegations: BTreeMap::new(),
            proposals: BTreeMap::new(),
            usage: BTreeMap::new(),
            sealed: BTreeSet::new(),
            public_keys: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Refuses a sender whose identity or delegations this block has changed already.
    pub(crate) fn check_unchanged(&self, address: Address) -> Result<(), TxRefusal> {
        if self.sealed.contains(&address) {
            return Err(TxRefusal::IdentityChangedInBlock { address });
        }
        Ok(())
    }

    /// An identity as the parent's state has it.
    pub(crate) fn resolve(&mut self, address: Address) -> Result<Option<Arc<IdentityEntry>>, StateError> {
        if let Some(known) = self.resolved.get(&address) {
            return Ok(known.clone());
        }
        let entry = self.view.identity(address)?.map(Arc::new);
        self.resolved.insert(address, entry.clone());
        Ok(entry)
    }

    /// An identity as it stands now.
    pub(crate) fn identity(&mut self, address: Address) -> Result<Option<IdentityEntry>, StateError> {
        match self.identities.get(&address) {
            Some(entry) => Ok(Some(entry.clone())),
            None => Ok(self.resolve(address)?.as_deref().cloned()),
        }
    }

    /// What a principal has granted a delegate, as the parent's state has it.
    pub(crate) fn granted(
        &self,
        principal: Address,
        delegate: Address,
    ) -> Result<Option<DelegationEntry>, StateError> {
        self.view.entry(&StateKey::Delegation { principal, delegate }, "delegation")
    }

    /// What a principal has granted a delegate, as it stands now.
    pub(crate) fn delegation(
        &self,
        principal: Address,
        delegate: Address,
    ) -> Result<Option<DelegationEntry>, StateError> {
        match self.delegations.get(&(principal, delegate)) {
            Some(entry) => Ok(Some(entry.clone())),
            None => self.granted(principal, delegate),
        }
    }

    /// A proposal as it stands now.
    pub(crate) fn proposal(&self, account: Address, id: TxId) -> Result<Option<ProposalEntry>, StateError> {
        match self.proposals.get(&(account, id)) {
            Some(entry) => Ok(Some(entry.clone())),
            None => self.view.entry(&StateKey::Proposal { account, id }, "proposal"),
        }
    }

    /// What has been used under a limit, as it stands now.
    pub(crate) fn usage(&self, key: StateKey) -> Result<Usage, StateError> {
        match self.usage.get(&key) {
            Some(usage) => Ok(*usage),
            None => Ok(self.view.entry(&key, "usage")?.unwrap_or_default()),
        }
    }

    pub(crate) fn set_usage(&mut self, key: StateKey, usage: Usage) {
        self.usage.insert(key, usage);
    }

    /// Keeps a changed identity, which sends nothing more in this block.
    pub(crate) fn set_identity(&mut self, address: Address, entry: IdentityEntry) {
        self.sealed.insert(address);
        self.identities.insert(address, entry);
    }

    /// Keeps an identity operation's outcome.
    pub(crate) fn apply(&mut self, change: IdentityChange, tx_id: TxId) {
        self.public_keys.extend(change.keys);
        self.set_identity(change.address, change.entry);
        self.record(change.address, tx_id, change.step);
    }

    /// Keeps a changed delegation; neither side sends anything more in this block.
    pub(crate) fn set_delegation(&mut self, principal: Address, delegate: Address, entry: DelegationEntry) {
        self.sealed.extend([principal, delegate]);
        self.delegations.insert((principal, delegate), entry);
    }

    pub(crate) fn set_proposal(&mut self, account: Address, id: TxId, entry: ProposalEntry) {
        self.proposals.insert((account, id), entry);
    }

    /// Adds to an identity's history.
    pub(crate) fn record(&mut self, identity: Address, tx_id: TxId, what: IdentityStep) {
        let Moment { height, time_ms } = self.at;
        self.events.push(IdentityEvent { identity, tx_id, height, time_ms, what });
    }

    /// What the block writes into the authenticated map, and what it stores beside it.
    pub(crate) fn finish(self) -> (Vec<(Hash, Vec<u8>)>, RegistryEffects) {
        let mut values = Vec::new();
        let mut listed = Vec::new();
        for (address, entry) in &self.identities {
            values.push((StateKey::Identity(*address).hash(), state_value(entry)));
        }
        for ((principal, delegate), entry) in &self.delegations {
            let key = StateKey::Delegation { principal: *principal, delegate: *delegate };
            values.push((key.hash(), state_value(entry)));
            listed.push(key);
        }
        for ((account, id), entry) in &self.proposals {
            let key = StateKey::Proposal { account: *account, id: *id };
            values.push((key.hash(), state_value(entry)));
            listed.push(key);
        }
        for (key, usage) in &self.usage {
            values.push((key.hash(), state_value(usage)));
        }
        let effects = RegistryEffects {
            identities: self.identities.into_iter().collect(),
            listed,
            public_keys: self.public_keys.into_iter().map(|key| (key.address(), key)).collect(),
            events: self.events,
        };
        (values, effects)
    }
}
