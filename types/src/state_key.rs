//! Keys and values of the authenticated map (FORMATS, "State").

use borsh::{BorshDeserialize, BorshSerialize};

use crate::codec::{DecodeError, decode, encode};
use crate::hash::{Context, Hash};
use crate::id::{Address, TxId};

/// The version byte before each value.
pub const STATE_VALUE_VERSION: u8 = 1;

/// A key of the authenticated map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StateKey {
    /// [`crate::Params`].
    Params,
    /// [`crate::Admission`].
    Admission,
    /// [`crate::ValidatorSet`] that signs the next block.
    Validators,
    /// [`crate::identity::IdentityEntry`].
    Identity(Address),
    /// The open motions of governance: a list of [`crate::Motion`]; absent before the first.
    Motions,
    /// The protocol version, `u8`; absent while it is 1.
    Protocol,
    /// [`crate::delegation::DelegationEntry`].
    Delegation {
        /// Who granted.
        principal: Address,
        /// Who may act.
        delegate: Address,
    },
    /// [`crate::multisig::ProposalEntry`].
    Proposal {
        /// The identity it belongs to.
        account: Address,
        /// The transaction that proposed it.
        id: TxId,
    },
    /// [`crate::delegation::Usage`] of an agent's mandate.
    AgentUsage(Address),
    /// [`crate::delegation::Usage`] of a delegation.
    DelegationUsage {
        /// Who granted.
        principal: Address,
        /// Who acts.
        delegate: Address,
    },
}

impl StateKey {
    /// The first byte of the preimage of a delegation's key.
    pub const DELEGATION_PREFIX: u8 = 0x10;
    /// The first byte of the preimage of a proposal's key.
    pub const PROPOSAL_PREFIX: u8 = 0x11;

    /// The key's own bytes, before hashing.
    pub fn preimage(&self) -> Vec<u8> {
        let join = |prefix: u8, parts: &[&[u8; 32]]| {
            let mut bytes = vec![prefix];
            parts.iter().for_each(|part| bytes.extend_from_slice(part.as_slice()));
            bytes
        };
        match self {
            Self::Params => join(0, &[]),
            Self::Admission => join(1, &[]),
            Self::Validators => join(2, &[]),
            Self::Identity(address) => join(3, &[address.as_bytes()]),
            Self::Motions => join(4, &[]),
            Self::Protocol => join(5, &[]),
            Self::Delegation { principal, delegate } => {
                join(Self::DELEGATION_PREFIX, &[principal.as_bytes(), delegate.as_bytes()])
            }
            Self::Proposal { account, id } => {
                join(Self::PROPOSAL_PREFIX, &[account.as_bytes(), id.as_bytes()])
            }
            Self::AgentUsage(agent) => join(0x12, &[agent.as_bytes()]),
            Self::DelegationUsage { principal, delegate } => {
                join(0x13, &[principal.as_bytes(), delegate.as_bytes()])
            }
        }
    }

    /// `H[state](key)`: its place in the map.
    pub fn hash(&self) -> Hash {
        Context::State.hash(&self.preimage())
    }
}

/// The bytes of a value: the version, then its borsh.
pub fn state_value<T: BorshSerialize>(value: &T) -> Vec<u8> {
    encode(&(STATE_VALUE_VERSION, value))
}

/// A value from its bytes.
///
/// # Errors
/// When they are not canonical, or of another version.
pub fn read_state_value<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, value) = decode::<(u8, T)>(bytes)?;
    if version != STATE_VALUE_VERSION {
        let why = format!("value version {version}, expected {STATE_VALUE_VERSION}");
        return Err(DecodeError { expected: "state value", why });
    }
    Ok(value)
}

/// What a state document is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateSubject {
    /// An identity.
    Identity(Address),
    /// What one identity granted another.
    Delegation {
        /// Who granted.
        principal: Address,
        /// Who may act.
        delegate: Address,
    },
}

impl StateSubject {
    /// Its key in the state.
    pub const fn key(self) -> StateKey {
        match self {
            Self::Identity(address) => StateKey::Identity(address),
            Self::Delegation { principal, delegate } => StateKey::Delegation { principal, delegate },
        }
    }
}
