//! The JSON form.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use cairn_types::genesis::{Admission, Genesis, Params};
use cairn_types::validator::Validator;
use cairn_types::{Address, ChainId, PublicKey, Scheme};
use serde::{Deserialize, Serialize};

use crate::rules::{GenesisFault, field, validate};

/// A file of 1,024 validators has about 4.3 MB.
pub const FILE_BYTES_MAX: usize = 8 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisJson {
    version: u8,
    name: String,
    time_ms: u64,
    params: ParamsJson,
    admission: AdmissionJson,
    validators: Vec<ValidatorJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamsJson {
    timeout_base_ms: u64,
    timeout_cap_ms: u64,
    drift_ms: u64,
    lag_max_ms: u64,
    interval_min_ms: u64,
    interval_idle_ms: u64,
    block_bytes_max: u32,
    transaction_bytes_max: u32,
    replay_window_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AdmissionJson {
    Open,
    Registrar(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidatorJson {
    address: String,
    scheme: String,
    public_key: String,
    power: u64,
}

/// Reads and checks a genesis file.
///
/// # Errors
/// When it cannot be read, or as for [`parse`]; every message begins with the path.
pub fn load(path: &Path) -> Result<Genesis, GenesisFault> {
    let fault = |source| GenesisFault::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let limit = FILE_BYTES_MAX as u64;
    File::open(path)
        .map_err(fault)?
        .take(limit.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(fault)?;
    parse(&text).map_err(|fault| GenesisFault::InFile { path: path.to_owned(), fault: Box::new(fault) })
}

/// Reads and checks the text of a genesis file.
///
/// # Errors
/// The first thing wrong, naming the field (or, for JSON itself, the line and column).
pub fn parse(text: &str) -> Result<Genesis, GenesisFault> {
    if text.len() > FILE_BYTES_MAX {
        return Err(GenesisFault::TooLarge { bytes_max: FILE_BYTES_MAX });
    }
    let json: GenesisJson =
        serde_json::from_str(text).map_err(|error| GenesisFault::Malformed { why: error.to_string() })?;
    let admission = match json.admission {
        AdmissionJson::Open => Admission::Open,
        AdmissionJson::Registrar(text) => {
            Admission::Registered { registrar: address("admission.registrar", &text)? }
        }
    };
    let validators = (0..).zip(json.validators).map(validator).collect::<Result<_, _>>()?;
    let genesis = Genesis {
        version: json.version,
        name: json.name,
        time_ms: json.time_ms,
        params: json.params.into(),
        admission,
        validators,
    };
    validate(&genesis)?;
    if let Some(text) = json.hash {
        let (got, expected) = (ChainId::new(address("hash", &text)?.hash()), genesis.chain());
        if got != expected {
            return Err(GenesisFault::HashMismatch { got, expected });
        }
    }
    Ok(genesis)
}

/// The text of the file, with its hash. `parse(to_json(g)) == g` for every valid `g`.
pub fn to_json(genesis: &Genesis) -> String {
    let json = GenesisJson {
        version: genesis.version,
        name: genesis.name.clone(),
        time_ms: genesis.time_ms,
        params: genesis.params.into(),
        admission: match genesis.admission {
            Admission::Open => AdmissionJson::Open,
            Admission::Registered { registrar } => AdmissionJson::Registrar(registrar.to_string()),
        },
        validators: genesis.validators.iter().map(validator_json).collect(),
        hash: Some(genesis.chain().to_string()),
    };
    // Strings and integers alone: nothing here can fail to serialise.
    let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
    text.push('\n');
    text
}

fn validator((position, json): (usize, ValidatorJson)) -> Result<Validator, GenesisFault> {
    let name = |field: &str| format!("validators[{position}].{field}");
    let schemes = || Scheme::ALL.map(Scheme::name).join(" or ");
    let scheme = Scheme::from_name(&json.scheme)
        .ok_or_else(|| field(name("scheme"), format!("{:?}", json.scheme), schemes()))?;
    let bytes = lower_hex(&name("public_key"), &json.public_key)?;
    let expected = || format!("{} bytes for {scheme}", scheme.public_key_bytes());
    let key = PublicKey::new(scheme, &bytes)
        .ok_or_else(|| field(name("public_key"), format!("{} bytes", bytes.len()), expected()))?;
    Ok(Validator { address: address(&name("address"), &json.address)?, key, power: json.power })
}

fn validator_json(validator: &Validator) -> ValidatorJson {
    ValidatorJson {
        address: validator.address.to_string(),
        scheme: validator.key.scheme().name().into(),
        public_key: hex::encode(validator.key.as_bytes()),
        power: validator.power,
    }
}

/// Lower case only: one genesis has one text for each value.
fn lower_hex(name: &str, text: &str) -> Result<Vec<u8>, GenesisFault> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let shown = || format!("{:?}", text.chars().take(80).collect::<String>());
    if !lower {
        return Err(field(name, shown(), "lower-case hex digits"));
    }
    hex::decode(text).map_err(|_| field(name, shown(), "an even number of hex digits"))
}

fn address(name: &str, text: &str) -> Result<Address, GenesisFault> {
    let bytes = lower_hex(name, text)?;
    (bytes.len() == 32)
        .then(|| Address::from_hex(text))
        .flatten()
        .ok_or_else(|| field(name, format!("{} bytes", bytes.len()), "32 bytes (64 hex digits)"))
}

impl From<ParamsJson> for Params {
    fn from(json: ParamsJson) -> Self {
        Self {
            timeout_base_ms: json.timeout_base_ms,
            timeout_cap_ms: json.timeout_cap_ms,
            drift_ms: json.drift_ms,
            lag_max_ms: json.lag_max_ms,
            interval_min_ms: json.interval_min_ms,
            interval_idle_ms: json.interval_idle_ms,
            block_bytes_max: json.block_bytes_max,
            transaction_bytes_max: json.transaction_bytes_max,
            replay_window_ms: json.replay_window_ms,
        }
    }
}

impl From<Params> for ParamsJson {
    fn from(params: Params) -> Self {
        Self {
            timeout_base_ms: params.timeout_base_ms,
            timeout_cap_ms: params.timeout_cap_ms,
            drift_ms: params.drift_ms,
            lag_max_ms: params.lag_max_ms,
            interval_min_ms: params.interval_min_ms,
            interval_idle_ms: params.interval_idle_ms,
            block_bytes_max: params.block_bytes_max,
            transaction_bytes_max: params.transaction_bytes_max,
            replay_window_ms: params.replay_window_ms,
        }
    }
}
