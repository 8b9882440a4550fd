//! The bounds of a validator's node record.

use cairn_types::encode;
use cairn_types::node_record::{NODE_ADDRESSES_MAX, NODE_RECORD_BYTES_MAX, SignedNodeRecord};

use crate::fault::MessageFault;

/// Bytes of a PeerId, at most: an identity multihash of an Ed25519 key has 38, a SHA-256 one 34.
const PEER_ID_BYTES_MAX: usize = 64;

/// Whether a record and each of its lists keep their bounds.
pub(crate) fn check_record_sizes(signed: &SignedNodeRecord) -> Result<(), MessageFault> {
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
