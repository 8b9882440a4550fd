//! The policy a sender's keys must meet, and what each identity operation changes. Pure: no storage, no height
//! and no time but those given.

use cairn_types::event::IdentityStep;
use cairn_types::identity::{
    Agent, IDENTITY_KEYS_MAX, IdentityEntry, IdentityOp, KeyEntry, NewKey, Purpose, Purposes,
};
use cairn_types::transaction::KEYS_MAX;
use cairn_types::{Address, Admission, Height, KeyRef, Payload, PublicKey, Transaction};

use crate::refusal::TxRefusal;

/// The block in which something happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    pub(crate) height: Height,
    pub(crate) time_ms: u64,
}

/// What signs for a transaction: the address of each key in `keys`, in order. Without a `time_ms` nothing is said
/// about keys that expire.
pub(crate) fn required_keys(
    tx: &Transaction,
    entry: Option<&IdentityEntry>,
    time_ms: Option<u64>,
) -> Result<Vec<Address>, TxRefusal> {
    match entry {
        None => inline_key(tx).map(|key| vec![key]),
        Some(entry) => registered_keys(tx, entry, time_ms),
    }
}

/// An address never registered signs with the one key it hashes from.
fn inline_key(tx: &Transaction) -> Result<Address, TxRefusal> {
    let sender = tx.sender;
    match tx.keys.as_slice() {
        [KeyRef::Inline(key)] => {
            let got = key.address();
            if got == sender { Ok(got) } else { Err(TxRefusal::InlineKeyOfOther { sender, got }) }
        }
        keys if keys.iter().any(|key| matches!(key, KeyRef::Registered(_))) => {
            Err(TxRefusal::UnknownIdentity { address: sender })
        }
        keys => Err(TxRefusal::SuperfluousKeys { address: sender, required: 1, got: keys.len() }),
    }
}

/// A registered identity signs with exactly `threshold` keys of the purpose asked for, so that none is
/// superfluous; a recovery, and a step of shared control, with exactly one.
fn registered_keys(
    tx: &Transaction,
    entry: &IdentityEntry,
    time_ms: Option<u64>,
) -> Result<Vec<Address>, TxRefusal> {
    let address = tx.sender;
    let purpose = tx.payload.purpose();
    let mut keys = Vec::with_capacity(tx.keys.len());
    for key in &tx.keys {
        let KeyRef::Registered(index) = key else {
            return Err(TxRefusal::InlineKeyOfRegistered { address });
        };
        let held = usable(entry, address, *index, time_ms)?;
        if let Some(needed) = purpose {
            check_purpose(held, address, *index, needed)?;
        }
        keys.push(held.address);
    }
    let required = match (&tx.payload, purpose) {
        (Payload::Multisig(_), _) | (_, Some(Purpose::Recovery)) => 1,
        _ => entry.threshold,
    };
    let got = keys.len();
    match got.cmp(&usize::from(required)) {
        std::cmp::Ordering::Less => Err(TxRefusal::ThresholdNotMet { address, required, got }),
        std::cmp::Ordering::Equal => Ok(keys),
        std::cmp::Ordering::Greater => Err(TxRefusal::SuperfluousKeys { address, required, got }),
    }
}

/// Whether a key is for `needed`.
pub(crate) fn check_purpose(
    key: &KeyEntry,
    address: Address,
    index: u16,
    needed: Purpose,
) -> Result<(), TxRefusal> {
    if key.purposes.has(needed) {
        return Ok(());
    }
    Err(TxRefusal::KeyPurpose { address, index, purposes: key.purposes, needed })
}

/// The key with this index, when it may sign at `time_ms`.
pub(crate) fn usable(
    entry: &IdentityEntry,
    address: Address,
    index: u16,
    time_ms: Option<u64>,
) -> Result<&KeyEntry, TxRefusal> {
    if let Some(since) = entry.deactivated {
        return Err(TxRefusal::IdentityDeactivated { address, since });
    }
    let Some(key) = entry.keys.get(usize::from(index)) else {
        return Err(TxRefusal::UnknownKey { address, index, held: entry.keys.len() });
    };
    if let Some(since) = key.until {
        return Err(TxRefusal::KeyRevoked { address, index, since });
    }
    match (key.expires_ms, time_ms) {
        (Some(expires_ms), Some(time_ms)) if time_ms >= expires_ms => {
            Err(TxRefusal::KeyExpired { address, index, expires_ms })
        }
        _ => Ok(key),
    }
}

/// Keys that may change the identity and never expire by themselves: what keeps it from locking itself out.
fn lasting_control(entry: &IdentityEntry) -> usize {
    let lasts = |key: &&KeyEntry| {
        key.until.is_none() && key.expires_ms.is_none() && key.purposes.has(Purpose::Control)
    };
    entry.keys.iter().filter(lasts).count()
}

/// What an identity operation leads to: the new entry of `address`, keys that are new to the state, and
/// what its history says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IdentityChange {
    pub(crate) address: Address,
    pub(crate) entry: IdentityEntry,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) step: IdentityStep,
}

/// A change of one identity in the making.
struct Edit {
    address: Address,
    at: Moment,
    entry: IdentityEntry,
    keys: Vec<PublicKey>,
}

impl Edit {
    fn add(&mut self, new: &NewKey) -> Result<u16, TxRefusal> {
        let (address, key) = (self.address, new.key.address());
        if let Some(held) = self.entry.keys.iter().position(|held| held.address == key) {
            let index = u16::try_from(held).unwrap_or(u16::MAX);
            return Err(TxRefusal::KeyAlreadyHeld { address, index });
        }
        if self.entry.keys.len() >= IDENTITY_KEYS_MAX {
            return Err(TxRefusal::TooManyIdentityKeys { address });
        }
        if let Some(expires_ms) = new.expires_ms
            && expires_ms <= self.at.time_ms
        {
            return Err(TxRefusal::KeyExpiryPast { expires_ms, time_ms: self.at.time_ms });
        }
        let is_recovery = |held: &KeyEntry| held.until.is_none() && held.purposes == Purposes::RECOVERY;
        if new.purposes == Purposes::RECOVERY
            && let Some(held) = self.entry.keys.iter().position(is_recovery)
        {
            let index = u16::try_from(held).unwrap_or(u16::MAX);
            return Err(TxRefusal::RecoveryKeyHeld { address, index });
        }
        let index = u16::try_from(self.entry.keys.len()).unwrap_or(u16::MAX);
        let (from, purposes, expires_ms) = (self.at.height, new.purposes, new.expires_ms);
        self.entry.keys.push(KeyEntry { address: key, purposes, from, until: None, expires_ms });
        self.keys.push(new.key.clone());
        Ok(index)
    }

    /// Retires a key that has not been retired yet; it may have expired. Gives its purposes.
    fn retire(&mut self, index: u16) -> Result<Purposes, TxRefusal> {
        let purposes = usable(&self.entry, self.address, index, None)?.purposes;
        if let Some(key) = self.entry.keys.get_mut(usize::from(index)) {
            key.until = Some(self.at.height);
        }
        Ok(purposes)
    }

    fn retire_all(&mut self, keep: impl Fn(&KeyEntry) -> bool) {
        let height = self.at.height;
        let retired = self.entry.keys.iter_mut().filter(|key| key.until.is_none() && !keep(key));
        retired.for_each(|key| key.until = Some(height));
    }

    /// The identity must always be able to change itself.
    fn check_control(&self) -> Result<(), TxRefusal> {
        let (address, left, threshold) = (self.address, lasting_control(&self.entry), self.entry.threshold);
        if left < usize::from(threshold) {
            return Err(TxRefusal::TooFewKeysLeft { address, left, threshold });
        }
        Ok(())
    }

    fn set_threshold(&mut self, threshold: u16) -> Result<(), TxRefusal> {
        let active = lasting_control(&self.entry);
        // A transaction names at most KEYS_MAX keys: a higher threshold would lock the identity for ever.
        if !(1..=active.min(KEYS_MAX)).contains(&usize::from(threshold)) {
            return Err(TxRefusal::BadThreshold { got: threshold, active });
        }
        self.entry.threshold = threshold;
        Ok(())
    }

    fn recover(&mut self, keys: &[NewKey], threshold: u16) -> Result<IdentityStep, TxRefusal> {
        if keys.iter().any(|new| new.purposes == Purposes::RECOVERY) {
            return Err(TxRefusal::RecoveryKeyGiven { address: self.address });
        }
        self.retire_all(|key| key.purposes == Purposes::RECOVERY);
        let first = u16::try_from(self.entry.keys.len()).unwrap_or(u16::MAX);
        for new in keys {
            self.add(new)?;
        }
        self.set_threshold(threshold)?;
        Ok(IdentityStep::Recovered { first, keys: u16::try_from(keys.len()).unwrap_or(u16::MAX), threshold })
    }

    fn apply(&mut self, op: &IdentityOp) -> Result<IdentityStep, TxRefusal> {
        match op {
            IdentityOp::AddKey(new) => Ok(IdentityStep::KeyAdded { index: self.add(new)? }),
            IdentityOp::RotateKey { index, key, expires_ms } => {
                let purposes = self.retire(*index)?;
                let new = NewKey { key: key.clone(), purposes, expires_ms: *expires_ms };
                let added = self.add(&new)?;
                self.check_control()?;
                Ok(IdentityStep::KeyRotated { retired: *index, index: added })
            }
            IdentityOp::RevokeKey(index) => {
                self.retire(*index)?;
                self.check_control()?;
                Ok(IdentityStep::KeyRevoked { index: *index })
            }
            IdentityOp::SetThreshold(threshold) => {
                self.set_threshold(*threshold)?;
                Ok(IdentityStep::ThresholdSet { threshold: *threshold })
            }
            IdentityOp::Recover { keys, threshold } => self.recover(&keys.0, *threshold),
            IdentityOp::Deactivate => {
                self.retire_all(|_| false);
                self.entry.deactivated = Some(self.at.height);
                Ok(IdentityStep::Deactivated)
            }
            IdentityOp::Register | IdentityOp::RegisterAgent { .. } => {
                Err(TxRefusal::AlreadyRegistered { address: self.address })
            }
            IdentityOp::Admit(address) => Err(TxRefusal::AlreadyAdmitted { address: *address }),
        }
    }
}

/// Applies `op` of `sender` at `at`. `entry` is the identity the operation changes as it stands now, earlier
/// transactions of the block included: the admitted one for `Admit`, else the sender's. `inline` is the key that an
/// unregistered sender signs with.
pub(crate) fn change(
    (sender, inline): (Address, Option<&PublicKey>),
    op: &IdentityOp,
    entry: Option<IdentityEntry>,
    admission: Admission,
    at: Moment,
) -> Result<IdentityChange, TxRefusal> {
    match (op, entry) {
        (IdentityOp::Admit(address), entry) => admit(sender, *address, entry, admission),
        (IdentityOp::Register, None) => Ok(register(sender, inline, None, admission, at)),
        (IdentityOp::RegisterAgent { owner }, None) => {
            if *owner == sender {
                return Err(TxRefusal::OwnAgent { address: sender });
            }
            let agent = Agent { owner: *owner, mandate: None, revision: 0 };
            Ok(register(sender, inline, Some(agent), admission, at))
        }
        (_, None) => Err(TxRefusal::UnknownIdentity { address: sender }),
        (op, Some(entry)) => {
            let mut edit = Edit { address: sender, at, entry, keys: Vec::new() };
            let step = edit.apply(op)?;
            Ok(IdentityChange { address: sender, entry: edit.entry, keys: edit.keys, step })
        }
    }
}

/// The policy of an unregistered sender let exactly one inline key through, the one it hashes from.
fn register(
    address: Address,
    inline: Option<&PublicKey>,
    agent: Option<Agent>,
    admission: Admission,
    at: Moment,
) -> IdentityChange {
    let step = match &agent {
        None => IdentityStep::Registered,
        Some(agent) => IdentityStep::AgentRegistered { owner: agent.owner },
    };
    let first =
        KeyEntry { address, purposes: Purposes::ORDINARY, from: at.height, until: None, expires_ms: None };
    let entry = IdentityEntry {
        threshold: 1,
        admitted: admission == Admission::Open,
        deactivated: None,
        agent,
        proposals: Vec::new(),
        keys: vec![first],
    };
    IdentityChange { address, entry, keys: inline.cloned().into_iter().collect(), step }
}

fn admit(
    sender: Address,
    address: Address,
    entry: Option<IdentityEntry>,
    admission: Admission,
) -> Result<IdentityChange, TxRefusal> {
    let Admission::Registered { registrar } = admission else { return Err(TxRefusal::AdmissionIsOpen) };
    if sender != registrar {
        return Err(TxRefusal::NotRegistrar { sender, registrar });
    }
    let mut entry = entry.ok_or(TxRefusal::UnknownIdentity { address })?;
    if entry.admitted {
        return Err(TxRefusal::AlreadyAdmitted { address });
    }
    entry.admitted = true;
    Ok(IdentityChange { address, entry, keys: Vec::new(), step: IdentityStep::Admitted })
}

/// Whether `sender` may anchor.
pub(crate) fn check_admission(
    sender: Address,
    entry: Option<&IdentityEntry>,
    admission: Admission,
) -> Result<(), TxRefusal> {
    match admission {
        Admission::Open => Ok(()),
        Admission::Registered { registrar } => match entry {
            None => Err(TxRefusal::UnknownIdentity { address: sender }),
            Some(entry) if entry.admitted => Ok(()),
            Some(_) => Err(TxRefusal::NotAdmitted { address: sender, registrar }),
        },
    }
}
