//! `cairn genesis`: the file that defines a chain. Its hash is the chain's identity.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_types::{Address, Admission, Genesis, Params, PublicKey};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::output::{pairs, table, time};
use crate::cli::{Common, keys};
use crate::config::did_you_mean;
use crate::exit::{Exit, WithExit};
use crate::home::{OPEN_MODE, replace};

/// `cairn genesis ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum GenesisVerb {
    /// Make a genesis file
    New(NewArgs),
    /// Add a validator to a genesis file that no node has started from
    Add {
        /// The genesis file; rewritten in place
        file: PathBuf,
        /// The validator's keystore or public-key file, with its power: FILE or FILE=POWER
        #[arg(long, value_name = "FILE[=POWER]")]
        validator: String,
    },
    /// Print the genesis hash: the chain's identity
    Hash {
        /// The genesis file
        file: PathBuf,
    },
    /// Check a genesis file and show what it says
    Check {
        /// The genesis file
        file: PathBuf,
    },
}

/// `cairn genesis new`.
#[derive(Debug, Args)]
#[command(after_help = "\
Parameters and their defaults:
  timeout_base_ms=1000        first view timeout
  timeout_cap_ms=30000        longest view timeout
  drift_ms=500                how far ahead of a clock a block's time may be
  lag_max_ms=10000            how far behind a clock a block's time may be
  interval_min_ms=0           shortest time between blocks
  interval_idle_ms=60000      heartbeat of an idle chain
  block_bytes_max=3145728     largest block
  transaction_bytes_max=65536 largest transaction
  replay_window_ms=120000     how long a transaction id blocks its repetition

Example:
  cairn genesis new --name my-chain --validator alice.pub.json --validator bob.pub.json=2")]
pub(crate) struct NewArgs {
    /// A name for people: a-z, 0-9 and -
    #[arg(long)]
    name: String,
    /// A validator's keystore or public-key file, with its power (1): FILE or FILE=POWER; several times
    #[arg(long, value_name = "FILE[=POWER]", required = true)]
    validator: Vec<String>,
    /// The time of block 0, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    time: Option<jiff::Timestamp>,
    /// Only identities this address admits may anchor [default: any key may]
    #[arg(long, value_name = "ADDRESS")]
    registrar: Option<String>,
    /// A network parameter; several times
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// Where to write it; never overwrites
    #[arg(long, value_name = "FILE", default_value = "genesis.json")]
    out: PathBuf,
}

pub(crate) fn run(common: &Common, verb: &GenesisVerb) -> anyhow::Result<Exit> {
    match verb {
        GenesisVerb::New(args) => {
            if args.out.exists() {
                bail!("{} exists already; a genesis file is never overwritten", args.out.display());
            }
            let genesis = new(args)?;
            write(&args.out, &genesis)?;
            report(common, &args.out, &genesis);
        }
        GenesisVerb::Add { file, validator } => {
            let genesis = add(cairn_genesis::load(file)?, validator)?;
            write(file, &genesis)?;
            report(common, file, &genesis);
        }
        GenesisVerb::Hash { file } => {
            let hash = cairn_genesis::load(file)?.chain().to_string();
            common.output().show(&hash, &json!({ "hash": hash }));
        }
        GenesisVerb::Check { file } => report(common, file, &cairn_genesis::load(file)?),
    }
    Ok(Exit::Yes)
}

fn new(args: &NewArgs) -> anyhow::Result<Genesis> {
    let validators = args.validator.iter().map(|text| read_validator(text)).collect::<anyhow::Result<_>>()?;
    let at = args.time.unwrap_or_else(jiff::Timestamp::now);
    let time_ms = u64::try_from(at.as_millisecond()).context("--time lies before 1970")?;
    let admission = match &args.registrar {
        None => Admission::Open,
        Some(text) => {
            let text = text.strip_prefix("did:cairn:").unwrap_or(text);
            let registrar = Address::from_hex(text)
                .with_context(|| {
                    format!("--registrar {text}: expected 64 hex digits, or did:cairn: and them")
                })
                .exit_with(Exit::Usage)?;
            Admission::Registered { registrar }
        }
    };
    let params = parse_params(&args.param).exit_with(Exit::Usage)?;
    Ok(cairn_genesis::assemble(&args.name, time_ms, params, admission, validators)?)
}

fn add(genesis: Genesis, validator: &str) -> anyhow::Result<Genesis> {
    let mut validators: Vec<(PublicKey, u64)> =
        genesis.validators.into_iter().map(|validator| (validator.key, validator.power)).collect();
    let (key, power) = read_validator(validator)?;
    if validators.iter().any(|(known, _)| *known == key) {
        bail!("{} is in this genesis already", key.address());
    }
    validators.push((key, power));
    Ok(cairn_genesis::assemble(
        &genesis.name,
        genesis.time_ms,
        genesis.params,
        genesis.admission,
        validators,
    )?)
}

/// Reads `FILE` or `FILE=POWER`.
pub(crate) fn read_validator(text: &str) -> anyhow::Result<(PublicKey, u64)> {
    let (file, power) = match text.rsplit_once('=') {
        Some((file, power)) if !Path::new(text).exists() => {
            let power = power.parse().ok().filter(|power| *power > 0);
            (file, power.with_context(|| format!("{text}: expected FILE=POWER with a power of at least 1"))?)
        }
        _ => (text, 1),
    };
    Ok((keys::read_public(Path::new(file))?, power))
}

fn parse_params(texts: &[String]) -> anyhow::Result<Params> {
    let mut params = Params::default();
    for text in texts {
        let (name, value) = text.split_once('=').with_context(|| {
            format!("--param {text}: expected NAME=VALUE, for instance timeout_base_ms=500")
        })?;
        let value: u64 =
            value.parse().ok().with_context(|| format!("--param {text}: {value:?} is no whole number"))?;
        set_param(&mut params, name, value)?;
    }
    Ok(params)
}

pub(crate) fn set_param(params: &mut Params, name: &str, value: u64) -> anyhow::Result<()> {
    const NAMES: [&str; 9] = [
        "timeout_base_ms",
        "timeout_cap_ms",
        "drift_ms",
        "lag_max_ms",
        "interval_min_ms",
        "interval_idle_ms",
        "block_bytes_max",
        "transaction_bytes_max",
        "replay_window_ms",
    ];
    let small = || u32::try_from(value).ok().with_context(|| format!("{name} = {value} is far too large"));
    match name {
        "timeout_base_ms" => params.timeout_base_ms = value,
        "timeout_cap_ms" => params.timeout_cap_ms = value,
        "drift_ms" => params.drift_ms = value,
        "lag_max_ms" => params.lag_max_ms = value,
        "interval_min_ms" => params.interval_min_ms = value,
        "interval_idle_ms" => params.interval_idle_ms = value,
        "block_bytes_max" => params.block_bytes_max = small()?,
        "transaction_bytes_max" => params.transaction_bytes_max = small()?,
        "replay_window_ms" => params.replay_window_ms = value,
        other => match did_you_mean(other, NAMES) {
            Some(near) => bail!("there is no parameter `{other}`; did you mean `{near}`?"),
            None => bail!("there is no parameter `{other}`; expected one of {}", NAMES.join(", ")),
        },
    }
    Ok(())
}

fn write(path: &Path, genesis: &Genesis) -> anyhow::Result<()> {
    replace(path, cairn_genesis::to_json(genesis).as_bytes(), OPEN_MODE).exit_with(Exit::No)
}

fn report(common: &Common, path: &Path, genesis: &Genesis) {
    let total: u64 = genesis.validators.iter().fold(0, |sum, validator| sum.saturating_add(validator.power));
    let admission = match genesis.admission {
        Admission::Open => "open: any key may anchor".to_owned(),
        Admission::Registered { registrar } => format!("only identities admitted by {registrar}"),
    };
    let head = pairs([
        ("file", path.display().to_string()),
        ("name", genesis.name.clone()),
        ("hash", genesis.chain().to_string()),
        ("time", time(genesis.time_ms)),
        ("admission", admission),
        ("validators", format!("{}, total power {total}", genesis.validators.len())),
    ]);
    let row = |(index, validator): (usize, &cairn_types::Validator)| {
        let power = validator.power.to_string();
        vec![index.to_string(), validator.address.to_string(), validator.key.scheme().to_string(), power]
    };
    let rows = genesis.validators.iter().enumerate().map(row).collect();
    let text = format!("{head}\n{}", table(&["#", "address", "scheme", "power"], rows));
    let validators: Vec<_> = genesis
        .validators
        .iter()
        .map(|validator| {
            json!({
                "address": validator.address.to_string(),
                "scheme": validator.key.scheme().name(),
                "power": validator.power,
            })
        })
        .collect();
    let value = json!({
        "valid": true,
        "file": path,
        "name": genesis.name,
        "hash": genesis.chain().to_string(),
        "time_ms": genesis.time_ms,
        "total_power": total,
        "validators": validators,
    });
    common.output().show(&text, &value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_can_be_set_and_a_slip_is_answered() {
        let texts = ["timeout_base_ms=500", "drift_ms=100", "block_bytes_max=1000000"].map(str::to_owned);
        let params = parse_params(&texts).unwrap();
        assert_eq!((params.timeout_base_ms, params.drift_ms, params.block_bytes_max), (500, 100, 1_000_000));
        let said = parse_params(&["timeout_bas_ms=1".to_owned()]).expect_err("slip").to_string();
        assert!(said.contains("did you mean `timeout_base_ms`?"), "{said}");
        let said = parse_params(&["drift_ms=soon".to_owned()]).expect_err("text").to_string();
        assert!(said.contains("no whole number"), "{said}");
        assert!(parse_params(&["block_bytes_max=5000000000".to_owned()]).is_err());
    }
}
