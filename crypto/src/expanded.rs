//! Keys whose expansion is kept.

use std::num::NonZeroUsize;
use std::sync::Arc;

use cairn_types::validator::VALIDATORS_MAX;
use cairn_types::{Address, PublicKey, Scheme, Signature};

use crate::dilithium3::{Check, ExpandedKey, SIGNATURE_BYTES, verify_together};
use crate::signature::{SignatureFault, check_length, expanded, verify};
use crate::verdicts::Remembered;

/// Validators whose expanded keys are kept: all of the largest set.
const VALIDATORS_REMEMBERED: NonZeroUsize = NonZeroUsize::new(VALIDATORS_MAX).expect("not zero");
/// Senders of transactions whose expanded keys are kept: 9.5 MB at most.
const SENDERS_REMEMBERED: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// Expanded `dilithium3` keys by address, the least recently used out first: with one, a check takes 12 µs and not 90.
/// Only keys that had a good signature get in: a flood of bad ones pushes nothing out.
pub struct ExpandedKeys(Remembered<Address, Arc<ExpandedKey>>);

impl ExpandedKeys {
    /// Keeps the keys of those who sign messages of consensus.
    pub(crate) fn of_validators() -> Self {
        Self::new(VALIDATORS_REMEMBERED)
    }

    /// Keeps the keys of those who sign transactions.
    pub fn of_senders() -> Self {
        Self::new(SENDERS_REMEMBERED)
    }

    /// Room for `capacity` keys of 37 kB, taken up as they come.
    fn new(capacity: NonZeroUsize) -> Self {
        Self(Remembered::new(capacity))
    }

    /// As [`verify`], and remembers the key.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(
        &self,
        key: &PublicKey,
        preimage: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureFault> {
        let verdicts = self.verify_together(&[(key, preimage, signature)]);
        verdicts.into_iter().next().unwrap_or(Err(SignatureFault::Refused { scheme: key.scheme() }))
    }

    /// As [`ExpandedKeys::verify`] of each, in order; several together cost less than one after the other.
    pub fn verify_together(
        &self,
        signed: &[(&PublicKey, &[u8], &Signature)],
    ) -> Vec<Result<(), SignatureFault>> {
        let mut checks = Vec::with_capacity(signed.len());
        let mut news: Vec<(Address, Arc<ExpandedKey>)> = Vec::new();
        let begun: Vec<_> = signed
            .iter()
            .map(|&(key, message, signature)| {
                let scheme = key.scheme();
                if scheme != Scheme::Dilithium3 {
                    return Some(verify(key, message, signature));
                }
                match self.prepare(key, signature, &mut news) {
                    Ok((key, signature)) => {
                        checks.push(Check { key, message, signature });
                        None
                    }
                    Err(fault) => Some(Err(fault)),
                }
            })
            .collect();
        let mut good = verify_together(&checks).into_iter();
        let verdicts = begun.into_iter().zip(signed).map(|(verdict, (key, ..))| {
            verdict.unwrap_or_else(|| {
                if good.next() != Some(true) {
                    return Err(SignatureFault::Refused { scheme: key.scheme() });
                }
                if let Some(at) = news.iter().position(|(address, _)| *address == key.address()) {
                    let (address, key) = news.swap_remove(at);
                    self.0.keep(address, key);
                }
                Ok(())
            })
        });
        verdicts.collect()
    }

    /// The key's expanded form, which is put to `news` unless it is kept already, and the signature if it has the right length.
    fn prepare<'a>(
        &self,
        key: &PublicKey,
        signature: &'a Signature,
        news: &mut Vec<(Address, Arc<ExpandedKey>)>,
    ) -> Result<(Arc<ExpandedKey>, &'a [u8; SIGNATURE_BYTES]), SignatureFault> {
        let scheme = key.scheme();
        let refused = SignatureFault::Refused { scheme };
        let signature = check_length(scheme, signature)?.try_into().map_err(|_| refused)?;
        let address = key.address();
        let known = self.0.get(&address);
        let found = news.iter().find(|(new, _)| *new == address).map(|(_, key)| Arc::clone(key));
        if let Some(key) = known.or(found) {
            return Ok((key, signature));
        }
        let expanded = expanded(key).ok_or(refused)?;
        news.push((address, Arc::clone(&expanded)));
        Ok((expanded, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyPair;

    #[test]
    fn a_key_is_kept_once_it_had_a_good_signature_and_the_oldest_goes_first() {
        let keys: Vec<_> = (0..3).map(|_| KeyPair::generate(Scheme::Dilithium3)).collect();
        let kept = ExpandedKeys::new(NonZeroUsize::new(2).unwrap());
        let check = |at: usize, message: &[u8]| {
            let key: &KeyPair = &keys[at];
            kept.verify(key.public(), message, &key.sign(b"m")).is_ok()
        };
        assert!(!check(0, b"another"));
        assert_eq!(kept.0.len(), 0);
        for at in [0, 1, 0, 2] {
            assert!(check(at, b"m"));
            assert!(check(at, b"m") && !check(at, b"another"), "the same verdicts from memory");
        }
        let holds = |at: usize| kept.0.get(&keys[at].address()).is_some();
        assert_eq!((holds(0), holds(1), holds(2)), (true, false, true));
    }

    #[test]
    fn together_each_signature_gets_the_verdict_that_it_gets_alone() {
        let keys: Vec<_> = (0..3).map(|_| KeyPair::generate(Scheme::Dilithium3)).collect();
        let other = KeyPair::generate(Scheme::MlDsa65);
        let messages: Vec<Vec<u8>> = (0..37usize).map(|n| vec![n as u8; n * 11]).collect();
        // A byte of the challenge's hash, of z, of the hints; then the wrong message, the wrong length, the other scheme.
        let changed = [Some(3), Some(700), Some(3_300), None];
        let items: Vec<_> = messages
            .iter()
            .enumerate()
            .map(|(n, message)| {
                let key = if n % 7 == 6 { &other } else { &keys[n % 3] };
                let mut bytes = key.sign(message).as_bytes().to_vec();
                match changed.get(n % 9) {
                    Some(Some(at)) => bytes[*at] ^= 1,
                    Some(None) => bytes.truncate(3_000 + n),
                    None => {}
                }
                let said = if n % 9 == 5 { &messages[0] } else { message };
                (key.public(), said.as_slice(), Signature::new(&bytes).unwrap())
            })
            .collect();
        for from in 0..9 {
            for count in 0..=items.len() - from {
                let part: Vec<_> = items[from..from + count].iter().map(|(k, m, s)| (*k, *m, s)).collect();
                let alone: Vec<_> = part.iter().map(|(k, m, s)| verify(k, m, s)).collect();
                let kept = ExpandedKeys::new(NonZeroUsize::new(2).unwrap());
                assert_eq!(kept.verify_together(&part), alone, "{count} from {from}");
                assert_eq!(kept.verify_together(&part), alone, "{count} from {from}, again");
            }
        }
        let good = items.iter().filter(|(k, m, s)| verify(k, m, s).is_ok()).count();
        assert!((10..30).contains(&good), "{good} of {}", items.len());
    }

    #[test]
    fn a_key_that_comes_twice_among_new_ones_is_kept_once_it_had_a_good_signature() {
        let key = KeyPair::generate(Scheme::Dilithium3);
        let (good, bad) = (key.sign(b"m"), key.sign(b"another"));
        let check = |signatures: [&Signature; 5]| {
            let kept = ExpandedKeys::new(NonZeroUsize::new(4).unwrap());
            let list = signatures.map(|signature| (key.public(), b"m".as_slice(), signature));
            (kept.verify_together(&list).iter().filter(|it| it.is_ok()).count(), kept.0.len())
        };
        assert_eq!(check([&bad, &good, &bad, &good, &good]), (3, 1));
        assert_eq!(check([&bad; 5]), (0, 0));
    }

    #[test]
    fn the_other_scheme_keeps_nothing_and_lengths_are_checked() {
        let kept = ExpandedKeys::new(NonZeroUsize::new(4).unwrap());
        for scheme in Scheme::ALL {
            let key = KeyPair::generate(scheme);
            let short = Signature::new(&[0; 31]).unwrap();
            let fault = SignatureFault::Length { scheme, got: 31, expected: 3_309 };
            assert_eq!(kept.verify(key.public(), b"m", &short), Err(fault));
            let refused = Err(SignatureFault::Refused { scheme });
            assert_eq!(kept.verify(key.public(), b"n", &key.sign(b"m")), refused);
            assert_eq!(kept.verify(key.public(), b"m", &key.sign(b"m")), Ok(()));
        }
        assert_eq!(kept.0.len(), 1, "one key of each scheme was good");
    }
}
