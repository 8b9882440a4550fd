//! One simulated node: a replica, its stand-in executor, and a disk that survives crashes.

use std::convert::Infallible;
use std::sync::Arc;

use cairn_consensus::{CommittedTip, Durable, Recovered, Replica, SafetyStore, named_certificates};
use cairn_types::safety::SafetyRecord;
use cairn_types::{Address, Block, BlockId, ValidatorIndex};

use super::checks::Checks;
use super::executor::{ChainOnDisk, Executor};
use super::world::World;

/// Everything synced. What a crash loses was never put here.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) record: SafetyRecord,
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) bodies: Vec<Arc<Block>>,
    pub(crate) chain: ChainOnDisk,
    pub(crate) writes: u64,
}

impl SafetyStore for Disk {
    type Error = Infallible;

    fn persist(&mut self, write: &Durable) -> Result<(), Infallible> {
        Checks::recorded(&self.record, &write.record);
        let proven = self.chain.proofs.len() as u64;
        assert!(
            write.record.epoch.get() <= proven,
            "(e) the record names an epoch that is not proven on disk"
        );
        if write.record.epoch > self.record.epoch {
            self.certificates.clear(); // nothing of them is named any more
            self.bodies.clear();
        }
        self.certificates.extend(write.certificates.iter().cloned());
        self.bodies.extend(write.bodies.iter().cloned());
        self.record = write.record.clone();
        self.writes += 1;
        Ok(())
    }
}

impl Disk {
    pub(crate) fn recovered(&self) -> Recovered {
        let entries = self.certificates.iter().map(Vec::as_slice);
        let (high_qc, high_tc) = named_certificates(&self.record, entries).expect("the named certificates");
        let tip = self.chain.blocks.last().filter(|last| !last.block.header().ends_epoch());
        let commit = tip.map(|last| CommittedTip {
            header: last.block.header().clone(),
            certificate: last.certificate.clone(),
        });
        Recovered { record: self.record.clone(), high_qc, high_tc, commit, blocks: self.bodies.clone() }
    }
}

/// What a crash loses.
pub(crate) struct Live {
    pub(crate) replica: Replica,
    pub(crate) executor: Executor,
    /// The epoch it is in.
    pub(crate) world: World,
    /// The block and the answer of the last `Work`.
    pub(crate) told: Option<(BlockId, bool)>,
}

pub(crate) struct Node {
    /// Its place in its epoch's set; `None` for a follower.
    pub(crate) me: Option<ValidatorIndex>,
    /// Its key's address; `None` for one that never votes. Known from the first start on.
    pub(crate) who: Option<Address>,
    /// Whether the invariants are asked of it.
    pub(crate) honest: bool,
    pub(crate) disk: Disk,
    pub(crate) live: Option<Live>,
    /// Rises with every start; events of an earlier one are void.
    pub(crate) incarnation: u32,
    /// Its clock against the simulation's, ms.
    pub(crate) skew_ms: i64,
}

impl Node {
    pub(crate) fn new(me: Option<ValidatorIndex>, honest: bool, skew_ms: i64) -> Self {
        Self { me, who: None, honest, disk: Disk::default(), live: None, incarnation: 0, skew_ms }
    }

    /// Starts from what the disk holds.
    pub(crate) fn open(&mut self, genesis: &World) {
        let world = &self.disk.chain.world(genesis);
        self.me = self.who.and_then(|who| world.set.index_of(&who));
        let replica = Replica::new(world.config(self.me), self.disk.recovered()).expect("a whole record");
        let executor = Executor::open(genesis, &self.disk.chain);
        self.live = Some(Live { replica, executor, world: world.clone(), told: None });
        self.incarnation += 1;
    }

    /// Goes on with a replica of the epoch that the disk has come to, pool and all.
    pub(crate) fn turn(&mut self, genesis: &World) {
        let world = self.disk.chain.world(genesis);
        self.me = self.who.and_then(|who| world.set.index_of(&who));
        let recovered = Recovered { record: self.disk.record.clone(), ..Recovered::default() };
        let replica = Replica::new(world.config(self.me), recovered).expect("a whole record");
        if let Some(live) = self.live.as_mut() {
            live.executor.turn(&world);
            (live.replica, live.world, live.told) = (replica, world, None);
        }
        self.incarnation += 1;
    }

    pub(crate) fn crash(&mut self) {
        self.live = None;
        self.incarnation += 1;
    }
}
