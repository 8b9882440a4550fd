//! Genesis files: the valid ones round-trip, and each way to be wrong has its own sentence.

use cairn_crypto::KeyPair;
use cairn_genesis::{Admission, Genesis, GenesisFault, Params, assemble, load, parse, to_json, validate};
use cairn_types::validator::Validator;
use cairn_types::{Address, Hash, PublicKey, Scheme};
use serde_json::{Value, json};

fn keys() -> Vec<(PublicKey, u64)> {
    (0..4u8)
        .map(|index| {
            let scheme = if index % 2 == 0 { Scheme::Dilithium3 } else { Scheme::MlDsa65 };
            let key = match scheme {
                Scheme::MlDsa65 => KeyPair::from_seed(&[index; 32]).unwrap().public().clone(),
                Scheme::Dilithium3 => PublicKey::new(scheme, &[index; 1_952]).unwrap(),
            };
            (key, u64::from(index) + 1)
        })
        .collect()
}

fn genesis() -> Genesis {
    assemble("local-1", 1_767_225_600_000, Params::default(), Admission::Open, keys()).unwrap()
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(&to_json(&genesis())).unwrap();
    value.as_object_mut().unwrap().remove("hash");
    assert_eq!(parse(&value.to_string()).unwrap(), genesis(), "the hash is optional");
    change(&mut value);
    parse(&value.to_string()).expect_err("the change is refused").to_string()
}

#[test]
fn a_file_round_trips_whatever_the_order_of_its_fields() {
    let genesis = genesis();
    assert_eq!(parse(&to_json(&genesis)).unwrap(), genesis);
    // serde_json's own map sorts keys: another order than ours.
    let sorted = serde_json::from_str::<Value>(&to_json(&genesis)).unwrap().to_string();
    assert_eq!(parse(&sorted).unwrap().chain(), genesis.chain());
    let registrar = Address::new(Hash([5; 32]));
    let mut other = genesis;
    other.admission = Admission::Registered { registrar };
    assert_eq!(parse(&to_json(&other)).unwrap(), other);
}

#[test]
fn the_order_in_which_validators_are_given_does_not_matter_when_assembling() {
    let mut keys = keys();
    keys.reverse();
    let other = assemble("local-1", 1_767_225_600_000, Params::default(), Admission::Open, keys).unwrap();
    assert_eq!(other, genesis());
}

#[test]
fn loading_names_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("genesis.json");
    assert!(matches!(load(&path), Err(GenesisFault::Io { .. })));
    std::fs::write(&path, to_json(&genesis())).unwrap();
    assert_eq!(load(&path).unwrap(), genesis());
    std::fs::write(&path, "{}").unwrap();
    let sentence = load(&path).unwrap_err().to_string();
    assert!(sentence.contains("genesis.json") && sentence.contains("missing field"), "{sentence}");
}

#[test]
fn unknown_missing_and_repeated_fields_are_refused_by_name() {
    assert!(refused(|v| v["surprise"] = json!(1)).contains("surprise"));
    assert!(refused(|v| v["params"]["surprise"] = json!(1)).contains("surprise"));
    assert!(refused(|v| v["validators"][0]["name"] = json!("me")).contains("name"));
    for name in ["version", "name", "time_ms", "params", "admission", "validators"] {
        assert!(refused(|v| drop(v.as_object_mut().unwrap().remove(name))).contains(name), "{name}");
    }
    let repeated = to_json(&genesis()).replacen("\"version\": 1,", "\"version\": 1, \"version\": 1,", 1);
    assert!(parse(&repeated).unwrap_err().to_string().contains("duplicate field `version`"));
    let trailing = format!("{}{{}}", to_json(&genesis()));
    assert!(parse(&trailing).unwrap_err().to_string().contains("trailing"));
}

#[test]
fn every_value_out_of_bounds_is_refused_by_its_field() {
    let params = Params::default();
    let cases: Vec<(&str, Value)> = vec![
        ("/name", json!("")),
        ("/name", json!("Upper")),
        ("/name", json!("a".repeat(65))),
        ("/time_ms", json!(0)),
        ("/time_ms", json!(u64::MAX)),
        ("/params/timeout_base_ms", json!(5)),
        ("/params/timeout_cap_ms", json!(params.timeout_base_ms - 1)),
        ("/params/drift_ms", json!(params.timeout_base_ms)),
        ("/params/lag_max_ms", json!(1)),
        ("/params/interval_min_ms", json!(params.timeout_base_ms)),
        ("/params/interval_idle_ms", json!(0)),
        ("/params/block_bytes_max", json!((3 << 20) + 1)),
        ("/params/transaction_bytes_max", json!((64 << 10) + 1)),
        ("/params/transaction_bytes_max", json!(100)),
        ("/params/replay_window_ms", json!(999)),
    ];
    for (at, value) in cases {
        let sentence = refused(|v| *v.pointer_mut(at).unwrap() = value.clone());
        let name = at[1..].replace('/', ".");
        assert!(sentence.contains(&format!("`{name}`")), "{at} = {value}: {sentence}");
    }
    assert!(refused(|v| v["version"] = json!(2)).contains("`version` is 2"));
    assert!(refused(|v| v["admission"] = json!("closed")).contains("closed"));
    assert!(refused(|v| v["admission"] = json!({"registrar": "00"})).contains("admission.registrar"));
}

#[test]
fn validators_are_checked_one_by_one() {
    let sentence = refused(|v| v["validators"].as_array_mut().unwrap().swap(1, 2));
    assert!(sentence.contains("`validators[2]` is out of order"), "{sentence}");
    let sentence = refused(|v| {
        let first = v["validators"][0].clone();
        v["validators"].as_array_mut().unwrap().insert(0, first);
    });
    assert!(sentence.contains("`validators[1]` is out of order"), "{sentence}");
    assert!(refused(|v| v["validators"] = json!([])).contains("0 validators"));
    assert!(refused(|v| v["validators"][3]["power"] = json!(0)).contains("power 0"));
    assert!(refused(|v| v["validators"][3]["power"] = json!(u64::MAX)).contains("2^63"));
    assert!(refused(|v| v["validators"][1]["scheme"] = json!("rsa")).contains("validators[1].scheme"));
    assert!(refused(|v| v["validators"][1]["public_key"] = json!("00")).contains("1 bytes"));
    let sentence = refused(|v| {
        let text = v["validators"][1]["address"].as_str().unwrap().to_uppercase();
        v["validators"][1]["address"] = json!(text);
    });
    assert!(sentence.contains("lower-case") && sentence.contains("validators[1].address"), "{sentence}");
    let sentence = refused(|v| {
        let key = v["validators"][1]["public_key"].as_str().unwrap();
        let flipped = if key.starts_with('0') { "1" } else { "0" };
        v["validators"][1]["public_key"] = json!(format!("{flipped}{}", &key[1..]));
    });
    assert!(sentence.contains("validators[1].address") && sentence.contains("hashes to"), "{sentence}");
}

#[test]
fn a_hash_that_is_not_the_files_is_refused() {
    let text = to_json(&genesis()).replace("\"drift_ms\": 500", "\"drift_ms\": 499");
    assert!(matches!(parse(&text), Err(GenesisFault::HashMismatch { .. })));
}

#[test]
fn every_field_is_part_of_the_chains_identity() {
    let base = genesis();
    let changes: Vec<fn(&mut Genesis)> = vec![
        |g| g.name.push('x'),
        |g| g.time_ms += 1,
        |g| g.params.timeout_base_ms += 1,
        |g| g.params.timeout_cap_ms += 1,
        |g| g.params.drift_ms -= 1,
        |g| g.params.lag_max_ms += 1,
        |g| g.params.interval_min_ms += 1,
        |g| g.params.interval_idle_ms += 1,
        |g| g.params.block_bytes_max -= 1,
        |g| g.params.transaction_bytes_max -= 1,
        |g| g.params.replay_window_ms += 1,
        |g| g.admission = Admission::Registered { registrar: Address::ZERO },
        |g| drop(g.validators.pop()),
        |g| g.validators[0].power += 1,
    ];
    let mut seen = std::collections::HashSet::from([base.chain()]);
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        validate(&other).unwrap();
        assert!(seen.insert(other.chain()));
    }
}

#[test]
fn a_genesis_made_by_hand_obeys_the_same_rules() {
    let mut genesis = genesis();
    genesis.validators = vec![
        Validator {
            address: Address::ZERO,
            key: PublicKey::new(Scheme::MlDsa65, &[0; 1_952]).unwrap(),
            power: 1,
        };
        1_025
    ];
    assert!(matches!(validate(&genesis), Err(GenesisFault::Set(_))));
}
