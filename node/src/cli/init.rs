//! `cairn init`: makes a home, and for a validator the safety journal that keeps it from signing twice.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_crypto::{Keystore, NoteKey};
use cairn_journal::Journal;
use cairn_types::{Address, ChainId, Genesis};
use clap::Args;
use serde_json::json;

use crate::cli::output::pairs;
use crate::cli::{Common, files};
use crate::config::template;
use crate::exit::{Exit, WithExit};
use crate::home::{Home, OPEN_MODE, PRIVATE_MODE, replace};
use crate::passphrase::Source;

/// `cairn init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cairn init --genesis genesis.json                                   a follower
  cairn init --genesis genesis.json --validator-key validator.json    a validator

A validator's safety journal (sign/) is made here, once. Never make a second home for a key that \
has signed, and never restore sign/ from a backup: `cairn signer export` and `import` move a validator.")]
pub(crate) struct InitArgs {
    /// The file that defines the chain
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The validator's keystore, which is copied into the home; without it the node follows
    #[arg(long, value_name = "KEYSTORE")]
    validator_key: Option<PathBuf>,
    /// File with the keystore's passphrase, to check that it opens
    #[arg(long, value_name = "FILE", env = "CAIRN_KEYS__PASSPHRASE_FILE", hide_env_values = true)]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(common: &Common, args: &InitArgs) -> anyhow::Result<Exit> {
    // Everything that can be refused is looked at before anything is written.
    let text = files::read_text(&args.genesis, "genesis file")?;
    let genesis = cairn_genesis::parse(&text)
        .with_context(|| format!("{} is refused", args.genesis.display()))
        .exit_with(Exit::Config)?;
    let keystore = match &args.validator_key {
        Some(path) => Some(load_checked(path, args.passphrase_file.as_ref())?),
        None => None,
    };
    let mut home = Home::create(&common.home())?;
    home.lock()?;
    replace(&home.genesis(), text.as_bytes(), OPEN_MODE)?;
    replace(&home.config(), template().as_bytes(), OPEN_MODE)?;
    if let Some(keystore) = &keystore {
        replace(&home.validator_key(), keystore.to_json().as_bytes(), PRIVATE_MODE)?;
        make_journal(&home, keystore.address(), genesis.chain())?;
    }
    NoteKey::load_or_make(&home.note_key())?;
    home.complete()?;
    report(common, &home, &genesis, keystore.as_ref().map(Keystore::address));
    Ok(Exit::Yes)
}

fn load_checked(path: &Path, passphrase_file: Option<&PathBuf>) -> anyhow::Result<Keystore> {
    let keystore = Keystore::load(path)?;
    if passphrase_file.is_some() {
        Source::file_or_prompt(passphrase_file.cloned()).open(&keystore, &path.display().to_string())?;
    }
    Ok(keystore)
}

/// Makes the journal. An interrupted `init` may have made it already: one that opens for this very key and
/// chain is kept, which is always safe.
fn make_journal(home: &Home, validator: Address, chain: ChainId) -> anyhow::Result<()> {
    let directory = home.sign();
    match Journal::create(&directory, validator, chain) {
        Ok(_) => Ok(()),
        Err(cairn_journal::JournalFault::Exists { .. }) => {
            Journal::open(&directory, validator, chain)?;
            Ok(())
        }
        Err(fault) => Err(fault.into()),
    }
}

fn report(common: &Common, home: &Home, genesis: &Genesis, validator: Option<Address>) {
    let place =
        validator.map(|address| genesis.validators.iter().position(|validator| validator.address == address));
    let role = match place {
        None => "follower".to_owned(),
        Some(Some(index)) => format!("validator {index} of {}", genesis.validators.len()),
        Some(None) => {
            "validator key that is not in the genesis set: follows until it is in a later one".to_owned()
        }
    };
    let mut rows = vec![
        ("home", home.root().display().to_string()),
        ("chain", format!("{} {}", genesis.name, genesis.chain())),
        ("role", role.clone()),
    ];
    if let Some(address) = validator {
        rows.push(("address", address.to_string()));
        rows.push(("journal", format!("{} (never restore it from a backup)", home.sign().display())));
    }
    rows.push(("next", format!("edit {}, then `cairn start`", home.config().display())));
    let value = json!({
        "home": home.root(),
        "chain": genesis.chain().to_string(),
        "name": genesis.name,
        "role": role,
        "validator": validator.map(|address| address.to_string()),
        "in_genesis": place.flatten().is_some(),
    });
    common.output().show(&pairs(rows), &value);
}

/// The genesis of an existing home.
///
/// # Errors
/// When it is missing or refused.
pub(crate) fn home_genesis(home: &Home) -> anyhow::Result<Genesis> {
    let path = home.genesis();
    if !path.exists() {
        bail!("{} is missing; copy the chain's genesis file there", path.display());
    }
    cairn_genesis::load(&path).exit_with(Exit::Config)
}
