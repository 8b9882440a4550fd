//! What does not change in a run: the chain, its validators, everybody's keys, and the verifier.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use cairn_consensus::{Config, Outgoing};
use cairn_crypto::{TransactionFault, Verifier};
use cairn_state::{MemoryStorage, State};
use cairn_types::genesis::{Admission, GENESIS_VERSION};
use cairn_types::{
    AuthenticatedTx, ChainId, Genesis, Header, Height, Message, Params, PublicKey, Signature,
    SignedTransaction, Validator, ValidatorIndex, ValidatorSet, Verified, encode,
};

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
    /// In the set's order.
    pub(crate) validators: Vec<Signer>,
    pub(crate) clients: Vec<Signer>,
    /// Verdicts shared by all nodes: the same bytes verify the same everywhere.
    authenticated: RefCell<Authenticated>,
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

impl World {
    /// The world of this manifest.
    ///
    /// # Errors
    /// When its parameters make no genesis.
    pub(crate) fn new(manifest: &Manifest) -> Result<Self, String> {
        let n = manifest.net.n;
        let mut validators = signers(n + manifest.load.clients as usize, manifest.signatures)?;
        let clients = validators.split_off(n);
        validators.sort_by_key(|signer| signer.public().address());
        let params = params(&manifest.params);
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "simulation".into(),
            time_ms: START_MS - 1,
            params,
            admission: Admission::Open,
            validators: validators
                .iter()
                .map(|signer| Validator {
                    address: signer.public().address(),
                    key: signer.public().clone(),
                    power: 1,
                })
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
        Ok(Self {
            chain,
            genesis,
            params,
            set,
            root,
            verifier,
            signatures: manifest.signatures,
            validators,
            clients,
            authenticated: RefCell::default(),
        })
    }

    /// The replica's configuration of this validator, or of a follower.
    pub(crate) fn config(&self, me: Option<ValidatorIndex>) -> Config {
        let (set, root) = (Arc::clone(&self.set), self.root.clone());
        Config { chain: self.chain, set, me, params: self.params, root, root_is_carried: false }
    }

    /// The finished message of this validator; followers sign nothing.
    pub(crate) fn seal(&self, me: Option<ValidatorIndex>, outgoing: Outgoing) -> Message {
        let signer = me.and_then(|me| self.validators.get(usize::from(me.0)));
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
