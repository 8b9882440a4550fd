//! Uncommitted blocks: what each would write, and reading through a chain of them.

use std::collections::HashMap;
use std::sync::Arc;

use borsh::BorshDeserialize;
use cairn_types::event::IdentityEvent;
use cairn_types::identity::IdentityEntry;
use cairn_types::{
    Address, Block, BlockId, Hash, Header, Motion, ProofId, ProofKind, PublicKey, StateKey, TxId,
};
use jmt::KeyHash;
use jmt::storage::{Node, NodeKey};

use crate::authenticated::{NodeSource, TreeWrites, node_key, read_value};
use crate::error::StateError;
use crate::governance::Rules;
use crate::keys::Keys;
use crate::landed::Landed;
use crate::layout::TxLocation;
use crate::logs::{Logs, StoredNode};
use crate::storage::{ReadStorage, Table};

/// A block and everything needed to append to it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: BlockId,
    pub(crate) header: Arc<Header>,
    pub(crate) logs: Logs,
    /// Height of the last block that changed the authenticated map.
    pub(crate) tree_version: u64,
    /// The rules it was executed under.
    pub(crate) rules: Arc<Rules>,
    /// The next epoch's rules, when it ends its epoch or carries the end.
    pub(crate) next: Option<Arc<Rules>>,
}

impl Head {
    /// The rules in force after it: those of the next epoch once its own has ended.
    pub(crate) fn rules_after(&self) -> &Arc<Rules> {
        self.next.as_ref().unwrap_or(&self.rules)
    }
}

/// A record to store and what its indexes need.
#[derive(Clone, Debug)]
pub(crate) struct NewRecord {
    pub(crate) seq: u64,
    pub(crate) kind: ProofKind,
    pub(crate) sender: Address,
    pub(crate) proof: [u8; 32],
    pub(crate) root: [u8; 32],
    /// The References prefix; `None` for an empty reference.
    pub(crate) reference: Option<[u8; 32]>,
    /// The proofs it names, and how.
    pub(crate) previous: Option<ProofId>,
    pub(crate) subject: Option<ProofId>,
    pub(crate) bytes: Vec<u8>,
}

/// Everything executing a block would write, before its header exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    pub(crate) locations: HashMap<TxId, TxLocation>,
    pub(crate) records: Vec<NewRecord>,
    pub(crate) log_nodes: Vec<StoredNode>,
    pub(crate) tree: TreeWrites,
    pub(crate) registry: RegistryEffects,
}

/// What a block stores about identities beside the authenticated map.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegistryEffects {
    /// Every identity that changed, as the block leaves it.
    pub(crate) identities: Vec<(Address, IdentityEntry)>,
    /// Keys of the map that are found by listing.
    pub(crate) listed: Vec<StateKey>,
    pub(crate) public_keys: HashMap<Address, PublicKey>,
    /// In the order of the block.
    pub(crate) events: Vec<IdentityEvent>,
}

/// An executed, uncommitted block.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) block: Arc<Block>,
    pub(crate) head: Head,
    /// The transactions' ids, in block order.
    pub(crate) transactions: Vec<TxId>,
    pub(crate) effects: Effects,
}

/// The state after some block: its overlay, its ancestors' overlays, and the committed tables.
pub(crate) struct View<'a> {
    pub(crate) store: &'a dyn ReadStorage,
    /// Newest first.
    pub(crate) chain: Vec<Arc<Overlay>>,
    /// What spares questions to `store`, where that is the newest state.
    pub(crate) memory: Option<Memory<'a>>,
}

/// What is known without asking the tables.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    pub(crate) landed: &'a Landed,
    pub(crate) keys: &'a Keys,
}

impl<'a> View<'a> {
    /// What the tables say and nothing else.
    pub(crate) fn of(store: &'a dyn ReadStorage) -> Self {
        Self { store, chain: Vec::new(), memory: None }
    }

    /// Where a transaction that expires then landed, if it did.
    pub(crate) fn transaction(&self, id: &TxId, expires_ms: u64) -> Result<Option<TxLocation>, StateError> {
        if let Some(found) = self.chain.iter().find_map(|overlay| overlay.effects.locations.get(id)) {
            return Ok(Some(*found));
        }
        if self.memory.is_some_and(|memory| memory.landed.excludes(id, expires_ms)) {
            return Ok(None);
        }
        read_location(self.store, id)
    }

    pub(crate) fn identity(&self, address: Address) -> Result<Option<IdentityEntry>, StateError> {
        self.entry(&StateKey::Identity(address), "identity")
    }

    /// What the authenticated map holds under `key`.
    pub(crate) fn entry<T: BorshDeserialize>(
        &self,
        key: &StateKey,
        what: &'static str,
    ) -> Result<Option<T>, StateError> {
        let bytes = self.bytes_of(key.hash())?;
        bytes.map(|bytes| read_value(what, &bytes)).transpose()
    }

    /// The bytes of a value.
    pub(crate) fn bytes_of(&self, key: Hash) -> Result<Option<Vec<u8>>, StateError> {
        self.value(&KeyHash(key.0))
    }

    /// The open motions, expired ones included until the next step of governance.
    pub(crate) fn motions(&self) -> Result<Vec<Motion>, StateError> {
        let bytes = self.bytes_of(StateKey::Motions.hash())?;
        bytes.map_or_else(|| Ok(Vec::new()), |bytes| read_value("motions", &bytes))
    }

    /// The key with this address. Every key of an identity is stored.
    pub(crate) fn public_key(&self, address: &Address) -> Result<PublicKey, StateError> {
        if let Some(key) =
            self.chain.iter().find_map(|overlay| overlay.effects.registry.public_keys.get(address))
        {
            return Ok(key.clone());
        }
        if let Some(key) = self.memory.and_then(|memory| memory.keys.get(address)) {
            return Ok(key);
        }
        let bytes = self
            .store
            .get(Table::PublicKeys, address.as_bytes())?
            .ok_or_else(|| StateError::damaged("public key", format!("the key of {address} is missing")))?;
        let key: PublicKey =
            cairn_types::decode(&bytes).map_err(|error| StateError::damaged("public key", error))?;
        if key.address() != *address {
            let why = format!("{} is stored as the key of {address}", key.address());
            return Err(StateError::damaged("public key", why));
        }
        if let Some(memory) = self.memory {
            memory.keys.keep(key.clone());
        }
        Ok(key)
    }
}

pub(crate) fn read_location(store: &dyn ReadStorage, id: &TxId) -> Result<Option<TxLocation>, StateError> {
    let bytes = store.get(Table::Transactions, id.as_bytes())?;
    bytes
        .map(|bytes| cairn_types::decode(&bytes).map_err(|error| StateError::damaged("transaction", error)))
        .transpose()
}

impl NodeSource for View<'_> {
    fn node(&self, key: &NodeKey) -> Result<Option<Node>, StateError> {
        if let Some(node) = self.chain.iter().find_map(|overlay| overlay.effects.tree.nodes.get(key)) {
            return Ok(Some(node.clone()));
        }
        let bytes = self.store.get(Table::TreeNodes, &node_key(key))?;
        bytes
            .map(|bytes| cairn_types::decode(&bytes).map_err(|error| StateError::damaged("tree node", error)))
            .transpose()
    }

    fn value(&self, key: &KeyHash) -> Result<Option<Vec<u8>>, StateError> {
        if let Some(value) = self.chain.iter().find_map(|overlay| overlay.effects.tree.values.get(key)) {
            return Ok(Some(value.clone()));
        }
        Ok(self.store.get(Table::TreeValues, &key.0)?)
    }
}
