//! The manifest's perturbations, done to real processes on time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cairn_sim::{Manifest, Micros, PerturbKind, describe};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::plan::Ways;
use crate::links::{Flow, Links};
use crate::network::LocalNetwork;

/// Something that begins or ends.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Micros,
    perturbation: usize,
    begins: bool,
}

/// Who does it, and what is under way.
pub(super) struct Faults {
    manifest: Manifest,
    network: Arc<Mutex<LocalNetwork>>,
    links: Arc<Links>,
    ways: Ways,
    /// For each way, how many perturbations hold it, and what they add to its delay.
    held: Vec<(u32, Duration)>,
    /// Nothing is told to who watches.
    quiet: bool,
}

impl Faults {
    pub(super) fn new(
        manifest: &Manifest,
        network: Arc<Mutex<LocalNetwork>>,
        links: Arc<Links>,
        ways: Ways,
        quiet: bool,
    ) -> Self {
        let held = vec![(0, Duration::ZERO); ways.len()];
        Self { manifest: manifest.clone(), network, links, ways, held, quiet }
    }

    /// Plays everything, ends what is still under way when the run is over, and returns then.
    pub(super) async fn play(mut self, started: Instant) -> Result<()> {
        let mut under_way = vec![0u32; self.manifest.perturb.len()];
        for step in schedule(&self.manifest) {
            sleep_until(started + step.at.into()).await;
            let counter = &mut under_way[step.perturbation];
            *counter = if step.begins { *counter + 1 } else { counter.saturating_sub(1) };
            self.strike(step.perturbation, step.begins).await?;
        }
        sleep_until(started + self.manifest.duration.into()).await;
        for (perturbation, count) in under_way.into_iter().enumerate() {
            for _ in 0..count {
                self.strike(perturbation, false).await?;
            }
        }
        Ok(())
    }

    async fn strike(&mut self, perturbation: usize, begins: bool) -> Result<()> {
        let perturb = self.manifest.perturb[perturbation].clone();
        let (name, verb) = (describe(&perturb), if begins { "begins" } else { "ends" });
        if !self.quiet {
            eprintln!("--- {name} {verb}");
        }
        match perturb.kind {
            PerturbKind::Slow => {
                let by: Duration = perturb.by.unwrap_or_default().into();
                self.hold(|from, to| perturb.strikes(from) || perturb.strikes(to), begins, None, by);
            }
            PerturbKind::Pause | PerturbKind::Crash => {
                let nodes = 0..self.network.lock().manifest().nodes();
                let nodes: Vec<u16> = nodes.filter(|node| perturb.strikes((*node).into())).collect();
                let (network, kind) = (Arc::clone(&self.network), perturb.kind);
                let done = tokio::task::spawn_blocking(move || {
                    nodes.into_iter().try_for_each(|node| to_process(&mut network.lock(), kind, begins, node))
                });
                done.await?.with_context(|| format!("{name} {verb}"))?;
            }
            _ => self.hold(|from, to| perturb.cuts(from, to), begins, Some(Flow::Stalled), Duration::ZERO),
        }
        Ok(())
    }

    /// Begins or ends holding, or slowing, every way that `strikes` names.
    fn hold(
        &mut self,
        strikes: impl Fn(usize, usize) -> bool,
        begins: bool,
        flow: Option<Flow>,
        by: Duration,
    ) {
        for ((from, to, usual), (holders, slower)) in self.ways.iter().zip(&mut self.held) {
            if !strikes((*from).into(), (*to).into()) {
                continue;
            }
            let step = u32::from(flow.is_some());
            *holders = if begins { *holders + step } else { holders.saturating_sub(step) };
            *slower = if begins { *slower + by } else { slower.saturating_sub(by) };
            let usual: Duration = usual.low.into();
            self.links.change(*from, *to, |link| {
                link.flow = if *holders > 0 { Flow::Stalled } else { Flow::Open };
                link.delay = usual + *slower;
            });
        }
    }
}

fn to_process(
    network: &mut LocalNetwork,
    kind: PerturbKind,
    begins: bool,
    node: u16,
) -> Result<(), crate::Fault> {
    match (kind, begins) {
        (PerturbKind::Pause, true) => network.pause_node(node),
        (PerturbKind::Pause, false) => network.resume_node(node),
        // One that another perturbation has killed already stays so.
        (_, true) if network.pid(node).is_none() => Ok(()),
        (_, true) => network.kill_node(node).map(|_| ()),
        (_, false) if network.pid(node).is_some() => Ok(()),
        (_, false) => network.start_node(node),
    }
}

/// Every beginning and end before the run is over, in order.
fn schedule(manifest: &Manifest) -> Vec<Step> {
    let end = manifest.duration;
    let mut steps = Vec::new();
    for (perturbation, perturb) in manifest.perturb.iter().enumerate() {
        let mut at = perturb.at;
        while at < end {
            steps.push(Step { at, perturbation, begins: true });
            if let Some(until) =
                perturb.lasts.map(|lasts| Micros(at.0 + lasts.0)).filter(|until| *until < end)
            {
                steps.push(Step { at: until, perturbation, begins: false });
            }
            match perturb.every {
                Some(every) => at = Micros(at.0 + every.0),
                None => break,
            }
        }
    }
    // What ends at a moment ends before anything begins at it.
    steps.sort_by_key(|step| (step.at, step.begins));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(text, "test").unwrap()
    }

    #[test]
    fn what_repeats_begins_and_ends_each_time_until_the_run_is_over() {
        let plan = manifest(
            "duration = \"10s\"\n[[perturb]]\nkind = \"pause\"\nnodes = [1]\nat = \"1s\"\nfor = \"2s\"\nevery = \"4s\"\n",
        );
        let got: Vec<(u64, bool)> =
            schedule(&plan).iter().map(|step| (step.at.0 / 1_000_000, step.begins)).collect();
        assert_eq!(got, [(1, true), (3, false), (5, true), (7, false), (9, true)]);
    }

    #[test]
    fn a_partition_cuts_between_groups_and_a_one_way_cut_one_way() {
        let plan = manifest(
            "[[perturb]]\nkind = \"partition\"\ngroups = [[0, 1], [2, 3]]\nat = \"1s\"\n\
             [[perturb]]\nkind = \"one_way\"\nfrom = 2\nto = 0\nat = \"1s\"\n\
             [[perturb]]\nkind = \"isolate\"\nnodes = [3]\nat = \"1s\"\n",
        );
        let cuts = |index: usize| -> Vec<(usize, usize)> {
            (0..4)
                .flat_map(|a| (0..4).map(move |b| (a, b)))
                .filter(|(a, b)| a != b && plan.perturb[index].cuts(*a, *b))
                .collect()
        };
        assert_eq!(cuts(0), [(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0), (3, 1)]);
        assert_eq!(cuts(1), [(2, 0)]);
        assert_eq!(cuts(2), [(0, 3), (1, 3), (2, 3), (3, 0), (3, 1), (3, 2)]);
    }
}
