//! The name of everything that happened in a run: a hash over each event's moment, place and content, in order.
//!
//! Blocks enter by what they say, never by their id: an id rests on the signatures of the block's transactions. So a run
//! with stand-ins and the same run with real signatures have the same name.

use std::collections::HashMap;

use cairn_catchup::Question;
use cairn_types::{Block, BlockId, Hash};

use crate::packet::{Packet, Sealed};

/// A running hash.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    /// The names of blocks seen. Bounded by the blocks of a run.
    names: HashMap<BlockId, [u8; 32]>,
    pub(crate) events: u64,
}

impl Trace {
    pub(crate) fn new(root: BlockId) -> Self {
        Self {
            hasher: blake3::Hasher::new_derive_key("cairn 2026 simulation trace v1"),
            names: HashMap::from([(root, [0; 32])]),
            events: 0,
        }
    }

    /// Learns a block, so that later events can name it.
    pub(crate) fn learn(&mut self, block: &Block) {
        if self.names.contains_key(&block.id()) {
            return;
        }
        let header = block.header();
        let mut hasher = blake3::Hasher::new_derive_key("cairn 2026 simulation block v1");
        for number in [header.view.get(), header.height.get(), header.time_ms, u64::from(header.proposer.0)] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&self.name(&header.parent));
        for tx in block.transactions() {
            hasher.update(tx.transaction.id().as_bytes());
        }
        self.names.insert(block.id(), *hasher.finalize().as_bytes());
    }

    fn name(&self, id: &BlockId) -> [u8; 32] {
        self.names.get(id).copied().unwrap_or([0xff; 32])
    }

    /// One event: when, what kind, where, and two numbers that say which.
    pub(crate) fn event(&mut self, now: u64, kind: u8, node: usize, detail: (u64, u64)) {
        self.events += 1;
        let mut bytes = [0; 33];
        bytes[..8].copy_from_slice(&now.to_le_bytes());
        bytes[8] = kind;
        bytes[9..17].copy_from_slice(&(node as u64).to_le_bytes());
        bytes[17..25].copy_from_slice(&detail.0.to_le_bytes());
        bytes[25..].copy_from_slice(&detail.1.to_le_bytes());
        self.hasher.update(&bytes);
    }

    /// A block that an event is about.
    pub(crate) fn block(&mut self, id: &BlockId) {
        let name = self.name(id);
        self.hasher.update(&name);
    }

    /// What a packet says.
    pub(crate) fn packet(&mut self, packet: &Packet) {
        self.hasher.update(packet.kind().as_bytes());
        match packet {
            Packet::Message(sealed) => self.message(sealed),
            Packet::Compact(compact) => self.message(&compact.sealed),
            Packet::Lacking(lacking) | Packet::Bodies(lacking) => {
                self.hasher.update(&lacking.count.to_le_bytes());
                self.message(&lacking.sealed);
            }
            Packet::Ask(asked) => match asked.question {
                Question::Tip => {}
                Question::Block(id) => self.block(&id),
                Question::Range { from, count } => {
                    self.hasher.update(&from.get().to_le_bytes());
                    self.hasher.update(&count.to_le_bytes());
                }
            },
            Packet::Reply(reply) => {
                if let Some(sealed) = reply.proposal() {
                    self.message(sealed);
                }
                for block in reply.blocks() {
                    self.learn(block);
                    self.block(&block.id());
                }
            }
            Packet::Transactions(list, bytes) => {
                self.hasher.update(&(list.len() as u64).to_le_bytes());
                self.hasher.update(&bytes.to_le_bytes());
            }
            Packet::Announcement(news) => self.block(&news.1.block),
        }
    }

    fn message(&mut self, sealed: &Sealed) {
        use cairn_types::Message;
        let message = &sealed.message;
        let signer = sealed.signer().map_or(u16::MAX, |(signer, _)| signer.0);
        self.hasher.update(&signer.to_le_bytes());
        self.hasher.update(&message.view().get().to_le_bytes());
        self.hasher.update(&[u8::from(sealed.fault.is_some())]);
        match message {
            Message::Proposal(it) => {
                self.learn(&it.block);
                self.block(&it.block.id());
            }
            Message::Vote(it) => self.block(&it.block),
            Message::CommitVote(it) => self.block(&it.block),
            Message::Timeout(it) => {
                self.hasher.update(&it.high_qc_view.get().to_le_bytes());
            }
            Message::Certificate(it) => self.block(&it.block()),
            Message::CommitCert(it) => self.block(&it.block),
            Message::TimeoutCert(_) | Message::Status(_) | Message::EpochProof(_) => {}
        }
    }

    /// The name of everything so far.
    pub(crate) fn hash(&self) -> Hash {
        Hash(*self.hasher.finalize().as_bytes())
    }
}
