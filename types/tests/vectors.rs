//! The published vectors that need no signatures. (`receipt/tests/vectors.rs` reads the rest.)

use cairn_types::log::TreeHash;
use cairn_types::signing::{Tag, block_preimage, timeout_preimage};
use cairn_types::tree::{BatchTree, batch_leaf, root, verify_batch_path};
use cairn_types::{
    BlockId, ChainId, CommitCert, Context, Epoch, EpochProof, Hash, Header, Params, QuorumCert, Record,
    SignedTransaction, TimeoutCert, TreeKind, ValidatorSet, View, decode, encode,
};
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = format!("{}/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is a string"))
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(value, name)).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value[name].as_array().unwrap();
    assert!(!list.is_empty(), "{name} holds vectors");
    list
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(|it| Hash::from_hex(it.as_str().unwrap()).unwrap()).collect()
}

#[test]
fn hashing() {
    let all = vectors("hashing");
    let all = list(&all, "derive_key");
    assert_eq!(all.len(), 3 * Context::ALL.len());
    for case in all {
        let name = text(case, "context");
        let context = Context::ALL.into_iter().find(|context| context.string() == name).unwrap();
        assert_eq!(context.hash(&bytes(case, "message")).to_string(), text(case, "hash"), "{name}");
    }
}

#[test]
fn preimages() {
    let all = vectors("signatures");
    let chain = ChainId::from_hex(text(&list(&all, "preimages")[0], "chain")).unwrap();
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
    for (case, tag) in list(&all, "preimages").iter().zip(tags) {
        assert_eq!(text(case, "tag"), tag.text());
        assert_eq!(tag.preimage(chain, &bytes(case, "body")), bytes(case, "preimage"));
    }
    let [vote, timeout] = list(&all, "bodies") else { panic!("two bodies") };
    let block = BlockId::from_hex(text(vote, "block")).unwrap();
    let (epoch, view) = (Epoch::new(1), View::new(2));
    assert_eq!(block_preimage(Tag::Vote, chain, epoch, view, block), bytes(vote, "preimage"));
    assert_eq!(timeout_preimage(chain, epoch, view, View::ZERO), bytes(timeout, "preimage"));
}

#[test]
fn batch_trees() {
    let all = vectors("trees");
    for case in list(&all, "batches") {
        let kind = TreeKind::from_name(text(case, "tree")).unwrap();
        let items = hashes(&case["items"]);
        let salts: Vec<_> =
            list(case, "salts").iter().map(|salt| hex::decode(salt.as_str().unwrap()).unwrap()).collect();
        let leaves: Vec<_> =
            items.iter().zip(&salts).map(|(item, salt)| batch_leaf(kind, salt, item)).collect();
        assert_eq!(leaves, hashes(&case["leaf_hashes"]));
        let tree = BatchTree::new(kind, leaves.clone()).unwrap();
        let root = Hash::from_hex(text(case, "root")).unwrap();
        assert_eq!(tree.root(), root);
        for (index, path) in (0u64..).zip(list(case, "paths")) {
            let (path, leaf) = (hashes(path), leaves[index as usize]);
            assert_eq!(tree.path(index), Some(path.clone()));
            assert_eq!(verify_batch_path(kind, leaf, index, tree.leaves(), &path, &root), Ok(true));
        }
    }
    for case in list(&all, "bad_paths") {
        let kind = TreeKind::from_name(text(case, "tree")).unwrap();
        let leaf = Hash::from_hex(text(case, "leaf_hash")).unwrap();
        let root = Hash::from_hex(text(case, "root")).unwrap();
        let (index, leaves) = (case["index"].as_u64().unwrap(), case["leaves"].as_u64().unwrap());
        let outcome = verify_batch_path(kind, leaf, index, leaves, &hashes(&case["path"]), &root);
        assert_ne!(outcome, Ok(true), "{}", case["name"]);
    }
}

#[test]
fn logs() {
    for case in list(&vectors("trees"), "logs") {
        let hash = match text(case, "log") {
            "anchors" => TreeHash::Anchors,
            "anchors_sha256" => TreeHash::AnchorsSha256,
            "history" => TreeHash::History,
            "transactions" => TreeHash::Transactions,
            other => panic!("unknown log {other}"),
        };
        let leaves: Vec<_> = list(case, "data")
            .iter()
            .map(|data| hash.leaf(&hex::decode(data.as_str().unwrap()).unwrap()))
            .collect();
        assert_eq!(leaves, hashes(&case["leaf_hashes"]));
        for (size, expected) in hashes(&case["roots_by_size"]).iter().enumerate() {
            assert_eq!(root(hash, &leaves[..size]), *expected, "size {size}");
        }
    }
}

#[test]
fn transactions() {
    let all = vectors("transactions");
    for case in list(&all, "valid") {
        let raw = bytes(case, "bytes");
        let signed: SignedTransaction = decode(&raw).unwrap();
        assert_eq!(encode(&signed), raw);
        let tx = &signed.transaction;
        assert_eq!(tx.id().to_string(), text(case, "id"));
        assert_eq!(encode(tx), bytes(case, "preimage_tail"));
        assert_eq!(tx.preimage()[48..], bytes(case, "preimage_tail"));
        assert_eq!(signed.witness().to_string(), text(case, "witness"));
        assert_eq!(signed.block_leaf().to_string(), text(case, "block_leaf"));
        let ids: Vec<_> = tx.proofs().iter().map(|proof| proof.id(tx.chain, tx.sender).hash()).collect();
        assert_eq!(ids, hashes(&case["proof_ids"]));
        assert_eq!(tx.check_shape(ChainId::from_hex(text(case, "chain")).unwrap()), Ok(()));
    }
    let chain = ChainId::from_hex(text(&list(&all, "valid")[0], "chain")).unwrap();
    for case in list(&all, "invalid") {
        let decoded = decode::<SignedTransaction>(&bytes(case, "bytes"));
        let stage = match decoded.map(|signed| signed.transaction.check_shape(chain)) {
            Err(_) => "decode",
            Ok(Err(_)) => "shape",
            Ok(Ok(())) => "signatures",
        };
        assert_eq!(stage, text(case, "fails"), "{}", case["name"]);
    }
}

#[test]
fn epoch_proofs() {
    let all = vectors("epochs");
    let chain = ChainId::from_hex(text(&all, "chain")).unwrap();
    let set: ValidatorSet = decode(&bytes(&all, "validator_set")).unwrap();
    for case in list(&all, "valid") {
        let raw = bytes(case, "bytes");
        let proof: EpochProof = decode(&raw).unwrap();
        assert_eq!(encode(&proof), raw);
        assert_eq!(proof.check_shape(chain, &set), Ok(()), "{}", case["name"]);
        let last = proof.last_block().unwrap();
        assert_eq!(
            (last.id().to_string(), last.height.get()),
            (text(case, "last_block").to_owned(), case["height"].as_u64().unwrap())
        );
        assert_eq!(
            (proof.epoch().get(), proof.is_carried()),
            (case["epoch"].as_u64().unwrap(), case["carried"].as_bool().unwrap())
        );
        assert_eq!(last.next_validators.to_string(), text(case, "next_validators"));
    }
    for case in list(&all, "invalid") {
        let stage = match decode::<EpochProof>(&bytes(case, "bytes")) {
            Err(_) => "decode",
            Ok(proof) if proof.check_shape(chain, &set).is_err() => "shape",
            Ok(_) => "signatures",
        };
        assert_eq!(stage, text(case, "fails"), "{}", case["name"]);
    }
}

#[test]
fn blocks() {
    let all = vectors("blocks");
    for case in list(&all, "records") {
        let raw = bytes(case, "bytes");
        let record: Record = decode(&raw).unwrap();
        assert_eq!((record.to_bytes(), record.seq), (raw.clone(), case["seq"].as_u64().unwrap()));
        assert_eq!(TreeHash::Anchors.leaf(&raw).to_string(), text(case, "anchor_leaf"));
        assert_eq!(TreeHash::AnchorsSha256.leaf(&raw).to_string(), text(case, "sha256_leaf"));
    }
    for case in list(&all, "headers") {
        let raw = bytes(case, "bytes");
        let header: Header = decode(&raw).unwrap();
        assert_eq!(encode(&header), raw);
        assert_eq!(header.id().to_string(), text(case, "id"));
        assert_eq!(header.height.get(), case["height"].as_u64().unwrap());
        assert_eq!(header.view.get(), case["view"].as_u64().unwrap());
        assert_eq!(header.anchors_root.to_string(), text(case, "anchors_root"));
        assert_eq!(header.validators.to_string(), text(case, "validators"));
    }
    let set: ValidatorSet = decode(&bytes(&all["validator_set"], "bytes")).unwrap();
    assert_eq!(set.digest().to_string(), text(&all["validator_set"], "digest"));
    let params: Params = decode(&bytes(&all["params"], "bytes")).unwrap();
    assert_eq!(params.digest().to_string(), text(&all["params"], "digest"));
    let of = |name: &str| bytes(&all["certificates"], name);
    decode::<QuorumCert>(&of("quorum")).unwrap().check_shape(&set).unwrap();
    decode::<CommitCert>(&of("commit")).unwrap().check_shape(&set).unwrap();
    decode::<TimeoutCert>(&of("timeout")).unwrap().check_shape(&set).unwrap();
}
