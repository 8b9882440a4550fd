//! Exports hold what they say, and no changed one verifies.

mod fixture;

use cairn_crypto::NoteKey;
use cairn_receipt::export::{
    CoseReceipt, OtsFault, SignedNote, TlogProof, cose_key, cose_receipt, note_key_name, note_verifier_key,
    ots_of, parse_cose, parse_verifier_key, verify_cose, verify_ots,
};
use cairn_types::log::TreeHash;
use cairn_types::tree::path;
use cairn_types::{Hash, Scheme};
use fixture::World;
use fixture::documents::{Log, SEQS};

fn key(seed: u8) -> NoteKey {
    NoteKey::from_seed(&[seed; 32]).expect("any seed")
}

struct Made {
    world: World,
    log: Log,
    path: Vec<Hash>,
}

/// The path of the second batch's record in the SHA-256 log.
fn made() -> Made {
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    let leaves: Vec<_> =
        log.records.iter().map(|record| TreeHash::AnchorsSha256.leaf(&record.to_bytes())).collect();
    let path = path(TreeHash::AnchorsSha256, &leaves, SEQS[1]).expect("inside");
    Made { world, log, path }
}

impl Made {
    fn record(&self) -> Vec<u8> {
        self.log.records[SEQS[1]].to_bytes()
    }

    fn tlog(&self) -> TlogProof {
        let header = &self.log.header;
        let sign = |seed| {
            SignedNote::sign(
                self.world.chain,
                header.anchors_size,
                header.anchors_sha256,
                &key(seed),
                1_800_000_000,
            )
        };
        let mut checkpoint = sign(1);
        checkpoint.merge(sign(2)).expect("the same log");
        TlogProof { extra: self.record(), index: SEQS[1] as u64, path: self.path.clone(), checkpoint }
    }

    fn cose(&self) -> CoseReceipt {
        let (header, key) = (&self.log.header, key(1));
        CoseReceipt {
            public: *key.public(),
            size: header.anchors_size,
            index: SEQS[1] as u64,
            path: self.path.clone(),
            signature: cose_key(&key, &header.anchors_sha256),
        }
    }

    fn keys(&self) -> Vec<(String, [u8; 32])> {
        [1, 2].map(|seed| (note_key_name(self.world.chain, key(seed).public()), *key(seed).public())).into()
    }
}

#[test]
fn a_tlog_proof_reads_back_and_verifies_under_its_cosigners() {
    let made = made();
    let proof = made.tlog();
    let text = proof.to_text();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "));
    let read = TlogProof::parse(&text).unwrap();
    assert_eq!(read, proof);
    let (chain, keys) = (made.world.chain, made.keys());
    assert_eq!(read.verify(chain, &made.record(), &keys, 2).unwrap().len(), 2);
    assert!(read.verify(chain, &made.record(), &keys, 3).is_err(), "two keys are not three");
    assert!(read.verify(chain, &made.record(), &keys[..1], 2).is_err(), "strangers do not count");
    let other = World::new(Scheme::Dilithium3).chain;
    assert!(read.verify(other, &made.record(), &keys, 1).is_err(), "another chain's log");
    for (seed, cosigner) in [(1, false), (2, true)] {
        let text = note_verifier_key(chain, key(seed).public(), cosigner);
        assert_eq!(parse_verifier_key(&text).unwrap(), keys[usize::from(seed) - 1]);
        assert!(
            parse_verifier_key(&text.replacen("cairn", "cairm", 1)).is_err(),
            "the id is of the name too"
        );
    }
}

#[test]
fn no_character_of_a_tlog_proof_may_change() {
    let made = made();
    let (chain, keys, record) = (made.world.chain, made.keys(), made.record());
    let text = made.tlog().to_text();
    let extra = text.find("extra ").unwrap()..text.find("\nindex").unwrap();
    let mut refused = 0;
    for (at, old) in text.char_indices().filter(|(at, _)| !extra.contains(at)) {
        for new in ['0', 'A', '\n', ' ', '+', '9'] {
            let mut changed = text.clone();
            changed.replace_range(at..at + old.len_utf8(), &new.to_string());
            if new == old {
                continue;
            }
            // A signature whose name or key id was changed counts for nobody; the others still stand.
            let verified = TlogProof::parse(&changed).is_ok_and(|it| {
                it.verify(chain, &record, &keys, 2).is_ok()
                    && it.checkpoint.signatures == made.tlog().checkpoint.signatures
            });
            assert!(!verified, "{old:?} -> {new:?} at {at}");
            refused += 1;
        }
    }
    assert!(refused > 4_000, "{refused}");
}

#[test]
fn a_cose_receipt_reads_back_and_no_bit_of_it_may_change() {
    let made = made();
    let receipt = made.cose();
    let bytes = cose_receipt(&receipt);
    assert_eq!(parse_cose(&bytes).unwrap(), receipt);
    let (record, public) = (made.record(), *key(1).public());
    assert_eq!(verify_cose(&receipt, &record, &public), Ok(()));
    assert!(
        verify_cose(&receipt, &record, key(2).public()).is_err(),
        "the receipt's own key is not believed"
    );
    assert!(verify_cose(&receipt, &made.log.records[0].to_bytes(), &public).is_err());
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        // RFC 9942 signs the root alone: another size with a path of the same shape is the same statement.
        let verified = parse_cose(&changed).is_ok_and(|it| {
            let same = CoseReceipt { size: receipt.size, ..it.clone() } == receipt;
            verify_cose(&it, &record, &public).is_ok() && !same
        });
        assert!(!verified, "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(parse_cose(&bytes[..cut]).is_err());
    }
    assert!(parse_cose(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn an_opentimestamps_file_leads_to_the_header_and_no_bit_of_it_may_change() {
    let made = made();
    let receipt = made.log.receipt(&made.world, 1, 4);
    let bytes = ots_of(&receipt, &made.path).unwrap();
    assert_eq!(verify_ots(&bytes, &receipt.header_bytes), Ok(receipt.subject.digest));
    let mut other = made.log.header.clone();
    other.time_ms += 1;
    let other = cairn_types::encode(&other);
    assert!(matches!(verify_ots(&bytes, &other), Err(OtsFault::OtherHeader { .. })));
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verified = verify_ots(&changed, &receipt.header_bytes);
        assert_ne!(verified, Ok(receipt.subject.digest), "bit {bit}");
        assert!(verified.is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        assert!(verify_ots(&bytes[..cut], &receipt.header_bytes).is_err());
    }
}

#[test]
fn what_other_formats_cannot_express_is_refused_in_words() {
    let made = made();
    let blake3 = made.log.receipt(&made.world, 0, 1);
    let fault = ots_of(&blake3, &made.path).unwrap_err();
    assert_eq!(fault, OtsFault::NotSha256);
    assert!(fault.to_string().contains("--tree rfc9162-sha256"));
    let mut receipt = made.log.receipt(&made.world, 1, 0);
    receipt.subject.algorithm = "blake3".into();
    assert!(matches!(ots_of(&receipt, &made.path), Err(OtsFault::Algorithm { .. })));
    let receipt = made.log.receipt(&made.world, 1, 0);
    assert!(matches!(ots_of(&receipt, &made.path[1..]), Err(OtsFault::Malformed { .. })));
    for text in ["", "x", "a\n1\nAA==\n\n", "a\n01\n\n\n— a b\n", "c2sp.org/tlog-proof@v1\nindex 0\n\n"] {
        assert!(SignedNote::parse(text).is_err() && TlogProof::parse(text).is_err(), "{text:?}");
    }
}
