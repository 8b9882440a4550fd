//! The canonical codec: one value has one encoding, one encoding one value.

use std::fmt::Debug;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::certificate::First;
use cairn_types::delegation::{DelegationOp, Kinds, Mandate, Rate, Scope, Terms};
use cairn_types::evidence::Pair;
use cairn_types::hash::Context;
use cairn_types::identity::{IdentityOp, NewKey, Purposes, RecoveredKeys};
use cairn_types::message::{Ballot, CertReference};
use cairn_types::multisig::{MultisigOp, Proposed};
use cairn_types::node_record::{NodeRecord, SignedNodeRecord};
use cairn_types::record::Landing;
use cairn_types::safety::SafetyRecord;
use cairn_types::transaction::{Proofs, block_leaf};
use cairn_types::{
    Address, Admission, Block, BlockCert, BlockId, Carried, ChainId, Change, Changes, CommitCert, Conflict,
    Epoch, EpochProof, Evidence, Genesis, GovernanceOp, Hash, Header, Height, KeyRef, Message, Params,
    Payload, Proof, ProofId, ProofKind, Proposal, PublicKey, QuorumCert, Record, Scheme, Signature,
    SignedTransaction, Timeout, TimeoutCert, TimeoutEntry, Transaction, TreeKind, TxId, Validator,
    ValidatorIndex, ValidatorSet, View, decode, encode,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Round trip; nothing may follow, nothing be missing; and whatever one changed bit decodes to, if to
/// anything, is another value with exactly those bytes.
fn check<T: BorshSerialize + BorshDeserialize + PartialEq + Debug>(value: &T) {
    let bytes = encode(value);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value));
    let mut long = bytes.clone();
    long.push(0);
    assert!(decode::<T>(&long).is_err(), "trailing bytes");
    for cut in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
        assert!(decode::<T>(&bytes[..cut]).is_err(), "cut at {cut} of {}", bytes.len());
    }
    // The first bytes each, then a sample: keys and signatures are long and opaque.
    let bits = bytes.len() * 8;
    for bit in (0..bits.min(4_000)).step_by(3).chain((bits.min(4_000)..bits).step_by(1_009)) {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decode::<T>(&changed) {
            assert_ne!(&other, value, "bit {bit} means nothing");
            assert_eq!(encode(&other), changed, "bit {bit}: two encodings of one value");
        }
    }
}

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn key() -> impl Strategy<Value = PublicKey> {
    (prop_oneof![Just(Scheme::Dilithium3), Just(Scheme::MlDsa65)], any::<u8>())
        .prop_map(|(scheme, byte)| PublicKey::new(scheme, &vec![byte; scheme.public_key_bytes()]).unwrap())
}

fn signature() -> impl Strategy<Value = Signature> {
    (any::<u8>(), prop_oneof![Just(0usize), Just(7), Just(3_309)])
        .prop_map(|(byte, length)| Signature::new(&vec![byte; length]).unwrap())
}

fn proof() -> impl Strategy<Value = Proof> {
    let kind = (0..17usize).prop_map(|at| ProofKind::NAMES[at].0);
    let tree = prop_oneof![Just(TreeKind::CairnB3V1), Just(TreeKind::Rfc9162Sha256)];
    let ids = (option::of(hash()), option::of(hash()), option::of(hash()));
    (kind, tree, hash(), any::<u64>(), ".{0,20}", ids, vec(any::<u8>(), 0..40)).prop_map(
        |(kind, tree, root, leaves, reference, (previous, subject, behalf), metadata)| Proof {
            kind,
            tree,
            root,
            leaves,
            reference,
            previous: previous.map(ProofId::new),
            subject: subject.map(ProofId::new),
            on_behalf_of: behalf.map(Address::new),
            metadata,
        },
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        vec(proof(), 1..4).prop_map(|proofs| Payload::Proofs(Proofs(proofs))),
        Just(Payload::Identity(IdentityOp::Register)),
        identity_op().prop_map(Payload::Identity),
        delegation_op().prop_map(Payload::Delegation),
        multisig_op().prop_map(Payload::Multisig),
        (vec(change(), 1..=8), any::<u64>()).prop_map(|(changes, life_ms)| {
            Payload::Governance(GovernanceOp::Propose { changes: Changes(changes), life_ms })
        }),
        hash().prop_map(|id| Payload::Governance(GovernanceOp::Approve(TxId::new(id)))),
        hash().prop_map(|id| Payload::Governance(GovernanceOp::Withdraw(TxId::new(id)))),
        evidence().prop_map(Payload::Evidence),
    ]
}

fn new_key() -> impl Strategy<Value = NewKey> {
    (key(), 1..17u8, option::of(any::<u64>())).prop_map(|(key, purposes, expires_ms)| NewKey {
        key,
        purposes: Purposes::from_bits(purposes).unwrap(),
        expires_ms,
    })
}

fn identity_op() -> impl Strategy<Value = IdentityOp> {
    prop_oneof![
        new_key().prop_map(IdentityOp::AddKey),
        (any::<u16>(), key(), option::of(any::<u64>()))
            .prop_map(|(index, key, expires_ms)| IdentityOp::RotateKey { index, key, expires_ms }),
        any::<u16>().prop_map(IdentityOp::RevokeKey),
        any::<u16>().prop_map(IdentityOp::SetThreshold),
        hash().prop_map(|address| IdentityOp::Admit(Address::new(address))),
        (vec(new_key(), 1..4), any::<u16>())
            .prop_map(|(keys, threshold)| IdentityOp::Recover { keys: RecoveredKeys(keys), threshold }),
        Just(IdentityOp::Deactivate),
        hash().prop_map(|owner| IdentityOp::RegisterAgent { owner: Address::new(owner) }),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    let tree = option::of(prop_oneof![Just(TreeKind::CairnB3V1), Just(TreeKind::Rfc9162Sha256)]);
    (1..0x2_0000u32, tree, any::<u16>()).prop_map(|(kinds, tree, metadata_bytes_max)| Scope {
        kinds: Kinds::from_bits(kinds).unwrap(),
        tree,
        metadata_bytes_max,
    })
}

fn rate() -> impl Strategy<Value = Option<Rate>> {
    option::of((any::<u32>(), any::<u64>()).prop_map(|(count, period_ms)| Rate { count, period_ms }))
}

fn delegation_op() -> impl Strategy<Value = DelegationOp> {
    let address = || hash().prop_map(Address::new);
    let terms = (scope(), option::of(any::<u64>()), rate(), option::of(any::<u64>()));
    prop_oneof![
        (address(), terms).prop_map(|(delegate, (scope, proofs_max, rate, expires_ms))| {
            DelegationOp::Grant { delegate, terms: Terms { scope, proofs_max, rate, expires_ms } }
        }),
        address().prop_map(|delegate| DelegationOp::Revoke { delegate }),
        address().prop_map(|principal| DelegationOp::Renounce { principal }),
        (address(), scope(), rate()).prop_map(|(agent, scope, rate)| DelegationOp::SetAgent {
            agent,
            mandate: Mandate { scope, rate }
        }),
        address().prop_map(|agent| DelegationOp::RetireAgent { agent }),
    ]
}

fn multisig_op() -> impl Strategy<Value = MultisigOp> {
    let proposed = prop_oneof![
        identity_op().prop_map(Proposed::Identity),
        delegation_op().prop_map(Proposed::Delegation),
        vec(proof(), 1..3).prop_map(|proofs| Proposed::Proofs(Proofs(proofs))),
    ];
    prop_oneof![
        (proposed, any::<u64>())
            .prop_map(|(payload, expires_ms)| MultisigOp::Propose { payload, expires_ms }),
        hash().prop_map(|id| MultisigOp::Approve { proposal: TxId::new(id) }),
        hash().prop_map(|id| MultisigOp::Cancel { proposal: TxId::new(id) }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let address = || hash().prop_map(Address::new);
    prop_oneof![
        (key(), any::<u64>()).prop_map(|(key, power)| Change::Join { key, power }),
        address().prop_map(Change::Leave),
        (address(), any::<u64>()).prop_map(|(validator, power)| Change::Power { validator, power }),
        (address(), key()).prop_map(|(validator, key)| Change::Rotate { validator, key }),
        Just(Change::Params(Params::default())),
        any::<u8>().prop_map(Change::Protocol),
    ]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let blocks = ((hash(), signature()), (hash(), signature()), 0..3u8);
    let blocks = blocks.prop_filter_map("two different blocks", |(one, other, kind)| {
        let named = |(id, signature)| (BlockId::new(id), signature);
        let pair = Pair::new(named(one), named(other))?;
        Some(match kind {
            0 => Conflict::Proposals(pair),
            1 => Conflict::Votes(pair),
            _ => Conflict::CommitVotes(pair),
        })
    });
    let views = (any::<u64>(), signature(), signature()).prop_filter_map("two views", |(view, a, b)| {
        let pair = Pair::new((View::new(view), a), (View::new(view ^ 1), b))?;
        Some(Conflict::Timeouts(pair))
    });
    (any::<u64>(), 1..u64::MAX, any::<u16>(), prop_oneof![blocks, views]).prop_map(
        |(epoch, view, validator, conflict)| Evidence {
            epoch: Epoch::new(epoch),
            view: View::new(view),
            validator: ValidatorIndex(validator),
            conflict,
        },
    )
}

fn signed_transaction() -> impl Strategy<Value = SignedTransaction> {
    let reference = prop_oneof![key().prop_map(KeyRef::Inline), any::<u16>().prop_map(KeyRef::Registered)];
    let fixed = (hash(), hash(), any::<u64>(), any::<u64>());
    (fixed, vec(reference, 0..3), payload(), vec(signature(), 0..3)).prop_map(
        |((chain, sender, nonce, expires_ms), keys, payload, signatures)| {
            let (chain, sender) = (ChainId::new(chain), Address::new(sender));
            let transaction = Transaction { version: 1, chain, sender, nonce, expires_ms, keys, payload };
            SignedTransaction::new(transaction, signatures)
        },
    )
}

fn genesis() -> impl Strategy<Value = Genesis> {
    let admission = prop_oneof![
        Just(Admission::Open),
        hash().prop_map(|registrar| Admission::Registered { registrar: Address::new(registrar) }),
    ];
    (any::<u64>(), admission, vec((hash(), key(), 1..1_000u64), 1..4)).prop_map(
        |(time_ms, admission, members)| Genesis {
            version: 1,
            name: "local".into(),
            time_ms,
            params: Params::default(),
            admission,
            validators: validators(members),
        },
    )
}

fn validators(members: Vec<(Hash, PublicKey, u64)>) -> Vec<Validator> {
    let mut all: Vec<_> = members
        .into_iter()
        .map(|(address, key, power)| Validator { address: Address::new(address), key, power })
        .collect();
    all.sort_by_key(|validator| validator.address);
    all.dedup_by_key(|validator| validator.address);
    all
}

fn header() -> impl Strategy<Value = Header> {
    (genesis(), hash(), any::<[u64; 5]>(), any::<u16>(), any::<u32>()).prop_map(
        |(genesis, root, [height, view, parent_view, time_ms, size], proposer, tx_count)| {
            let mut header = genesis.header(root).unwrap();
            header.height = Height::new(height);
            header.view = View::new(view);
            header.parent_view = View::new(parent_view);
            header.parent = BlockId::new(root);
            header.time_ms = time_ms;
            header.anchors_size = size;
            header.proposer = ValidatorIndex(proposer);
            header.tx_count = tx_count;
            header
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    (proof(), any::<[u64; 3]>(), any::<[[u8; 32]; 4]>()).prop_map(|(proof, numbers, [a, b, c, d])| {
        let [seq, height, time_ms] = numbers;
        let landing = Landing {
            seq,
            proof_id: ProofId::new(Hash(a)),
            sender: Address::new(Hash(b)),
            key_address: Address::new(Hash(c)),
            tx_id: TxId::new(Hash(d)),
            height: Height::new(height),
            time_ms,
        };
        Record::new(&proof, landing)
    })
}

fn ballots() -> impl Strategy<Value = (Ballot<First>, QuorumCert, CommitCert)> {
    (any::<[u64; 2]>(), hash(), vec(signature(), 1..4)).prop_map(|([epoch, view], block, signatures)| {
        let (epoch, view, block) = (Epoch::new(epoch), View::new(view), BlockId::new(block));
        let vote = Ballot::new(epoch, view, block, ValidatorIndex(1), signatures[0].clone());
        let votes: Vec<_> = (0..).map(ValidatorIndex).zip(signatures).collect();
        let quorum = QuorumCert::new(epoch, view, block, 9, votes.clone());
        (vote, quorum, CommitCert::new(epoch, view, block, 9, votes))
    })
}

fn timeout_cert() -> impl Strategy<Value = TimeoutCert> {
    (ballots(), any::<[u64; 2]>(), any::<bool>(), signature()).prop_map(
        |((_, quorum, commit), [view, high], is_commit, signature)| TimeoutCert {
            epoch: quorum.epoch,
            view: View::new(view),
            entries: vec![TimeoutEntry {
                validator: ValidatorIndex(3),
                high_qc_view: View::new(high),
                signature,
            }],
            high_qc: if is_commit {
                BlockCert::Commit(Arc::new(commit))
            } else {
                BlockCert::Quorum(Arc::new(quorum))
            },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn transactions(signed in signed_transaction()) {
        check(&signed);
        check(&signed.transaction);
    }

    #[test]
    fn genesis_and_sets(genesis in genesis(), epoch in any::<u64>()) {
        check(&genesis);
        check(&ValidatorSet::new(Epoch::new(epoch), genesis.validators).unwrap());
    }

    #[test]
    fn headers_and_records(header in header(), record in record()) {
        check(&header);
        check(&record);
    }

    #[test]
    fn blocks(header in header(), txs in vec(signed_transaction(), 0..3)) {
        let block = Block::new(header, txs.into_iter().map(Arc::new).collect());
        let bytes = encode(&block);
        prop_assert_eq!(decode::<Block>(&bytes).unwrap().id(), block.header().id());
        check(&block);
    }

    #[test]
    fn bytes_of_a_transaction_mean_the_same_shared_or_copied(
        signed in signed_transaction(),
        change in 0..4u8,
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bytes = encode(&signed);
        let place = at.index(bytes.len());
        match change {
            0 => {}
            1 => bytes[place] = to,
            2 => bytes.truncate(place),
            _ => bytes.insert(place, to),
        }
        let (shared, copied) = (SignedTransaction::from_canonical(bytes.clone()), decode::<SignedTransaction>(&bytes));
        prop_assert_eq!(shared.as_ref().ok(), copied.as_ref().ok());
        if let Ok(shared) = shared {
            prop_assert_eq!(shared.canonical(), &bytes);
            prop_assert_eq!(encode(&shared.into_parts()), bytes);
        }
    }

    #[test]
    fn what_a_transaction_remembers_is_what_its_parts_give(signed in signed_transaction()) {
        let parts = signed.clone().into_parts();
        let (body, signatures) = (encode(&parts.transaction), encode(&parts.signatures));
        let kept = SignedTransaction::from_canonical([body.clone(), signatures.clone()].concat()).unwrap();
        let mut changed = kept.clone();
        changed.transaction.nonce ^= 1;
        prop_assert_ne!(changed.id(), kept.id());
        changed.transaction.nonce ^= 1;
        for signed in [&signed, &kept, &kept.clone(), &changed] {
            prop_assert_eq!(signed.canonical(), &encode(&parts));
            prop_assert_eq!(encode(signed), encode(&parts));
            prop_assert_eq!(signed.id(), parts.transaction.id());
            prop_assert_eq!(signed.witness(), Context::Witness.hash(&signatures));
            prop_assert_eq!(signed.preimage(), parts.transaction.preimage());
            prop_assert_eq!(signed.block_leaf(), block_leaf(parts.transaction.id(), signed.witness()));
        }
    }

    #[test]
    fn certificates((vote, quorum, commit) in ballots(), timeout in timeout_cert()) {
        check(&vote);
        check(&quorum);
        check(&commit);
        check(&timeout);
        check(&BlockCert::Root { epoch: vote.epoch, block: vote.block });
    }

    #[test]
    fn messages(header in header(), cert in timeout_cert(), signature in signature()) {
        let reference = CertReference {
            epoch: cert.epoch,
            view: cert.view,
            block: header.parent,
            signers: vec![3],
            digest: header.tx_root,
        };
        let proposal = Proposal {
            block: Arc::new(Block::new(header, Vec::new())),
            justify: Carried::Inline(cert.high_qc.clone()),
            tc: Some(Carried::Reference(reference.clone())),
            signature: signature.clone(),
        };
        check(&Message::Proposal(proposal));
        check(&Message::Timeout(Timeout {
            epoch: cert.epoch,
            view: cert.view,
            high_qc_view: View::new(1),
            high_qc: Carried::Reference(reference),
            tc: Some(Carried::Inline(Arc::new(cert.clone()))),
            validator: ValidatorIndex(2),
            signature,
        }));
        check(&Message::TimeoutCert(Arc::new(cert)));
    }

    #[test]
    fn epoch_proofs(headers in vec(header(), 1..4), (_, _, commit) in ballots()) {
        check(&Message::EpochProof(Arc::new(EpochProof { headers, certificate: Arc::new(commit) })));
    }

    #[test]
    fn node_records_and_safety_records(
        peer in vec(any::<u8>(), 0..40), address in ".{0,30}", numbers in any::<[u64; 4]>(), hash in hash(),
        signature in signature(),
    ) {
        let record = NodeRecord {
            chain: ChainId::new(hash),
            address: Address::new(hash),
            mesh_peer: peer.clone(),
            public_peer: peer,
            mesh_addresses: vec![address],
            public_addresses: Vec::new(),
            seq: numbers[0],
            expires_ms: numbers[1],
        };
        check(&SignedNodeRecord { record, signature });
        check(&SafetyRecord {
            epoch: Epoch::new(numbers[2]),
            last_voted: Some((View::new(numbers[3]), BlockId::new(hash))),
            last_timeout: Some((View::new(1), View::ZERO)),
            high_qc: Some((View::new(2), hash)),
            ..SafetyRecord::default()
        });
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode::<SignedTransaction>(&bytes);
        let _ = decode::<Message>(&bytes);
        let _ = decode::<Genesis>(&bytes);
        let _ = decode::<ValidatorSet>(&bytes);
        let _ = decode::<Record>(&bytes);
        let _ = decode::<SignedNodeRecord>(&bytes);
        if let Ok(cert) = decode::<CommitCert>(&bytes) {
            prop_assert_eq!(encode(&cert), bytes);
        }
    }
}

/// A length prefix of four billion must not be believed.
#[test]
fn hostile_lengths_are_refused_before_anything_is_allocated() {
    let mut huge = vec![0u8; 48];
    huge.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode::<CommitCert>(&huge).unwrap_err().to_string().contains("at most"));
    let mut set = vec![0u8; 8];
    set.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode::<ValidatorSet>(&set).is_err());
    let commit = CommitCert::new(Epoch::ZERO, View::new(1), BlockId::ZERO, 4, Vec::new());
    let wrong: Result<BlockCert, _> = decode(&[&[3][..], &encode(&commit)].concat());
    assert!(wrong.is_err(), "no certificate has discriminant 3");
}
