//! Questions about committed blocks. Everything answered here is final; an answer is read from tables
//! that only grow, bounded by the tip it started from, so it is consistent without locks.

use cairn_types::{Address, CommitCert, Header, Height, ProofKind, Record};

/// Records on one page, at most.
pub const QUERY_PAGE_MAX: usize = 100;
/// Records of one root, reference or transaction listed beside the first, at most: one root may be
/// anchored without bound, an answer may not.
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
