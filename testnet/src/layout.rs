//! Where everything of a local network lies.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::ports::Ports;

/// The paths of one node.
#[derive(Clone, Debug)]
pub struct NodePaths {
    /// Its `--home`.
    pub home: PathBuf,
    /// What it writes to standard output and error.
    pub log: PathBuf,
    /// Its process id while it runs.
    pub pid: PathBuf,
}

impl NodePaths {
    /// The paths of node `node` of the network in `dir`.
    pub fn new(dir: &Path, node: u16) -> Self {
        Self {
            home: dir.join(format!("node-{node}")),
            log: dir.join(format!("node-{node}.log")),
            pid: dir.join(format!("node-{node}.pid")),
        }
    }
}

/// The paths of a network.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The network in `dir`, made absolute so that a node's command line names its home in full.
    ///
    /// # Errors
    /// When the current directory cannot be read.
    pub fn new(dir: &Path) -> Result<Self, Fault> {
        let dir = std::path::absolute(dir).map_err(|e| Fault::io("finding", dir, e))?;
        Ok(Self { dir })
    }

    /// The network's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The paths of one node.
    pub fn node(&self, node: u16) -> NodePaths {
        NodePaths::new(&self.dir, node)
    }

    /// What the network is.
    pub fn manifest(&self) -> PathBuf {
        self.dir.join("network.json")
    }

    /// Present while the network is being made: what it lies beside is unfinished.
    pub fn unfinished(&self) -> PathBuf {
        self.dir.join("unfinished")
    }

    /// Held while a command changes which nodes run.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("LOCK")
    }

    /// The genesis file, the only thing needed to verify a receipt.
    pub fn genesis(&self) -> PathBuf {
        self.dir.join("genesis.json")
    }

    /// The passphrase of the network's keystores.
    pub fn passphrase(&self) -> PathBuf {
        self.dir.join("passphrase")
    }

    /// The key with which the demonstration anchors.
    pub fn sender_key(&self) -> PathBuf {
        self.dir.join("sender.json")
    }

    /// Where the demonstration writes receipts.
    pub fn receipts(&self) -> PathBuf {
        self.dir.join("receipts")
    }
}

/// What a network is: written once it is complete.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this file.
    pub version: u8,
    /// Nodes with a validator key: 0 to `validators - 1`.
    pub validators: u16,
    /// Nodes without: the numbers after those.
    pub followers: u16,
    /// The validators' signature scheme.
    pub scheme: String,
    /// See [`Ports::of`].
    pub base_port: u16,
    /// The chain's identity, hex.
    pub chain: String,
    /// Whether its nodes reach each other only through [`crate::links`].
    #[serde(default)]
    pub links: bool,
}

/// The only version of [`Manifest`].
pub const MANIFEST_VERSION: u8 = 1;

impl Manifest {
    /// Reads the manifest of a network.
    ///
    /// # Errors
    /// [`Fault::NoNetwork`] when there is none.
    pub fn read(layout: &Layout) -> Result<Self, Fault> {
        let path = layout.manifest();
        if layout.unfinished().exists() || !path.exists() {
            return Err(Fault::NoNetwork(layout.dir().to_owned()));
        }
        let text = fs::read(&path).map_err(|e| Fault::io("reading", &path, e))?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|e| Fault::invalid(format!("{} is damaged", path.display()), e))?;
        if manifest.version != MANIFEST_VERSION {
            let message = format!("version {}, expected {MANIFEST_VERSION}", manifest.version);
            return Err(Fault::invalid(path.display().to_string(), message));
        }
        Ok(manifest)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, layout: &Layout) -> Result<(), Fault> {
        let path = layout.manifest();
        let fresh = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self).map_err(|e| Fault::invalid("the manifest", e))?;
        fs::write(&fresh, text).map_err(|e| Fault::io("writing", &fresh, e))?;
        fs::rename(&fresh, &path).map_err(|e| Fault::io("writing", &path, e))
    }

    /// Nodes altogether.
    pub const fn nodes(&self) -> u16 {
        self.validators.saturating_add(self.followers)
    }

    /// The ports of one node.
    ///
    /// # Errors
    /// When they pass 65535.
    pub fn ports(&self, node: u16) -> Result<Ports, Fault> {
        Ports::of(self.base_port, node)
    }
}
