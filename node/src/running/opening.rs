//! Opening what a node has on disk, and checking that it belongs together before anything is started.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use cairn_consensus::{CommittedTip, Recovered, Replica};
use cairn_journal::Journal;
use cairn_p2p::P2pConfig;
use cairn_state::{RocksStorage, State};
use cairn_types::safety::SafetyRecord;
use cairn_types::shortcut;
use cairn_types::{Block, BlockCert, ChainId, Epoch, Genesis, TimeoutCert, View, decode};

use super::epoch::{CannotBegin, EpochInForce};
use super::keys::{Signer, ValidatorKeys};
use super::presence::KEY_RUNS_ELSEWHERE;
use super::rehearsal::Disaster;
use crate::config::Config;
use crate::exit::{Exit, WithExit};
use crate::home::Home;

/// View timeouts for which a key that has signed before listens whether it is in use elsewhere.
const SILENT_TIMEOUTS: u32 = 2;

/// Newest blocks whose certificates are searched for a signature that the journal does not know. A validator signs
/// most of them.
const CERTIFICATES_SEARCHED: u32 = 256;

/// Everything on disk, opened.
pub(crate) struct Opened {
    pub(crate) genesis: Genesis,
    pub(crate) genesis_text: Arc<str>,
    pub(crate) chain: ChainId,
    pub(crate) epoch: EpochInForce,
    pub(crate) keys: ValidatorKeys,
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
pub(crate) fn open(home: &Home, config: &Config, disaster: &Arc<Disaster>) -> anyhow::Result<Opened> {
    let path = home.genesis();
    let genesis = cairn_genesis::load(&path)?;
    refuse_benchmarks_of(&genesis)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let chain = genesis.chain();
    let keys = ValidatorKeys::load(&config.keys, home.sign(), Arc::clone(disaster))?;
    let cache_bytes = usize::try_from(config.state.cache_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    let storage = RocksStorage::open_with(home.data(), cache_bytes, disaster.unsynced_state())?;
    let state = State::open(Arc::new(storage), &genesis)
        .with_context(|| format!("the state in {} cannot be opened", home.data().display()));
    let state = Arc::new(state?);
    let mut epoch = match EpochInForce::of(&state, &keys) {
        Err(CannotBegin::Protocol(fault)) => Err(fault).exit_with(Exit::ProtocolTooNew)?,
        epoch => epoch?,
    };
    let opened = match &epoch.signer {
        Some(signer) => Some(open_journal(&keys, signer, chain)?),
        None => None,
    };
    if let Some((_, recovered)) = &opened {
        mend(&state, &recovered.blocks)?;
    }
    state.check_storage()?;
    let (journal, mut recovered) = match opened {
        Some((journal, recovered)) if recovered.record.epoch <= epoch.number() => (Some(journal), recovered),
        Some((_, recovered)) => {
            let signed = recovered.record.epoch;
            tracing::warn!(
                epoch = %epoch.number(), %signed,
                "the safety journal has signed in a later epoch than the state is in: following until that is reached"
            );
            keys.hold_until(signed);
            epoch.signer = None;
            (None, Recovered::default())
        }
        None => {
            if let Some(address) = keys.own_address() {
                tracing::warn!(%address, "this key is not in the validator set: following the chain without signing");
            }
            (None, Recovered::default())
        }
    };
    recover_tip(&state, epoch.number(), &mut recovered)?;
    check_no_later_signature(&state, &epoch, &recovered.record)?;
    let signed_before = recovered.record != Default::default();
    let replica = Replica::new(epoch.replica_config(chain), recovered)?;
    let silence = silence(&epoch, signed_before);
    let genesis_text = text.into();
    Ok(Opened { genesis, genesis_text, chain, epoch, keys, state, replica, journal, silence })
}

/// How long a key listens whether it is in use elsewhere before it signs: shorter when this home never signed with it,
/// since then only the answer of another process can tell, and no earlier signature is on its way.
fn silence(epoch: &EpochInForce, signed_before: bool) -> Duration {
    let timeout = Duration::from_millis(epoch.params.timeout_base_ms);
    match (signed_before, epoch.set.count()) {
        (false, 1) => Duration::ZERO,
        (false, _) => timeout / 2,
        (true, _) => timeout * SILENT_TIMEOUTS,
    }
}

/// A benchmark build, which can leave out what keeps a network safe, runs networks made for benchmarks alone.
fn refuse_benchmarks_of(genesis: &Genesis) -> anyhow::Result<()> {
    if !shortcut::BENCHMARK_BUILD {
        return Ok(());
    }
    let (name, prefix) = (&genesis.name, shortcut::BENCHMARK_NAME);
    ensure!(
        name.starts_with(prefix),
        "this is a benchmark build, which can leave out checks and syncs: it runs networks whose name begins \
         with '{prefix}', and this one's name is '{name}'. Build cairn without the feature bench-modes"
    );
    let variable = shortcut::LEFT_OUT_VARIABLE;
    let steps = shortcut::parse(&std::env::var(variable).unwrap_or_default()).map_err(|why| anyhow!(why))?;
    tracing::warn!(left_out = ?steps, "a benchmark build: this network proves nothing");
    Ok(())
}

/// The journal of a validator, and what it remembers.
pub(crate) fn open_journal(
    keys: &ValidatorKeys,
    signer: &Signer,
    chain: ChainId,
) -> anyhow::Result<(Journal, Recovered)> {
    let (journal, contents) = keys.open_journal(signer.address, chain)?;
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

/// Refuses a key whose signature stands in a stored certificate of a view that its journal does not know of: the
/// journal was restored from a backup, or the key signs elsewhere.
pub(crate) fn check_no_later_signature(
    state: &State,
    epoch: &EpochInForce,
    record: &SafetyRecord,
) -> anyhow::Result<()> {
    let Some(signer) = &epoch.signer else { return Ok(()) };
    let signed = record.last_commit_voted.map_or(View::ZERO, |(view, _)| view);
    let mut height = Some(state.tip().header.height);
    for _ in 0..CERTIFICATES_SEARCHED {
        let Some(at) = height else { break };
        if let Some(certificate) = state.certificate(at)?
            && certificate.epoch == epoch.number()
            && (certificate.epoch, certificate.view) > (record.epoch, signed)
            && certificate.signer_indexes().any(|index| index == signer.index)
        {
            return Err(anyhow!(KEY_RUNS_ELSEWHERE)).exit_with(Exit::SigningRefused);
        }
        height = at.previous();
    }
    Ok(())
}

/// Brings back the bodies that a power cut took from the state; the journal has them until the state is synced.
fn mend(state: &State, logged: &[Arc<Block>]) -> anyhow::Result<()> {
    let mended = state.mend_bodies(logged)?;
    if mended > 0 {
        tracing::warn!(
            blocks = mended,
            "brought back what a power cut took: bodies of final blocks, from the safety journal"
        );
    }
    Ok(())
}

/// Adds the committed tip, unless that is still the epoch's root, and leaves out the bodies that the state
/// already holds.
pub(crate) fn recover_tip(state: &State, epoch: Epoch, recovered: &mut Recovered) -> anyhow::Result<()> {
    let tip = state.tip();
    recovered.blocks.retain(|block| block.header().height > tip.header.height);
    let newest = state.newest_certificate()?;
    if let Some(certificate) = newest.filter(|it| it.epoch == epoch && tip.header.epoch == epoch) {
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
    epoch: &EpochInForce,
    has_key: bool,
) -> P2pConfig {
    let p2p = &config.p2p;
    P2pConfig {
        epoch: epoch.number(),
        validators: epoch.mesh(),
        mesh_listen: has_key.then(|| multiaddr(p2p.mesh_listen)),
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
