//! Public keys that transactions are checked with, ready for use. An address is its key's digest, so that what is kept here holds
//! for every state of the chain and is never out of date.

use std::num::NonZeroUsize;

use cairn_types::{Address, PublicKey};
use lru::LruCache;
use parking_lot::Mutex;

/// Keys kept, at most: 2 kB each.
const KEYS_MAX: NonZeroUsize = match NonZeroUsize::new(2_048) {
    Some(keys) => keys,
    None => NonZeroUsize::MIN,
};

/// The keys used last.
pub(crate) struct Keys(Mutex<LruCache<Address, PublicKey>>);

impl Keys {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::unbounded()))
    }

    /// The key with this address, if it is kept.
    pub(crate) fn get(&self, address: &Address) -> Option<PublicKey> {
        self.0.lock().get(address).cloned()
    }

    /// Keeps a key under the address that it has.
    pub(crate) fn keep(&self, key: PublicKey) {
        let address = key.address();
        let mut keys = self.0.lock();
        keys.put(address, key);
        if keys.len() > KEYS_MAX.get() {
            keys.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::Scheme;

    fn key(index: usize) -> PublicKey {
        let mut bytes = vec![0; Scheme::Dilithium3.public_key_bytes()];
        bytes[..8].copy_from_slice(&index.to_le_bytes());
        PublicKey::new(Scheme::Dilithium3, &bytes).unwrap()
    }

    #[test]
    fn the_key_that_was_not_used_longest_goes_first() {
        let keys = Keys::new();
        (0..KEYS_MAX.get()).for_each(|index| keys.keep(key(index)));
        assert_eq!(keys.get(&key(0).address()), Some(key(0)));
        keys.keep(key(KEYS_MAX.get()));
        assert_eq!(keys.0.lock().len(), KEYS_MAX.get());
        assert_eq!(keys.get(&key(1).address()), None);
        assert_eq!(keys.get(&key(0).address()), Some(key(0)));
    }
}
