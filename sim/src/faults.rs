//! The manifest's perturbations, begun and ended on time.

use cairn_types::Epoch;

use crate::cluster::Cluster;
use crate::events::Event;
use crate::manifest::{Perturb, PerturbKind, Unsynced};
use crate::units::Micros;

/// What is under way.
#[derive(Default)]
pub(crate) struct Ongoing {
    /// Shares of noise before a perturbation changed them.
    before: Vec<Option<f64>>,
    /// Nodes whose disk is set to fail at an operation, and what becomes of the rest.
    at_write: Vec<(usize, Unsynced)>,
    /// How often each perturbation has begun and not ended.
    begun: Vec<u32>,
    /// Nothing begins any more.
    closed: bool,
    /// The moment from which each perturbation's `at` counts; `None` for one whose epoch has not come to its end.
    anchors: Vec<Option<u64>>,
}

impl Ongoing {
    /// Perturbations that have begun and not ended.
    pub(crate) fn active(&self) -> u32 {
        self.begun.iter().sum()
    }

    /// When a perturbation that does not repeat is over at the latest; 0 for one whose moment never came.
    pub(crate) fn over_at(&self, perturbation: usize, perturb: &Perturb) -> u64 {
        let anchor = self.anchors.get(perturbation).copied().flatten();
        anchor.map_or(0, |anchor| anchor + perturb.at.0 + perturb.lasts.unwrap_or_default().0)
    }

    /// Whether this node's failing disk is a planned crash.
    pub(crate) fn crash_at_write(&self, node: usize) -> bool {
        self.at_write.iter().any(|(at, _)| *at == node)
    }

    /// What becomes of its unsynced writes.
    pub(crate) fn unsynced(&self, node: usize) -> Unsynced {
        self.at_write.iter().find(|(at, _)| *at == node).map_or(Unsynced::Any, |(_, unsynced)| *unsynced)
    }
}

impl Cluster {
    pub(crate) fn plan_perturbations(&mut self) {
        self.ongoing.before = vec![None; self.manifest.perturb.len()];
        self.ongoing.begun = vec![0; self.manifest.perturb.len()];
        self.ongoing.anchors = vec![None; self.manifest.perturb.len()];
        self.anchor(None);
    }

    /// A block that ends an epoch is proposed: what is to strike then counts from the first of them.
    pub(crate) fn at_boundary(&mut self, epoch: Epoch) {
        self.anchor(Some(epoch.get()));
    }

    /// Perturbations of this boundary count from now, if they do not yet.
    fn anchor(&mut self, boundary: Option<u64>) {
        for perturbation in 0..self.manifest.perturb.len() {
            let (at, of) =
                (self.manifest.perturb[perturbation].at.0, self.manifest.perturb[perturbation].boundary);
            if of == boundary && self.ongoing.anchors[perturbation].is_none() {
                self.ongoing.anchors[perturbation] = Some(self.now);
                self.plan(self.now + at, Event::Begin { perturbation });
            }
        }
    }

    fn struck(&self, perturb: &Perturb) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| perturb.strikes(*node)).collect()
    }

    /// Whatever is under way ends now, and nothing begins any more.
    pub(crate) fn end_everything(&mut self) {
        self.ongoing.closed = true;
        for perturbation in 0..self.manifest.perturb.len() {
            while self.ongoing.begun[perturbation] > 0 {
                self.end(perturbation);
            }
        }
    }

    pub(crate) fn begin(&mut self, perturbation: usize) {
        if self.ongoing.closed {
            return;
        }
        let perturb = self.manifest.perturb[perturbation].clone();
        self.note(|| format!("--- {} begins", describe(&perturb)));
        self.ongoing.begun[perturbation] += 1;
        self.strike(perturbation, &perturb);
        if let Some(lasts) = perturb.lasts {
            self.plan(self.now + lasts.0, Event::End { perturbation });
        }
        let next = perturb.every.map(|every| self.now + every.0).filter(|at| *at < self.manifest.duration.0);
        if let Some(at) = next {
            self.plan(at, Event::Begin { perturbation });
        }
    }

    fn strike(&mut self, perturbation: usize, perturb: &Perturb) {
        let nodes = self.struck(perturb);
        match perturb.kind {
            PerturbKind::Partition | PerturbKind::OneWay | PerturbKind::Isolate => self.cut(perturb, true),
            PerturbKind::Deaf => nodes.into_iter().for_each(|node| self.network.deaf[node] += 1),
            PerturbKind::Pause => {
                for node in nodes {
                    self.nodes[node].paused.get_or_insert_default();
                }
            }
            PerturbKind::Crash => {
                for node in nodes {
                    if self.nodes[node].live.is_some() {
                        self.crash(node, perturb.unsynced);
                    }
                }
            }
            PerturbKind::CrashAtWrite => {
                let (node, operation) = (nodes[0], perturb.operation.unwrap_or_default());
                self.nodes[node].disk.journal.fail_at(operation);
                self.ongoing.at_write.push((node, perturb.unsynced));
            }
            PerturbKind::Crashes => {
                for node in nodes {
                    self.nodes[node].crashes = perturb.share.unwrap_or_default();
                }
            }
            PerturbKind::DiskFull => {
                for node in nodes {
                    self.nodes[node].disk_full = true;
                    self.nodes[node].disk.fill_up();
                }
            }
            PerturbKind::ClockJump => {
                let by = perturb.by.unwrap_or_default().0 as i64;
                for node in nodes {
                    self.nodes[node].clock_us += if perturb.back { -by } else { by };
                }
            }
            PerturbKind::Slow => {
                for node in nodes {
                    self.network.slow[node] = perturb.by.unwrap_or_default();
                }
            }
            PerturbKind::Loss | PerturbKind::Duplicate | PerturbKind::Reorder => {
                let share = self.noise(perturb.kind);
                let before = std::mem::replace(share, perturb.share.unwrap_or_default());
                self.ongoing.before[perturbation].get_or_insert(before);
            }
        }
    }

    fn noise(&mut self, kind: PerturbKind) -> &mut f64 {
        match kind {
            PerturbKind::Loss => &mut self.network.loss,
            PerturbKind::Duplicate => &mut self.network.duplicate,
            _ => &mut self.network.reorder,
        }
    }

    pub(crate) fn end(&mut self, perturbation: usize) {
        let begun = &mut self.ongoing.begun[perturbation];
        if *begun == 0 {
            return;
        }
        *begun -= 1;
        let perturb = self.manifest.perturb[perturbation].clone();
        self.note(|| format!("--- {} ends", describe(&perturb)));
        let nodes = self.struck(&perturb);
        match perturb.kind {
            PerturbKind::Partition | PerturbKind::OneWay | PerturbKind::Isolate => self.cut(&perturb, false),
            PerturbKind::Deaf => nodes.into_iter().for_each(|node| self.network.deaf[node] -= 1),
            PerturbKind::Pause => nodes.into_iter().for_each(|node| self.resume(node)),
            PerturbKind::Crash => nodes.into_iter().for_each(|node| self.start(node)),
            PerturbKind::CrashAtWrite => {
                self.ongoing.at_write.retain(|(node, _)| *node != nodes[0]);
                self.nodes[nodes[0]].disk.journal.restart();
                self.start(nodes[0]);
            }
            PerturbKind::Crashes => nodes.into_iter().for_each(|node| self.nodes[node].crashes = 0.0),
            PerturbKind::DiskFull => nodes.into_iter().for_each(|node| self.make_room(node)),
            PerturbKind::ClockJump => {
                let by = perturb.by.unwrap_or_default().0 as i64;
                for node in nodes {
                    self.nodes[node].clock_us -= if perturb.back { -by } else { by };
                }
            }
            PerturbKind::Slow => nodes.into_iter().for_each(|node| self.network.slow[node] = Micros(0)),
            PerturbKind::Loss | PerturbKind::Duplicate | PerturbKind::Reorder => {
                if let Some(before) = self.ongoing.before[perturbation].take() {
                    *self.noise(perturb.kind) = before;
                }
            }
        }
    }

    fn make_room(&mut self, node: usize) {
        self.nodes[node].disk_full = false;
        // A process that met the full disk has stopped; one that wrote nothing meanwhile goes on.
        self.nodes[node].disk.make_room();
        self.start(node);
    }

    fn resume(&mut self, node: usize) {
        let held = self.nodes[node].paused.take().unwrap_or_default();
        for event in held {
            self.plan(self.now, event);
        }
    }

    fn cut(&mut self, perturb: &Perturb, begins: bool) {
        let count = self.nodes.len();
        let links: Vec<(usize, usize)> = (0..count)
            .flat_map(|from| (0..count).map(move |to| (from, to)))
            .filter(|(from, to)| from != to && perturb.cuts(*from, *to))
            .collect();
        for (from, to) in &links {
            self.network.cut(*from, *to, begins);
        }
        if !begins {
            for (from, to) in links {
                if from < to || perturb.kind == PerturbKind::OneWay {
                    self.connect(from, to);
                }
            }
        }
    }
}

/// A perturbation in a few words.
pub fn describe(perturb: &Perturb) -> String {
    let nodes = match perturb.nodes.as_slice() {
        [] => String::new(),
        nodes => format!(" of {nodes:?}"),
    };
    match perturb.kind {
        PerturbKind::Partition => format!("partition {:?}", perturb.groups),
        PerturbKind::OneWay => {
            format!("{} no longer hears {}", perturb.to.unwrap_or_default(), perturb.from.unwrap_or_default())
        }
        PerturbKind::Isolate => format!("isolation{nodes}"),
        PerturbKind::Deaf => format!("deafness{nodes}"),
        PerturbKind::Pause => format!("pause{nodes}"),
        PerturbKind::Crash if perturb.nodes.is_empty() => "power loss of all".to_owned(),
        PerturbKind::Crash => format!("crash{nodes}"),
        PerturbKind::CrashAtWrite => {
            format!("crash{nodes} at disk operation {}", perturb.operation.unwrap_or_default())
        }
        PerturbKind::Crashes => {
            format!("crashing{nodes} at durable steps, {}", perturb.share.unwrap_or_default())
        }
        PerturbKind::DiskFull => format!("full disk{nodes}"),
        PerturbKind::ClockJump => {
            let sign = if perturb.back { "-" } else { "+" };
            format!("clock jump{nodes} by {sign}{}", perturb.by.unwrap_or_default())
        }
        PerturbKind::Slow => format!("slowness{nodes} by {}", perturb.by.unwrap_or_default()),
        PerturbKind::Loss => format!("loss of {}", perturb.share.unwrap_or_default()),
        PerturbKind::Duplicate => format!("repetition of {}", perturb.share.unwrap_or_default()),
        PerturbKind::Reorder => format!("reordering of {}", perturb.share.unwrap_or_default()),
    }
}
