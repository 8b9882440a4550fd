//! Identities: who may sign for an address, for what, and since when.

use std::fmt;
use std::io::{Read, Result as IoResult};

use borsh::{BorshDeserialize, BorshSerialize};

use crate::codec::invalid;
use crate::delegation::Mandate;
use crate::id::{Address, Height, TxId};
use crate::key::PublicKey;

/// Keys one identity may hold over its life, retired ones included.
pub const IDENTITY_KEYS_MAX: usize = 256;
/// Keys that one recovery may install: as many as one transaction can be signed with.
pub const RECOVERED_KEYS_MAX: usize = 16;

/// What a key is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// Logging in to services.
    Authentication = 1,
    /// Anchoring proofs.
    Assertion = 2,
    /// Granting and revoking delegations, and looking after agents.
    Delegation = 4,
    /// Changing the identity itself.
    Control = 8,
    /// Replacing all keys when they are lost, and nothing else.
    Recovery = 16,
}

impl Purpose {
    /// Every purpose with the name used in JSON.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::Authentication, "authentication"),
        (Self::Assertion, "assertion"),
        (Self::Delegation, "delegation"),
        (Self::Control, "control"),
        (Self::Recovery, "recovery"),
    ];

    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Assertion => "assertion",
            Self::Delegation => "delegation",
            Self::Control => "control",
            Self::Recovery => "recovery",
        }
    }

    /// The purpose with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(purpose, _)| *purpose)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The purposes of one key: some of the four ordinary ones, or recovery alone. Borsh: one byte, the sum of
/// the purposes' numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct Purposes(u8);

impl Purposes {
    /// All but recovery: what the first key of an identity has.
    pub const ORDINARY: Self = Self(15);
    /// Recovery alone.
    pub const RECOVERY: Self = Self(Purpose::Recovery as u8);

    /// The purposes with this sum; `None` for none at all, an unknown one, or recovery together with another.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1..=16 => Some(Self(bits)),
            _ => None,
        }
    }

    /// The union of these purposes; `None` as for [`Purposes::from_bits`].
    pub fn of(purposes: impl IntoIterator<Item = Purpose>) -> Option<Self> {
        Self::from_bits(purposes.into_iter().fold(0, |bits, purpose| bits | purpose as u8))
    }

    /// The sum of the purposes' numbers.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether `purpose` is one of them.
    pub const fn has(self, purpose: Purpose) -> bool {
        self.0 & purpose as u8 != 0
    }

    /// The purposes, in order.
    pub fn iter(self) -> impl Iterator<Item = Purpose> {
        Purpose::NAMES.into_iter().map(|(purpose, _)| purpose).filter(move |purpose| self.has(*purpose))
    }
}

impl fmt::Display for Purposes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Purpose::name).collect();
        f.write_str(&names.join("+"))
    }
}

impl fmt::Debug for Purposes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BorshDeserialize for Purposes {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let bits = u8::deserialize_reader(reader)?;
        Self::from_bits(bits)
            .ok_or_else(|| invalid(format!("key purposes {bits}; expected 1 to 15, or 16 for recovery")))
    }
}

/// A key on its way into an identity.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct NewKey {
    /// The key.
    pub key: PublicKey,
    /// What it is for.
    pub purposes: Purposes,
    /// Unix milliseconds: it may sign only in blocks with an earlier time. `None` = no end.
    pub expires_ms: Option<u64>,
}

/// The keys of a recovery: 1 to [`RECOVERED_KEYS_MAX`], bounded while decoding.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub struct RecoveredKeys(pub Vec<NewKey>);

impl BorshDeserialize for RecoveredKeys {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let count = u32::deserialize_reader(reader)? as usize;
        if !(1..=RECOVERED_KEYS_MAX).contains(&count) {
            return Err(invalid(format!("{count} keys where 1 to {RECOVERED_KEYS_MAX} are allowed")));
        }
        (0..count).map(|_| NewKey::deserialize_reader(reader)).collect::<IoResult<_>>().map(Self)
    }
}

/// An identity as the authenticated map holds it. Keys stand in it by their address, which binds the key;
/// the key's own bytes are elsewhere. So the value stays below 14 kB after 256 keys, and the newest state
/// tells of every key when it could sign.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct IdentityEntry {
    /// How many different keys must sign.
    pub threshold: u16,
    /// Whether it may anchor on a chain with registered admission.
    pub admitted: bool,
    /// The block that deactivated it for good.
    pub deactivated: Option<Height>,
    /// For an agent: whose, and what it may do.
    pub agent: Option<Agent>,
    /// Its multi-signature proposals that are still open, oldest first.
    pub proposals: Vec<TxId>,
    /// All keys ever held; the position is the key index and is never reused.
    pub keys: Vec<KeyEntry>,
}

/// One key of an identity; its position is its index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct KeyEntry {
    /// The hash of the key.
    pub address: Address,
    /// What it is for.
    pub purposes: Purposes,
    /// The block that added it; usable from the next block on.
    pub from: Height,
    /// The block that retired it; unusable from the next block on.
    pub until: Option<Height>,
    /// Unix milliseconds: usable only in blocks with an earlier time.
    pub expires_ms: Option<u64>,
}

/// What makes an identity an agent.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Agent {
    /// The person or organisation it belongs to.
    pub owner: Address,
    /// What the owner lets it do; `None` until the owner has confirmed that it is theirs.
    pub mandate: Option<Mandate>,
    /// How often the owner has set the mandate.
    pub revision: u32,
}

/// What an identity's history says about a key at one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyStanding {
    /// It could sign there: the key's index, and when it was retired later, if it was.
    Valid {
        /// The key's index; `None` for the inline key of an identity before it was registered.
        index: Option<u16>,
        /// The block that retired it, at or above the one asked about.
        retired: Option<Height>,
    },
    /// It is no key of the identity.
    Unknown,
    /// It was added at or above that block.
    NotYet {
        /// The block that added it.
        from: Height,
    },
    /// It had been retired before.
    Retired {
        /// The block that retired it.
        until: Height,
    },
    /// It had expired.
    Expired {
        /// When, Unix milliseconds.
        expires_ms: u64,
    },
    /// It is not for this.
    OtherPurpose {
        /// What it is for.
        purposes: Purposes,
    },
}

impl fmt::Display for KeyStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { index: Some(index), retired: None } => {
                write!(f, "key {index}, in force to this day")
            }
            Self::Valid { index: Some(index), retired: Some(at) } => {
                write!(f, "key {index}, in force then and retired later, at height {at}")
            }
            Self::Valid { index: None, .. } => {
                f.write_str("the identity's own key, before it was registered")
            }
            Self::Unknown => f.write_str("no key of this identity"),
            Self::NotYet { from } => write!(f, "a key that was added only at height {from}"),
            Self::Retired { until } => write!(f, "a key that was retired at height {until}"),
            Self::Expired { expires_ms } => write!(f, "a key that expired at {expires_ms} ms"),
            Self::OtherPurpose { purposes } => write!(f, "a key that is only for {purposes}"),
        }
    }
}

impl KeyEntry {
    /// Whether it may sign transactions of the block at `height` with time `time_ms`.
    pub fn is_valid_at(&self, height: Height, time_ms: u64) -> bool {
        self.from < height
            && self.until.is_none_or(|until| height <= until)
            && self.expires_ms.is_none_or(|expires_ms| time_ms < expires_ms)
    }
}

impl IdentityEntry {
    /// What this history says about the key with `key_address` signing for `identity` in the block at
    /// `height` with time `time_ms`.
    pub fn standing(
        &self,
        identity: Address,
        key_address: Address,
        purpose: Purpose,
        height: Height,
        time_ms: u64,
    ) -> KeyStanding {
        let found = (0u16..).zip(&self.keys).find(|(_, key)| key.address == key_address);
        let Some((index, key)) = found else { return KeyStanding::Unknown };
        if height <= key.from {
            // Until the block that registers it, an identity signs with the key it hashes from, inline.
            let registered_later = index == 0 && key_address == identity;
            return match registered_later {
                true => KeyStanding::Valid { index: None, retired: key.until },
                false => KeyStanding::NotYet { from: key.from },
            };
        }
        match (key.until, key.expires_ms) {
            (Some(until), _) if height > until => KeyStanding::Retired { until },
            (_, Some(expires_ms)) if time_ms >= expires_ms => KeyStanding::Expired { expires_ms },
            _ if !key.purposes.has(purpose) => KeyStanding::OtherPurpose { purposes: key.purposes },
            (retired, _) => KeyStanding::Valid { index: Some(index), retired },
        }
    }
}

/// A registered identity with its public keys: what a node tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its address: the hash of its first key, and unchanged by rotation.
    pub address: Address,
    /// What the state holds.
    pub entry: IdentityEntry,
    /// The public key of each of `entry.keys`, in the same order.
    pub keys: Vec<PublicKey>,
}

impl Identity {
    /// The index, entry and public key of every key that may sign at `height` and `time_ms`.
    pub fn keys_at(
        &self,
        height: Height,
        time_ms: u64,
    ) -> impl Iterator<Item = (u16, &KeyEntry, &PublicKey)> {
        (0u16..)
            .zip(self.entry.keys.iter().zip(&self.keys))
            .filter(move |(_, (entry, _))| entry.is_valid_at(height, time_ms))
            .map(|(index, (entry, key))| (index, entry, key))
    }
}

/// A change to the sender's identity (or, for `Admit`, a registrar's admission of another).
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum IdentityOp {
    /// Registers the sender, whose inline key becomes key 0, with every ordinary purpose.
    Register = 0,
    /// Adds a key under the next free index.
    AddKey(NewKey) = 1,
    /// Retires key `index` and adds `key`, with the same purposes, under the next free index, in one step.
    RotateKey {
        /// The key to retire.
        index: u16,
        /// Its successor.
        key: PublicKey,
        /// When the successor expires, Unix milliseconds.
        expires_ms: Option<u64>,
    } = 2,
    /// Retires a key. Enough keys that may change the identity must be left.
    RevokeKey(u16) = 3,
    /// Sets how many keys must sign; at least 1, at most the number of lasting control keys.
    SetThreshold(u16) = 4,
    /// Sent by the registrar of a chain with registered admission: lets `Address` anchor.
    Admit(Address) = 5,
    /// Signed by the recovery key alone: retires every key but that one and installs these.
    Recover {
        /// The new keys; none for recovery.
        keys: RecoveredKeys,
        /// How many of them must sign from now on.
        threshold: u16,
    } = 6,
    /// Ends the identity for good: retires every key.
    Deactivate = 7,
    /// Registers the sender as an agent. It may do nothing until the owner confirms it with a mandate.
    RegisterAgent {
        /// Whose agent it is.
        owner: Address,
    } = 8,
}
