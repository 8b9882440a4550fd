//! Opening: creating the genesis state, or making sure the stored one is whole. Nothing is served from a
//! folder whose recomputed roots differ from its header.

use std::sync::Arc;

use cairn_types::block::HEADER_VERSION;
use cairn_types::log::TreeHash;
use cairn_types::state_key::state_value;
use cairn_types::tree::Peaks;
use cairn_types::{
    Block, ChainId, Genesis, Hash, Header, Height, Params, StateKey, ValidatorSet, decode, encode,
};
use jmt::KeyHash;
use jmt::storage::{Node, NodeKey};

use crate::authenticated::{self, NodeSource, read_value};
use crate::batch::Batch;
use crate::commit::{put_block, put_tree, stored_tip};
use crate::convert::{SCHEMA_BEFORE, convert};
use crate::epochs::load_rules;
use crate::error::StateError;
use crate::governance::Rules;
use crate::layout::{META_CHAIN, META_SCHEMA, META_TIP, SCHEMA_VERSION, SCHEMA_WITHOUT_FILES, StoredTip};
use crate::logs::{Lane, Logs};
use crate::overlay::{Effects, Head, Overlay, View};
use crate::query::Reader;
use crate::storage::{Durability, ReadStorage, Storage, Table};

/// The rules of epoch 0, and the newest committed block of `store`, verified; created from `genesis` when the store is empty.
pub(crate) fn open(store: &dyn Storage, genesis: &Genesis) -> Result<(Arc<Rules>, Head), StateError> {
    let (block0, rules) = genesis_block(genesis)?;
    match store.get(Table::Meta, META_SCHEMA)? {
        None => create(store, &block0, rules.chain)?,
        Some(bytes) => check_owner(store, &bytes, rules.chain)?,
    }
    let head = load(store, &rules)?;
    check_head(store, &head, &block0.head.header)?;
    Ok((rules, head))
}

/// Block 0 as an overlay over nothing.
fn genesis_block(genesis: &Genesis) -> Result<(Overlay, Arc<Rules>), StateError> {
    let bad = |fault: &dyn ToString| StateError::BadGenesis { why: fault.to_string() };
    let set = genesis.validator_set().map_err(|fault| bad(&fault))?;
    let values = vec![
        (StateKey::Params.hash(), state_value(&genesis.params)),
        (StateKey::Admission.hash(), state_value(&genesis.admission)),
        (StateKey::Validators.hash(), state_value(&set)),
    ];
    let (state_root, tree) = authenticated::update(&Nothing, None, 0, values)?;
    let header = genesis.header(state_root).map_err(|fault| bad(&fault))?;
    let block = Arc::new(Block::new(header.clone(), Vec::new()));
    let rules = Arc::new(Rules {
        chain: genesis.chain(),
        params: genesis.params,
        admission: genesis.admission,
        set_digest: set.digest(),
        set: Arc::new(set),
        protocol: HEADER_VERSION,
        previous: None,
    });
    let head = Head {
        id: block.id(),
        header: Arc::new(header),
        logs: Logs::default(),
        tree_version: 0,
        rules: rules.clone(),
        next: None,
    };
    let effects = Effects { tree, ..Effects::default() };
    Ok((Overlay { block, head, transactions: Vec::new(), effects }, rules))
}

/// The state before the genesis.
pub(crate) struct Nothing;

impl NodeSource for Nothing {
    fn node(&self, _: &NodeKey) -> Result<Option<Node>, StateError> {
        Ok(None)
    }

    fn value(&self, _: &KeyHash) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }
}

fn create(store: &dyn Storage, block0: &Overlay, chain: ChainId) -> Result<(), StateError> {
    if store.get(Table::Meta, META_TIP)?.is_some() {
        return Err(StateError::damaged("schema version", "it is missing from a folder that has blocks"));
    }
    let mut batch = Batch::new();
    batch.put(Table::Meta, META_SCHEMA, &SCHEMA_VERSION.to_le_bytes());
    batch.put(Table::Meta, META_CHAIN, chain.as_bytes());
    put_block(&mut batch, block0);
    put_tree(&mut batch, block0);
    batch.put(Table::Meta, META_TIP, &encode(&stored_tip(&block0.head)));
    Ok(store.write(&batch, Durability::Synced)?)
}

fn check_owner(store: &dyn Storage, schema: &[u8], expected: ChainId) -> Result<(), StateError> {
    let schema: u32 = decode(schema).map_err(|error| StateError::damaged("schema version", error))?;
    if ![SCHEMA_VERSION, SCHEMA_WITHOUT_FILES, SCHEMA_BEFORE].contains(&schema) {
        return Err(StateError::Schema { found: schema, expected: SCHEMA_VERSION });
    }
    let chain = store.get(Table::Meta, META_CHAIN)?.unwrap_or_default();
    let found: ChainId = decode(&chain).map_err(|error| StateError::damaged("genesis hash", error))?;
    if found != expected {
        return Err(StateError::WrongGenesis { found, expected });
    }
    match schema {
        SCHEMA_BEFORE => convert(store),
        // An older build must not take the place of a body for a body.
        SCHEMA_WITHOUT_FILES => {
            let mut batch = Batch::new();
            batch.put(Table::Meta, META_SCHEMA, &SCHEMA_VERSION.to_le_bytes());
            Ok(store.write(&batch, Durability::Synced)?)
        }
        _ => Ok(()),
    }
}

fn load(store: &dyn ReadStorage, genesis: &Arc<Rules>) -> Result<Head, StateError> {
    let bytes =
        store.get(Table::Meta, META_TIP)?.ok_or_else(|| StateError::damaged("tip", "it is missing"))?;
    let tip: StoredTip = decode(&bytes).map_err(|error| StateError::damaged("tip", error))?;
    let header = Reader { store }
        .header(tip.height)?
        .ok_or_else(|| StateError::damaged("header", format!("none at the tip's height {}", tip.height)))?;
    if header.id() != tip.id {
        return Err(StateError::damaged(
            "header",
            format!("the one at height {} is not the tip's", tip.height),
        ));
    }
    let logs = Logs { anchors: tip.anchors, anchors_sha256: tip.anchors_sha256, history: tip.history };
    let rules_of = |epoch| {
        load_rules(store, genesis, epoch)?
            .ok_or_else(|| StateError::damaged("epoch", format!("what epoch {epoch} is run by is missing")))
    };
    let rules = rules_of(header.epoch)?;
    let next = header.ends_epoch().then(|| rules_of(header.epoch.next())).transpose()?;
    let tree_version = tip.tree_version;
    Ok(Head { id: tip.id, header: Arc::new(header), logs, tree_version, rules, next })
}

/// Recomputes every root at the tip from what is stored.
fn check_head(store: &dyn ReadStorage, head: &Head, block0: &Header) -> Result<(), StateError> {
    let reader = Reader { store };
    let header = &head.header;
    let compare = |height: Height, what: &'static str, found: Hash, expected: Hash| {
        if found == expected {
            Ok(())
        } else {
            Err(StateError::RootMismatch { height, what, found, expected })
        }
    };
    let stored0 = reader.header(Height::ZERO)?.map_or(Hash::default(), |header| header.id().hash());
    compare(Height::ZERO, "block id", stored0, block0.id().hash())?;
    let anchors =
        stored_peaks(header.anchors_size, |level, index| reader.anchor_node(level, index, Lane::Blake3))?;
    let sha256 =
        stored_peaks(header.anchors_size, |level, index| reader.anchor_node(level, index, Lane::Sha256))?;
    let history = stored_peaks(header.height.get(), |level, index| reader.history_node(level, index))?;
    let height = header.height;
    compare(height, "anchors root", anchors.root(TreeHash::Anchors), header.anchors_root)?;
    compare(height, "SHA-256 anchors root", sha256.root(TreeHash::AnchorsSha256), header.anchors_sha256)?;
    compare(height, "history root", history.root(TreeHash::History), header.history_root)?;
    let logs = Logs { anchors, anchors_sha256: sha256, history };
    if logs != head.logs {
        return Err(StateError::damaged("log peaks", "they are not those of the stored nodes"));
    }
    let view = View::of(store);
    compare(height, "state root", authenticated::root(&view, head.tree_version)?, header.state_root)?;
    // The map already holds what the next block is run by.
    let next = head.rules_after();
    let set = view.bytes_of(StateKey::Validators.hash())?.unwrap_or_default();
    let set: ValidatorSet = read_value("validator set", &set)?;
    compare(height, "validator set", head.rules.set_digest, header.validators)?;
    compare(height, "next validator set", set.digest(), header.next_validators)?;
    compare(height, "next validator set", next.set_digest, header.next_validators)?;
    let params: Params =
        read_value("parameters", &view.bytes_of(StateKey::Params.hash())?.unwrap_or_default())?;
    compare(height, "parameters", next.params.digest(), params.digest())?;
    let protocol = view.bytes_of(StateKey::Protocol.hash())?;
    let protocol =
        protocol.map_or(Ok(HEADER_VERSION), |bytes| read_value::<u8>("protocol version", &bytes))?;
    if protocol != next.protocol {
        return Err(StateError::damaged("protocol version", "it is not that of the epoch in force"));
    }
    Ok(())
}

/// The peaks of a log of `size` leaves from its stored nodes.
fn stored_peaks(
    size: u64,
    mut node: impl FnMut(u8, u64) -> Result<Option<Hash>, StateError>,
) -> Result<Peaks, StateError> {
    let mut peaks = Vec::new();
    let mut start = 0u64;
    for level in (0u8..64).rev() {
        let width = 1u64.checked_shl(u32::from(level)).unwrap_or(0);
        if size & width == 0 {
            continue;
        }
        let index = start.checked_shr(u32::from(level)).unwrap_or(0);
        let peak = node(level, index)?
            .ok_or_else(|| StateError::damaged("log", format!("node {index} of level {level} is missing")))?;
        peaks.push(peak);
        start = start.saturating_add(width);
    }
    Peaks::from_parts(size, peaks).ok_or_else(|| StateError::damaged("log", "wrong number of peaks"))
}
