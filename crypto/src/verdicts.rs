//! Bounded memories of what was found good.

use std::num::NonZeroUsize;

use cairn_types::{Hash, PublicKey, Signature, SignedTransaction};
use lru::LruCache;
use parking_lot::Mutex;

/// What was learned from things that verified, least recently used out first. Only what is good is kept: a flood
/// of bad signatures pushes nothing out.
pub(crate) struct Remembered<K, V> {
    good: Mutex<LruCache<K, V>>,
    capacity: NonZeroUsize,
}

/// Digests of things that verified.
pub(crate) type Verdicts = Remembered<Hash, ()>;

impl<K: std::hash::Hash + Eq, V: Clone> Remembered<K, V> {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        // The cache would allocate for its whole capacity at once; a verifier of one receipt needs little.
        Self { good: Mutex::new(LruCache::unbounded()), capacity }
    }

    pub(crate) fn get(&self, name: &K) -> Option<V> {
        self.good.lock().get(name).cloned()
    }

    pub(crate) fn keep(&self, name: K, what: V) {
        let mut good = self.good.lock();
        good.put(name, what);
        if good.len() > self.capacity.get() {
            good.pop_lru();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.good.lock().len()
    }
}

impl Verdicts {
    pub(crate) fn holds(&self, name: &Hash) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn remember(&self, name: Hash) {
        self.keep(name, ());
    }
}

/// Names one (key, signed bytes, signature). Key and signature lengths follow from the scheme (the
/// signature's was checked first), so the concatenation has one reading.
pub(crate) fn signature_name(key: &PublicKey, preimage: &[u8], signature: &Signature) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[key.scheme().id()]).update(key.as_bytes());
    hasher.update(&(signature.as_bytes().len() as u64).to_le_bytes()).update(signature.as_bytes());
    hasher.update(preimage);
    Hash(*hasher.finalize().as_bytes())
}

/// Names a transaction with its signatures and the keys they are checked against, each by the digest that it
/// has anyway: id and witness cover every byte of the canonical form, an address its key.
pub(crate) fn transaction_name(signed: &SignedTransaction, keys: &[PublicKey]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(signed.id().as_bytes()).update(signed.witness().as_bytes());
    for key in keys {
        hasher.update(key.address().as_bytes());
    }
    Hash(*hasher.finalize().as_bytes())
}

/// Names the concatenation of `head`, whose length is fixed by its first byte, and `bytes`.
pub(crate) fn bytes_name(head: &[&[u8]], bytes: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for part in head {
        hasher.update(part);
    }
    hasher.update(bytes);
    Hash(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_verdict_goes_first() {
        let verdicts = Verdicts::new(NonZeroUsize::new(2).unwrap());
        let name = |byte| Hash([byte; 32]);
        verdicts.remember(name(1));
        verdicts.remember(name(2));
        assert!(verdicts.holds(&name(1)));
        verdicts.remember(name(3));
        assert_eq!((verdicts.len(), verdicts.holds(&name(1)), verdicts.holds(&name(2))), (2, true, false));
    }
}
