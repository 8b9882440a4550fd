//! Sizes of receipts, and how many verify each second on one core:
//! `cargo run --release -p cairn-receipt --example figures`.
//!
//! For 4, 21 and 100 validators with signatures of a bare quorum, a batch of 2^20 salted leaves in a log of a million
//! records. A verification begins from the text each time, with nothing remembered.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::time::{Duration, Instant};

use cairn_receipt::{AnchorReceipt, ReceiptVerifier, Trusted, bundle_of_batch, bundle_to_json, to_json};
use cairn_types::log::TreeHash;
use cairn_types::receipt::{BatchPath, BundledLeaf, Finality, Receipt, Subject};
use cairn_types::tree::{BatchTree, Peaks, batch_leaf, path_from_nodes};
use cairn_types::{CommitCert, Hash, Header, Record, Scheme, TreeKind, encode};
use fixture::{Committee, World};

const LEAVES: u64 = 1 << 20;
const RECORDS: u64 = 1_000_000;
/// Leaves in the bundles that are measured.
const BUNDLED: [u64; 2] = [100, 10_000];
const MEASURE: Duration = Duration::from_millis(1_500);

fn item(index: u64) -> Hash {
    Hash(*blake3::hash(&index.to_le_bytes()).as_bytes())
}

fn subject(index: u64) -> Subject {
    Subject { digest: item(index), algorithm: "blake3".into(), salt: vec![index as u8; 16] }
}

/// The record of the batch as number `RECORDS / 3` of the log, with its path and the log's root.
fn in_log(record: &Record) -> (Vec<Hash>, Hash) {
    let mut peaks = Peaks::new();
    let mut nodes = std::collections::HashMap::new();
    for seq in 0..RECORDS {
        let leaf = match seq == record.seq {
            true => TreeHash::Anchors.leaf(&record.to_bytes()),
            false => item(seq),
        };
        nodes.extend(
            peaks.append(TreeHash::Anchors, leaf).into_iter().map(|it| ((it.level, it.index), it.hash)),
        );
    }
    let node = |level, index| nodes.get(&(level, index)).copied();
    let path = path_from_nodes(TreeHash::Anchors, record.seq, RECORDS, node).expect("all nodes are there");
    (path, peaks.root(TreeHash::Anchors))
}

fn rate(mut verify: impl FnMut() -> bool) -> f64 {
    assert!(verify(), "what is measured is valid");
    let (began, mut done) = (Instant::now(), 0u32);
    while began.elapsed() < MEASURE {
        assert!(verify());
        done += 1;
    }
    f64::from(done) / began.elapsed().as_secs_f64()
}

fn line(what: &str, bytes: usize, leaves: u64, per_second: f64) {
    println!(
        "  {what:<34} {bytes:>9} B  {:>9.0} B/leaf  {:>9.0} files/s  {:>9.0} leaves/s",
        bytes as f64 / leaves as f64,
        per_second,
        per_second * leaves as f64
    );
}

fn measure(validators: u8, batch: &BatchTree, record: &Record, path: &[Hash], root: Hash) {
    let mut world = World::with_validators(Scheme::Dilithium3, 1);
    let committee = Committee::new(Scheme::Dilithium3, 0, 1..validators + 1);
    world.genesis.validators = committee.set.validators().to_vec();
    let trusted = Trusted::genesis(&world.genesis).expect("a genesis");
    let header = Header {
        chain: trusted.chain,
        anchors_root: root,
        anchors_size: RECORDS,
        validators: committee.set.digest(),
        next_validators: committee.set.digest(),
        ..world.header(0, 500_000, 600_000, &[])
    };
    let quorum: Vec<u16> = (0..u16::from(validators) * 2 / 3 + 1).collect();
    let certificate: CommitCert = committee.certify(&header, &quorum);
    let core = AnchorReceipt {
        record_bytes: record.to_bytes(),
        anchor_path: path.to_vec(),
        header_bytes: encode(&header),
        finality: Finality::Certificate(encode(&certificate)),
        epochs: Vec::new(),
    };
    println!("{validators} validators, {} signatures", quorum.len());
    let receipt = |core: &AnchorReceipt, index: u64| -> Receipt {
        let place = BatchPath { index, path: batch.path(index).expect("inside") };
        core.clone().complete(subject(index), Some(place))
    };
    let text = to_json(&receipt(&core, 77_777));
    let verify =
        |text: &str, trusted: &Trusted| ReceiptVerifier::new(trusted.clone()).verify_any(text).1.valid;
    line("standalone", text.len(), 1, rate(|| verify(&text, &trusted)));
    let same = ReceiptVerifier::new(trusted.clone());
    line("standalone, certificate known", text.len(), 1, rate(|| same.verify_any(&text).1.valid));
    for leaves in BUNDLED {
        let indexes: Vec<u64> = (0..leaves).map(|at| at * (LEAVES / leaves)).collect();
        let held =
            indexes.iter().map(|index| BundledLeaf { index: *index, subject: subject(*index) }).collect();
        let path = batch.multiproof(&indexes).expect("inside");
        let text = bundle_to_json(&bundle_of_batch(&core, held, path).expect("it fits"));
        line(&format!("bundle of {leaves} leaves"), text.len(), leaves, rate(|| verify(&text, &trusted)));
    }
    let mut pinned = trusted.clone();
    pinned.checkpoints = vec![header.id()];
    let text = to_json(&receipt(&core.checkpoint_relative(), 77_777));
    line("relative to a checkpoint", text.len(), 1, rate(|| verify(&text, &pinned)));
}

fn main() {
    // One core: the verifier would otherwise spread the signatures of a certificate over all.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the first pool");
    let kind = TreeKind::CairnB3V1;
    let leaves = (0..LEAVES).map(|index| batch_leaf(kind, &[index as u8; 16], &item(index))).collect();
    let batch = BatchTree::new(kind, leaves).expect("not empty");
    let world = World::with_validators(Scheme::Dilithium3, 1);
    let small = fixture::Batch::new(kind, 1, false);
    let mut record = fixture::records(&world, &small, 3).remove(2);
    (record.root, record.leaves, record.seq) = (batch.root(), LEAVES, RECORDS / 3);
    let (path, root) = in_log(&record);
    println!("batch of {LEAVES} leaves, log of {RECORDS} records, dilithium3, one core");
    for validators in [4, 21, 100] {
        measure(validators, &batch, &record, &path, root);
    }
}
