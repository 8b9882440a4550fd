//! Pinned checkpoints on disk: headers this user holds to be final, one file for each chain.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_receipt::Checkpoint;
use cairn_types::{BlockId, ChainId, Header, decode};
use serde::{Deserialize, Serialize};

use crate::cli::{Common, user_config};
use crate::home::{OPEN_MODE, replace};

const VERSION: u64 = 1;
/// Pins kept for one chain: years of monthly ones. The oldest fetched one makes room.
const PINS_MAX: usize = 1_000;

/// Why a header is pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The user named its id.
    Named,
    /// It came from a file, with a certificate that verified.
    File,
    /// It came from a node, with a certificate that verified and a log that continues the pins before it.
    Node,
}

impl Source {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Named => "named by hand",
            Self::File => "from a file, certificate verified",
            Self::Node => "from a node, certificate and consistency verified",
        }
    }
}

/// One pinned block.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    block: String,
    pub(crate) source: Source,
    /// The checkpoint's JSON; absent for a block of which only the id is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
}

impl Pin {
    /// The block.
    pub(crate) fn block(&self) -> Option<BlockId> {
        BlockId::from_hex(&self.block)
    }

    /// The checkpoint, where it is known; one that is not of this pin's block counts for nothing.
    pub(crate) fn checkpoint(&self) -> Option<(Checkpoint, Header)> {
        let checkpoint = Checkpoint::parse(self.checkpoint.as_deref()?).ok()?;
        let header: Header = decode(&checkpoint.header_bytes).ok()?;
        (Some(header.id()) == self.block()).then_some((checkpoint, header))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreJson {
    version: u64,
    chain: String,
    pins: Vec<Pin>,
}

/// The pins of one chain.
pub(crate) struct Store {
    path: PathBuf,
    chain: ChainId,
    pins: Vec<Pin>,
}

impl Store {
    /// Opens the pins of `chain`: in the home when there is one, else beside the sender key. None are none.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub(crate) fn open(common: &Common, chain: ChainId) -> anyhow::Result<Self> {
        let home = common.home();
        let place = if home.join("VERSION").exists() { home } else { user_config() };
        let path = place.join("trust").join(format!("{chain}.json"));
        if !path.exists() {
            return Ok(Self { path, chain, pins: Vec::new() });
        }
        let shown = || format!("the pinned checkpoints in {}", path.display());
        let text = std::fs::read_to_string(&path).with_context(shown)?;
        let json: StoreJson = serde_json::from_str(&text).with_context(shown)?;
        if json.version != VERSION || json.chain != chain.to_string() {
            bail!(
                "{}: version {} of chain {}; expected {VERSION} of {chain}",
                shown(),
                json.version,
                json.chain
            );
        }
        if let Some(bad) = json.pins.iter().find(|pin| pin.block().is_none()) {
            bail!("{}: `{}` is no block id", shown(), bad.block);
        }
        Ok(Self { path, chain, pins: json.pins })
    }

    /// Where the pins are kept.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The pins, oldest first.
    pub(crate) fn pins(&self) -> &[Pin] {
        &self.pins
    }

    /// The pinned ids.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.pins.iter().filter_map(Pin::block)
    }

    /// The highest pin whose header is known.
    pub(crate) fn newest(&self) -> Option<(Checkpoint, Header)> {
        self.pins.iter().filter_map(Pin::checkpoint).max_by_key(|(_, header)| header.height)
    }

    /// Pins a block, durably. `false` when it was pinned already, and nothing better is known of it now.
    ///
    /// # Errors
    /// When another block is pinned at its height, or the file cannot be written.
    pub(crate) fn pin(
        &mut self,
        block: BlockId,
        source: Source,
        checkpoint: Option<&Checkpoint>,
    ) -> anyhow::Result<bool> {
        if let Some(header) = checkpoint.and_then(|it| decode::<Header>(&it.header_bytes).ok()) {
            let other = self.pins.iter().filter_map(Pin::checkpoint).map(|(_, held)| held);
            if let Some(held) =
                other.into_iter().find(|held| held.height == header.height && held.id() != block)
            {
                bail!(
                    "block {} is pinned at height {}, and {block} claims the same height: two final blocks of one \
                     height mean that more than a third of the validators signed both; keep both files as evidence",
                    held.id(),
                    held.height
                );
            }
        }
        let text = checkpoint.map(|checkpoint| checkpoint.to_json().trim_end().to_owned());
        if let Some(held) = self.pins.iter_mut().find(|pin| pin.block() == Some(block)) {
            if held.checkpoint.is_some() || text.is_none() {
                return Ok(false);
            }
            (held.checkpoint, held.source) = (text, source);
        } else {
            self.pins.push(Pin { block: block.to_string(), source, checkpoint: text });
        }
        if self.pins.len() > PINS_MAX
            && let Some(oldest) = self.pins.iter().position(|pin| pin.source == Source::Node)
        {
            self.pins.remove(oldest);
        }
        self.save()?;
        Ok(true)
    }

    fn save(&self) -> anyhow::Result<()> {
        let json = StoreJson { version: VERSION, chain: self.chain.to_string(), pins: self.pins.clone() };
        let mut text = serde_json::to_string_pretty(&json)?;
        text.push('\n');
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(replace(&self.path, text.as_bytes(), OPEN_MODE)?)
    }
}
