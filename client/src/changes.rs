//! What the chain is run by, and what its validators are asked to change about it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::{Address, Change, Changes, Epoch, Hash, Height, Motion, Params, PublicKey, Scheme};
use serde_json::{Value, json};

use crate::answers::{self, BlockRef, Read};
use crate::fault::ClientFault;
use crate::transport::Client;

/// The parameters in force at a block (`chain_params`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParamsAt {
    /// The block.
    pub height: Height,
    /// The parameters.
    pub params: Params,
    /// Who admits identities; `None` where anyone may anchor.
    pub registrar: Option<Address>,
}

/// The open motions (`validator_motions`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenMotions {
    /// The epoch in force.
    pub epoch: Epoch,
    /// The protocol version in force.
    pub protocol: u8,
    /// The power of all validators. More than two thirds of it enact a motion.
    pub total_power: u64,
    /// The motions, oldest first, each with the power behind it.
    pub motions: Vec<(Motion, u64)>,
}

fn params(value: &Value) -> Read<Params> {
    let int = |name: &str| answers::int(value, name);
    let narrow = |name: &str| u32::try_from(int(name)?).map_err(|_| format!("`{name}` is too large"));
    Ok(Params {
        timeout_base_ms: int("timeout_base_ms")?,
        timeout_cap_ms: int("timeout_cap_ms")?,
        drift_ms: int("drift_ms")?,
        lag_max_ms: int("lag_max_ms")?,
        interval_min_ms: int("interval_min_ms")?,
        interval_idle_ms: int("interval_idle_ms")?,
        block_bytes_max: narrow("block_bytes_max")?,
        transaction_bytes_max: narrow("transaction_bytes_max")?,
        replay_window_ms: int("replay_window_ms")?,
    })
}

/// Parameters, and the digest that the node gives for them.
fn params_at(value: &Value) -> Read<ParamsAt> {
    let params = params(answers::field(value, "params")?)?;
    let digest = answers::text(value, "digest")?;
    let digest = Hash::from_hex(digest).ok_or("`digest` is not 64 hex digits")?;
    if params.digest() != digest {
        return Err(format!("the parameters have the digest {}, not {digest}", params.digest()));
    }
    let registrar = match answers::text(value, "admission")? {
        "open" => None,
        "registered" => Some(answers::id(value, "registrar")?),
        other => return Err(format!("`admission` is `{other}`; expected open or registered")),
    };
    Ok(ParamsAt { height: Height::new(answers::int(value, "height")?), params, registrar })
}

/// A key from its scheme's name and its bytes.
pub(crate) fn public_key(value: &Value) -> Read<PublicKey> {
    let name = answers::text(value, "scheme")?;
    let scheme = Scheme::from_name(name).ok_or_else(|| format!("`scheme` is {name:?}"))?;
    let key = STANDARD.decode(answers::text(value, "key_b64")?);
    let key = key.map_err(|error| format!("`key_b64`: {error}"))?;
    PublicKey::new(scheme, &key).ok_or_else(|| format!("`key_b64` has {} bytes", key.len()))
}

fn change(value: &Value) -> Read<Change> {
    let key = || public_key(answers::field(value, "key")?);
    let (validator, power) = (|| answers::id(value, "address"), || answers::int(value, "power"));
    Ok(match answers::text(value, "change")? {
        "join" => Change::Join { key: key()?, power: power()? },
        "leave" => Change::Leave(validator()?),
        "power" => Change::Power { validator: validator()?, power: power()? },
        "rotate" => Change::Rotate { validator: validator()?, key: key()? },
        "params" => Change::Params(params(answers::field(value, "params")?)?),
        "protocol" => Change::Protocol(version(value, "version")?),
        other => return Err(format!("`change` is `{other}`, which this client does not know")),
    })
}

fn version(value: &Value, name: &str) -> Read<u8> {
    u8::try_from(answers::int(value, name)?).map_err(|_| format!("`{name}` is above 255"))
}

fn motion(value: &Value) -> Read<(Motion, u64)> {
    let changes = answers::list(value, "changes")?.iter().map(change).collect::<Read<_>>()?;
    let approval = |value: &Value| {
        value.as_str().and_then(Address::from_hex).ok_or_else(|| "`approvals` holds no address".to_owned())
    };
    let motion = Motion {
        id: answers::id(value, "id")?,
        proposer: answers::id(value, "proposer")?,
        changes: Changes(changes),
        height: Height::new(answers::int(value, "height")?),
        expires_ms: answers::int(value, "expires_ms")?,
        approvals: answers::list(value, "approvals")?.iter().map(approval).collect::<Read<_>>()?,
    };
    Ok((motion, answers::int(value, "power")?))
}

fn motions(value: &Value) -> Read<OpenMotions> {
    Ok(OpenMotions {
        epoch: Epoch::new(answers::int(value, "epoch")?),
        protocol: version(value, "protocol")?,
        total_power: answers::int(value, "total_power")?,
        motions: answers::list(value, "items")?.iter().map(motion).collect::<Read<_>>()?,
    })
}

impl Client {
    /// The parameters in force at a block. That they are the chain's is the node's word.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain_params(&self, at: BlockRef) -> Result<ParamsAt, ClientFault> {
        self.read("chain_params", json!({ "at": at.to_json() }), params_at).await
    }

    /// What the validators are asked to change. That these are all motions is the node's word.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn validator_motions(&self) -> Result<OpenMotions, ClientFault> {
        self.read("validator_motions", json!({}), motions).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_is_read_and_nothing_else() {
        let address = Address::from_hex(&"07".repeat(32)).unwrap();
        let key_bytes = vec![5; Scheme::MlDsa65.public_key_bytes()];
        let key = PublicKey::new(Scheme::MlDsa65, &key_bytes).unwrap();
        let named = json!({ "scheme": "ml-dsa-65", "key_b64": STANDARD.encode(&key_bytes) });
        let at = address.to_string();
        let cases = [
            (
                json!({ "change": "join", "address": at, "key": named, "power": 3 }),
                Change::Join { key: key.clone(), power: 3 },
            ),
            (json!({ "change": "leave", "address": at }), Change::Leave(address)),
            (
                json!({ "change": "power", "address": at, "power": 9 }),
                Change::Power { validator: address, power: 9 },
            ),
            (
                json!({ "change": "rotate", "address": at, "key": named }),
                Change::Rotate { validator: address, key },
            ),
            (json!({ "change": "protocol", "version": 2 }), Change::Protocol(2)),
        ];
        for (said, expected) in cases {
            assert_eq!(change(&said), Ok(expected), "{said}");
        }
        for said in [
            json!({ "change": "protocol", "version": 256 }),
            json!({ "change": "leave", "address": "07" }),
            json!({ "change": "join", "address": at, "key": { "scheme": "rsa", "key_b64": "" }, "power": 1 }),
            json!({ "change": "paint" }),
        ] {
            assert!(change(&said).is_err(), "{said}");
        }
    }

    #[test]
    fn parameters_that_are_not_those_of_the_digest_are_refused() {
        let params = Params::default();
        let mut said = json!({
            "height": 4,
            "digest": params.digest().to_string(),
            "admission": "open",
            "registrar": null,
            "params": {
                "timeout_base_ms": params.timeout_base_ms,
                "timeout_cap_ms": params.timeout_cap_ms,
                "drift_ms": params.drift_ms,
                "lag_max_ms": params.lag_max_ms,
                "interval_min_ms": params.interval_min_ms,
                "interval_idle_ms": params.interval_idle_ms,
                "block_bytes_max": params.block_bytes_max,
                "transaction_bytes_max": params.transaction_bytes_max,
                "replay_window_ms": params.replay_window_ms,
            },
        });
        assert_eq!(params_at(&said), Ok(ParamsAt { height: Height::new(4), params, registrar: None }));
        said["params"]["drift_ms"] = json!(params.drift_ms + 1);
        assert!(params_at(&said).unwrap_err().contains("digest"));
    }
}
