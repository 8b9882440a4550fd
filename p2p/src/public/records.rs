//! Node records: which ones are believed. Bounded by the validator sets, one record per validator.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::node_record::{
    NODE_ADDRESSES_MAX, NODE_RECORD_BYTES_MAX, NODE_RECORD_LIFE_MAX_MS, NodeRecord, SignedNodeRecord,
};
use cairn_types::{Address, ChainId, DecodeError, decode};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use crate::address::{ADDRESS_BYTES_MAX, is_dialable};
use crate::identity::LinkIdentity;

/// Why a record is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum RecordFault {
    #[error("{0} bytes; at most {NODE_RECORD_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    #[error("a record of the chain {0}")]
    OtherChain(ChainId),
    #[error("{0} is in no validator set we know")]
    NotMember(Address),
    #[error("stored under the key of another validator")]
    WrongKey,
    #[error("{0} addresses; at most {NODE_ADDRESSES_MAX} are allowed")]
    TooManyAddresses(usize),
    #[error("an address that cannot be dialled")]
    BadAddress,
    #[error("a peer id that is none")]
    BadPeer,
    #[error("expired at {expires_ms}, now is {now_ms}")]
    Expired { expires_ms: u64, now_ms: u64 },
    #[error("expires at {expires_ms}, more than 24 h after {now_ms}")]
    TooFarAhead { expires_ms: u64, now_ms: u64 },
    #[error("number {got}, but number {known} is known")]
    Stale { got: u64, known: u64 },
    #[error("the signature is not the validator's")]
    BadSignature,
}

/// A believed record.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) bytes: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) expires_ms: u64,
    pub(crate) mesh_peer: PeerId,
    pub(crate) mesh_addresses: Vec<Multiaddr>,
}

/// What a record offered was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offer {
    /// Newer than what was known.
    New(Address),
    /// Known, or our own.
    Known,
}

/// The believed records.
#[derive(Debug)]
pub(crate) struct Records {
    chain: ChainId,
    own: Option<Address>,
    members: BTreeSet<Address>,
    known: BTreeMap<Address, Known>,
}

impl Records {
    pub(crate) fn new(chain: ChainId, own: Option<Address>, members: Vec<Address>) -> Self {
        Self { chain, own, members: members.into_iter().collect(), known: BTreeMap::new() }
    }

    /// Believes records of these validators from now on, and forgets the others'.
    pub(crate) fn set_members(&mut self, members: Vec<Address>) {
        self.members = members.into_iter().collect();
        self.known.retain(|address, _| self.members.contains(address));
    }

    /// Checks a record, cheapest check first, and keeps it when it is newer.
    ///
    /// `key` is the key it was stored under, when that is known.
    pub(crate) fn offer(
        &mut self,
        bytes: &[u8],
        key: Option<&[u8]>,
        now_ms: u64,
        identity: &dyn LinkIdentity,
    ) -> Result<Offer, RecordFault> {
        if bytes.len() > NODE_RECORD_BYTES_MAX {
            return Err(RecordFault::TooLong(bytes.len()));
        }
        let signed: SignedNodeRecord = decode(bytes)?;
        let record = &signed.record;
        let address = record.address;
        self.check_claims(record, key, now_ms)?;
        match self.known.get(&address) {
            _ if self.own == Some(address) => return Ok(Offer::Known),
            Some(known) if known.bytes == bytes => return Ok(Offer::Known),
            Some(known) if record.seq <= known.seq => {
                return Err(RecordFault::Stale { got: record.seq, known: known.seq });
            }
            _ => {}
        }
        let mesh_peer = PeerId::from_bytes(&record.mesh_peer).map_err(|_| RecordFault::BadPeer)?;
        PeerId::from_bytes(&record.public_peer).map_err(|_| RecordFault::BadPeer)?;
        let mesh_addresses = parse_all(&record.mesh_addresses)?;
        parse_all(&record.public_addresses)?;
        if !identity.verify(&address, &record.preimage(), &signed.signature) {
            return Err(RecordFault::BadSignature);
        }
        let (seq, expires_ms) = (record.seq, record.expires_ms);
        let known = Known { bytes: bytes.to_vec(), seq, expires_ms, mesh_peer, mesh_addresses };
        self.known.insert(address, known);
        Ok(Offer::New(address))
    }

    fn check_claims(&self, record: &NodeRecord, key: Option<&[u8]>, now_ms: u64) -> Result<(), RecordFault> {
        if record.chain != self.chain {
            return Err(RecordFault::OtherChain(record.chain));
        }
        if !self.members.contains(&record.address) {
            return Err(RecordFault::NotMember(record.address));
        }
        if key.is_some_and(|key| key != NodeRecord::key(self.chain, &record.address).as_bytes()) {
            return Err(RecordFault::WrongKey);
        }
        let addresses = record.mesh_addresses.len().max(record.public_addresses.len());
        if addresses > NODE_ADDRESSES_MAX {
            return Err(RecordFault::TooManyAddresses(addresses));
        }
        let expires_ms = record.expires_ms;
        if expires_ms <= now_ms {
            return Err(RecordFault::Expired { expires_ms, now_ms });
        }
        if expires_ms - now_ms > NODE_RECORD_LIFE_MAX_MS {
            return Err(RecordFault::TooFarAhead { expires_ms, now_ms });
        }
        Ok(())
    }

    /// Forgets expired records; gives whose.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<Address> {
        let expired = self.known.iter().filter(|(_, known)| known.expires_ms <= now_ms);
        let expired: Vec<Address> = expired.map(|(address, _)| *address).collect();
        for address in &expired {
            self.known.remove(address);
        }
        expired
    }

    pub(crate) fn get(&self, address: &Address) -> Option<&Known> {
        self.known.get(address)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, &Known)> {
        self.known.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The validators other than ourselves.
    pub(crate) fn others(&self) -> impl Iterator<Item = Address> {
        self.members.iter().copied().filter(|address| self.own != Some(*address))
    }
}

fn parse_all(texts: &[String]) -> Result<Vec<Multiaddr>, RecordFault> {
    let parse = |text: &String| {
        let address =
            text.parse().ok().filter(|address| text.len() <= ADDRESS_BYTES_MAX && is_dialable(address));
        address.ok_or(RecordFault::BadAddress)
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
