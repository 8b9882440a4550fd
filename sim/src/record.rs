//! What a run leaves for figures and plots. Counters always; one row for each view, block and kind of message when
//! the run is looked at in detail.

use std::collections::BTreeMap;

use cairn_types::{CertifiedBlock, Epoch, Header, Message, View};

use crate::byzantine::RoleKind;
use crate::epoch::Part;
use crate::network::Network;
use crate::packet::{Sealed, block_bytes};
use crate::world::World;

/// An epoch as it went.
#[derive(Clone, Debug)]
pub(crate) struct EpochRow {
    pub(crate) number: u64,
    /// When the first honest node began it, and the last so far.
    pub(crate) began: u64,
    pub(crate) last_began: u64,
    pub(crate) joined: u32,
    /// The height of the block that it starts from.
    pub(crate) root: u64,
    /// Its validators, with powers above 1.
    pub(crate) members: String,
    /// Carriers that the end of the epoch before needed, at the node that ended it first.
    pub(crate) carriers: usize,
    /// Whom evidence put out of the set.
    pub(crate) convicted: usize,
}

/// A view as it went. Validators by number of their node.
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
    pub(crate) epoch: u64,
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
    /// By epoch and view.
    pub(crate) views: BTreeMap<(u64, u64), ViewRow>,
    /// Epochs after the first. Bounded by the epochs of a run.
    pub(crate) epochs: Vec<EpochRow>,
    /// Answers to messages of other epochs.
    pub(crate) across: u64,
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
    last_timed_out: (Epoch, View),
}

impl Record {
    pub(crate) fn new(network: &Network, detailed: bool) -> Self {
        Self {
            detailed,
            views: BTreeMap::new(),
            epochs: Vec::new(),
            across: 0,
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
            last_timed_out: (Epoch::ZERO, View::ZERO),
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

    fn view(&mut self, (epoch, view): (Epoch, View)) -> &mut ViewRow {
        self.views.entry((epoch.get(), view.get())).or_default()
    }

    pub(crate) fn entered(&mut self, now: u64, at: (Epoch, View), leader: usize) {
        if self.detailed {
            let row = self.view(at);
            row.leader = number(leader);
            row.entered.get_or_insert(now);
        }
    }

    /// An epoch began at the first honest node.
    pub(crate) fn began_epoch(
        &mut self,
        now: u64,
        part: &Part,
        members: String,
        carriers: usize,
        convicted: usize,
    ) {
        let (number, root) = (part.regime.number().get(), part.regime.root.height.get());
        let row =
            EpochRow { number, began: now, last_began: now, joined: 1, root, members, carriers, convicted };
        self.epochs.push(row);
    }

    /// And at another.
    pub(crate) fn joined_epoch(&mut self, now: u64, epoch: Epoch) {
        let row = self.epochs.iter_mut().rev().find(|row| row.number == epoch.get());
        if let Some(row) = row {
            row.last_began = now;
            row.joined += 1;
        }
    }

    /// Microseconds since the newest epoch began.
    pub(crate) fn epoch_age(&self, now: u64) -> u64 {
        now - self.epochs.last().map_or(0, |row| row.began)
    }

    /// A validator said something signed.
    pub(crate) fn said(&mut self, now: u64, holder: Option<usize>, sealed: &Sealed) {
        if !self.detailed {
            return;
        }
        let (Some((_, view)), Some(holder)) = (sealed.signer(), holder) else { return };
        let (signer, view) = (number(holder), (sealed.message.epoch(), view));
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
        if list.iter().all(|(known, _)| *known != signer) {
            list.push((signer, now));
        }
    }

    /// A timeout certificate was formed somewhere.
    pub(crate) fn timed_out(&mut self, now: u64, epoch: Epoch, view: View) {
        if (epoch, view) > self.last_timed_out {
            self.last_timed_out = (epoch, view);
            self.timeouts += 1;
            if self.detailed {
                self.view((epoch, view)).timed_out.get_or_insert(now);
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
            epoch: header.epoch.get(),
            view: header.view.get(),
            proposer: proposer(world, header),
            transactions: header.tx_count,
            bytes: block_bytes(world, &certified.block),
            first_final: now,
            last_final: now,
            finals: 0,
        });
        row.last_final = now;
        row.finals += 1;
        self.view((header.epoch, header.view)).final_at.get_or_insert(now);
    }
}

/// A node's number, as rows name it.
fn number(holder: usize) -> u16 {
    u16::try_from(holder).unwrap_or(u16::MAX)
}

/// The node that proposed a block.
fn proposer(world: &World, header: &Header) -> u16 {
    let regime = world.regime(header.epoch);
    let address = regime.and_then(|regime| Some(regime.set.get(header.proposer)?.address));
    address.and_then(|address| world.holder_of(&address)).map_or(u16::MAX, number)
}
