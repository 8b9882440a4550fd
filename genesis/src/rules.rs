//! What every genesis must satisfy, however it was made.

use std::path::PathBuf;

use cairn_types::genesis::{Admission, GENESIS_VERSION, Genesis, Params};
use cairn_types::validator::{SetFault, VALIDATORS_MAX, Validator};
use cairn_types::{Address, ChainId, PublicKey};
use thiserror::Error;

/// Characters of a chain's name, at most.
const NAME_CHARS_MAX: usize = 64;
/// 9999-12-31T23:59:59.999Z: the last time that RFC 3339 can write.
const TIME_MS_MAX: u64 = 253_402_300_799_999;
/// Why a genesis was refused. Each message names the field of the file.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum GenesisFault {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {fault}")]
    InFile { path: PathBuf, fault: Box<GenesisFault> },
    #[error("the genesis has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("not a genesis file: {why}")]
    Malformed { why: String },
    #[error("`version` is {got}; this build knows version {GENESIS_VERSION}")]
    Version { got: u8 },
    #[error("`{field}` is {got}; expected {expected}")]
    Field { field: String, got: String, expected: String },
    #[error("`validators`: {0}")]
    Set(#[from] SetFault),
    #[error(
        "`validators[{position}]` is out of order: validators stand in strictly ascending order of address; move {address} up"
    )]
    Order { position: usize, address: Address },
    #[error("`validators[{position}].address` is {got}; its key hashes to {expected}")]
    AddressMismatch { position: usize, got: Address, expected: Address },
    #[error(
        "`hash` is {got}; this genesis hashes to {expected}: the file was changed after the hash was written"
    )]
    HashMismatch { got: ChainId, expected: ChainId },
}

pub(crate) fn field(
    name: impl Into<String>,
    got: impl ToString,
    expected: impl Into<String>,
) -> GenesisFault {
    GenesisFault::Field { field: name.into(), got: got.to_string(), expected: expected.into() }
}

/// A valid genesis from its parts. The validators are put in order; each one's address is its key's hash.
///
/// # Errors
/// As for [`validate`]; a key given twice is refused.
pub fn assemble(
    name: &str,
    time_ms: u64,
    params: Params,
    admission: Admission,
    validators: Vec<(PublicKey, u64)>,
) -> Result<Genesis, GenesisFault> {
    let mut validators: Vec<_> =
        validators.into_iter().map(|(key, power)| Validator { address: key.address(), key, power }).collect();
    validators.sort_by_key(|validator| validator.address);
    let genesis =
        Genesis { version: GENESIS_VERSION, name: name.into(), time_ms, params, admission, validators };
    validate(&genesis)?;
    Ok(genesis)
}

/// Checks every rule of a genesis.
///
/// # Errors
/// The first rule broken, naming its field.
pub fn validate(genesis: &Genesis) -> Result<(), GenesisFault> {
    if genesis.version != GENESIS_VERSION {
        return Err(GenesisFault::Version { got: genesis.version });
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=NAME_CHARS_MAX).contains(&genesis.name.len()) || !genesis.name.chars().all(fits) {
        let expected = format!("1 to {NAME_CHARS_MAX} characters of a-z, 0-9 and -");
        return Err(field("name", format!("{:?}", genesis.name), expected));
    }
    within("time_ms", genesis.time_ms, 1, TIME_MS_MAX)?;
    check_params(&genesis.params)?;
    check_validators(genesis)
}

fn within(name: &str, got: u64, low: u64, high: u64) -> Result<(), GenesisFault> {
    if (low..=high).contains(&got) { Ok(()) } else { Err(field(name, got, format!("{low} to {high}"))) }
}

fn check_params(params: &Params) -> Result<(), GenesisFault> {
    params.check().map_err(|fault| field(format!("params.{}", fault.field), fault.got, fault.expected))
}

fn check_validators(genesis: &Genesis) -> Result<(), GenesisFault> {
    if genesis.validators.len() > VALIDATORS_MAX {
        return Err(SetFault::Count { got: genesis.validators.len() }.into());
    }
    let mut before: Option<Address> = None;
    for (position, validator) in genesis.validators.iter().enumerate() {
        let (got, expected) = (validator.address, validator.key.address());
        if got != expected {
            return Err(GenesisFault::AddressMismatch { position, got, expected });
        }
        if before.is_some_and(|before| before >= got) {
            return Err(GenesisFault::Order { position, address: got });
        }
        before = Some(got);
    }
    genesis.validator_set()?;
    Ok(())
}
