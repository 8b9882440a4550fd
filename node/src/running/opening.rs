//! Opening what a node has on disk, and checking that it belongs together before anything is started.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cairn_consensus::{CommittedTip, Config as ReplicaConfig, Recovered, Replica};
use cairn_crypto::Keystore;
use cairn_journal::Journal;
use cairn_p2p::P2pConfig;
use cairn_state::{RocksStorage, State};
use cairn_types::{BlockCert, ChainId, Genesis, Header, Height, TimeoutCert, ValidatorSet, decode};

use super::context::Signer;
use crate::config::Config;
use crate::home::Home;
use crate::passphrase::Source;

/// View timeouts for which a key that has signed before listens whether it is in use elsewhere.
const SILENT_TIMEOUTS: u64 = 2;

/// Everything on disk, opened.
pub(crate) struct Opened {
    pub(crate) genesis: Genesis,
    pub(crate) genesis_text: Arc<str>,
    pub(crate) chain: ChainId,
    pub(crate) set: Arc<ValidatorSet>,
    pub(crate) root: Header,
    pub(crate) signer: Option<Arc<Signer>>,
    pub(crate) state: Arc<State>,
    pub(crate) replica: Replica,
    pub(crate) journal: Option<Journal>,
    /// How long to listen before the first signature.
    pub(crate) silence: Duration,
}

/// Opens genesis, keys, journal and state of a home.
///
/// # Errors
/// Whatever is missing, damaged or of another chain, each with its sentence.
pub(crate) fn open(home: &Home, config: &Config) -> anyhow::Result<Opened> {
    let path = home.genesis();
    let genesis = cairn_genesis::load(&path)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let chain = genesis.chain();
    let set = Arc::new(genesis.validator_set()?);
    let signer = open_signer(config, &set)?.map(Arc::new);
    let (journal, mut recovered) = match &signer {
        Some(signer) => {
            let (journal, recovered) = open_journal(home, signer, chain)?;
            (Some(journal), recovered)
        }
        None => (None, Recovered::default()),
    };
    let cache_bytes = usize::try_from(config.state.cache_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    let storage = RocksStorage::open_with_cache(home.data(), cache_bytes)?;
    let state = Arc::new(State::open(Arc::new(storage), &genesis)?);
    let root = state.header(Height::ZERO)?.context("the state has no block 0")?;
    recover_tip(&state, &mut recovered)?;
    let signed_before = recovered.record != Default::default();
    let me = signer.as_ref().map(|signer| signer.index);
    let replica_config =
        ReplicaConfig { chain, set: Arc::clone(&set), me, params: genesis.params, root: root.clone() };
    let replica = Replica::new(replica_config, recovered)?;
    let silence_ms = if signed_before { genesis.params.timeout_base_ms * SILENT_TIMEOUTS } else { 0 };
    let silence = Duration::from_millis(silence_ms);
    let genesis_text = text.into();
    Ok(Opened { genesis, genesis_text, chain, set, root, signer, state, replica, journal, silence })
}

/// The validator key, when there is one and it is in the set.
fn open_signer(config: &Config, set: &ValidatorSet) -> anyhow::Result<Option<Signer>> {
    let Some(path) = config.keys.validator.as_ref().filter(|path| path.exists()) else {
        tracing::info!("no validator key: following the chain without signing");
        return Ok(None);
    };
    let keystore = Keystore::load(path)?;
    let address = keystore.address();
    let Some(index) = set.index_of(&address) else {
        tracing::warn!(%address, "this key is not in the validator set: following the chain without signing");
        return Ok(None);
    };
    let source = Source::file_or_prompt(config.keys.passphrase_file.clone());
    let key = source.open(&keystore, &path.display().to_string())?;
    if set.get(index).is_none_or(|validator| validator.key != *key.public()) {
        bail!("the key in {} is not the one the validator set names for {address}", path.display());
    }
    Ok(Some(Signer::new(index, address, key)))
}

fn open_journal(home: &Home, signer: &Signer, chain: ChainId) -> anyhow::Result<(Journal, Recovered)> {
    let (journal, contents) = Journal::open(&home.sign(), signer.address, chain)?;
    let high_qc = contents.high_qc.map(|bytes| decode::<BlockCert>(&bytes)).transpose();
    let high_tc = contents.high_tc.map(|bytes| decode::<TimeoutCert>(&bytes)).transpose();
    let recovered = Recovered {
        record: contents.record,
        high_qc: high_qc.context("the safety journal's block certificate")?,
        high_tc: high_tc.context("the safety journal's timeout certificate")?.map(Arc::new),
        commit: None,
        blocks: contents.bodies,
    };
    Ok((journal, recovered))
}

/// Adds the committed tip, and leaves out the bodies that the state already holds.
fn recover_tip(state: &State, recovered: &mut Recovered) -> anyhow::Result<()> {
    let tip = state.tip();
    recovered.blocks.retain(|block| block.header().height > tip.header.height);
    if let Some(certificate) = state.newest_certificate()? {
        let certificate = Arc::new(certificate);
        recovered.commit = Some(CommittedTip { header: (*tip.header).clone(), certificate });
    }
    Ok(())
}

/// The configuration of both networks.
pub(crate) fn p2p_config(
    home: &Home,
    config: &Config,
    chain: ChainId,
    set: &ValidatorSet,
    is_validator: bool,
) -> P2pConfig {
    let p2p = &config.p2p;
    P2pConfig {
        epoch: set.epoch(),
        validators: set.validators().iter().map(|validator| validator.address).collect(),
        mesh_listen: is_validator.then(|| multiaddr(p2p.mesh_listen)),
        public_listen: multiaddr(p2p.public_listen),
        mesh_peers: p2p.mesh_peers.clone(),
        public_peers: p2p.bootstrap.clone(),
        mesh_external: p2p.mesh_external.clone(),
        public_external: p2p.public_external.clone(),
        quic: p2p.quic,
        address_book: Some(home.address_book()),
        ..P2pConfig::new(chain, home.root().join("keys"))
    }
}

fn multiaddr(address: std::net::SocketAddr) -> String {
    let family = if address.is_ipv4() { "ip4" } else { "ip6" };
    format!("/{family}/{}/tcp/{}", address.ip(), address.port())
}
