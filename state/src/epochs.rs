//! Epochs on disk: what each is run by, and the commit proof that ended it. Both are kept for ever, for
//! hand-overs and for whoever was away.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::receipt::EpochHandover;
use cairn_types::{
    Block, BlockId, Epoch, EpochProof, Header, Height, Motion, Params, Regime, ValidatorSet, decode, encode,
};

use crate::batch::Batch;
use crate::error::StateError;
use crate::governance::Rules;
use crate::layout::number;
use crate::overlay::{Head, View};
use crate::snapshot::SnapshotHandover;
use crate::state::State;
use crate::storage::{ReadStorage, Table};

/// What an epoch is run by, as stored under its number.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
struct StoredEpoch {
    set: ValidatorSet,
    params: Params,
    protocol: u8,
    /// Height of its first block: one above the last block of the epoch before.
    first: Height,
}

/// The protocol version stored for an epoch of which only the validators are known, because the node began with a
/// snapshot of a later one.
const RULES_UNKNOWN: u8 = 0;

/// Where the epoch in force began, and what it is run by.
#[derive(Clone, Debug)]
pub struct EpochBegin {
    /// Its validators.
    pub set: Arc<ValidatorSet>,
    /// The validators of the epoch before; `None` in epoch 0.
    pub previous: Option<Arc<ValidatorSet>>,
    /// The network's parameters.
    pub params: Params,
    /// The protocol version of its headers.
    pub protocol: u8,
    /// The block it starts from: block 0, or the last block of the epoch before.
    pub root: Header,
    /// Whether that block became final through a carrier.
    pub root_is_carried: bool,
}

/// Writes what `last`, an epoch's last block, leads to.
pub(crate) fn put_epoch(batch: &mut Batch, last: &Head, next: &Rules, proof: &EpochProof) {
    let first = last.header.height.next();
    let stored =
        StoredEpoch { set: (*next.set).clone(), params: next.params, protocol: next.protocol, first };
    put(batch, &stored, proof);
}

/// Writes what a snapshot says of the ends of epochs. `rules` are those of the last epoch; of those before only the
/// validators are known.
pub(crate) fn put_handovers(batch: &mut Batch, handovers: &[SnapshotHandover], rules: (Params, u8)) {
    for (left, handover) in (0..handovers.len()).rev().zip(handovers) {
        let Some(last) = handover.proof.headers.first() else { continue };
        let (params, protocol) = if left == 0 { rules } else { (rules.0, RULES_UNKNOWN) };
        let stored = StoredEpoch { set: handover.next.clone(), params, protocol, first: last.height.next() };
        put(batch, &stored, &handover.proof);
        // An epoch starts from this header, which may lie below the replay window.
        let height = number(last.height.get());
        batch.put(Table::Headers, &height, &encode(last));
        batch.put(Table::Blocks, last.id().as_bytes(), &height);
    }
}

fn put(batch: &mut Batch, epoch: &StoredEpoch, proof: &EpochProof) {
    batch.put(Table::Epochs, &number(epoch.set.epoch().get()), &encode(epoch));
    batch.put(Table::EpochProofs, &number(proof.epoch().get()), &encode(proof));
}

/// The rules of an epoch; `genesis` are those of epoch 0. `None` for one that is not stored.
pub(crate) fn load_rules(
    store: &dyn ReadStorage,
    genesis: &Arc<Rules>,
    epoch: Epoch,
) -> Result<Option<Arc<Rules>>, StateError> {
    let Some(before) = epoch.previous() else { return Ok(Some(Arc::clone(genesis))) };
    let Some(stored) = load(store, epoch)? else { return Ok(None) };
    let previous = match before.previous() {
        None => Arc::clone(&genesis.set),
        Some(_) => {
            let missing = || StateError::damaged("epoch", format!("epoch {before} is missing"));
            Arc::new(load(store, before)?.ok_or_else(missing)?.set)
        }
    };
    Ok(Some(Arc::new(Rules {
        params: stored.params,
        set_digest: stored.set.digest(),
        set: Arc::new(stored.set),
        protocol: stored.protocol,
        previous: Some(previous),
        ..(**genesis).clone()
    })))
}

fn load(store: &dyn ReadStorage, epoch: Epoch) -> Result<Option<StoredEpoch>, StateError> {
    let bytes = store.get(Table::Epochs, &number(epoch.get()))?;
    bytes.map(|bytes| decode(&bytes).map_err(|error| StateError::damaged("epoch", error))).transpose()
}

impl State {
    /// The epoch whose validators sign the next block.
    pub fn epoch(&self) -> Epoch {
        self.rules().set.epoch()
    }

    /// The protocol version of the next block's header.
    pub fn protocol(&self) -> u8 {
        self.rules().protocol
    }

    /// What the epoch in force is run by, and where it began.
    ///
    /// # Errors
    /// When storage fails, or the block that the epoch starts from is missing.
    pub fn epoch_begin(&self) -> Result<EpochBegin, StateError> {
        let rules = self.rules();
        let epoch = rules.set.epoch();
        let (height, root_is_carried) = match epoch.previous() {
            None => (Height::ZERO, false),
            Some(before) => {
                let proof = self.epoch_proof(before)?.ok_or_else(|| missing_proof(before))?;
                let last = proof.last_block().map_err(|fault| StateError::damaged("epoch proof", fault))?;
                (last.height, proof.is_carried())
            }
        };
        let root = self
            .header(height)?
            .ok_or_else(|| StateError::damaged("header", format!("none at height {height}")))?;
        Ok(EpochBegin {
            set: Arc::clone(&rules.set),
            previous: rules.previous.clone(),
            params: rules.params,
            protocol: rules.protocol,
            root,
            root_is_carried,
        })
    }

    /// What an epoch is or was run by; `None` for one that has not begun.
    ///
    /// # Errors
    /// When storage fails.
    pub fn regime_of(&self, epoch: Epoch) -> Result<Option<Regime>, StateError> {
        let rules = self.rules();
        if epoch == rules.set.epoch() {
            return Ok(Some(rules.regime()));
        }
        if epoch > rules.set.epoch() {
            return Ok(None);
        }
        let rules = load_rules(self.store.as_ref(), &self.genesis, epoch)?;
        if rules.as_ref().is_some_and(|rules| rules.protocol == RULES_UNKNOWN) {
            let what = format!("the parameters of epoch {epoch}, which lies below this node's snapshot,");
            return Err(StateError::Pruned { what, earliest: self.kept().blocks_from });
        }
        Ok(rules.map(|rules| rules.regime()))
    }

    /// Height of an epoch's first block; `None` for one that has not begun. That block may not exist yet.
    ///
    /// # Errors
    /// When storage fails.
    pub fn epoch_first(&self, epoch: Epoch) -> Result<Option<Height>, StateError> {
        if epoch == Epoch::ZERO {
            return Ok(Some(Height::ZERO));
        }
        Ok(load(self.store.as_ref(), epoch)?.map(|stored| stored.first))
    }

    /// The commit proof that ended an epoch; `None` for one that has not ended.
    ///
    /// # Errors
    /// When storage fails.
    pub fn epoch_proof(&self, epoch: Epoch) -> Result<Option<EpochProof>, StateError> {
        let bytes = self.store.get(Table::EpochProofs, &number(epoch.get()))?;
        bytes
            .map(|bytes| decode(&bytes).map_err(|error| StateError::damaged("epoch proof", error)))
            .transpose()
    }

    /// A carrier of the newest epoch that ended, by its id. It is no part of the chain, but whoever holds its
    /// certificate alone asks for it.
    ///
    /// # Errors
    /// When storage fails.
    pub fn carrier(&self, id: &BlockId) -> Result<Option<Block>, StateError> {
        let Some(ended) = self.epoch().previous() else { return Ok(None) };
        let headers = self.epoch_proof(ended)?.map(|proof| proof.headers).unwrap_or_default();
        let found = headers.into_iter().skip(1).find(|header| header.id() == *id);
        Ok(found.map(|header| Block::new(header, Vec::new())))
    }

    /// The hand-overs from epoch `from` on up to `until`'s set, at most `limit` of them: a 100-validator set
    /// and its certificate weigh half a megabyte.
    ///
    /// # Errors
    /// When storage fails, or something that must be there is missing.
    pub fn handovers(
        &self,
        from: Epoch,
        until: Epoch,
        limit: usize,
    ) -> Result<Vec<EpochHandover>, StateError> {
        let mut handovers = Vec::new();
        let mut epoch = from;
        while epoch < until.min(self.epoch()) && handovers.len() < limit {
            let proof = self.epoch_proof(epoch)?.ok_or_else(|| missing_proof(epoch))?;
            let next = epoch.next();
            let set = self
                .validators_of(next)?
                .ok_or_else(|| StateError::damaged("epoch", format!("epoch {next} is missing")))?;
            handovers.push(EpochHandover {
                headers: proof.headers.iter().map(encode).collect(),
                certificate: encode(proof.certificate.as_ref()),
                validators: encode(set.as_ref()),
            });
            epoch = next;
        }
        Ok(handovers)
    }

    /// The motions open at the tip.
    ///
    /// # Errors
    /// When storage fails.
    pub fn motions(&self) -> Result<Vec<Motion>, StateError> {
        let time_ms = self.tip().header.time_ms;
        let view = View::of(self.store.as_ref());
        Ok(view.motions()?.into_iter().filter(|motion| motion.expires_ms > time_ms).collect())
    }

    /// The rules of the next block.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(self.live.read().head.rules_after())
    }
}

fn missing_proof(epoch: Epoch) -> StateError {
    StateError::damaged("epoch proof", format!("that of epoch {epoch} is missing"))
}
