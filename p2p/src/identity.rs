//! The validator's key as this crate sees it, and the wall clock it is given.

use std::sync::Arc;

use cairn_types::{Address, Signature};

/// Signs and verifies for links and node records. Implemented by the node, which holds the keys and
/// knows the validator sets.
pub trait LinkIdentity: Send + Sync + 'static {
    /// The address of our validator key; `None` for a follower.
    fn address(&self) -> Option<Address>;

    /// Our signature over `preimage`. Called only when [`LinkIdentity::address`] gives an address.
    fn sign(&self, preimage: &[u8]) -> Signature;

    /// Whether `signature` is that of the validator `address` over `preimage`. False for every address
    /// that is in no validator set the node knows.
    fn verify(&self, address: &Address, preimage: &[u8], signature: &Signature) -> bool;
}

/// Unix milliseconds now. A closure, because only the node reads the wall clock.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
