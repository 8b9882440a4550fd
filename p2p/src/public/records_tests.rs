use cairn_types::{Signature, encode};

use super::*;
use crate::net_tests::{TestIdentity, address, addresses, chain};

const NOW_MS: u64 = 1_800_000_000_000;

fn identity(number: u8) -> TestIdentity {
    TestIdentity::validator(address(number), &addresses(4))
}

fn record(number: u8, seq: u64) -> NodeRecord {
    NodeRecord {
        chain: chain(),
        address: address(number),
        mesh_peer: PeerId::random().to_bytes(),
        public_peer: PeerId::random().to_bytes(),
        mesh_addresses: vec!["/ip4/127.0.0.1/tcp/7000".to_owned()],
        public_addresses: vec!["/dns4/a.example/tcp/7001".to_owned()],
        seq,
        expires_ms: NOW_MS + 1_000,
    }
}

fn signed(record: NodeRecord) -> Vec<u8> {
    let key = identity(record.address.as_bytes()[0]);
    let signature = key.sign(&record.preimage());
    encode(&SignedNodeRecord { record, signature })
}

fn records() -> Records {
    Records::new(chain(), Some(address(1)), addresses(4))
}

fn offer(records: &mut Records, bytes: &[u8]) -> Result<Offer, RecordFault> {
    records.offer(bytes, None, NOW_MS, &identity(1))
}

#[test]
fn a_good_record_is_believed_once_and_replaced_by_a_newer_one() {
    let mut records = records();
    let first = signed(record(2, 5));
    assert_eq!(offer(&mut records, &first), Ok(Offer::New(address(2))));
    assert_eq!(offer(&mut records, &first), Ok(Offer::Known));
    assert_eq!(
        offer(&mut records, &signed(record(2, 5))),
        Err(RecordFault::Stale { got: 5, known: 5 }),
        "another record of the same number"
    );
    assert_eq!(offer(&mut records, &signed(record(2, 6))), Ok(Offer::New(address(2))));
    assert_eq!(offer(&mut records, &first), Err(RecordFault::Stale { got: 5, known: 6 }));
    assert_eq!(records.len(), 1);
}

#[test]
fn forged_records_are_refused() {
    let mut records = records();
    let forged = SignedNodeRecord {
        record: record(2, 1),
        signature: TestIdentity { key: [9; 32], ..identity(2) }.sign(&record(2, 1).preimage()),
    };
    assert_eq!(offer(&mut records, &encode(&forged)), Err(RecordFault::BadSignature));
    // A signature of the right key over anything else than the record at hand.
    let honest = record(2, 1);
    let signature = identity(2).sign(&honest.preimage());
    let changes = [
        NodeRecord { mesh_peer: PeerId::random().to_bytes(), ..honest.clone() },
        NodeRecord { public_peer: PeerId::random().to_bytes(), ..honest.clone() },
        NodeRecord { mesh_addresses: vec!["/ip4/6.6.6.6/tcp/6".to_owned()], ..honest.clone() },
        NodeRecord { public_addresses: vec![], ..honest.clone() },
        NodeRecord { seq: 2, ..honest.clone() },
        NodeRecord { expires_ms: NOW_MS + 2_000, ..honest.clone() },
        NodeRecord { address: address(3), ..honest },
    ];
    for changed in changes {
        let bytes = encode(&SignedNodeRecord { record: changed, signature: signature.clone() });
        assert_eq!(offer(&mut records, &bytes), Err(RecordFault::BadSignature));
    }
    let empty = SignedNodeRecord { record: record(2, 1), signature: Signature::new(&[]).unwrap() };
    assert_eq!(offer(&mut records, &encode(&empty)), Err(RecordFault::BadSignature));
    assert_eq!(records.len(), 0);
}

#[test]
fn only_records_of_this_chains_validators_within_their_life_are_believed() {
    let mut records = records();
    let stranger = signed(NodeRecord { address: address(9), ..record(2, 1) });
    assert_eq!(offer(&mut records, &stranger), Err(RecordFault::NotMember(address(9))));
    let other_chain = signed(NodeRecord { chain: ChainId::ZERO, ..record(2, 1) });
    assert_eq!(offer(&mut records, &other_chain), Err(RecordFault::OtherChain(ChainId::ZERO)));
    let expired = signed(NodeRecord { expires_ms: NOW_MS, ..record(2, 1) });
    assert!(matches!(offer(&mut records, &expired), Err(RecordFault::Expired { .. })));
    let limit = NOW_MS + NODE_RECORD_LIFE_MAX_MS;
    let eternal = signed(NodeRecord { expires_ms: limit + 1, ..record(2, 1) });
    assert!(matches!(offer(&mut records, &eternal), Err(RecordFault::TooFarAhead { .. })));
    let longest = signed(NodeRecord { expires_ms: limit, ..record(2, 1) });
    assert_eq!(offer(&mut records, &longest), Ok(Offer::New(address(2))));
    assert_eq!(offer(&mut records, &signed(record(1, 1))), Ok(Offer::Known), "our own is not kept");
}

#[test]
fn malformed_records_are_refused() {
    let mut records = records();
    let many = vec!["/ip4/127.0.0.1/tcp/1".to_owned(); NODE_ADDRESSES_MAX + 1];
    let too_many = signed(NodeRecord { mesh_addresses: many.clone(), ..record(2, 1) });
    assert_eq!(offer(&mut records, &too_many), Err(RecordFault::TooManyAddresses(NODE_ADDRESSES_MAX + 1)));
    let too_many = signed(NodeRecord { public_addresses: many, ..record(2, 1) });
    assert!(matches!(offer(&mut records, &too_many), Err(RecordFault::TooManyAddresses(_))));
    for text in ["", "/memory/1", "no address", "/ip4/1.2.3.4/tcp/99999"] {
        let bad = signed(NodeRecord { mesh_addresses: vec![text.to_owned()], ..record(2, 1) });
        assert_eq!(offer(&mut records, &bad), Err(RecordFault::BadAddress), "{text:?}");
    }
    let bad_peer = signed(NodeRecord { mesh_peer: vec![1, 2, 3], ..record(2, 1) });
    assert_eq!(offer(&mut records, &bad_peer), Err(RecordFault::BadPeer));
    let long = vec![0; NODE_RECORD_BYTES_MAX + 1];
    assert_eq!(offer(&mut records, &long), Err(RecordFault::TooLong(NODE_RECORD_BYTES_MAX + 1)));
    let whole = signed(record(2, 1));
    for length in 0..whole.len() {
        assert!(matches!(offer(&mut records, &whole[..length]), Err(RecordFault::Malformed(_))));
    }
    let foreign_key = NodeRecord::key(chain(), &address(3));
    let stored = records.offer(&whole, Some(foreign_key.as_bytes()), NOW_MS, &identity(1));
    assert_eq!(stored, Err(RecordFault::WrongKey));
    let key = NodeRecord::key(chain(), &address(2));
    let stored = records.offer(&whole, Some(key.as_bytes()), NOW_MS, &identity(1));
    assert_eq!(stored, Ok(Offer::New(address(2))));
}

#[test]
fn expired_records_and_departed_validators_are_forgotten() {
    let mut records = records();
    offer(&mut records, &signed(record(2, 1))).unwrap();
    offer(&mut records, &signed(NodeRecord { expires_ms: NOW_MS + 9_000, ..record(3, 1) })).unwrap();
    offer(&mut records, &signed(NodeRecord { expires_ms: NOW_MS + 9_000, ..record(4, 1) })).unwrap();
    assert_eq!(records.expire(NOW_MS + 1_000), [address(2)]);
    records.set_members(vec![address(1), address(4)]);
    assert_eq!(records.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [address(4)]);
    assert_eq!(records.others().collect::<Vec<_>>(), [address(4)]);
}
