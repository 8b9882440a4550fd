//! What a run leaves for figures and plots. Counters always; one row for each view, block and kind of message when
//! the run is looked at in detail.

use std::collections::BTreeMap;

use cairn_types::{CertifiedBlock, Message, ValidatorIndex, View};

use crate::byzantine::RoleKind;
use crate::network::Network;
use crate::packet::{Sealed, block_bytes};
use crate::world::World;

/// A view as it went.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewRow {
    pub(crate) leader: u16,
    /// When the first node entered it.
    pub(crate) entered: Option<u64>,
    /// When its leader proposed, and the block.
    pub(crate) proposed: Option<u64>,
    pub(crate) voted: Vec<(u16, u64)>,
    pub(crate) commit_voted: Vec<(u16, u64)>,
    pub(crate) gave_up: Vec<(u16, u64)>,
    /// When a timeout certificate of it was first formed.
    pub(crate) timed_out: Option<u64>,
    /// When its block was first final.
    pub(crate) final_at: Option<u64>,
}

/// A final block.
#[derive(Clone, Debug)]
pub(crate) struct BlockRow {
    pub(crate) height: u64,
    pub(crate) view: u64,
    pub(crate) proposer: u16,
    pub(crate) transactions: u32,
    pub(crate) bytes: u64,
    pub(crate) first_final: u64,
    /// When the last honest validator so far had it final.
    pub(crate) last_final: u64,
    pub(crate) finals: u32,
}

/// Messages of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// Everything noted in a run.
pub(crate) struct Record {
    detailed: bool,
    pub(crate) views: BTreeMap<u64, ViewRow>,
    pub(crate) blocks: BTreeMap<u64, BlockRow>,
    /// By sender and kind.
    pub(crate) traffic: BTreeMap<(usize, &'static str), Traffic>,
    pub(crate) roles: Vec<(usize, RoleKind)>,
    pub(crate) regions: Vec<String>,
    pub(crate) crashes: u64,
    pub(crate) syncs: u64,
    /// Signatures checked, each node's own work.
    pub(crate) verified: u64,
    /// Messages that did not verify, from those who misbehave.
    pub(crate) refused: u64,
    /// Nodes that stopped because their key had signed beyond their journal.
    pub(crate) refused_to_sign: u64,
    pub(crate) timeouts: u64,
    last_timed_out: View,
}

impl Record {
    pub(crate) fn new(network: &Network, detailed: bool) -> Self {
        Self {
            detailed,
            views: BTreeMap::new(),
            blocks: BTreeMap::new(),
            traffic: BTreeMap::new(),
            roles: Vec::new(),
            regions: network.regions.clone(),
            crashes: 0,
            syncs: 0,
            verified: 0,
            refused: 0,
            refused_to_sign: 0,
            timeouts: 0,
            last_timed_out: View::ZERO,
        }
    }

    pub(crate) fn role(&mut self, node: usize, kind: RoleKind) {
        self.roles.push((node, kind));
    }

    pub(crate) fn sent(&mut self, from: usize, kind: &'static str, bytes: u64) {
        if self.detailed {
            let traffic = self.traffic.entry((from, kind)).or_default();
            traffic.count += 1;
            traffic.bytes += bytes;
        }
    }

    fn view(&mut self, view: View) -> &mut ViewRow {
        self.views.entry(view.get()).or_default()
    }

    pub(crate) fn entered(&mut self, now: u64, _: usize, view: View, leader: ValidatorIndex) {
        if self.detailed {
            let row = self.view(view);
            row.leader = leader.0;
            row.entered.get_or_insert(now);
        }
    }

    /// A validator said something signed.
    pub(crate) fn said(&mut self, now: u64, _: usize, sealed: &Sealed) {
        if !self.detailed {
            return;
        }
        let Some((signer, view)) = sealed.signer() else { return };
        let row = self.view(view);
        let list = match &sealed.message {
            Message::Proposal(_) => {
                row.proposed.get_or_insert(now);
                return;
            }
            Message::Vote(_) => &mut row.voted,
            Message::CommitVote(_) => &mut row.commit_voted,
            _ => &mut row.gave_up,
        };
        if list.iter().all(|(known, _)| *known != signer.0) {
            list.push((signer.0, now));
        }
    }

    /// A timeout certificate was formed somewhere.
    pub(crate) fn timed_out(&mut self, now: u64, view: View) {
        if view > self.last_timed_out {
            self.last_timed_out = view;
            self.timeouts += 1;
            if self.detailed {
                self.view(view).timed_out.get_or_insert(now);
            }
        }
    }

    /// A node made a block final.
    pub(crate) fn committed(&mut self, world: &World, now: u64, honest: bool, certified: &CertifiedBlock) {
        if !self.detailed || !honest {
            return;
        }
        let header = certified.block.header();
        let row = self.blocks.entry(header.height.get()).or_insert_with(|| BlockRow {
            height: header.height.get(),
            view: header.view.get(),
            proposer: header.proposer.0,
            transactions: header.tx_count,
            bytes: block_bytes(world, &certified.block),
            first_final: now,
            last_final: now,
            finals: 0,
        });
        row.last_final = now;
        row.finals += 1;
        self.view(header.view).final_at.get_or_insert(now);
    }
}
