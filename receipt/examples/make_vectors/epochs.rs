//! Commit proofs of epochs' ends, good and bad.

use std::sync::Arc;

use cairn_types::block::Header;
use cairn_types::{CommitCert, EpochProof, Scheme, decode, encode};
use serde_json::{Value, json};

use crate::fixture::{World, carrier_of};

/// The proof that ends epoch 0, through as many carriers.
fn proof(world: &World, carriers: u64) -> EpochProof {
    let handover = world.handover(0, carriers);
    let header = |bytes: &Vec<u8>| decode::<Header>(bytes).expect("a header");
    EpochProof {
        headers: handover.headers.iter().map(header).collect(),
        certificate: Arc::new(decode::<CommitCert>(&handover.certificate).expect("a certificate")),
    }
}

pub(crate) fn epoch_proofs() -> Value {
    let world = World::new(Scheme::MlDsa65);
    let set = &world.committees[0].set;
    let good = [("its own certificate", proof(&world, 0)), ("two carriers", proof(&world, 2))];
    let valid: Vec<_> = good
        .iter()
        .map(|(name, proof)| {
            let last = proof.last_block().expect("one header at least");
            json!({
                "name": name, "bytes": hex::encode(encode(proof)), "epoch": proof.epoch().get(),
                "last_block": last.id().to_string(), "height": last.height.get(), "carried": proof.is_carried(),
                "next_validators": last.next_validators.to_string(),
            })
        })
        .collect();
    json!({
        "chain": world.chain.to_string(),
        "validator_set": hex::encode(encode(set)),
        "valid": valid,
        "invalid": bad(&good[1].1),
    })
}

fn bad(good: &EpochProof) -> Vec<Value> {
    let changed = |name: &str, fails: &str, change: &dyn Fn(&mut EpochProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        json!({ "name": name, "bytes": hex::encode(encode(&proof)), "fails": fails })
    };
    vec![
        changed("no headers", "decode", &|it| it.headers.clear()),
        changed("129 headers", "decode", &|it| it.headers = vec![it.headers[0].clone(); 129]),
        changed("without the last block", "shape", &|it| it.headers = it.headers.split_off(1)),
        changed("a carrier left out", "shape", &|it| {
            it.headers = [&it.headers[..1], &it.headers[2..]].concat()
        }),
        changed("a certificate of no header here", "shape", &|it| it.headers.truncate(2)),
        changed("a carrier too many", "shape", &|it| {
            let last = it.headers.last().expect("three").clone();
            it.headers.push(carrier_of(&last, 1));
        }),
        changed("a carrier with another state", "shape", &|it| it.headers[2].state_root.0[0] ^= 1),
        changed("a block that ends nothing", "shape", &|it| {
            for header in &mut it.headers {
                header.next_validators = header.validators;
            }
        }),
        changed("one signature missing", "signatures", &|it| {
            let certificate = Arc::make_mut(&mut it.certificate);
            certificate.signatures.pop();
            let last = certificate.signer_indexes().last().expect("signers").0;
            certificate.signers[usize::from(last / 8)] &= !(1 << (last % 8));
        }),
        changed("a signature changed", "signatures", &|it| {
            let certificate = Arc::make_mut(&mut it.certificate);
            let mut bytes = certificate.signatures[0].as_bytes().to_vec();
            bytes[9] ^= 4;
            certificate.signatures[0] = cairn_types::Signature::new(&bytes).expect("the same length");
        }),
    ]
}
