//! What a verification rests on: the genesis of the receipt's chain, and pinned checkpoints.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use cairn_receipt::Trusted;
use cairn_types::{BlockId, Genesis};
use clap::Args;

use crate::cli::Common;
use crate::exit::{Exit, WithExit};

/// Where trust comes from.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// The chain's genesis file [default: genesis.json of the home]
    #[arg(long, value_name = "FILE", env = "CAIRN_GENESIS")]
    genesis: Option<PathBuf>,
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
    /// The trust to verify by.
    ///
    /// # Errors
    /// With [`Exit::TrustMissing`] when there is no genesis, or none that holds.
    pub(crate) fn load(&self, common: &Common) -> anyhow::Result<Anchor> {
        let path = self.genesis.clone().unwrap_or_else(|| common.home().join("genesis.json"));
        self.read(&path).exit_with(Exit::TrustMissing)
    }

    fn read(&self, path: &Path) -> anyhow::Result<Anchor> {
        if self.genesis.is_none() && !path.exists() {
            return Err(anyhow!(
                "no genesis to verify by: give --genesis FILE or set CAIRN_GENESIS ({} does not exist); \
                 get the file from someone you trust, not from whoever sent the receipt",
                path.display()
            ));
        }
        let genesis = cairn_genesis::load(path)?;
        let mut trusted = Trusted::genesis(&genesis)?;
        for text in &self.checkpoint {
            let id = BlockId::from_hex(text)
                .with_context(|| format!("--checkpoint {text}: expected a block id of 64 hex digits"))
                .exit_with(Exit::Usage)?;
            trusted.checkpoints.push(id);
        }
        Ok(Anchor { path: path.to_owned(), genesis, trusted })
    }
}
