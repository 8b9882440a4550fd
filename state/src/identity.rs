//! Identities as the authenticated map holds them, the policy a sender's keys must meet, and what each
//! identity operation changes. Pure: no storage, no height but the one given.

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::identity::{IDENTITY_KEYS_MAX, IdentityOp};
use cairn_types::transaction::KEYS_MAX;
use cairn_types::{Address, Admission, Height, KeyRef, PublicKey, Transaction};

use crate::refusal::TxRefusal;

/// An identity's value in the authenticated map. Keys stand in it by their address, which binds the key;
/// the key's own bytes are in a plain table. So the value stays below 12.6 kB after 256 keys.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct IdentityEntry {
    pub(crate) threshold: u16,
    pub(crate) admitted: bool,
    pub(crate) keys: Vec<KeyEntry>,
}

/// One key of an identity; its position is its index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct KeyEntry {
    pub(crate) address: Address,
    pub(crate) from: Height,
    pub(crate) until: Option<Height>,
}

/// What signs for a transaction: the address of each key in `keys`, in order.
pub(crate) fn required_keys(
    tx: &Transaction,
    entry: Option<&IdentityEntry>,
) -> Result<Vec<Address>, TxRefusal> {
    match entry {
        None => inline_key(tx).map(|key| vec![key]),
        Some(entry) => registered_keys(tx, entry),
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

/// A registered identity signs with exactly `threshold` active keys, so that none is superfluous.
fn registered_keys(tx: &Transaction, entry: &IdentityEntry) -> Result<Vec<Address>, TxRefusal> {
    let address = tx.sender;
    let mut keys = Vec::with_capacity(tx.keys.len());
    for key in &tx.keys {
        let KeyRef::Registered(index) = key else {
            return Err(TxRefusal::InlineKeyOfRegistered { address });
        };
        keys.push(entry.active(address, *index)?.address);
    }
    let (required, got) = (entry.threshold, keys.len());
    match got.cmp(&usize::from(required)) {
        std::cmp::Ordering::Less => Err(TxRefusal::ThresholdNotMet { address, required, got }),
        std::cmp::Ordering::Equal => Ok(keys),
        std::cmp::Ordering::Greater => Err(TxRefusal::SuperfluousKeys { address, required, got }),
    }
}

impl IdentityEntry {
    fn active(&self, address: Address, index: u16) -> Result<&KeyEntry, TxRefusal> {
        let Some(key) = self.keys.get(usize::from(index)) else {
            return Err(TxRefusal::UnknownKey { address, index, held: self.keys.len() });
        };
        match key.until {
            Some(since) => Err(TxRefusal::KeyRevoked { address, index, since }),
            None => Ok(key),
        }
    }

    fn active_count(&self) -> usize {
        self.keys.iter().filter(|key| key.until.is_none()).count()
    }

    fn add(&mut self, address: Address, key: Address, height: Height) -> Result<(), TxRefusal> {
        if let Some(held) = self.keys.iter().position(|held| held.address == key) {
            let index = u16::try_from(held).unwrap_or(u16::MAX);
            return Err(TxRefusal::KeyAlreadyHeld { address, index });
        }
        if self.keys.len() >= IDENTITY_KEYS_MAX {
            return Err(TxRefusal::TooManyIdentityKeys { address });
        }
        self.keys.push(KeyEntry { address: key, from: height, until: None });
        Ok(())
    }

    fn retire(&mut self, address: Address, index: u16, height: Height) -> Result<(), TxRefusal> {
        self.active(address, index)?;
        if let Some(key) = self.keys.get_mut(usize::from(index)) {
            key.until = Some(height);
        }
        Ok(())
    }
}

/// What an identity operation leads to: the new entry of `address`, and a key that is new to the state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IdentityChange {
    pub(crate) address: Address,
    pub(crate) entry: IdentityEntry,
    pub(crate) key: Option<PublicKey>,
}

/// Applies `op` of `tx` at `height`. `entry` is the identity the operation changes as it stands now,
/// earlier transactions of the block included: the admitted one for `Admit`, else the sender's.
pub(crate) fn change(
    tx: &Transaction,
    op: &IdentityOp,
    entry: Option<IdentityEntry>,
    admission: Admission,
    height: Height,
) -> Result<IdentityChange, TxRefusal> {
    if let IdentityOp::Admit(address) = op {
        return admit(tx.sender, *address, entry, admission);
    }
    let address = tx.sender;
    if let IdentityOp::Register = op {
        return register(tx, entry, admission, height);
    }
    let mut entry = entry.ok_or(TxRefusal::UnknownIdentity { address })?;
    let key = match op {
        IdentityOp::AddKey(key) => {
            entry.add(address, key.address(), height)?;
            Some(key.clone())
        }
        IdentityOp::RotateKey { index, key } => {
            entry.retire(address, *index, height)?;
            entry.add(address, key.address(), height)?;
            Some(key.clone())
        }
        IdentityOp::RevokeKey(index) => {
            entry.retire(address, *index, height)?;
            let (left, threshold) = (entry.active_count(), entry.threshold);
            if left < usize::from(threshold) {
                return Err(TxRefusal::TooFewKeysLeft { address, left, threshold });
            }
            None
        }
        IdentityOp::SetThreshold(threshold) => {
            let active = entry.active_count();
            // A transaction names at most KEYS_MAX keys: a higher threshold would lock the identity for ever.
            if !(1..=active.min(KEYS_MAX)).contains(&usize::from(*threshold)) {
                return Err(TxRefusal::BadThreshold { got: *threshold, active });
            }
            entry.threshold = *threshold;
            None
        }
        IdentityOp::Register | IdentityOp::Admit(_) => None,
    };
    Ok(IdentityChange { address, entry, key })
}

fn register(
    tx: &Transaction,
    entry: Option<IdentityEntry>,
    admission: Admission,
    height: Height,
) -> Result<IdentityChange, TxRefusal> {
    let address = tx.sender;
    if entry.is_some() {
        return Err(TxRefusal::AlreadyRegistered { address });
    }
    // The policy of an unregistered sender let exactly one inline key through.
    let key = tx.keys.iter().find_map(|key| match key {
        KeyRef::Inline(key) => Some(key.clone()),
        KeyRef::Registered(_) => None,
    });
    let entry = IdentityEntry {
        threshold: 1,
        admitted: admission == Admission::Open,
        keys: vec![KeyEntry { address, from: height, until: None }],
    };
    Ok(IdentityChange { address, entry, key })
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
    Ok(IdentityChange { address, entry, key: None })
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
