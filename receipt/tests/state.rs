//! State documents verify offline, alone and with a receipt, and no changed one does.

mod fixture;

use cairn_receipt::{ReceiptVerifier, StateDocument, StateFinding};
use cairn_types::Scheme;
use cairn_types::identity::Purposes;
use cairn_types::receipt::Finality;
use fixture::states::{self, Scene, delegation, key_entry};

#[test]
fn every_document_ends_at_its_own_check() {
    for scheme in Scheme::ALL {
        let group = states::documents(scheme);
        for case in group.cases {
            let mut trusted = group.world.trusted();
            trusted.checkpoints.clone_from(&case.checkpoints);
            let outcome = ReceiptVerifier::new(trusted).verify_state_json(&case.text);
            let failed = outcome.verdict.failed().map(|check| check.name);
            assert_eq!(failed, case.fails, "{scheme}, {}: {:?}", case.name, outcome.verdict.checks);
            assert_eq!(outcome.finding.is_some(), case.fails.is_none(), "{}", case.name);
            assert_eq!(outcome.verdict.valid, case.fails.is_none());
        }
    }
}

#[test]
fn a_receipt_is_only_as_good_as_the_states_it_carries() {
    for scheme in Scheme::ALL {
        let group = states::receipts(scheme);
        let verifier = ReceiptVerifier::new(group.world.trusted());
        for case in group.cases {
            let verdict = verifier.verify_json(&case.text);
            let failed = verdict.failed().map(|check| check.name);
            assert_eq!(failed, case.fails, "{scheme}, {}: {:?}", case.name, verdict.checks);
            let unverified =
                verdict.valid && verdict.warnings.iter().any(|warning| warning.contains("not verified"));
            assert_eq!(
                unverified,
                case.name.contains("someone else"),
                "{}: {:?}",
                case.name,
                verdict.warnings
            );
        }
    }
}

#[test]
fn a_document_reads_as_it_was_written() {
    let scene = Scene::new(Scheme::MlDsa65);
    for document in [
        scene.of_identity(vec![key_entry(scene.sender, 1, None, Purposes::ORDINARY)]),
        scene.of_delegation(&delegation(&[cairn_types::ProofKind::Work], 1, None)).checkpoint_relative(),
    ] {
        assert_eq!(StateDocument::parse(&document.to_json()), Ok(document.clone()));
        let unknown = document.to_json().replacen("{", "{\"more\":1,", 1);
        assert!(StateDocument::parse(&unknown).is_err());
    }
}

#[test]
fn no_changed_document_is_accepted() {
    let scene = Scene::new(Scheme::Dilithium3);
    let good = scene.of_identity(vec![key_entry(scene.sender, 1, Some(4), Purposes::ORDINARY)]);
    let verifier = ReceiptVerifier::new(scene.world.trusted());
    let outcome = verifier.verify_state(&good);
    assert!(matches!(outcome.finding, Some(StateFinding::Identity(_))));
    let mut tried = 0;
    let mut refuse = |changed: StateDocument| {
        tried += 1;
        let outcome = verifier.verify_state(&changed);
        assert!(!outcome.verdict.valid && outcome.finding.is_none(), "{changed:?}");
    };
    for bit in 0..good.proof_bytes.len() * 8 {
        let mut changed = good.clone();
        changed.proof_bytes[bit / 8] ^= 1 << (bit % 8);
        refuse(changed);
    }
    for bit in 0..good.at.header_bytes.len() * 8 {
        let mut changed = good.clone();
        changed.at.header_bytes[bit / 8] ^= 1 << (bit % 8);
        refuse(changed);
    }
    let Finality::Certificate(certificate) = &good.at.finality else { panic!("standalone") };
    for at in (0..certificate.len()).step_by(97) {
        let mut bytes = certificate.clone();
        bytes[at] ^= 1;
        let mut changed = good.clone();
        changed.at.finality = Finality::Certificate(bytes);
        refuse(changed);
    }
    assert!(tried > 5_000, "{tried}");
}
