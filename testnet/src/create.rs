//! Makes a network's files: keys, genesis, homes.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cairn_crypto::{KeyPair, Keystore, Passphrase};
use cairn_types::shortcut::{BENCHMARK_BUILD, BENCHMARK_NAME};
use cairn_types::{Admission, Genesis, Params, Scheme, Validator};

use crate::clock;
use crate::fault::Fault;
use crate::layout::{Layout, MANIFEST_VERSION, Manifest};
use crate::ports::{self, Ports};
use crate::process;

/// Nodes of one local network, at most: what two cores and the port range still carry.
pub const NODES_MAX: u16 = 64;
/// Disk a node wants at least: its database, block log and a log of some hours.
const NODE_MIB_MIN: u64 = 128;
/// Shortest time from one certificate to the next block. The validators of a local network share the machine's
/// cores, and every view costs each of them a dozen signatures and four syncs: fewer, larger blocks leave more
/// for transactions. A lone anchor does not wait, since an idle network is past this time already.
const INTERVAL_MIN_MS: u64 = 40;

/// What a new network should be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its files go. May exist, when empty.
    pub dir: PathBuf,
    /// Number of validators, 1 to [`NODES_MAX`].
    pub validators: u16,
    /// The signature scheme of validators and of the demonstration's sender.
    pub scheme: Scheme,
    /// See [`Ports::of`]; 0 finds free ones.
    pub base_port: u16,
    /// Network parameters.
    pub params: Params,
    /// Whether its nodes reach each other only through [`crate::links`].
    pub links: bool,
}

impl Options {
    /// Four `dilithium3` validators on the usual ports.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            validators: 4,
            scheme: Scheme::Dilithium3,
            base_port: ports::BASE_PORT,
            params: Params { interval_min_ms: INTERVAL_MIN_MS, ..Params::default() },
            links: false,
        }
    }
}

/// Makes the files of a new network and returns its manifest. What an earlier attempt left unfinished is
/// replaced.
pub(crate) fn create(layout: &Layout, options: &Options, binary: &Path) -> Result<Manifest, Fault> {
    let max = NODES_MAX;
    if !(1..=max).contains(&options.validators) {
        return Err(Fault::Validators { asked: options.validators, max });
    }
    check_vacant(layout)?;
    contents(layout)?.iter().try_for_each(|path| remove(path))?;
    check_disk(layout.dir(), options.validators)?;
    let base_port = match options.base_port {
        0 => ports::find_base(options.validators, u64::from(std::process::id()))?,
        port => port,
    };
    for node in 0..options.validators {
        Ports::of(base_port, node)?.check_free(node)?;
    }
    write(&layout.unfinished(), b"", 0o600)?;
    write(&layout.passphrase(), random_passphrase()?.as_bytes(), 0o600)?;
    let passphrase = read_passphrase(layout)?;
    let keys = validator_keys(options);
    let genesis = genesis(options, &keys);
    let text = cairn_genesis::to_json(&genesis);
    write(&layout.genesis(), text.as_bytes(), 0o644)?;
    seal(&KeyPair::generate(options.scheme), &passphrase, &layout.sender_key())?;
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        validators: options.validators,
        followers: 0,
        scheme: options.scheme.name().to_owned(),
        base_port,
        chain: genesis.chain().to_string(),
        links: options.links,
    };
    for (node, key) in (0..).zip(&keys) {
        let keystore = layout.dir().join(format!("validator-{node}.json"));
        seal(key, &passphrase, &keystore)?;
        make_home(layout, &manifest, node, Some(&keystore), binary)?;
        fs::remove_file(&keystore).map_err(|e| Fault::io("removing", &keystore, e))?;
    }
    manifest.write(layout)?;
    fs::remove_file(layout.unfinished()).map_err(|e| Fault::io("removing", &layout.unfinished(), e))?;
    Ok(manifest)
}

/// Makes the home of one node: `cairn init` writes it and, for a validator, its safety journal; the
/// configuration is this network's.
pub(crate) fn make_home(
    layout: &Layout,
    manifest: &Manifest,
    node: u16,
    keystore: Option<&Path>,
    binary: &Path,
) -> Result<(), Fault> {
    let home = layout.node(node).home;
    let mut init = process::cairn(binary);
    init.arg("init").arg("--home").arg(&home).arg("--genesis").arg(layout.genesis());
    if let Some(keystore) = keystore {
        init.arg("--validator-key").arg(keystore);
        init.env("CAIRN_KEYS__PASSPHRASE_FILE", layout.passphrase());
    }
    let output = init.output().map_err(|e| Fault::io("starting", binary, e))?;
    if !output.status.success() {
        return Err(Fault::Command {
            command: format!("cairn init --home {}", home.display()),
            status: output.status.to_string(),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let config = configuration(manifest, node)?;
    write(&home.join("config.toml"), config.as_bytes(), 0o644)
}

/// The configuration of one node. Only node 0's public address is given to the others: they find one
/// another through it.
fn configuration(manifest: &Manifest, node: u16) -> Result<String, Fault> {
    let Ports { mesh, public, rpc, grpc, metrics, mesh_link, public_link } = manifest.ports(node)?;
    let first = manifest.ports(0)?;
    let bootstrap = match node {
        0 => String::new(),
        _ => format!(
            "\"/ip4/127.0.0.1/tcp/{}\"",
            if manifest.links { first.public_link } else { first.public }
        ),
    };
    let external = match manifest.links {
        false => String::new(),
        true => format!(
            "public_external = [\"/ip4/127.0.0.1/tcp/{public_link}\"]\nmesh_external = [\"/ip4/127.0.0.1/tcp/{mesh_link}\"]\n"
        ),
    };
    let (validator, passphrase) = match node < manifest.validators {
        true => ("keys/validator.json", "../passphrase"),
        false => ("", ""),
    };
    Ok(format!(
        r#"# Node {node} of a local network made by `cairn testnet`.
[rpc]
listen = "127.0.0.1:{rpc}"
grpc_listen = "127.0.0.1:{grpc}"
metrics_listen = "127.0.0.1:{metrics}"

[p2p]
public_listen = "127.0.0.1:{public}"
mesh_listen = "127.0.0.1:{mesh}"
bootstrap = [{bootstrap}]
{external}
[keys]
validator = "{validator}"
passphrase_file = "{passphrase}"
"#
    ))
}

/// Keys in address order, so that node `i` is validator `i` of the genesis set.
fn validator_keys(options: &Options) -> Vec<KeyPair> {
    let mut keys: Vec<KeyPair> = (0..options.validators).map(|_| KeyPair::generate(options.scheme)).collect();
    keys.sort_by_key(KeyPair::address);
    keys
}

fn genesis(options: &Options, keys: &[KeyPair]) -> Genesis {
    Genesis {
        version: cairn_types::genesis::GENESIS_VERSION,
        name: if BENCHMARK_BUILD { format!("{BENCHMARK_NAME}local") } else { "testnet".to_owned() },
        time_ms: clock::unix_ms(),
        params: options.params,
        admission: Admission::Open,
        validators: keys
            .iter()
            .map(|key| Validator { address: key.address(), key: key.public().clone(), power: 1 })
            .collect(),
    }
}

fn seal(key: &KeyPair, passphrase: &Passphrase, path: &Path) -> Result<(), Fault> {
    let keystore = Keystore::seal(key, passphrase).map_err(|e| Fault::invalid("sealing a key", e))?;
    keystore.create(path).map_err(|e| Fault::invalid("writing a keystore", e))
}

/// The passphrase of the network's keystores.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read_passphrase(layout: &Layout) -> Result<Passphrase, Fault> {
    let path = layout.passphrase();
    let text = fs::read_to_string(&path).map_err(|e| Fault::io("reading", &path, e))?;
    Passphrase::new(text.trim().to_owned()).map_err(|e| Fault::invalid(path.display().to_string(), e))
}

/// The demonstration's signing key.
///
/// # Errors
/// When the keystore cannot be read or opened.
pub fn open_sender(layout: &Layout) -> Result<KeyPair, Fault> {
    let damaged = |e: cairn_crypto::KeystoreFault| Fault::invalid("the sender's key", e);
    let keystore = Keystore::load(&layout.sender_key()).map_err(damaged)?;
    keystore.open(&read_passphrase(layout)?).map_err(damaged)
}

fn random_passphrase() -> Result<String, Fault> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|e| Fault::invalid("the operating system gives no randomness", e))?;
    Ok(format!("{}\n", hex::encode(bytes)))
}

/// Creates a directory, and those above it, that only its owner may enter.
pub(crate) fn private_dir(dir: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Fault::io("creating", dir, e))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let fault = |e| Fault::io("writing", path, e);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(fault)?;
    file.write_all(bytes).map_err(fault)
}

/// Refuses a directory that holds anything but what an interrupted creation left. Touches nothing.
pub(crate) fn check_vacant(layout: &Layout) -> Result<(), Fault> {
    if layout.unfinished().exists() || contents(layout)?.is_empty() {
        return Ok(());
    }
    Err(Fault::ForeignDirectory(layout.dir().to_owned()))
}

fn contents(layout: &Layout) -> Result<Vec<PathBuf>, Fault> {
    let dir = layout.dir();
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let lock = layout.lock();
    let entries = fs::read_dir(dir).map_err(|e| Fault::io("reading", dir, e))?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| *path != lock).collect())
}

/// Removes a file or a whole directory.
pub(crate) fn remove(path: &Path) -> Result<(), Fault> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|e| Fault::io("removing", path, e))
}

fn check_disk(dir: &Path, nodes: u16) -> Result<(), Fault> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| Fault::io("looking at the disk of", dir, e.into()))?;
    let free_mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    let need_mib = NODE_MIB_MIN * u64::from(nodes);
    if free_mib < need_mib {
        return Err(Fault::DiskFull { dir: dir.to_owned(), nodes, free_mib, need_mib });
    }
    Ok(())
}
