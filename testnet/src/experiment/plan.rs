//! What of an experiment real processes can do, and the network it asks for.

use std::path::Path;

use cairn_sim::{Between, Manifest, Micros, PerturbKind, Unsynced};
use cairn_types::Scheme;

use crate::create::{NODES_MAX, Options};
use crate::fault::Fault;
use crate::links::Links;
use crate::network::LocalNetwork;

/// Transactions signed ahead, at most: at about 8 kB each this bounds memory.
const TRANSACTIONS_MAX: f64 = 200_000.0;

/// Refuses what only the simulator can do.
///
/// # Errors
/// The first key that asks for it, and what is possible instead.
pub(super) fn check(manifest: &Manifest) -> Result<(), String> {
    let only = |key: &str, why: &str| Err(format!("{key}: {why}; run it with `cairn sim run`"));
    let net = &manifest.net;
    if net.n + net.followers > usize::from(NODES_MAX) {
        return Err(format!("net.n: at most {NODES_MAX} processes fit on one machine"));
    }
    for (key, share) in [("loss", net.loss), ("duplicate", net.duplicate), ("reorder", net.reorder)] {
        if share > 0.0 {
            return only(&format!("net.{key}"), "TCP hides it from real processes");
        }
    }
    if net.clock_skew > Micros(0) {
        return only("net.clock_skew", "the processes share one clock");
    }
    if !manifest.byzantine.roles.is_empty() {
        return only("byzantine", "the binary has no dishonest roles");
    }
    if manifest.epochs.is_some() {
        return only("epochs", "the validators of these processes do not change");
    }
    if !manifest.sweep.is_empty() {
        return only("sweep", "one combination is run at a time");
    }
    if manifest.load.rate * manifest.duration.as_secs_f64() > TRANSACTIONS_MAX {
        return Err(format!("load.rate: more than {TRANSACTIONS_MAX} transactions would be signed ahead"));
    }
    for (index, perturb) in manifest.perturb.iter().enumerate() {
        let key = format!("perturb {index}");
        match perturb.kind {
            PerturbKind::Crash if !matches!(perturb.unsynced, Unsynced::Any | Unsynced::Kept) => {
                return only(&key, "a killed process loses nothing it wrote; losing power does");
            }
            PerturbKind::Partition
            | PerturbKind::OneWay
            | PerturbKind::Isolate
            | PerturbKind::Pause
            | PerturbKind::Crash
            | PerturbKind::Slow => {}
            kind => return only(&key, &format!("{kind:?} cannot be done to a real process from outside")),
        }
    }
    Ok(())
}

/// Makes the network; starts nothing.
pub(super) fn create(
    manifest: &Manifest,
    dir: &Path,
    scheme: Scheme,
    binary: &Path,
) -> Result<LocalNetwork, Fault> {
    let options = Options {
        validators: u16::try_from(manifest.net.n).unwrap_or(u16::MAX),
        scheme,
        base_port: 0,
        params: manifest.chain_params(),
        links: true,
        ..Options::new(dir)
    };
    let mut network = LocalNetwork::create(&options, binary)?;
    for _ in 0..manifest.net.followers {
        network.add_follower()?;
    }
    Ok(network)
}

/// What each link adds when nothing goes wrong: from, to, delay.
pub(super) type Ways = Vec<(u16, u16, Between)>;

/// Sets the delay of every link. Nodes beyond the matrix's regions start again with the first.
pub(super) fn set_links(manifest: &Manifest, links: &Links) -> Result<Ways, String> {
    let mut ways = Ways::new();
    for (from, to, between) in manifest.delays()? {
        let (Ok(from), Ok(to)) = (u16::try_from(from), u16::try_from(to)) else { continue };
        links.change(from, to, |link| {
            link.delay = between.low.into();
            link.jitter = between.span().into();
        });
        ways.push((from, to, between));
    }
    Ok(ways)
}
