//! Validators that misbehave, one file for each role.
//!
//! A role sits on an honest node's shoulders: the node's software says what it would send, and the role decides what
//! is sent instead, to whom and when; it hears what the node hears, and may speak up by itself. It signs with its own
//! key and no other.

mod amnesiac;
mod colluder;
mod double_voter;
mod equivocating_leader;
mod forged_certificates;
mod invalid_root;
mod selective_sender;
mod silent;
mod slow;
mod stale_flooder;
mod stale_proposer;
mod twin;
mod vote_withholder;

use std::rc::Rc;
use std::sync::Arc;

use cairn_types::certificate::Phase;
use cairn_types::message::Ballot;
use cairn_types::{Block, BlockId, Message, Signature, ValidatorIndex, View};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::epoch::Regime;
use crate::events::Event;
use crate::keys::Signer;
use crate::ledger::Ledger;
use crate::manifest::{Manifest, Which};
use crate::packet::{Packet, Sealed};
use crate::world::World;

/// How a validator misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// Proposes one block to some and another to the others.
    EquivocatingLeader,
    /// Votes and commit-votes for every block it hears of.
    DoubleVoter,
    /// Proposes, and never votes.
    VoteWithholder,
    /// Says everything to a few, chosen anew from time to time.
    SelectiveSender,
    /// Hears, and says nothing.
    Silent,
    /// Says everything late.
    Slow,
    /// Repeats old messages, and invents some of far views.
    StaleFlooder,
    /// Proposes blocks that do not execute to their roots.
    InvalidRoot,
    /// Sends certificates that are none.
    ForgedCertificates,
    /// Comes back with the disk of an old backup.
    Amnesiac,
    /// Runs twice.
    Twin,
    /// Proposes on an old certificate that nothing allows it to.
    StaleProposer,
    /// Works with others of its kind to fork the chain: harmless up to `f`, deadly beyond.
    Colluder,
}

impl RoleKind {
    /// Every role.
    pub const ALL: [Self; 13] = [
        Self::EquivocatingLeader,
        Self::DoubleVoter,
        Self::VoteWithholder,
        Self::SelectiveSender,
        Self::Silent,
        Self::Slow,
        Self::StaleFlooder,
        Self::InvalidRoot,
        Self::ForgedCertificates,
        Self::Amnesiac,
        Self::Twin,
        Self::StaleProposer,
        Self::Colluder,
    ];

    pub(crate) const fn has_twin(self) -> bool {
        matches!(self, Self::Twin)
    }

    fn make(self) -> Box<dyn Role> {
        match self {
            Self::EquivocatingLeader => Box::new(equivocating_leader::EquivocatingLeader),
            Self::DoubleVoter => Box::new(double_voter::DoubleVoter::default()),
            Self::VoteWithholder => Box::new(vote_withholder::VoteWithholder),
            Self::SelectiveSender => Box::new(selective_sender::SelectiveSender::default()),
            Self::Silent => Box::new(silent::Silent),
            Self::Slow => Box::new(slow::Slow),
            Self::StaleFlooder => Box::new(stale_flooder::StaleFlooder::default()),
            Self::InvalidRoot => Box::new(invalid_root::InvalidRoot),
            Self::ForgedCertificates => Box::new(forged_certificates::ForgedCertificates),
            Self::Amnesiac => Box::new(amnesiac::Amnesiac::default()),
            Self::Twin => Box::new(twin::Twin),
            Self::StaleProposer => Box::new(stale_proposer::StaleProposer::default()),
            Self::Colluder => Box::new(colluder::Colluder::default()),
        }
    }
}

/// What a role sees and signs with.
pub(crate) struct Seat<'a> {
    pub(crate) world: &'a World,
    /// The epoch it is in.
    pub(crate) regime: &'a Regime,
    signer: &'a Signer,
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) me: ValidatorIndex,
    /// The honest software's view.
    pub(crate) view: View,
    pub(crate) ledger: Option<&'a Ledger>,
    /// All nodes but its own that are validators.
    pub(crate) others: &'a [usize],
    /// Nodes of its own kind.
    pub(crate) accomplices: &'a [usize],
    cpu: bool,
}

/// A message on its way, some microseconds from now.
pub(crate) struct Sending {
    pub(crate) to: usize,
    pub(crate) sealed: Rc<Sealed>,
    pub(crate) after: u64,
}

/// A way to misbehave.
pub(crate) trait Role {
    /// The honest software wants `message` sent to these nodes; what is sent instead.
    fn sends(&mut self, seat: &mut Seat<'_>, to: &[usize], message: &Rc<Sealed>) -> Vec<Sending> {
        let _ = seat;
        pass(to, message)
    }

    /// The node hears a message; what is said by itself.
    fn hears(&mut self, seat: &mut Seat<'_>, message: &Rc<Sealed>) -> Vec<Sending> {
        let _ = (seat, message);
        Vec::new()
    }

    /// When it wants to speak up by itself, microseconds from now; `None` for never.
    fn every(&self) -> Option<u64> {
        None
    }

    /// What it says then.
    fn speaks(&mut self, seat: &mut Seat<'_>) -> Vec<Sending> {
        let _ = seat;
        Vec::new()
    }

    /// What it does to its own node then.
    fn deed(&mut self, seat: &mut Seat<'_>) -> Deed {
        let _ = seat;
        Deed::Nothing
    }

    /// How much later requests and answers of its node go out; `None` for at once.
    fn late(&self, rng: &mut ChaCha8Rng) -> Option<u64> {
        let _ = rng;
        None
    }

    /// Whether another node runs under the same key, which is no reason to stop.
    fn has_two_instances(&self) -> bool {
        false
    }
}

/// What a role may do to its own node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    Nothing,
    /// Remember the disk as it is.
    BackUp,
    /// Stop, and start with the remembered disk.
    Restore,
}

impl Seat<'_> {
    /// The message, checked as every receiver will.
    pub(crate) fn seal(&self, message: Message) -> Rc<Sealed> {
        Sealed::new(self.world, message, self.cpu)
    }

    pub(crate) fn sign(&self, preimage: &[u8]) -> Signature {
        self.signer.sign(preimage)
    }

    /// A vote of its own.
    pub(crate) fn ballot<P: Phase>(&self, view: View, block: BlockId) -> Ballot<P> {
        let epoch = self.regime.number();
        let unsigned = Ballot::<P>::new(epoch, view, block, self.me, Signature::empty());
        let signature = self.sign(&unsigned.preimage(self.world.chain));
        Ballot::new(epoch, view, block, self.me, signature)
    }

    /// Whether validator `index` is of its own kind.
    pub(crate) fn is_accomplice(&self, index: ValidatorIndex) -> bool {
        let address = self.regime.set.get(index).map(|validator| validator.address);
        self.accomplices
            .iter()
            .any(|node| self.world.holders.get(*node).is_some_and(|holder| Some(holder.address) == address))
    }

    /// A proposal of `block` with everything else as in `message`, signed anew.
    pub(crate) fn propose(&self, message: &Message, block: Arc<Block>) -> Option<Rc<Sealed>> {
        let Message::Proposal(proposal) = message else { return None };
        let mut proposal = proposal.clone();
        proposal.block = block;
        proposal.signature = self.sign(&proposal.preimage(self.world.chain));
        Some(self.seal(Message::Proposal(proposal)))
    }

    /// Another valid block for the same slot: empty, and a millisecond later.
    pub(crate) fn sibling(&self, block: &Block) -> Option<Arc<Block>> {
        let header = block.header();
        let built = self.ledger?.build(header.slot(), header.time_ms + 1, Vec::new()).ok()?;
        Some(built.block)
    }

    /// To every other validator's node, at once.
    pub(crate) fn to_all(&self, sealed: &Rc<Sealed>) -> Vec<Sending> {
        pass(self.others, sealed)
    }
}

/// To these nodes, at once.
pub(crate) fn pass(to: &[usize], sealed: &Rc<Sealed>) -> Vec<Sending> {
    to.iter().map(|to| Sending { to: *to, sealed: Rc::clone(sealed), after: 0 }).collect()
}

/// Which node plays which role. Roles given by number of players are dealt from the last validator down.
///
/// # Errors
/// When a validator is named twice or does not exist, or more than `f` misbehave without `beyond_f`.
pub(crate) fn assign(manifest: &Manifest) -> Result<Vec<(usize, RoleKind)>, String> {
    let n = manifest.net.n;
    let mut roles: Vec<(usize, RoleKind)> = Vec::new();
    for (kind, which) in &manifest.byzantine.roles {
        if let Which::Nodes(nodes) = which {
            for node in nodes {
                if *node >= n || roles.iter().any(|(taken, _)| taken == node) {
                    return Err(format!(
                        "byzantine: validator {node} does not exist or has a role already; expected others of 0 to {}",
                        n - 1
                    ));
                }
                roles.push((*node, *kind));
            }
        }
    }
    for (kind, which) in &manifest.byzantine.roles {
        if let Which::Count(count) = which {
            for _ in 0..*count {
                let free = (0..n).rev().find(|node| roles.iter().all(|(taken, _)| taken != node));
                roles.push((free.ok_or("byzantine: more roles than validators")?, *kind));
            }
        }
    }
    let f = (n - 1) / 3;
    if roles.len() > f && !manifest.byzantine.beyond_f {
        let count = roles.len();
        return Err(format!(
            "byzantine: {count} of {n} validators misbehave; expected at most {f}, or `beyond_f = true` for a run that is meant to break"
        ));
    }
    roles.sort_unstable();
    Ok(roles)
}

impl Cluster {
    pub(crate) fn give_role(&mut self, node: usize, kind: RoleKind) {
        for instance in self.nodes_of_key_of(node) {
            let role = kind.make();
            let every = role.every();
            self.nodes[instance].role = Some(role);
            if let Some(every) = every {
                self.plan(every, Event::Misbehave { node: instance });
            }
        }
        self.record.role(node, kind);
    }

    fn nodes_of_key_of(&self, node: usize) -> Vec<usize> {
        let holder = self.nodes[node].holder;
        (0..self.nodes.len())
            .filter(|other| holder.is_some() && self.nodes[*other].holder == holder)
            .collect()
    }

    /// Lets a node's role look at something with everything it may use.
    fn with_role<T>(
        &mut self,
        node: usize,
        look: impl FnOnce(&mut dyn Role, &mut Seat<'_>) -> T,
    ) -> Option<T> {
        let part = self.nodes[node].live.as_ref().map(|live| live.voting.clone())?;
        let (me, signer) = part.me.zip(part.signer())?; // outside of the set its word counts for nothing
        let mut role = self.nodes[node].role.take()?;
        let holder = self.nodes[node].holder;
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|other| {
                *other != node && self.nodes[*other].holder != holder && self.admits(node, *other)
            })
            .collect();
        let accomplices: Vec<usize> =
            (0..self.nodes.len()).filter(|other| !self.nodes[*other].honest).collect();
        let live = self.nodes[node].live.as_ref();
        let mut seat = Seat {
            world: &self.world,
            regime: &part.regime,
            signer,
            rng: &mut self.rng,
            me,
            view: live.map_or(View::ZERO, |live| live.replica.view()),
            ledger: live.map(|live| &live.ledger),
            others: &others,
            accomplices: &accomplices,
            cpu: self.manifest.cpu.verify.0 > 0,
        };
        let outcome = look(role.as_mut(), &mut seat);
        self.nodes[node].role = Some(role);
        Some(outcome)
    }

    /// Sends what an honest node would, and what a role makes of it.
    pub(crate) fn send_as_role(&mut self, node: usize, to: Vec<usize>, sealed: Rc<Sealed>) {
        self.send_packet_as_role(node, to, &sealed, &Packet::Message(Rc::clone(&sealed)));
    }

    /// The same for a message that honest nodes send as this packet. What a role makes of it travels whole.
    pub(crate) fn send_packet_as_role(
        &mut self,
        node: usize,
        to: Vec<usize>,
        sealed: &Rc<Sealed>,
        packet: &Packet,
    ) {
        match self.with_role(node, |role, seat| role.sends(seat, &to, sealed)) {
            None => to.into_iter().for_each(|to| self.send_now(node, to, packet.clone())),
            Some(sendings) => self.send_all(node, sendings),
        }
    }

    fn send_all(&mut self, node: usize, sendings: Vec<Sending>) {
        for Sending { to, sealed, after } in sendings {
            if let Message::Proposal(proposal) = &sealed.message {
                self.trace.learn(&proposal.block);
            }
            let packet = Packet::Message(sealed);
            if after == 0 {
                self.send_now(node, to, packet);
            } else {
                self.plan(self.now + after, Event::Late { from: node, to, packet });
            }
        }
    }

    /// A node hears a message; its role may say something about it.
    pub(crate) fn overhear(&mut self, node: usize, sealed: &Rc<Sealed>) {
        if self.nodes[node].role.is_none() {
            return;
        }
        let said = self.with_role(node, |role, seat| role.hears(seat, sealed)).unwrap_or_default();
        self.send_all(node, said);
    }

    /// A role's own turn.
    pub(crate) fn misbehave(&mut self, node: usize) {
        let every = self.nodes[node].role.as_ref().and_then(|role| role.every());
        if let Some(every) = every {
            self.plan(self.now + every, Event::Misbehave { node });
        }
        let said = self.with_role(node, |role, seat| (role.speaks(seat), role.deed(seat)));
        let Some((sendings, deed)) = said else { return };
        if self.nodes[node].live.is_some() {
            self.send_all(node, sendings);
        }
        match deed {
            Deed::Nothing => {}
            Deed::BackUp => self.nodes[node].disk.keep_backup(),
            Deed::Restore => {
                let name = self.name(node);
                if self.nodes[node].disk.restore_backup() {
                    self.note(|| format!("{name} comes back with an old backup of its safety journal"));
                    self.stop(node);
                    self.start(node);
                }
            }
        }
    }

    /// How much later a node's requests and answers go out.
    pub(crate) fn late(&mut self, node: usize) -> Option<u64> {
        let role = self.nodes[node].role.as_ref()?;
        role.late(&mut self.rng)
    }
}
