//! What a verification rests on: the genesis of the receipt's chain, and pinned checkpoints.

mod store;
mod verbs;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use cairn_client::Client;
use cairn_receipt::Trusted;
use cairn_types::{BlockId, ChainId, Genesis};
use clap::Args;

use crate::cli::{Common, user_config};
use crate::exit::{Exit, WithExit};
use crate::home::{OPEN_MODE, replace};
use store::Store;
pub(crate) use verbs::{TrustVerb, run};

/// Which genesis is trusted.
#[derive(Debug, Args)]
pub(crate) struct GenesisArgs {
    /// The chain's genesis file [default: genesis.json of the home, else the one pinned by the first stamp]
    #[arg(long, value_name = "FILE", env = "CAIRN_GENESIS", hide_env_values = true)]
    genesis: Option<PathBuf>,
}

/// Everything that may be trusted.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    #[command(flatten)]
    genesis: GenesisArgs,
    /// The id of a block known to be final, from a source you trust; several times
    #[arg(long, value_name = "BLOCK ID")]
    checkpoint: Vec<String>,
}

/// A genesis with where it was found.
pub(crate) struct Anchor {
    /// The file.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) genesis: Genesis,
    /// The same as a verifier takes it.
    pub(crate) trusted: Trusted,
}

impl TrustArgs {
    /// Which genesis, for asking a node.
    pub(crate) const fn genesis(&self) -> &GenesisArgs {
        &self.genesis
    }

    /// The trust to verify by.
    ///
    /// # Errors
    /// With [`Exit::TrustMissing`] when there is no genesis, or none that holds.
    pub(crate) fn load(&self, common: &Common) -> anyhow::Result<Anchor> {
        let checkpoints = self.checkpoint.iter().map(|text| {
            BlockId::from_hex(text)
                .with_context(|| format!("--checkpoint {text}: expected a block id of 64 hex digits"))
        });
        let checkpoints = checkpoints.collect::<anyhow::Result<Vec<_>>>().exit_with(Exit::Usage)?;
        let path = self.genesis.find(common).ok_or_else(no_genesis).exit_with(Exit::TrustMissing)?;
        let genesis = cairn_genesis::load(&path).exit_with(Exit::TrustMissing)?;
        let mut trusted = Trusted::genesis(&genesis).exit_with(Exit::TrustMissing)?;
        trusted.checkpoints = checkpoints;
        trusted.checkpoints.extend(Store::open(common, trusted.chain)?.blocks());
        Ok(Anchor { path, genesis, trusted })
    }
}

impl GenesisArgs {
    /// The file named, else that of the home, else the pinned one; nothing when none of the latter exists.
    fn find(&self, common: &Common) -> Option<PathBuf> {
        let usual = [common.home().join("genesis.json"), pinned_path()];
        self.genesis.clone().or_else(|| usual.into_iter().find(|path| path.exists()))
    }

    /// The genesis to verify a node's answers by. Without any at hand the node's own is pinned, once, and
    /// said so: from then on no other chain is taken for this one.
    ///
    /// # Errors
    /// When the node is of another chain than the genesis at hand, or does not answer.
    pub(crate) async fn for_node(&self, common: &Common, client: &Client) -> anyhow::Result<Genesis> {
        let status = client.status().await?;
        if let Some(path) = self.find(common) {
            let genesis = cairn_genesis::load(&path).exit_with(Exit::TrustMissing)?;
            check_chain(&path, genesis.chain(), status.chain, client).exit_with(Exit::TrustMissing)?;
            return Ok(genesis);
        }
        let genesis = client.chain_genesis().await?;
        if genesis.chain() != status.chain {
            bail!(
                "{} names chain {} and gives a genesis of chain {}",
                url(client),
                status.chain,
                genesis.chain()
            );
        }
        let path = pinned_path();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        replace(&path, cairn_genesis::to_json(&genesis).as_bytes(), OPEN_MODE).exit_with(Exit::No)?;
        eprintln!(
            "warning: no genesis was at hand, so the node's own is trusted from now on: chain {} ({})\n\
             pinned in {}; compare the hash with one from a source you trust",
            genesis.chain(),
            genesis.name,
            path.display()
        );
        Ok(genesis)
    }
}

fn check_chain(path: &Path, expected: ChainId, got: ChainId, client: &Client) -> anyhow::Result<()> {
    if got == expected {
        return Ok(());
    }
    bail!(
        "{} is of chain {got}; {} defines chain {expected}: name the right node with --url, or the right \
         genesis with --genesis",
        url(client),
        path.display()
    )
}

fn url(client: &Client) -> String {
    client.nodes().join(", ")
}

/// Where the first stamp pins a genesis: `genesis.json` beside the sender key.
fn pinned_path() -> PathBuf {
    user_config().join("genesis.json")
}

fn no_genesis() -> anyhow::Error {
    anyhow!(
        "no genesis to verify by: give --genesis FILE or set CAIRN_GENESIS; \
         get the file from someone you trust, not from whoever sent the receipt"
    )
}
