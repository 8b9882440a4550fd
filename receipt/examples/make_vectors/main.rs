//! Writes the test vectors of `docs/FORMATS.md` to the folder given first, all of them or those named after it:
//! `cargo run --release -p cairn-receipt --example make_vectors -- types/vectors [NAME...]`.
//!
//! Keys are fixed. ML-DSA signatures are hedged, so each run writes others; all are equally good.

mod epochs;
#[path = "../../tests/fixture/mod.rs"]
mod fixture;
mod logs;
mod timestamps;

use std::path::Path;
use std::sync::Arc;

use cairn_types::block::Header;
use cairn_types::certificate::{First, Second, TimeoutEntry};
use cairn_types::delegation::{DelegationOp, Kinds, Mandate, Rate, Scope, Terms};
use cairn_types::evidence::Pair;
use cairn_types::identity::{IdentityOp, NewKey, Purpose, Purposes, RecoveredKeys};
use cairn_types::log::TreeHash;
use cairn_types::multisig::{MultisigOp, Proposed};
use cairn_types::signing::{Tag, block_preimage, timeout_preimage};
use cairn_types::transaction::Proofs;
use cairn_types::tree::root;
use cairn_types::{
    BlockCert, BlockId, ChainId, Change, Changes, Conflict, Context, Epoch, Evidence, GovernanceOp, Hash,
    KeyRef, Payload, ProofId, Scheme, Signature, SignedTransaction, TimeoutCert, Transaction, TreeKind, TxId,
    ValidatorIndex, View, encode,
};
use fixture::{Batch, World, cases, key, records};
use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("usage: make_vectors FOLDER [NAME...]");
    let folder = Path::new(&folder);
    let wanted: Vec<String> = args.collect();
    std::fs::create_dir_all(folder)?;
    let files = [
        ("hashing", hashing()),
        ("signatures", signatures()),
        ("trees", trees()),
        ("transactions", transactions()),
        ("blocks", blocks()),
        ("epochs", epochs::epoch_proofs()),
        ("genesis", genesis()),
        ("receipts", receipts()),
        ("documents", documents()),
        ("logproofs", logs::log_proofs()),
        ("state", states()),
        ("timestamps", timestamps::time_stamps()),
    ];
    for (name, value) in files {
        if !wanted.is_empty() && !wanted.iter().any(|it| it == name) {
            continue;
        }
        let mut text = serde_json::to_string_pretty(&value)?;
        text.push('\n');
        std::fs::write(folder.join(format!("{name}.json")), &text)?;
        println!("{name}.json: {} bytes", text.len());
    }
    Ok(())
}

const CHAIN: ChainId = ChainId::new(Hash([0xc4; 32]));

fn hashing() -> Value {
    let messages: [&[u8]; 3] = [b"", b"abc", &[0xa5; 64]];
    let contexts: Vec<_> = Context::ALL
        .iter()
        .flat_map(|context| {
            messages.map(|message| {
                json!({"context": context.string(), "message": hex::encode(message),
                       "hash": context.hash(message).to_string()})
            })
        })
        .collect();
    json!({ "derive_key": contexts })
}

fn signatures() -> Value {
    let tags = [
        Tag::Tx,
        Tag::Proposal,
        Tag::Vote,
        Tag::Commit,
        Tag::Timeout,
        Tag::Link,
        Tag::Node,
        Tag::Checkpoint,
        Tag::Login,
    ];
    let preimages: Vec<_> = tags
        .iter()
        .map(|tag| {
            json!({"tag": tag.text(), "chain": CHAIN.to_string(), "body": "0102",
                   "preimage": hex::encode(tag.preimage(CHAIN, &[1, 2]))})
        })
        .collect();
    let (epoch, view, block) = (Epoch::new(1), View::new(2), cairn_types::BlockId::new(Hash([3; 32])));
    let bodies = json!([
        {"of": "vote", "epoch": 1, "view": 2, "block": block.to_string(),
         "preimage": hex::encode(block_preimage(Tag::Vote, CHAIN, epoch, view, block))},
        {"of": "timeout", "epoch": 1, "view": 2, "high_qc_view": 0,
         "preimage": hex::encode(timeout_preimage(CHAIN, epoch, view, View::ZERO))},
    ]);
    let keys: Vec<_> = Scheme::ALL.into_iter().map(signed_by).collect();
    json!({ "preimages": preimages, "bodies": bodies, "keys": keys })
}

fn signed_by(scheme: Scheme) -> Value {
    let (pair, other) = (key(scheme, 1), key(scheme, 2));
    let preimage = Tag::Login.preimage(CHAIN, b"body");
    let signature = pair.sign(&preimage);
    let mut flipped = signature.as_bytes().to_vec();
    flipped[2_000] ^= 1;
    let entry = |name: &str, preimage: &[u8], signature: &[u8], valid: bool| {
        json!({"name": name, "preimage": hex::encode(preimage), "signature": hex::encode(signature),
               "valid": valid})
    };
    let mut value = json!({
        "scheme": scheme.name(),
        "scheme_id": scheme.id(),
        "public_key": hex::encode(pair.public().as_bytes()),
        "address": pair.address().to_string(),
        "signatures": [
            entry("good", &preimage, signature.as_bytes(), true),
            entry("one bit changed", &preimage, &flipped, false),
            entry("another tag", &Tag::Vote.preimage(CHAIN, b"body"), signature.as_bytes(), false),
            entry("another chain", &Tag::Login.preimage(ChainId::ZERO, b"body"), signature.as_bytes(), false),
            entry("another key's", &preimage, other.sign(&preimage).as_bytes(), false),
            entry("cut short", &preimage, &signature.as_bytes()[..3_308], false),
        ],
    });
    if scheme == Scheme::MlDsa65 {
        value["seed"] = hex::encode([1u8; 32]).into();
    }
    value
}

fn trees() -> Value {
    let hashes = |hashes: &[Hash]| hashes.iter().map(Hash::to_string).collect::<Vec<_>>();
    let mut batches = Vec::new();
    for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
        for (count, salted) in
            [(1, false), (1, true), (2, true), (3, false), (5, true), (7, true), (8, false)]
        {
            let batch = Batch::new(kind, count, salted);
            let leaves: Vec<_> = batch
                .items
                .iter()
                .zip(&batch.salts)
                .map(|(item, salt)| cairn_types::tree::batch_leaf(kind, salt, item))
                .collect();
            let paths: Vec<_> =
                (0..u64::from(count)).map(|at| hashes(&batch.tree.path(at).expect("inside"))).collect();
            batches.push(json!({
                "tree": kind.name(), "items": hashes(&batch.items),
                "salts": batch.salts.iter().map(hex::encode).collect::<Vec<_>>(),
                "leaf_hashes": hashes(&leaves), "root": batch.tree.root().to_string(), "paths": paths,
            }));
        }
    }
    let families = [
        ("anchors", TreeHash::Anchors),
        ("anchors_sha256", TreeHash::AnchorsSha256),
        ("history", TreeHash::History),
        ("transactions", TreeHash::Transactions),
    ];
    let logs: Vec<_> = families
        .map(|(name, hash)| {
            let leaves: Vec<_> = (0..7u8).map(|at| hash.leaf(&[at; 32])).collect();
            let roots: Vec<_> =
                (0..=leaves.len()).map(|size| root(hash, &leaves[..size]).to_string()).collect();
            let data: Vec<_> = (0..7u8).map(|at| hex::encode([at; 32])).collect();
            json!({"log": name, "data": data, "leaf_hashes": hashes(&leaves), "roots_by_size": roots})
        })
        .into_iter()
        .collect();
    json!({ "batches": batches, "bad_paths": bad_paths(), "logs": logs })
}

fn bad_paths() -> Vec<Value> {
    let batch = Batch::new(TreeKind::CairnB3V1, 7, false);
    let leaf = |at: usize| cairn_types::tree::batch_leaf(TreeKind::CairnB3V1, &[], &batch.items[at]);
    let good = batch.tree.path(4).expect("inside");
    let mut long = good.clone();
    long.push(leaf(0));
    let mut turned = good.clone();
    turned.reverse();
    [
        ("another leaf", leaf(3), 4, 7, good.clone()),
        ("another index", leaf(4), 5, 7, good.clone()),
        ("index outside", leaf(4), 7, 7, good.clone()),
        ("another leaf count", leaf(4), 4, 8, good.clone()),
        ("too long", leaf(4), 4, 7, long),
        ("too short", leaf(4), 4, 7, good[1..].to_vec()),
        ("the other way round", leaf(4), 4, 7, turned),
        ("no leaves", leaf(4), 0, 0, Vec::new()),
    ]
    .into_iter()
    .map(|(name, leaf, index, leaves, path): (_, Hash, u64, u64, Vec<Hash>)| {
        let path: Vec<_> = path.iter().map(Hash::to_string).collect();
        json!({"name": name, "tree": "cairn-b3-v1", "leaf_hash": leaf.to_string(), "index": index,
               "leaves": leaves, "path": path, "root": batch.tree.root().to_string()})
    })
    .collect()
}

fn transaction(scheme: Scheme, payload: Payload) -> Transaction {
    let pair = key(scheme, 1);
    Transaction {
        version: 1,
        chain: CHAIN,
        sender: pair.address(),
        nonce: 42,
        expires_ms: 1_767_225_660_000,
        keys: vec![KeyRef::Inline(pair.public().clone())],
        payload,
    }
}

fn sign(transaction: Transaction, signers: &[(Scheme, u8)]) -> SignedTransaction {
    let preimage = transaction.preimage();
    let signatures = signers.iter().map(|(scheme, seed)| key(*scheme, *seed).sign(&preimage)).collect();
    SignedTransaction::new(transaction, signatures)
}

fn proofs_payload() -> Payload {
    let first = Batch::new(TreeKind::CairnB3V1, 7, true).proof();
    let mut second = Batch::new(TreeKind::Rfc9162Sha256, 1, false).proof();
    second.kind = cairn_types::ProofKind::Attestation;
    second.previous = Some(ProofId::new(Hash([1; 32])));
    second.subject = Some(ProofId::new(Hash([2; 32])));
    second.on_behalf_of = Some(cairn_types::Address::new(Hash([4; 32])));
    second.reference = "Ä".into();
    second.metadata = Vec::new();
    Payload::Proofs(Proofs(vec![first, second]))
}

fn scope() -> Scope {
    let kinds =
        Kinds::of([cairn_types::ProofKind::Batch, cairn_types::ProofKind::Custom]).expect("two kinds");
    Scope { kinds, tree: Some(TreeKind::CairnB3V1), metadata_bytes_max: 64 }
}

fn grant() -> DelegationOp {
    let rate = Some(Rate { count: 60, period_ms: 3_600_000 });
    let terms = Terms { scope: scope(), proofs_max: Some(1_000), rate, expires_ms: Some(1_798_761_600_000) };
    DelegationOp::Grant { delegate: cairn_types::Address::new(Hash([4; 32])), terms }
}

fn allow() -> DelegationOp {
    let mandate = Mandate { scope: Scope::ALL, rate: None };
    DelegationOp::SetAgent { agent: cairn_types::Address::new(Hash([4; 32])), mandate }
}

fn propose() -> Payload {
    let Payload::Proofs(proofs) = proofs_payload() else { unreachable!("it holds proofs") };
    Payload::Multisig(MultisigOp::Propose {
        payload: Proposed::Proofs(proofs),
        expires_ms: 1_767_312_000_000,
    })
}

fn add_key() -> IdentityOp {
    let purposes = Purposes::of([Purpose::Authentication, Purpose::Assertion]).expect("two purposes");
    let key = key(Scheme::MlDsa65, 2).public().clone();
    IdentityOp::AddKey(NewKey { key, purposes, expires_ms: Some(1_798_761_600_000) })
}

fn recover() -> IdentityOp {
    let key = key(Scheme::MlDsa65, 3).public().clone();
    let new = NewKey { key, purposes: Purposes::ORDINARY, expires_ms: None };
    IdentityOp::Recover { keys: RecoveredKeys(vec![new]), threshold: 1 }
}

fn transactions() -> Value {
    let (ml, di) = (Scheme::MlDsa65, Scheme::Dilithium3);
    let rotate = IdentityOp::RotateKey { index: 0, key: key(ml, 2).public().clone(), expires_ms: None };
    let mut two_keys = transaction(ml, Payload::Identity(IdentityOp::SetThreshold(2)));
    two_keys.keys = vec![KeyRef::Registered(0), KeyRef::Registered(3)];
    let registered = |payload| Transaction { keys: vec![KeyRef::Registered(0)], ..transaction(ml, payload) };
    let op = |op| sign(transaction(ml, Payload::Governance(op)), &[(ml, 1)]);
    let good = [
        ("propose two changes", op(GovernanceOp::Propose { changes: changes(), life_ms: 86_400_000 })),
        ("approve a motion", op(GovernanceOp::Approve(TxId::new(Hash([6; 32]))))),
        ("evidence of two votes", sign(transaction(ml, Payload::Evidence(evidence())), &[(ml, 1)])),
        ("two proofs, inline key", sign(transaction(ml, proofs_payload()), &[(ml, 1)])),
        ("two proofs, inline dilithium3 key", sign(transaction(di, proofs_payload()), &[(di, 1)])),
        ("register", sign(transaction(ml, Payload::Identity(IdentityOp::Register)), &[(ml, 1)])),
        ("rotate key", sign(registered(Payload::Identity(rotate)), &[(ml, 1)])),
        ("grant a delegation", sign(registered(Payload::Delegation(grant())), &[(ml, 1)])),
        ("allow an agent", sign(registered(Payload::Delegation(allow())), &[(ml, 1)])),
        ("propose two proofs", sign(registered(propose()), &[(ml, 1)])),
        ("add a key that expires", sign(registered(Payload::Identity(add_key())), &[(ml, 1)])),
        ("recover", sign(registered(Payload::Identity(recover())), &[(ml, 1)])),
        ("revoke key", sign(registered(Payload::Identity(IdentityOp::RevokeKey(3))), &[(ml, 1)])),
        ("set threshold, two keys of different schemes", sign(two_keys, &[(ml, 1), (di, 2)])),
    ];
    let valid: Vec<_> = good
        .iter()
        .map(|(name, signed)| {
            let (tx, id) = (&signed.transaction, signed.transaction.id());
            let proofs: Vec<_> =
                tx.proofs().iter().map(|proof| proof.id(tx.chain, tx.sender).to_string()).collect();
            json!({
                "name": name, "bytes": hex::encode(encode(signed)), "id": id.to_string(),
                "preimage_tail": hex::encode(encode(tx)), "witness": signed.witness().to_string(),
                "block_leaf": signed.block_leaf().to_string(), "proof_ids": proofs,
                "chain": tx.chain.to_string(), "sender": tx.sender.to_string(),
            })
        })
        .collect();
    json!({ "valid": valid, "invalid": bad_transactions(&good[5].1) })
}

fn changes() -> Changes {
    let join = Change::Join { key: key(Scheme::Dilithium3, 2).public().clone(), power: 3 };
    Changes(vec![join, Change::Leave(cairn_types::Address::new(Hash([8; 32])))])
}

/// Of the validator with the published `ml-dsa-65` key, in view 5 of epoch 1.
fn evidence() -> Evidence {
    let (epoch, view) = (Epoch::new(1), View::new(5));
    let said = |n: u8| {
        let block = BlockId::new(Hash([n; 32]));
        (block, key(Scheme::MlDsa65, 1).sign(&block_preimage(Tag::Vote, CHAIN, epoch, view, block)))
    };
    let conflict = Conflict::Votes(Pair::new(said(1), said(2)).expect("two blocks"));
    Evidence { epoch, view, validator: ValidatorIndex(2), conflict }
}

/// `good` with something changed.
fn changed(
    good: &SignedTransaction,
    name: &str,
    fault: &str,
    change: &dyn Fn(&mut SignedTransaction),
) -> Value {
    let mut changed = good.clone();
    change(&mut changed);
    json!({"name": name, "bytes": hex::encode(encode(&changed)), "fails": fault})
}

fn bad_transactions(good: &SignedTransaction) -> Vec<Value> {
    let change =
        |name: &str, fault: &str, how: &dyn Fn(&mut SignedTransaction)| changed(good, name, fault, how);
    let mut long = encode(good);
    long.push(0);
    let mut scheme = encode(good);
    // version, chain, sender, nonce, expires, list length, variant: then the scheme's id.
    scheme[1 + 32 + 32 + 8 + 8 + 4 + 1] = 3;
    let raw =
        |name: &str, bytes: &[u8]| json!({"name": name, "bytes": hex::encode(bytes), "fails": "decode"});
    vec![
        raw("bytes after the end", &long),
        raw("cut short", &long[..long.len() - 2]),
        raw("unknown scheme", &scheme),
        change("version 2", "shape", &|it| it.transaction.version = 2),
        change("another chain", "shape", &|it| it.transaction.chain = ChainId::ZERO),
        change("no keys", "shape", &|it| it.transaction.keys.clear()),
        change("keys out of order", "shape", &|it| {
            it.transaction.keys = vec![KeyRef::Registered(1), KeyRef::Registered(0)];
        }),
        change("key twice", "shape", &|it| {
            let first = it.transaction.keys[0].clone();
            it.transaction.keys.push(first);
        }),
        change("proof of no leaves", "shape", &|it| {
            let mut proof = Batch::new(TreeKind::CairnB3V1, 1, false).proof();
            proof.leaves = 0;
            it.transaction.payload = Payload::Proofs(Proofs(vec![proof]));
        }),
        change("proof twice", "shape", &|it| {
            let proof = Batch::new(TreeKind::CairnB3V1, 1, false).proof();
            it.transaction.payload = Payload::Proofs(Proofs(vec![proof.clone(), proof]));
        }),
        change("evidence of the same twice", "shape", &|it| {
            let mut evidence = evidence();
            if let Conflict::Votes(pair) = &mut evidence.conflict {
                pair.second = pair.first.clone();
            }
            it.transaction.payload = Payload::Evidence(evidence);
        }),
        change("a motion without changes", "decode", &|it| {
            let op = GovernanceOp::Propose { changes: Changes(Vec::new()), life_ms: 1 };
            it.transaction.payload = Payload::Governance(op);
        }),
        change("delegation to itself", "shape", &|it| {
            let mut op = grant();
            if let DelegationOp::Grant { delegate, .. } = &mut op {
                *delegate = it.transaction.sender;
            }
            it.transaction.payload = Payload::Delegation(op);
        }),
        change("delegation of no proofs", "shape", &|it| {
            let mut op = grant();
            if let DelegationOp::Grant { terms, .. } = &mut op {
                terms.proofs_max = Some(0);
            }
            it.transaction.payload = Payload::Delegation(op);
        }),
        change("proposal of a registration", "shape", &|it| {
            let payload = Proposed::Identity(IdentityOp::Register);
            it.transaction.payload = Payload::Multisig(MultisigOp::Propose { payload, expires_ms: 1 });
        }),
        change("no signature", "signatures", &|it| it.signatures.clear()),
        change("inline key that is not the sender's", "signatures", &|it| {
            it.transaction.sender = cairn_types::Address::ZERO;
        }),
        change("signed field changed", "signatures", &|it| it.transaction.nonce += 1),
    ]
}

fn blocks() -> Value {
    let world = World::with_validators(Scheme::MlDsa65, 4);
    let batch = Batch::new(TreeKind::CairnB3V1, 7, true);
    let records = records(&world, &batch, 5);
    let header = world.header(0, 7, 9, &records);
    let committee = &world.committees[0];
    let quorum = committee.certify::<First>(&header, committee.quorum());
    let commit = committee.certify::<Second>(&header, committee.quorum());
    let timeout = timeout_cert(&world, BlockCert::Quorum(Arc::new(quorum.clone())));
    let genesis_header = world.genesis.header(Hash([0x55; 32])).expect("a valid genesis");
    let record_values: Vec<_> = records
        .iter()
        .map(|record| {
            let bytes = record.to_bytes();
            json!({"bytes": hex::encode(&bytes), "seq": record.seq,
                   "anchor_leaf": TreeHash::Anchors.leaf(&bytes).to_string(),
                   "sha256_leaf": TreeHash::AnchorsSha256.leaf(&bytes).to_string()})
        })
        .collect();
    let header_value = |name: &str, header: &Header| {
        json!({"name": name, "bytes": hex::encode(encode(header)), "id": header.id().to_string(),
               "epoch": header.epoch.get(), "view": header.view.get(), "height": header.height.get(),
               "anchors_root": header.anchors_root.to_string(), "anchors_size": header.anchors_size,
               "anchors_sha256": header.anchors_sha256.to_string(), "validators": header.validators.to_string()})
    };
    json!({
        "chain": world.chain.to_string(),
        "records": record_values,
        "headers": [header_value("block 0", &genesis_header), header_value("block 7", &header)],
        "validator_set": {"bytes": hex::encode(encode(&committee.set)), "epoch": 0,
                          "digest": committee.set.digest().to_string()},
        "params": {"bytes": hex::encode(encode(&world.genesis.params)),
                   "digest": world.genesis.params.digest().to_string()},
        "certificates": {
            "quorum": hex::encode(encode(&quorum)),
            "commit": hex::encode(encode(&commit)),
            "timeout": hex::encode(encode(&timeout)),
        },
    })
}

fn timeout_cert(world: &World, high_qc: BlockCert) -> TimeoutCert {
    let committee = &world.committees[0];
    let mut cert = TimeoutCert { epoch: Epoch::ZERO, view: View::new(11), entries: Vec::new(), high_qc };
    for index in [0u16, 2, 3] {
        let high_qc_view = if index == 2 { View::ZERO } else { View::new(9) };
        let mut entry = TimeoutEntry {
            validator: ValidatorIndex(index),
            high_qc_view,
            signature: Signature::new(&[]).expect("short"),
        };
        entry.signature = committee.keys[usize::from(index)].sign(&cert.preimage(world.chain, &entry));
        cert.entries.push(entry);
    }
    cert
}

fn genesis() -> Value {
    let mut valid: Vec<_> = Scheme::ALL.map(|scheme| World::with_validators(scheme, 2).genesis).to_vec();
    let mut registered = World::with_validators(Scheme::MlDsa65, 1).genesis;
    let registrar = cairn_types::Address::new(Hash([0xad; 32]));
    registered.admission = cairn_types::Admission::Registered { registrar };
    valid.push(registered.clone());
    let values: Vec<_> = valid
        .iter()
        .map(|genesis| {
            json!({"file": cairn_genesis::to_json(genesis), "canonical": hex::encode(encode(genesis)),
                   "hash": genesis.chain().to_string()})
        })
        .collect();
    json!({ "valid": values, "invalid": bad_genesis(&cairn_genesis::to_json(&registered)) })
}

fn bad_genesis(text: &str) -> Vec<Value> {
    let edits = [
        ("unknown field", "\"version\": 1,", "\"version\": 1, \"note\": 1,", "note"),
        ("repeated field", "\"version\": 1,", "\"version\": 1, \"version\": 1,", "version"),
        ("missing field", "\"drift_ms\": 500,", "", "drift_ms"),
        ("version 2", "\"version\": 1,", "\"version\": 2,", "version"),
        ("name in upper case", "vectors", "Vectors", "name"),
        ("drift as long as a view", "\"drift_ms\": 500", "\"drift_ms\": 1000", "params.drift_ms"),
        ("cap below base", "\"timeout_cap_ms\": 30000", "\"timeout_cap_ms\": 999", "params.timeout_cap_ms"),
        (
            "tiny transactions",
            "\"transaction_bytes_max\": 65536",
            "\"transaction_bytes_max\": 10",
            "params.transaction_bytes_max",
        ),
        ("no power", "\"power\": 1", "\"power\": 0", "power"),
        ("unknown scheme", "\"ml-dsa-65\",\n", "\"rsa\",\n", "validators[0].scheme"),
        ("address in upper case", "\"address\": \"", "\"address\": \"A", "validators[0].address"),
        ("hash of another genesis", "\"interval_min_ms\": 0", "\"interval_min_ms\": 1", "hash"),
    ];
    edits
        .map(|(name, from, to, field)| {
            let file = text.replacen(from, to, 1);
            assert_ne!(file, text, "{name} changes something");
            json!({"name": name, "file": file, "field": field})
        })
        .to_vec()
}

fn receipts() -> Value {
    let mut groups = Vec::new();
    for scheme in Scheme::ALL {
        for mut group in cases::all(scheme) {
            if scheme == Scheme::Dilithium3 {
                // The formats are the same: what is right, and what only signatures decide.
                let kept = ["salted leaf 4 of 7", "a signature with one bit changed", "across one epoch"];
                group.cases.retain(|case| kept.contains(&case.name));
            }
            let cases: Vec<_> = group.cases.iter().map(|case| case_value("receipt", case)).collect();
            groups.push(json!({
                "scheme": scheme.name(),
                "genesis": cairn_genesis::to_json(&group.world.genesis),
                "cases": cases,
            }));
        }
    }
    json!({ "groups": groups })
}

/// A case whose text stands under `what`.
fn case_value(what: &str, case: &fixture::Case) -> Value {
    json!({
        "name": case.name,
        "checkpoints": case.checkpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        what: case.text,
        "valid": case.fails.is_none(),
        "fails": case.fails.map(cairn_receipt::CheckName::name),
    })
}

/// The cases of one world, with its genesis.
fn group_value(what: &str, group: &fixture::Group) -> Value {
    let cases: Vec<_> = group.cases.iter().map(|case| case_value(what, case)).collect();
    json!({ "genesis": cairn_genesis::to_json(&group.world.genesis), "cases": cases })
}

/// State documents, and receipts that carry them.
fn states() -> Value {
    let of = |scheme| {
        [
            group_value("document", &fixture::states::documents(scheme)),
            group_value("receipt", &fixture::states::receipts(scheme)),
        ]
    };
    json!({ "groups": Scheme::ALL.into_iter().flat_map(of).collect::<Vec<_>>() })
}

fn documents() -> Value {
    let of = |scheme| group_value("document", &fixture::documents::all(scheme));
    json!({ "groups": Scheme::ALL.into_iter().map(of).collect::<Vec<_>>() })
}
