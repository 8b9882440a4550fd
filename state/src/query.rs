//! Questions about committed blocks. Everything answered here is final; an answer is read from tables
//! that only grow, bounded by the tip it started from, so it is consistent without locks.

use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_types::log::TreeHash;
use cairn_types::receipt::AnchorProof;
use cairn_types::tree::path_from_nodes;
use cairn_types::{
    Address, Block, BlockId, CommitCert, Hash, Header, Height, ProofId, ProofKind, Record, SignedTransaction,
    Transaction, TxId, decode,
};

use crate::error::StateError;
use crate::layout::{
    LogTable, META_CERTIFICATE, TxLocation, indexed, indexed_seq, log_node, number, read_number,
    reference_prefix,
};
use crate::logs::{Lane, history_leaf, lane};
use crate::overlay::read_location;
use crate::state::State;
use crate::storage::{Order, ReadStorage, Scan, Table};

/// Records on one page, at most.
pub const QUERY_PAGE_MAX: usize = 100;
/// Index entries looked at for one page, at most: a filter that matches little must not hold a thread.
const QUERY_SCAN_MAX: usize = 10_000;
/// Seqs listed beside the first record of a root, proof or reference, at most: one root may be anchored
/// without bound, an answer may not.
pub const QUERY_MATCHES_MAX: usize = 1_000;

/// The records that share a root, a proof id or a reference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matches {
    /// The canonical one: the lowest seq.
    pub first: Record,
    /// The seqs of the others, rising, at most [`QUERY_MATCHES_MAX`].
    pub others: Vec<u64>,
}

/// A header with a commit certificate that names exactly it: it and everything below are final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FinalHeader {
    /// The header.
    pub header: Header,
    /// Its certificate.
    pub certificate: CommitCert,
}

/// Which records to list. Fields that are `None` do not restrict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListFilter {
    /// Only this sender's.
    pub sender: Option<Address>,
    /// Only this kind.
    pub kind: Option<ProofKind>,
    /// Only blocks of at least this height.
    pub from: Option<Height>,
    /// Only blocks of at most this height.
    pub to: Option<Height>,
    /// Newest first instead of oldest first.
    pub newest_first: bool,
}

/// One page of records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The records, in the order asked for.
    pub records: Vec<Record>,
    /// Give this to get the next page; `None` at the end. A page may be short, even empty, and still
    /// have a next one, when few of the records looked at matched.
    pub next: Option<u64>,
}

/// Sizes of the logs at the tip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSizes {
    /// Records in the anchor logs.
    pub anchors: u64,
    /// Block ids in the history log.
    pub history: u64,
}

/// Decoded reads of the tables.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) store: &'a dyn ReadStorage,
}

impl Reader<'_> {
    fn read<T: borsh::BorshDeserialize>(
        &self,
        table: Table,
        key: &[u8],
        what: &'static str,
    ) -> Result<Option<T>, StateError> {
        let bytes = self.store.get(table, key)?;
        bytes.map(|bytes| decode(&bytes).map_err(|error| StateError::damaged(what, error))).transpose()
    }

    pub(crate) fn header(&self, height: Height) -> Result<Option<Header>, StateError> {
        self.read(Table::Headers, &number(height.get()), "header")
    }

    /// The ids of a block's transactions, in order; none when its body is not here.
    pub(crate) fn transaction_ids(&self, height: Height) -> Result<Vec<TxId>, StateError> {
        let body: Option<Vec<Arc<SignedTransaction>>> =
            self.read(Table::Bodies, &number(height.get()), "block body")?;
        Ok(body.unwrap_or_default().iter().map(|signed| signed.transaction.id()).collect())
    }

    pub(crate) fn record(&self, seq: u64) -> Result<Option<Record>, StateError> {
        self.read(Table::Records, &number(seq), "record")
    }

    /// A complete subtree of an anchor log. Leaves are hashed from their records.
    pub(crate) fn anchor_node(&self, level: u8, index: u64, which: Lane) -> Result<Option<Hash>, StateError> {
        if level == 0 {
            let hash = match which {
                Lane::Blake3 => TreeHash::Anchors,
                Lane::Sha256 => TreeHash::AnchorsSha256,
            };
            if let Some(record) = self.store.get(Table::Records, &number(index))? {
                return Ok(Some(hash.leaf(&record)));
            }
        }
        let bytes = self.store.get(Table::LogNodes, &log_node(LogTable::Anchors, level, index))?;
        Ok(bytes.and_then(|bytes| lane(&bytes, which)))
    }

    /// A complete subtree of the history log. Leaves are hashed from their headers.
    pub(crate) fn history_node(&self, level: u8, index: u64) -> Result<Option<Hash>, StateError> {
        if level == 0 {
            // A snapshot brings a lone leaf as a node.
            if let Some(header) = self.header(Height::new(index))? {
                return Ok(Some(history_leaf(&header.id())));
            }
        }
        let bytes = self.store.get(Table::HistoryNodes, &log_node(LogTable::History, level, index))?;
        Ok(bytes.and_then(|bytes| lane(&bytes, Lane::Blake3)))
    }

    pub(crate) fn certificate(&self, height: Height) -> Result<Option<CommitCert>, StateError> {
        self.read(Table::Certificates, &number(height.get()), "certificate")
    }

    /// The nearest header with a certificate of its own, from `height` on in the given direction.
    fn certified(&self, height: Height, order: Order) -> Result<Option<FinalHeader>, StateError> {
        let from = number(height.get());
        let mut found = None;
        let scan = Scan { table: Table::Certificates, prefix: &[], from: Some(&from), order };
        self.store.scan(scan, &mut |key, value| {
            found = Some((key.to_vec(), value.to_vec()));
            ControlFlow::Break(())
        })?;
        let Some((key, value)) = found else { return Ok(None) };
        let height = Height::new(read_number(&key, "certificate key")?);
        let certificate = decode(&value).map_err(|error| StateError::damaged("certificate", error))?;
        let header = self
            .header(height)?
            .ok_or_else(|| StateError::damaged("header", format!("none at certified height {height}")))?;
        Ok(Some(FinalHeader { header, certificate }))
    }

    /// The records listed under `prefix`, below `end`.
    fn matches(&self, table: Table, prefix: &[u8], end: u64) -> Result<Option<Matches>, StateError> {
        let mut seqs = Vec::new();
        let scan = Scan { table, prefix, from: None, order: Order::Ascending };
        let mut failure = Ok(());
        self.store.scan(scan, &mut |key, _| match indexed_seq(key) {
            Ok(seq) if seq < end && seqs.len() <= QUERY_MATCHES_MAX => {
                seqs.push(seq);
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                failure = Err(error);
                ControlFlow::Break(())
            }
        })?;
        failure?;
        let mut seqs = seqs.into_iter();
        let Some(first) = seqs.next() else { return Ok(None) };
        let first = self
            .record(first)?
            .ok_or_else(|| StateError::damaged("record", format!("{first} is indexed but missing")))?;
        Ok(Some(Matches { first, others: seqs.collect() }))
    }

    /// Seqs in `low..high` that an index lists (all of them without one), from `cursor` on, in order.
    fn seqs(
        &self,
        index: Option<(Table, Vec<u8>)>,
        (low, high): (u64, u64),
        order: Order,
        visit: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        let start = match order {
            Order::Ascending => low,
            Order::Descending => match high.checked_sub(1) {
                Some(last) => last,
                None => return Ok(()),
            },
        };
        let (table, prefix) = index.unwrap_or((Table::Records, Vec::new()));
        let from = indexed(&prefix, start);
        let mut failure = Ok(());
        let scan = Scan { table, prefix: &prefix, from: Some(&from), order };
        self.store.scan(scan, &mut |key, _| match indexed_seq(key) {
            Ok(seq) if (low..high).contains(&seq) => visit(seq),
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                failure = Err(error);
                ControlFlow::Break(())
            }
        })?;
        failure
    }
}

impl State {
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { store: self.store.as_ref() }
    }

    /// The header at `height`; `None` above the tip.
    ///
    /// # Errors
    /// When storage fails; so for every query below.
    pub fn header(&self, height: Height) -> Result<Option<Header>, StateError> {
        let tip = self.tip();
        if height == tip.header.height {
            return Ok(Some(tip.header.as_ref().clone()));
        }
        if height > tip.header.height { Ok(None) } else { self.reader().header(height) }
    }

    /// The height of a committed block.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn height_of(&self, id: &BlockId) -> Result<Option<Height>, StateError> {
        let bytes = self.store.get(Table::Blocks, id.as_bytes())?;
        bytes.map(|bytes| read_number(&bytes, "block height").map(Height::new)).transpose()
    }

    /// The header of a committed block.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn header_by_id(&self, id: &BlockId) -> Result<Option<Header>, StateError> {
        self.height_of(id)?.map_or(Ok(None), |height| self.header(height))
    }

    /// The block at `height`.
    ///
    /// # Errors
    /// [`StateError::Pruned`] when its transactions are not kept; else as [`State::header`].
    pub fn block(&self, height: Height) -> Result<Option<Block>, StateError> {
        self.kept().check_block(height)?;
        let Some(header) = self.header(height)? else { return Ok(None) };
        let body: Vec<Arc<SignedTransaction>> = self
            .reader()
            .read(Table::Bodies, &number(height.get()), "block body")?
            .ok_or_else(|| StateError::damaged("block body", format!("none at height {height}")))?;
        Ok(Some(Block::new(header, body)))
    }

    /// A committed block by its id.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn block_by_id(&self, id: &BlockId) -> Result<Option<Block>, StateError> {
        self.height_of(id)?.map_or(Ok(None), |height| self.block(height))
    }

    /// The commit certificate that names exactly the block at `height`. `None` also for a block that was
    /// committed as an ancestor: see [`State::finality`].
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn certificate(&self, height: Height) -> Result<Option<CommitCert>, StateError> {
        self.reader().certificate(height)
    }

    /// The nearest header at or above `height` with a certificate of its own.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn finality(&self, height: Height) -> Result<Option<FinalHeader>, StateError> {
        self.reader().certified(height, Order::Ascending)
    }

    /// The newest header with a certificate of its own; `None` while only block 0 exists.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn newest_final(&self) -> Result<Option<FinalHeader>, StateError> {
        self.reader().certified(self.tip().header.height, Order::Descending)
    }

    /// The newest commit certificate; after a crash between the blocks of one commit it may name a block
    /// above the tip.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn newest_certificate(&self) -> Result<Option<CommitCert>, StateError> {
        let carried: Option<CommitCert> =
            self.reader().read(Table::Meta, META_CERTIFICATE, "newest certificate")?;
        let own = self.newest_final()?.map(|found| found.certificate);
        Ok([carried, own]
            .into_iter()
            .flatten()
            .max_by_key(|certificate| (certificate.epoch, certificate.view)))
    }

    /// Where a transaction landed.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn transaction(&self, id: &TxId) -> Result<Option<TxLocation>, StateError> {
        let tip = self.tip().header.height;
        Ok(read_location(self.store.as_ref(), id)?.filter(|location| location.height <= tip))
    }

    /// Whether a block has this transaction, whose id is `id`. For one that has not, which is nearly every one when it comes,
    /// the answer mostly is in memory.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn has_landed(&self, id: &TxId, transaction: &Transaction) -> Result<bool, StateError> {
        let excluded = self.landed.excludes(id, transaction.expires_ms);
        Ok(!excluded && self.transaction(id)?.is_some())
    }

    /// A committed transaction with its signatures.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn transaction_body(
        &self,
        id: &TxId,
    ) -> Result<Option<(TxLocation, Arc<SignedTransaction>)>, StateError> {
        let Some(location) = self.transaction(id)? else { return Ok(None) };
        let block = self.block(location.height)?;
        let index = usize::try_from(location.index).unwrap_or(usize::MAX);
        let signed = block.and_then(|block| block.transactions().get(index).cloned()).ok_or_else(|| {
            StateError::damaged("transaction", format!("{id} is indexed but not in its block"))
        })?;
        Ok(Some((location, signed)))
    }

    /// The record at `seq`.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn record(&self, seq: u64) -> Result<Option<Record>, StateError> {
        self.kept().check_record(seq)?;
        if seq < self.log_sizes().anchors { self.reader().record(seq) } else { Ok(None) }
    }

    /// The records of a proof; the first is the canonical one.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_proof(&self, proof: &ProofId) -> Result<Option<Matches>, StateError> {
        self.reader().matches(Table::Proofs, proof.as_bytes(), self.log_sizes().anchors)
    }

    /// The records of a root, whoever sent them.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_root(&self, root: &Hash) -> Result<Option<Matches>, StateError> {
        self.reader().matches(Table::Roots, root.as_bytes(), self.log_sizes().anchors)
    }

    /// The records one sender anchored under a reference. Empty references are not indexed.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_reference(
        &self,
        sender: &Address,
        reference: &str,
    ) -> Result<Option<Matches>, StateError> {
        let prefix = reference_prefix(sender, reference);
        self.reader().matches(Table::References, prefix.as_bytes(), self.log_sizes().anchors)
    }

    /// The records of a transaction, in order; empty when it is unknown or carried no proofs.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn records_by_tx(&self, id: &TxId) -> Result<Vec<Record>, StateError> {
        let Some(location) = self.transaction(id)? else { return Ok(Vec::new()) };
        let end = location.first_seq.saturating_add(u64::from(location.records));
        let mut records = Vec::with_capacity(usize::from(location.records));
        for seq in location.first_seq..end {
            records.extend(self.record(seq)?);
        }
        Ok(records)
    }

    /// A page of at most `limit` records (never more than [`QUERY_PAGE_MAX`]) from `cursor` on.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn list(&self, filter: &ListFilter, cursor: Option<u64>, limit: usize) -> Result<Page, StateError> {
        let (mut low, mut high) = self.seq_range(filter)?;
        let order = if filter.newest_first { Order::Descending } else { Order::Ascending };
        match (order, cursor) {
            (Order::Ascending, Some(cursor)) => low = low.max(cursor),
            (Order::Descending, Some(cursor)) => high = high.min(cursor.saturating_add(1)),
            (_, None) => {}
        }
        let index = match (filter.sender, filter.kind) {
            (Some(sender), _) => Some((Table::Senders, sender.as_bytes().to_vec())),
            (None, Some(kind)) => Some((Table::Kinds, vec![kind as u8])),
            (None, None) => None,
        };
        // With both, the sender's entries are looked at one by one.
        let only_kind = filter.sender.and(filter.kind);
        let limit = limit.clamp(1, QUERY_PAGE_MAX);
        let looked_at_max = if only_kind.is_some() { QUERY_SCAN_MAX } else { limit };
        let mut seqs = Vec::new();
        self.reader().seqs(index, (low, high), order, &mut |seq| {
            seqs.push(seq);
            if seqs.len() > looked_at_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let mut records = Vec::new();
        for (at, seq) in seqs.iter().enumerate() {
            if records.len() >= limit || at >= looked_at_max {
                return Ok(Page { records, next: Some(*seq) });
            }
            let record = self.reader().record(*seq)?;
            records.extend(record.filter(|record| only_kind.is_none_or(|kind| record.kind == kind)));
        }
        Ok(Page { records, next: None })
    }

    /// The seqs that the filter's heights allow.
    fn seq_range(&self, filter: &ListFilter) -> Result<(u64, u64), StateError> {
        let all = self.log_sizes().anchors;
        let size_at = |height: Height| -> Result<u64, StateError> {
            Ok(self.header(height)?.map_or(all, |header| header.anchors_size))
        };
        let low = match filter.from.and_then(Height::previous) {
            Some(before) => size_at(before)?,
            None => 0,
        };
        let high = filter.to.map_or(Ok(all), size_at)?;
        Ok((low, high))
    }

    /// The record at `seq` with its path to the newest header that has a certificate of its own. `None` when
    /// there is no such record, or no such header covers it yet.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn anchor_proof(&self, seq: u64) -> Result<Option<AnchorProof>, StateError> {
        self.newest_final()?.map_or(Ok(None), |top| self.prove(seq, top))
    }

    /// The same against the header at `height`, which must have a certificate of its own.
    ///
    /// # Errors
    /// As [`State::header`].
    pub fn anchor_proof_at(&self, seq: u64, height: Height) -> Result<Option<AnchorProof>, StateError> {
        let (Some(certificate), Some(header)) = (self.certificate(height)?, self.header(height)?) else {
            return Ok(None);
        };
        self.prove(seq, FinalHeader { header, certificate })
    }

    fn prove(&self, seq: u64, top: FinalHeader) -> Result<Option<AnchorProof>, StateError> {
        let size = top.header.anchors_size;
        let Some(validators) = self.validators_of(top.header.epoch)?.filter(|_| seq < size) else {
            return Ok(None);
        };
        self.kept().check_record(seq)?;
        let reader = self.reader();
        let missing = |what: &'static str| StateError::damaged(what, format!("it is missing for seq {seq}"));
        let record = reader.record(seq)?.ok_or_else(|| missing("record"))?;
        let mut failure = None;
        let path = path_from_nodes(TreeHash::Anchors, seq, size, |level, index| {
            reader.anchor_node(level, index, Lane::Blake3).unwrap_or_else(|error| {
                failure = Some(error);
                None
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let path = path.ok_or_else(|| missing("log node"))?;
        Ok(Some(AnchorProof {
            record,
            path,
            header: top.header,
            certificate: top.certificate,
            validators: validators.as_ref().clone(),
        }))
    }

    /// Sizes of the logs at the tip.
    pub fn log_sizes(&self) -> LogSizes {
        let tip = self.tip();
        LogSizes { anchors: tip.header.anchors_size, history: tip.header.height.get() }
    }
}
