//! Proofs about the anchor logs: several records under one header, and that a log only grew.

use cairn_types::consistency::consistency_from_nodes;
use cairn_types::log::TreeHash;
use cairn_types::multiproof::multiproof_from_nodes;
use cairn_types::receipt::AnchorProofs;
use cairn_types::tree::path_from_nodes;
use cairn_types::{Hash, Header, Height};

use crate::error::StateError;
use crate::logs::Lane;
use crate::state::State;

/// Which of the two logs over the same records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnchorLog {
    /// The one receipts are about.
    Blake3,
    /// The one under plain RFC 9162 SHA-256, for other worlds' formats.
    Sha256,
}

impl AnchorLog {
    const fn lane(self) -> Lane {
        match self {
            Self::Blake3 => Lane::Blake3,
            Self::Sha256 => Lane::Sha256,
        }
    }

    const fn hash(self) -> TreeHash {
        match self {
            Self::Blake3 => TreeHash::Anchors,
            Self::Sha256 => TreeHash::AnchorsSha256,
        }
    }
}

impl State {
    /// The records at `seqs` (strictly ascending) with one proof of them all under the header at `height`, or
    /// under the newest header that has a certificate of its own. `None` when there is no such header, it
    /// does not cover all of them, or they are out of order.
    ///
    /// # Errors
    /// When storage fails; so for every query below.
    pub fn anchor_proofs(
        &self,
        seqs: &[u64],
        height: Option<Height>,
    ) -> Result<Option<AnchorProofs>, StateError> {
        let Some((header, certificate)) = (match height {
            None => self.newest_final()?.map(|top| (top.header, Some(top.certificate))),
            Some(height) => match self.header(height)? {
                Some(header) => Some((header, self.certificate(height)?)),
                None => None,
            },
        }) else {
            return Ok(None);
        };
        let size = header.anchors_size;
        let ascending = seqs.windows(2).all(|pair| pair.first() < pair.last());
        if !ascending || seqs.last().is_none_or(|last| *last >= size) {
            return Ok(None);
        }
        let mut records = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let record = self.reader().record(*seq)?;
            records.push(record.ok_or_else(|| missing("record", *seq))?);
        }
        let path = self.with_nodes(AnchorLog::Blake3, |node| {
            multiproof_from_nodes(TreeHash::Anchors, seqs, size, node)
        })?;
        let path = path.ok_or_else(|| missing("log node", size))?;
        Ok(Some(AnchorProofs { records, path, header, certificate }))
    }

    /// The path of record `seq` in a log of its first `size` records. `None` when the log is shorter, or `seq`
    /// lies outside.
    ///
    /// # Errors
    /// As [`State::anchor_proofs`].
    pub fn anchor_path(&self, log: AnchorLog, seq: u64, size: u64) -> Result<Option<Vec<Hash>>, StateError> {
        if seq >= size || size > self.log_sizes().anchors {
            return Ok(None);
        }
        let path = self.with_nodes(log, |node| path_from_nodes(log.hash(), seq, size, node))?;
        path.map(Some).ok_or_else(|| missing("log node", seq))
    }

    /// The proof (RFC 9162 section 2.1.4) that the first `second` records begin with the first `first`. `None`
    /// when the log has not that many, or `first > second`.
    ///
    /// # Errors
    /// As [`State::anchor_proofs`].
    pub fn consistency(
        &self,
        log: AnchorLog,
        first: u64,
        second: u64,
    ) -> Result<Option<Vec<Hash>>, StateError> {
        if first > second || second > self.log_sizes().anchors {
            return Ok(None);
        }
        let proof = self.with_nodes(log, |node| consistency_from_nodes(log.hash(), first, second, node))?;
        proof.map(Some).ok_or_else(|| missing("log node", second))
    }

    /// The first block whose header covers `size` records; `None` when none does yet.
    ///
    /// # Errors
    /// As [`State::anchor_proofs`].
    pub fn header_covering(&self, size: u64) -> Result<Option<Header>, StateError> {
        let Some(last) = size.checked_sub(1) else { return self.header(Height::ZERO) };
        let Some(record) = self.record(last)? else { return Ok(None) };
        self.header(record.height)
    }

    /// Hands out the log's stored nodes; a failure of storage is kept apart from a node that is not there.
    fn with_nodes<T>(
        &self,
        log: AnchorLog,
        make: impl FnOnce(&mut dyn FnMut(u8, u64) -> Option<Hash>) -> Option<T>,
    ) -> Result<Option<T>, StateError> {
        let reader = self.reader();
        let mut failure = None;
        let made = make(&mut |level, index| {
            reader.anchor_node(level, index, log.lane()).unwrap_or_else(|error| {
                failure = Some(error);
                None
            })
        });
        failure.map_or(Ok(made), Err)
    }
}

fn missing(what: &'static str, at: u64) -> StateError {
    StateError::damaged(what, format!("it is missing at {at}"))
}
