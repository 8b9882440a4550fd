//! Who signs: an identity's address and the keys it signs with.

use cairn_crypto::KeyPair;
use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::{Address, ChainId, KeyRef, Payload, Proof, SignedTransaction, Transaction};

use crate::fault::ClientFault;

/// Signs transactions for one identity.
#[derive(Debug)]
pub struct Sender {
    address: Address,
    /// In ascending order of the reference, as transactions list them.
    keys: Vec<(KeyRef, KeyPair)>,
}

impl Sender {
    /// An identity that was never registered: its address is the hash of its key.
    pub fn inline(key: KeyPair) -> Self {
        Self { address: key.address(), keys: vec![(KeyRef::Inline(key.public().clone()), key)] }
    }

    /// An identity that signs with these keys, each named as transactions name it.
    pub fn with_keys(address: Address, keys: impl IntoIterator<Item = (KeyRef, KeyPair)>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { address, keys }
    }

    /// A registered identity that signs with its key number `index`.
    pub fn registered(address: Address, index: u16, key: KeyPair) -> Self {
        Self { address, keys: vec![(KeyRef::Registered(index), key)] }
    }

    /// The same signer once its identity is registered: the keys it was registered with are named by their index
    /// from then on, in ascending order of the keys, and transactions no longer carry them.
    #[must_use]
    pub fn now_registered(self) -> Self {
        let keys =
            (0u16..).zip(self.keys).map(|(index, (_, key))| (KeyRef::Registered(index), key)).collect();
        Self { address: self.address, keys }
    }

    /// Lets one more key of a registered identity sign. Exactly as many must sign as its threshold says.
    #[must_use]
    pub fn and_key(mut self, index: u16, key: KeyPair) -> Self {
        self.keys.push((KeyRef::Registered(index), key));
        self.keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        self
    }

    /// The identity's address.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a transaction with a random nonce.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn sign(
        &self,
        chain: ChainId,
        expires_ms: u64,
        payload: Payload,
    ) -> Result<SignedTransaction, ClientFault> {
        let nonce = getrandom::u64().map_err(|error| ClientFault::NoRandomness { why: error.to_string() })?;
        let transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain,
            sender: self.address,
            nonce,
            expires_ms,
            keys: self.keys.iter().map(|(reference, _)| reference.clone()).collect(),
            payload,
        };
        let preimage = transaction.preimage();
        let signatures = self.keys.iter().map(|(_, key)| key.sign(&preimage)).collect();
        Ok(SignedTransaction::new(transaction, signatures))
    }

    /// Signs a PROOF transaction of one proof.
    ///
    /// # Errors
    /// As [`Sender::sign`].
    pub fn sign_proof(
        &self,
        chain: ChainId,
        expires_ms: u64,
        proof: Proof,
    ) -> Result<SignedTransaction, ClientFault> {
        self.sign(chain, expires_ms, Payload::Proofs(Proofs(vec![proof])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, Item, Salting};
    use cairn_crypto::verify;
    use cairn_types::{Hash, ProofKind, Scheme, TreeKind};

    #[test]
    fn what_is_signed_verifies_and_has_the_required_shape() {
        let chain = ChainId::new(Hash([3; 32]));
        let item = Item { digest: Hash([1; 32]), algorithm: "blake3".into() };
        let batch = Batch::new(vec![item], TreeKind::CairnB3V1, Salting::Random).unwrap();
        for scheme in Scheme::ALL {
            let first = KeyPair::generate(scheme);
            let address = first.address();
            let publics = [first.public().clone(), KeyPair::generate(scheme).public().clone()];
            let inline = Sender::inline(first);
            let proof = batch.proof(ProofKind::Batch, "ref".into());
            let signed = inline.sign_proof(chain, 9, proof.clone()).unwrap();
            signed.transaction.check_shape(chain).unwrap();
            assert_eq!(signed.transaction.sender, address);
            verify(&publics[0], &signed.transaction.preimage(), &signed.signatures[0]).unwrap();
            let again = inline.sign_proof(chain, 9, proof.clone()).unwrap();
            assert_ne!(signed.transaction.nonce, again.transaction.nonce);
            let registered = inline.now_registered();
            let short = registered.sign_proof(chain, 9, proof.clone()).unwrap();
            assert_eq!(
                (short.transaction.sender, short.transaction.keys.as_slice()),
                (address, [KeyRef::Registered(0)].as_slice())
            );
            verify(&publics[0], &short.transaction.preimage(), &short.signatures[0]).unwrap();

            let (two, one) = (KeyPair::generate(scheme), KeyPair::generate(scheme));
            let keys = [one.public().clone(), two.public().clone()];
            let sender = Sender::registered(address, 2, two).and_key(1, one);
            let signed = sender.sign_proof(chain, 9, proof).unwrap();
            signed.transaction.check_shape(chain).unwrap();
            assert_eq!(signed.transaction.keys, [KeyRef::Registered(1), KeyRef::Registered(2)]);
            for (key, signature) in keys.iter().zip(&signed.signatures) {
                verify(key, &signed.transaction.preimage(), signature).unwrap();
            }
        }
    }
}
