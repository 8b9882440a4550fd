//! What does not change in a run: the chain, its validators, everybody's keys, and the verifier.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cairn_consensus::Outgoing;
use cairn_crypto::{TransactionFault, Verifier};
use cairn_state::{EpochBegin, MemoryStorage, State};
use cairn_types::genesis::{Admission, GENESIS_VERSION};
use cairn_types::{
    Address, AuthenticatedTx, ChainId, Epoch, Genesis, Header, Height, Message, Params, PublicKey, Signature,
    SignedTransaction, Validator, ValidatorIndex, ValidatorSet, Verified, encode,
};

use crate::epoch::{Part, Regime};
use crate::keys::{Signer, signers};
use crate::manifest::{Manifest, ParamsPlan, Signatures};

/// Virtual time 0 on a clock that is right, Unix ms: 2026-01-01.
pub(crate) const START_MS: u64 = 1_767_225_600_000;

/// A transaction that was authenticated, by the address of its only copy.
type Authenticated = HashMap<usize, (Arc<SignedTransaction>, Verified<AuthenticatedTx>)>;

/// The fixed parts of a run.
pub(crate) struct World {
    pub(crate) chain: ChainId,
    pub(crate) genesis: Genesis,
    pub(crate) params: Params,
    pub(crate) set: Arc<ValidatorSet>,
    pub(crate) root: Header,
    pub(crate) verifier: Verifier,
    pub(crate) signatures: Signatures,
    /// The first validators in their set's order, then the candidates: by number of their node.
    pub(crate) holders: Vec<Holder>,
    /// The first epoch.
    pub(crate) first: Rc<Regime>,
    /// Every epoch that has begun at an honest node, as the first of them saw it.
    regimes: RefCell<Vec<Rc<Regime>>>,
    pub(crate) clients: Vec<Signer>,
    /// Verdicts shared by all nodes: the same bytes verify the same everywhere.
    authenticated: RefCell<Authenticated>,
}

/// Whoever is or may become a validator.
pub(crate) struct Holder {
    /// Its first key's.
    pub(crate) address: Address,
    /// The keys it signs with, in turn: the second one only where validators change.
    keys: Vec<Signer>,
}

impl Holder {
    /// The key that it joins with.
    pub(crate) fn first(&self) -> &PublicKey {
        self.keys[0].public()
    }
}

/// The defaults, with what the plan changes.
pub(crate) fn params(plan: &ParamsPlan) -> Params {
    let usual = Params::default();
    let ms = |plan: Option<crate::units::Micros>, usual: u64| plan.map_or(usual, |time| time.as_ms());
    let timeout_base_ms = ms(plan.timeout_base, usual.timeout_base_ms);
    Params {
        timeout_base_ms,
        timeout_cap_ms: ms(plan.timeout_cap, usual.timeout_cap_ms.max(timeout_base_ms)),
        drift_ms: ms(plan.drift, usual.drift_ms.min(timeout_base_ms / 2)),
        lag_max_ms: ms(plan.lag_max, usual.lag_max_ms),
        interval_min_ms: ms(plan.interval_min, usual.interval_min_ms),
        interval_idle_ms: ms(plan.interval_idle, usual.interval_idle_ms),
        block_bytes_max: plan.block_bytes_max.unwrap_or(usual.block_bytes_max),
        ..usual
    }
}

/// The clients, and everybody who may sign with which keys, the first validators in their set's order. Keys are numbered so
/// that a network without changes has those it would have had without this.
fn keys(manifest: &Manifest) -> Result<(Vec<Signer>, Vec<Holder>), String> {
    let (n, clients, keyed) = (manifest.net.n, manifest.load.clients as usize, manifest.keyed());
    let rotated = if manifest.epochs.is_some() { keyed } else { 0 };
    let mut validators = signers(keyed + clients + rotated, manifest.signatures)?;
    let mut clients = validators.split_off(n);
    let mut candidates = clients.split_off(manifest.load.clients as usize);
    let mut second = candidates.split_off(keyed - n);
    validators.sort_by_key(|signer| signer.public().address());
    let all = validators.into_iter().chain(candidates);
    let holder = |first: Signer| Holder {
        address: first.public().address(),
        keys: std::iter::once(first).chain(second.pop()).collect(),
    };
    let holders = all.map(holder).collect();
    Ok((clients, holders))
}

impl World {
    /// The world of this manifest.
    ///
    /// # Errors
    /// When its parameters make no genesis.
    pub(crate) fn new(manifest: &Manifest) -> Result<Self, String> {
        let (clients, holders) = keys(manifest)?;
        let params = params(&manifest.params);
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "simulation".into(),
            time_ms: START_MS - 1,
            params,
            admission: Admission::Open,
            validators: holders
                .iter()
                .take(manifest.net.n)
                .map(|holder| Validator { address: holder.address, key: holder.first().clone(), power: 1 })
                .collect(),
        };
        let set = Arc::new(genesis.validator_set().map_err(|fault| fault.to_string())?);
        let state =
            State::open(Arc::new(MemoryStorage::new()), &genesis).map_err(|error| error.to_string())?;
        let root = state.header(Height::ZERO).ok().flatten().ok_or("the genesis state has no block 0")?;
        let chain = genesis.chain();
        let verifier = match manifest.signatures {
            #[expect(clippy::disallowed_methods, reason = "this is the simulation")]
            Signatures::Mock => Verifier::simulated(chain),
            Signatures::Real => Verifier::new(chain),
        };
        let first = Rc::new(Regime {
            set: Arc::clone(&set),
            set_digest: set.digest(),
            previous: None,
            params,
            root: root.clone(),
            root_id: root.id(),
        });
        Ok(Self {
            chain,
            genesis,
            params,
            set,
            root,
            verifier,
            signatures: manifest.signatures,
            holders,
            regimes: RefCell::new(vec![Rc::clone(&first)]),
            first,
            clients,
            authenticated: RefCell::default(),
        })
    }

    /// The first epoch as a state that was just made gives it.
    pub(crate) fn genesis_begin(&self) -> EpochBegin {
        EpochBegin {
            set: Arc::clone(&self.set),
            previous: None,
            params: self.params,
            protocol: self.root.version,
            root: self.root.clone(),
            root_is_carried: false,
        }
    }

    /// An epoch that has begun at an honest node.
    pub(crate) fn regime(&self, epoch: Epoch) -> Option<Rc<Regime>> {
        let at = usize::try_from(epoch.get()).ok()?;
        self.regimes.borrow().get(at).cloned()
    }

    /// The newest epoch that has begun at an honest node.
    pub(crate) fn newest(&self) -> Rc<Regime> {
        self.regimes.borrow().last().map_or_else(|| Rc::clone(&self.first), Rc::clone)
    }

    /// The next epoch has begun at the first honest node.
    pub(crate) fn begin(&self, regime: Rc<Regime>) {
        self.regimes.borrow_mut().push(regime);
    }

    /// Whose address this is.
    pub(crate) fn holder_of(&self, address: &Address) -> Option<usize> {
        self.holders.iter().position(|holder| holder.address == *address)
    }

    /// The one of a holder's keys that a set names, and its position.
    pub(crate) fn signer_in(&self, holder: usize, set: &ValidatorSet) -> Option<(ValidatorIndex, Signer)> {
        let holder = &self.holders[holder];
        let index = set.index_of(&holder.address)?;
        let named = &set.get(index)?.key;
        holder.keys.iter().find(|key| key.public() == named).map(|key| (index, key.clone()))
    }

    /// The key after the one that a set names: each holder has two.
    pub(crate) fn next_key(&self, holder: usize, set: &ValidatorSet) -> PublicKey {
        let named = self.signer_in(holder, set).map(|(_, key)| key.public().clone());
        let keys = &self.holders[holder].keys;
        let other = keys.iter().map(Signer::public).find(|key| Some(*key) != named.as_ref());
        other.unwrap_or_else(|| keys[0].public()).clone()
    }

    /// The finished message of whoever has this part in an epoch; followers sign nothing.
    pub(crate) fn seal(&self, part: Option<&Part>, outgoing: Outgoing) -> Message {
        let me = part.and_then(|part| part.me);
        let signer = part.and_then(Part::signer);
        outgoing.seal(self.chain, me.unwrap_or_default(), |preimage| {
            signer.map_or_else(Signature::empty, |signer| signer.sign(preimage))
        })
    }

    /// Bytes of a transaction on a real network.
    pub(crate) fn transaction_bytes(&self, signed: &SignedTransaction) -> usize {
        let short: usize = match self.signatures {
            Signatures::Real => 0,
            Signatures::Mock => signed
                .signatures
                .iter()
                .map(|s| Signature::BYTES_MAX.saturating_sub(s.as_bytes().len()))
                .sum(),
        };
        encode(signed).len() + short
    }

    /// Checks a transaction's signatures under `keys`, once for all nodes.
    ///
    /// # Errors
    /// The first rule broken.
    pub(crate) fn authenticate(
        &self,
        signed: &Arc<SignedTransaction>,
        keys: Vec<PublicKey>,
    ) -> Result<Verified<AuthenticatedTx>, TransactionFault> {
        let name = Arc::as_ptr(signed) as usize;
        if let Some((_, verified)) = self.authenticated.borrow().get(&name)
            && verified.keys == keys
        {
            return Ok(verified.clone());
        }
        let bytes = self.transaction_bytes(signed);
        let verified = self.verifier.transaction(Arc::clone(signed), bytes, keys)?;
        // Held together with the copy whose address names it, so that the address is not used again.
        self.authenticated.borrow_mut().insert(name, (Arc::clone(signed), verified.clone()));
        Ok(verified)
    }
}
