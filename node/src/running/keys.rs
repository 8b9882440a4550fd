//! The validator keys of this node: the one in use, and the one that a coming epoch may ask for instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_crypto::{KeyPair, Keystore, Passphrase};
use cairn_journal::{Journal, JournalContents, JournalFault, Owner};
use cairn_types::{Address, ChainId, Epoch, Signature, ValidatorIndex, ValidatorSet};
use parking_lot::Mutex;

use super::rehearsal::{Disaster, RehearsedFiles};
use crate::config::KeysConfig;
use crate::passphrase::Source;

/// The key that signs for this node in one epoch.
pub(crate) struct Signer {
    /// Its position in the set.
    pub(crate) index: ValidatorIndex,
    /// The validator's address, which a rotated key does not hash to.
    pub(crate) address: Address,
    key: Arc<KeyPair>,
}

impl Signer {
    /// A signature over `preimage`.
    pub(crate) fn sign(&self, preimage: &[u8]) -> Signature {
        self.key.sign(preimage)
    }

    /// The key itself.
    pub(crate) fn key(&self) -> &KeyPair {
        &self.key
    }
}

/// Every validator key of the home that could be opened. At most two: bounded by the configuration.
pub(crate) struct ValidatorKeys {
    files: Vec<PathBuf>,
    passphrase_file: Option<PathBuf>,
    /// Where the safety journal is.
    pub(crate) journal: PathBuf,
    held: Mutex<Vec<Arc<KeyPair>>>,
    /// The epoch that the safety journal names: nothing is signed in an earlier one, which this node has only
    /// come back to because it lost its state.
    signed_epoch: AtomicU64,
    disaster: Arc<Disaster>,
}

impl ValidatorKeys {
    /// Opens the keystores that exist, asking for a passphrase where there is no file with it.
    ///
    /// # Errors
    /// When a keystore that exists does not open.
    pub(crate) fn load(
        config: &KeysConfig,
        journal: PathBuf,
        disaster: Arc<Disaster>,
    ) -> anyhow::Result<Self> {
        let files: Vec<PathBuf> =
            [&config.validator, &config.validator_next].into_iter().flatten().cloned().collect();
        let source = Source::file_or_prompt(config.passphrase_file.clone());
        let mut held = Vec::new();
        for path in files.iter().filter(|path| path.exists()) {
            let keystore = Keystore::load(path)?;
            held.push(Arc::new(source.open(&keystore, &path.display().to_string())?));
        }
        if held.is_empty() {
            tracing::info!("no validator key: following the chain without signing");
        }
        let passphrase_file = config.passphrase_file.clone();
        let (held, signed_epoch) = (Mutex::new(held), AtomicU64::new(0));
        Ok(Self { files, passphrase_file, journal, held, signed_epoch, disaster })
    }

    /// Opens keystores that appeared since. Never asks: a running node has nobody to ask.
    pub(crate) fn look_again(&self) {
        for path in self.files.iter().filter(|path| path.exists()) {
            if let Err(error) = self.open_new(path) {
                tracing::warn!(path = %path.display(), "a validator key cannot be opened: {error:#}");
            }
        }
    }

    fn open_new(&self, path: &Path) -> anyhow::Result<()> {
        let keystore = Keystore::load(path)?;
        if self.held.lock().iter().any(|key| key.address() == keystore.address()) {
            return Ok(());
        }
        let key = match &self.passphrase_file {
            Some(_) => {
                let source = Source::file_or_prompt(self.passphrase_file.clone());
                source.open(&keystore, &path.display().to_string())?
            }
            None => keystore.open(&Passphrase::none())?,
        };
        self.held.lock().push(Arc::new(key));
        Ok(())
    }

    /// Whether this node could ever sign.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.lock().is_empty()
    }

    /// The address under which this node would join: its first key's.
    pub(crate) fn own_address(&self) -> Option<Address> {
        self.held.lock().first().map(|key| key.address())
    }

    /// A signature of the first key, for a node that is in no set yet.
    pub(crate) fn sign_as_first(&self, preimage: &[u8]) -> Signature {
        let first = self.held.lock().first().cloned();
        first.map_or_else(Signature::empty, |key| key.sign(preimage))
    }

    /// Signs nothing in epochs before the one that the journal names.
    pub(crate) fn hold_until(&self, epoch: Epoch) {
        self.signed_epoch.fetch_max(epoch.get(), Ordering::Relaxed);
    }

    /// The one of our keys that this set names, unless the journal has left its epoch behind.
    pub(crate) fn signer_in(&self, set: &ValidatorSet) -> Option<Signer> {
        if set.epoch().get() < self.signed_epoch.load(Ordering::Relaxed) {
            return None;
        }
        let held = self.held.lock();
        set.indexed().find_map(|(index, validator)| {
            let key = held.iter().find(|key| *key.public() == validator.key)?;
            Some(Signer { index, address: validator.address, key: Arc::clone(key) })
        })
    }

    /// Opens the safety journal of the validator with this address.
    ///
    /// # Errors
    /// Whatever stops it from being certain what the validator has signed.
    pub(crate) fn open_journal(
        &self,
        address: Address,
        chain: ChainId,
    ) -> Result<(Journal, JournalContents), JournalFault> {
        if !self.disaster.touches_the_journal() {
            return Journal::open(&self.journal, address, chain);
        }
        let files = RehearsedFiles::open(&self.journal, Arc::clone(&self.disaster))?;
        Journal::open_in(Box::new(files), Owner { validator: address, chain })
    }
}
