//! `cairn signer`: moves what a validator has signed to another machine. The only safe way to do so: a copied
//! or restored `sign/` directory may be older than the last signature.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_crypto::Keystore;
use cairn_journal::{Journal, Watermark};
use cairn_types::safety::SafetyRecord;
use cairn_types::{Address, ChainId};
use clap::Subcommand;
use serde_json::json;

use crate::cli::output::pairs;
use crate::cli::{Common, init};
use crate::config::Config;
use crate::exit::{Exit, WithExit};
use crate::home::{Home, PRIVATE_MODE, replace};

/// Longest watermark file read: the record, two certificates and the bodies of unfinished blocks.
const WATERMARK_BYTES_MAX: u64 = 1 << 30;

/// `cairn signer ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum SignerVerb {
    /// Show the highest views this key has signed
    Show,
    /// Write the watermark: stop the node for good first
    Export {
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Raise this home's safety journal to a watermark; it is never lowered
    Import {
        /// What `cairn signer export` wrote
        file: PathBuf,
    },
}

pub(crate) fn run(common: &Common, verb: &SignerVerb) -> anyhow::Result<Exit> {
    let mut home = Home::open(&common.home())?;
    home.lock()?;
    let (validator, chain) = owner(&home)?;
    let directory = home.sign();
    match verb {
        SignerVerb::Show => {
            let (_, contents) = Journal::open(&directory, validator, chain)?;
            report(common, validator, &contents.record, None);
        }
        SignerVerb::Export { out } => {
            let (mut journal, contents) = Journal::open(&directory, validator, chain)?;
            replace(out, &journal.export()?.to_bytes(), PRIVATE_MODE).exit_with(Exit::No)?;
            report(common, validator, &contents.record, Some(out));
            common.output().note("From now on this home must not sign: remove its validator key.");
        }
        SignerVerb::Import { file } => {
            let watermark = read(file)?;
            Journal::import_higher(&directory, validator, chain, &watermark)?;
            report(common, validator, &watermark.record, Some(file));
        }
    }
    Ok(Exit::Yes)
}

fn owner(home: &Home) -> anyhow::Result<(Address, ChainId)> {
    let loaded = Config::load(home.root(), &[])?;
    let Some(path) = loaded.config.keys.validator.filter(|path| path.exists()) else {
        bail!("{} has no validator key, so it signs nothing", home.root().display());
    };
    Ok((Keystore::load(&path)?.address(), init::home_genesis(home)?.chain()))
}

fn read(path: &Path) -> anyhow::Result<Watermark> {
    let fault = || format!("cannot read the watermark {}", path.display());
    let length = std::fs::metadata(path).with_context(fault)?.len();
    if length > WATERMARK_BYTES_MAX {
        bail!("{} has {length} bytes, which is no watermark", path.display());
    }
    Ok(Watermark::from_bytes(&std::fs::read(path).with_context(fault)?)?)
}

fn report(common: &Common, validator: Address, record: &SafetyRecord, file: Option<&Path>) {
    let view = |view: Option<u64>| view.map_or_else(|| "never".to_owned(), |view| format!("view {view}"));
    let voted = record.last_voted.map(|(view, _)| view.get());
    let committed = record.last_commit_voted.map(|(view, _)| view.get());
    let timed_out = record.last_timeout.map(|(view, _)| view.get());
    let proposed = record.last_proposed.map(|(view, _)| view.get());
    let mut rows = vec![
        ("validator", validator.to_string()),
        ("epoch", record.epoch.to_string()),
        ("voted", view(voted)),
        ("commit vote", view(committed)),
        ("timeout", view(timed_out)),
        ("proposed", view(proposed)),
    ];
    rows.extend(file.map(|file| ("watermark", file.display().to_string())));
    let value = json!({
        "validator": validator.to_string(),
        "epoch": record.epoch.get(),
        "voted_view": voted,
        "commit_voted_view": committed,
        "timeout_view": timed_out,
        "proposed_view": proposed,
        "watermark": file,
    });
    common.output().show(&pairs(rows), &value);
}
