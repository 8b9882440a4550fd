//! Questions about identities, delegations and proposals, now and as of any block; proofs of the answers.

use std::ops::ControlFlow;

use cairn_types::delegation::{Delegation, Side, Usage};
use cairn_types::event::IdentityEvent;
use cairn_types::identity::{Identity, IdentityEntry};
use cairn_types::multisig::Proposal;
use cairn_types::record::Naming;
use cairn_types::{Address, Hash, Height, ProofId, Record, StateKey, StateProof, TxId, decode};

use crate::authenticated;
use crate::error::StateError;
use crate::layout::{Link, indexed, indexed_seq, link_prefix, number, received_prefix};
use crate::overlay::View;
use crate::query::{FinalHeader, QUERY_PAGE_MAX};
use crate::state::State;
use crate::storage::{Order, Scan, Table};

/// Tries of a proof while commits go on beside it: each commit may overwrite a value once.
const PROOF_TRIES: usize = 8;

/// What a state key holds, with the proof of it against a final header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProvenState {
    /// The header whose `state_root` the proof leads to, and its certificate.
    pub top: FinalHeader,
    /// The proof: of the value, or of its absence.
    pub proof: StateProof,
}

/// A part of a list, and where the next one starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this to get the next part; `None` at the end.
    pub next: Option<Vec<u8>>,
}

impl State {
    fn committed(&self) -> View<'_> {
        View::of(self.store.as_ref())
    }

    /// A registered identity as the last final block left it.
    ///
    /// # Errors
    /// When storage fails; so for every query below.
    pub fn identity(&self, address: &Address) -> Result<Option<Identity>, StateError> {
        let view = self.committed();
        view.identity(*address)?.map(|entry| with_keys(&view, *address, entry)).transpose()
    }

    /// A registered identity as the block at `height` left it; `None` when it was not registered by then.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn identity_at(&self, address: &Address, height: Height) -> Result<Option<Identity>, StateError> {
        let from = indexed(address.as_bytes(), height.get());
        let prefix = address.as_bytes().as_slice();
        let scan =
            Scan { table: Table::IdentityVersions, prefix, from: Some(&from), order: Order::Descending };
        let mut found = None;
        self.store.scan(scan, &mut |_, value| {
            found = Some(decode(value).map_err(|error| StateError::damaged("identity version", error)));
            ControlFlow::Break(())
        })?;
        let Some(entry) = found.transpose()? else { return Ok(None) };
        with_keys(&self.committed(), *address, entry).map(Some)
    }

    /// The height of the last final block whose time is not after `time_ms`; `None` before the genesis.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn height_at_time(&self, time_ms: u64) -> Result<Option<Height>, StateError> {
        // Block times rise strictly. Invariant: the block at `low` is early enough, the one at `high` is not.
        let is_early = |height: u64| -> Result<bool, StateError> {
            let header = self.header(Height::new(height))?;
            Ok(header.is_some_and(|header| header.time_ms <= time_ms))
        };
        if !is_early(0)? {
            return Ok(None);
        }
        let (mut low, mut high) = (0, self.tip().header.height.get().saturating_add(1));
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            if is_early(middle)? { low = middle } else { high = middle }
        }
        Ok(Some(Height::new(low)))
    }

    /// What happened to an identity, oldest first, from `cursor` on, at most `limit` events (never more than
    /// [`QUERY_PAGE_MAX`]).
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn identity_events(
        &self,
        address: &Address,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Part<IdentityEvent>, StateError> {
        let part = self.listed(Table::IdentityHistory, address.as_bytes(), cursor, limit)?;
        let items = part
            .items
            .iter()
            .map(|key| {
                let place = key.get(32..).unwrap_or_default();
                let bytes = self.store.get(Table::IdentityEvents, place)?;
                let bytes = bytes.ok_or_else(|| StateError::damaged("identity event", "it is missing"))?;
                decode(&bytes).map_err(|error| StateError::damaged("identity event", error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Part { items, next: part.next })
    }

    /// What happened to identities in the block at `height`, in order.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn events_of_block(&self, height: Height) -> Result<Vec<IdentityEvent>, StateError> {
        let prefix = number(height.get());
        let mut events = Ok(Vec::new());
        let scan =
            Scan { table: Table::IdentityEvents, prefix: &prefix, from: None, order: Order::Ascending };
        self.store.scan(scan, &mut |_, value| match (decode(value), &mut events) {
            (Ok(event), Ok(all)) => {
                all.push(event);
                ControlFlow::Continue(())
            }
            (Err(error), _) => {
                events = Err(StateError::damaged("identity event", error));
                ControlFlow::Break(())
            }
            (Ok(_), Err(_)) => ControlFlow::Break(()),
        })?;
        events
    }

    /// What `principal` ever granted `delegate`.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn delegation(
        &self,
        principal: Address,
        delegate: Address,
    ) -> Result<Option<Delegation>, StateError> {
        let view = self.committed();
        let entry = view.entry(&StateKey::Delegation { principal, delegate }, "delegation")?;
        let usage = view.entry(&StateKey::DelegationUsage { principal, delegate }, "usage")?;
        Ok(entry.map(|entry| Delegation { principal, delegate, entry, usage: usage.unwrap_or_default() }))
    }

    /// What an agent has used of its mandate.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn agent_usage(&self, agent: Address) -> Result<Usage, StateError> {
        Ok(self.committed().entry(&StateKey::AgentUsage(agent), "usage")?.unwrap_or_default())
    }

    /// The delegations that an identity gave or received, ended ones included, in the order of the other
    /// side's address.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn delegations(
        &self,
        address: &Address,
        side: Side,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Part<Delegation>, StateError> {
        let prefix = match side {
            Side::Given => [&[StateKey::DELEGATION_PREFIX], address.as_bytes().as_slice()].concat(),
            Side::Received => received_prefix(address),
        };
        let part = self.listed(Table::StateKeys, &prefix, cursor, limit)?;
        let mut items = Vec::new();
        for key in &part.items {
            let other = last_id(key).map(Address::new);
            let other = other.ok_or_else(|| StateError::damaged("state key", "it is too short"))?;
            items.extend(match side {
                Side::Given => self.delegation(*address, other)?,
                Side::Received => self.delegation(other, *address)?,
            });
        }
        Ok(Part { items, next: part.next })
    }

    /// A proposal, open or ended.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn proposal(&self, account: Address, id: TxId) -> Result<Option<Proposal>, StateError> {
        let entry = self.committed().entry(&StateKey::Proposal { account, id }, "proposal")?;
        Ok(entry.map(|entry| Proposal { id, account, entry }))
    }

    /// Every proposal of an identity, ended ones included, in the order of their ids.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn proposals(
        &self,
        account: &Address,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Part<Proposal>, StateError> {
        let prefix = [&[StateKey::PROPOSAL_PREFIX], account.as_bytes().as_slice()].concat();
        let part = self.listed(Table::StateKeys, &prefix, cursor, limit)?;
        let mut items = Vec::new();
        for key in &part.items {
            let id = last_id(key).map(TxId::new);
            let id = id.ok_or_else(|| StateError::damaged("state key", "it is too short"))?;
            items.extend(self.proposal(*account, id)?);
        }
        Ok(Part { items, next: part.next })
    }

    /// The records of proofs that name `proof`, by seq, from `from` on; at most `limit` (never more than
    /// [`QUERY_PAGE_MAX`]), and the seq to go on from.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn records_naming(
        &self,
        proof: &ProofId,
        naming: Naming,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<Record>, Option<u64>), StateError> {
        let link = match naming {
            Naming::Continues => Link::Previous,
            Naming::SpeaksOf => Link::Subject,
        };
        let prefix = link_prefix(link, proof);
        let cursor = indexed(&prefix, from);
        let part = self.listed(Table::Links, &prefix, Some(&cursor), limit)?;
        let mut records = Vec::new();
        for key in &part.items {
            records.extend(self.record(indexed_seq(key)?)?);
        }
        Ok((records, part.next.map(|key| indexed_seq(&key)).transpose()?))
    }

    /// What the newest state with a certificate of its own holds under `key`, with the proof. `None` while
    /// only block 0 exists, or while the newest certificate names no block that is stored.
    ///
    /// # Errors
    /// As [`State::identity`].
    pub fn prove_state(&self, key: &StateKey) -> Result<Option<ProvenState>, StateError> {
        for _ in 0..PROOF_TRIES {
            let head = self.live.read().head.clone();
            let Some(top) = self.newest_final()? else { return Ok(None) };
            if top.header.height != head.header.height {
                // A commit is under way, or was cut short by a crash and is about to be finished.
                continue;
            }
            let view = self.committed();
            let value = view.bytes_of(key.hash())?;
            let proof = authenticated::prove(&view, head.tree_version, key.hash(), value)?;
            if proof.verify(key, top.header.state_root).is_ok() {
                return Ok(Some(ProvenState { top, proof }));
            }
        }
        Ok(None)
    }

    /// Keys of a table that begin with `prefix`, from `cursor` on.
    fn listed(
        &self,
        table: Table,
        prefix: &[u8],
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<Part<Vec<u8>>, StateError> {
        let limit = limit.clamp(1, QUERY_PAGE_MAX);
        let (mut items, mut next) = (Vec::new(), None);
        // A cursor of another list would lead elsewhere.
        let from = cursor.filter(|cursor| cursor.starts_with(prefix));
        let scan = Scan { table, prefix, from, order: Order::Ascending };
        self.store.scan(scan, &mut |key, _| {
            if items.len() >= limit {
                next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            items.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(Part { items, next })
    }
}

fn with_keys(view: &View<'_>, address: Address, entry: IdentityEntry) -> Result<Identity, StateError> {
    let keys = entry.keys.iter().map(|held| view.public_key(&held.address)).collect::<Result<_, _>>()?;
    Ok(Identity { address, entry, keys })
}

/// The last 32 bytes of a key.
fn last_id(key: &[u8]) -> Option<Hash> {
    let at = key.len().checked_sub(32)?;
    key.get(at..).and_then(|bytes| bytes.try_into().ok()).map(Hash)
}
