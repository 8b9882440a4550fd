//! The key that signs what `cairn stamp` anchors.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cairn_crypto::KeyPair;
use cairn_types::Scheme;
use clap::Args;

use crate::cli::output::Output;
use crate::cli::{keys, user_config};
use crate::passphrase::Source;

/// Which key signs.
#[derive(Debug, Args)]
pub(crate) struct SenderArgs {
    /// The keystore that signs [default: ~/.config/cairn/sender.json, made on first use]
    #[arg(long, value_name = "KEYSTORE", env = "CAIRN_KEY", hide_env_values = true)]
    key: Option<PathBuf>,
    /// File with the keystore's passphrase [default: ask on the terminal]
    #[arg(long, value_name = "FILE", env = "CAIRN_PASSPHRASE_FILE", hide_env_values = true)]
    passphrase_file: Option<PathBuf>,
    /// When the sender key is made: leave it unprotected
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
}

/// `sender.json` in [`user_config`].
pub(crate) fn default_path() -> PathBuf {
    user_config().join("sender.json")
}

impl SenderArgs {
    /// Opens the key; makes the default one when it does not exist yet.
    ///
    /// # Errors
    /// When a key that was named is missing, or no passphrase can be had.
    pub(crate) fn open(&self, output: Output) -> anyhow::Result<KeyPair> {
        let source = Source { file: self.passphrase_file.clone(), none: false };
        if let Some(path) = &self.key {
            if !path.exists() {
                bail!("{} does not exist; `cairn keys new --out FILE` makes a key", path.display());
            }
            return keys::open(path, &source);
        }
        let path = default_path();
        if path.exists() {
            return keys::open(&path, &source);
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let fresh = Source { file: self.passphrase_file.clone(), none: self.no_passphrase };
        let key = keys::create(&path, Scheme::Dilithium3, &fresh, "your new sender key")?;
        output.note(&format!("made the sender key {} in {}", key.address(), path.display()));
        Ok(key)
    }
}
