//! The epoch in force: its validators, its parameters and this node's part in it. Everyone reads it afresh for
//! each piece of work, so an epoch turns under a running node.

use std::sync::Arc;

use cairn_consensus::Config as ReplicaConfig;
use cairn_state::{EpochBegin, State, StateError};
use cairn_types::block::HEADER_VERSION;
use cairn_types::{Address, BlockId, ChainId, Epoch, Header, Params, PublicKey, ValidatorSet};
use parking_lot::RwLock;

use super::keys::{Signer, ValidatorKeys};

/// One epoch, as this node takes part in it.
pub(crate) struct EpochInForce {
    /// Its validators.
    pub(crate) set: Arc<ValidatorSet>,
    /// Those of the epoch before, which may still have to be answered.
    pub(crate) previous: Option<Arc<ValidatorSet>>,
    /// The network's parameters.
    pub(crate) params: Params,
    /// The block that the implicit certificate of view 0 names.
    pub(crate) root: Header,
    /// That block's id, which costs a hash.
    pub(crate) root_id: BlockId,
    /// Whether the root became final through a carrier.
    root_is_carried: bool,
    /// Our key in it; `None` for a follower.
    pub(crate) signer: Option<Arc<Signer>>,
}

/// This build does not know the protocol version of the epoch that begins.
#[derive(Debug, thiserror::Error)]
#[error(
    "epoch {epoch} runs protocol version {needed}, and this build of cairn knows versions up to {HEADER_VERSION}: \
     install a newer cairn and start it on the same home. Everything up to height {height} is final and on disk"
)]
pub(crate) struct ProtocolTooNew {
    /// The epoch that begins.
    pub(crate) epoch: Epoch,
    /// Its protocol version.
    pub(crate) needed: u8,
    /// The last block of the epoch before.
    pub(crate) height: cairn_types::Height,
}

/// Why an epoch cannot be begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotBegin {
    /// Storage.
    #[error(transparent)]
    State(#[from] StateError),
    /// This build is too old.
    #[error(transparent)]
    Protocol(#[from] ProtocolTooNew),
}

impl EpochInForce {
    /// The epoch that the committed state is in.
    ///
    /// # Errors
    /// When the state cannot be read, or this build does not know the epoch's protocol version.
    pub(crate) fn of(state: &State, keys: &ValidatorKeys) -> Result<Self, CannotBegin> {
        let EpochBegin { set, previous, params, protocol, root, root_is_carried } = state.epoch_begin()?;
        if protocol > HEADER_VERSION {
            let (epoch, height) = (set.epoch(), root.height);
            return Err(ProtocolTooNew { epoch, needed: protocol, height }.into());
        }
        let signer = keys.signer_in(&set).map(Arc::new);
        Ok(Self { set, previous, params, root_id: root.id(), root, root_is_carried, signer })
    }

    /// Its number.
    pub(crate) fn number(&self) -> Epoch {
        self.set.epoch()
    }

    /// The power of those among `validators` that belong to it. Each is to be named once.
    pub(crate) fn power_of<'a>(&self, validators: impl Iterator<Item = &'a Address>) -> u64 {
        validators.filter_map(|address| self.set.index_of(address)).map(|index| self.set.power(index)).sum()
    }

    /// What a replica of it is made of.
    pub(crate) fn replica_config(&self, chain: ChainId) -> ReplicaConfig {
        ReplicaConfig {
            chain,
            set: Arc::clone(&self.set),
            me: self.signer.as_ref().map(|signer| signer.index),
            params: self.params,
            root: self.root.clone(),
            root_is_carried: self.root_is_carried,
        }
    }

    /// The keys under which a link of this validator may be proven: during a rotation the two ends may stand in
    /// different epochs.
    pub(crate) fn link_keys(&self, address: &Address) -> Vec<PublicKey> {
        let sets = [Some(&self.set), self.previous.as_ref()].into_iter().flatten();
        let key = |set: &Arc<ValidatorSet>| set.get(set.index_of(address)?).map(|it| it.key.clone());
        sets.filter_map(key).collect()
    }

    /// The validators that the mesh admits: of this epoch and of the one before. The next one's are not known
    /// before it begins.
    pub(crate) fn mesh(&self) -> Vec<Address> {
        let sets = [Some(&self.set), self.previous.as_ref()].into_iter().flatten();
        let mut addresses: Vec<Address> =
            sets.flat_map(|set| set.validators().iter().map(|it| it.address)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

/// The epoch in force, replaced whole when it turns.
pub(crate) struct InForce(RwLock<Arc<EpochInForce>>);

impl InForce {
    /// Begins with this one.
    pub(crate) fn new(epoch: EpochInForce) -> Self {
        Self(RwLock::new(Arc::new(epoch)))
    }

    /// The epoch now.
    pub(crate) fn get(&self) -> Arc<EpochInForce> {
        Arc::clone(&self.0.read())
    }

    /// The next epoch from now on.
    pub(crate) fn turn(&self, epoch: EpochInForce) {
        *self.0.write() = Arc::new(epoch);
    }
}
