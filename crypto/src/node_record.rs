//! The trust border for validators' node records.

use cairn_types::node_record::{
    NODE_ADDRESSES_MAX, NODE_RECORD_BYTES_MAX, NODE_RECORD_LIFE_MAX_MS, SignedNodeRecord,
};
use cairn_types::{ValidatorSet, Verified, encode};

use crate::fault::MessageFault;
use crate::verifier::{Verifier, key_of, verified};

/// Bytes of a PeerId, at most: an identity multihash of an Ed25519 key has 38, a SHA-256 one 34.
const PEER_ID_BYTES_MAX: usize = 64;

impl Verifier {
    /// Checks a validator's node record at the time `now_ms`.
    ///
    /// # Errors
    /// Another chain, a signer outside the set, sizes or expiry out of bounds, or a bad signature.
    pub fn node_record(
        &self,
        set: &ValidatorSet,
        now_ms: u64,
        signed: SignedNodeRecord,
    ) -> Result<Verified<SignedNodeRecord>, MessageFault> {
        let record = &signed.record;
        if record.chain != self.chain() {
            return Err(MessageFault::WrongChain { got: record.chain, expected: self.chain() });
        }
        check_record_sizes(&signed)?;
        let latest_ms = now_ms.saturating_add(NODE_RECORD_LIFE_MAX_MS);
        if record.expires_ms <= now_ms || record.expires_ms > latest_ms {
            let expires_ms = record.expires_ms;
            return Err(MessageFault::NodeRecordExpiry { expires_ms, now_ms, latest_ms });
        }
        let unknown = MessageFault::UnknownAddress { address: record.address, epoch: set.epoch() };
        let validator = set.index_of(&record.address).ok_or(unknown)?;
        self.check_signature(key_of(set, validator)?, &record.preimage(), &signed.signature)
            .map_err(|fault| MessageFault::Signature { validator, fault })?;
        Ok(verified(signed))
    }
}

fn check_record_sizes(signed: &SignedNodeRecord) -> Result<(), MessageFault> {
    let record = &signed.record;
    let bytes = encode(signed).len();
    let why = if bytes > NODE_RECORD_BYTES_MAX {
        format!("{bytes} bytes; expected at most {NODE_RECORD_BYTES_MAX}")
    } else if [&record.mesh_peer, &record.public_peer].iter().any(|peer| peer.len() > PEER_ID_BYTES_MAX) {
        format!("a peer id is longer than {PEER_ID_BYTES_MAX} bytes")
    } else if [&record.mesh_addresses, &record.public_addresses]
        .iter()
        .any(|it| it.len() > NODE_ADDRESSES_MAX)
    {
        format!("more than {NODE_ADDRESSES_MAX} addresses for one swarm")
    } else {
        return Ok(());
    };
    Err(MessageFault::NodeRecord { why })
}
