//! A range of final blocks as a peer gives it, and its verdict (rule S1).

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{
    Block, BlockId, CertifiedBlock, CommitCert, EPOCH_HEADERS_MAX, EpochProof, Header, Height,
};
use thiserror::Error;

/// Headers above an answer's last block, those of an epoch's end apart: 200 kB of them.
const ABOVE_MAX: usize = 512;

/// A final block, with what shows that it is final where the answer holds that.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    /// The block.
    pub block: Arc<Block>,
    /// The commit certificate that names it, or the last of `above`; none for a block that became final as an ancestor
    /// of one further up in the answer.
    pub certificate: Option<Arc<CommitCert>>,
    /// The commit proof of the epoch that this block ends (consensus rule E).
    pub end: Option<Arc<EpochProof>>,
    /// Only in an answer's last entry: headers of the blocks above it, lowest first, up to the one that `certificate`
    /// names. Without them, a block that became final as an ancestor and fills an answer could never be shown
    /// to be final, and nobody could catch up over it.
    pub above: Vec<Header>,
}

/// What is known about a final block above another.
#[derive(Clone, Debug)]
pub struct Covering {
    /// Its header.
    pub header: Header,
    /// The commit certificate that names it.
    pub certificate: Option<Arc<CommitCert>>,
    /// The commit proof of the epoch that it ends.
    pub end: Option<Arc<EpochProof>>,
}

impl Entry {
    /// Completes an answer that ends with this block, which may have no certificate of its own: `at` gives the final block
    /// of a height. Nothing changes while no certificate covers it.
    ///
    /// # Errors
    /// Those of `at`.
    pub fn cover<E>(&mut self, mut at: impl FnMut(Height) -> Result<Option<Covering>, E>) -> Result<(), E> {
        if self.certificate.is_some() || self.end.is_some() {
            return Ok(());
        }
        let (mut above, mut height) = (Vec::new(), self.block.header().height.next());
        while above.len() < ABOVE_MAX {
            let Some(Covering { header, certificate, end }) = at(height)? else { return Ok(()) };
            let certificate = match end {
                Some(end) => {
                    above.extend(end.headers.iter().cloned());
                    Some(Arc::clone(&end.certificate))
                }
                None => {
                    above.push(header);
                    certificate
                }
            };
            if certificate.is_some() {
                (self.above, self.certificate) = (above, certificate);
                return Ok(());
            }
            height = height.next();
        }
        Ok(())
    }

    /// The header that the certificate names.
    fn named(&self) -> &Header {
        self.above.last().unwrap_or_else(|| self.block.header())
    }
}

/// What makes a block final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof<'a> {
    /// A commit certificate that names it.
    Certificate(&'a Arc<CommitCert>),
    /// The commit proof of the epoch that it ends.
    End(&'a Arc<EpochProof>),
}

/// What the driver says about what makes a header final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judge {
    /// A quorum of the header's epoch signed it.
    Good,
    /// It does not verify: the peer's lie.
    Bad(String),
    /// The validators of the header's epoch are not known before earlier blocks are applied.
    EpochUnknown,
}

/// Why a range ends before the peer's answer did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// It does not.
    Nothing,
    /// The blocks from here on are under no certificate.
    Uncertified(Height),
    /// The blocks from here on belong to an epoch whose validators are not known yet.
    EpochUnknown(Height),
}

/// A range that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Final blocks, lowest first, linked, each with the certificate that covers it.
    pub blocks: Vec<CertifiedBlock>,
    /// The commit proof of their epoch, when the last of them ends it.
    pub end: Option<Arc<EpochProof>>,
    /// What followed them.
    pub rest: Rest,
    /// Blocks in the answer, dropped ones included.
    pub given: usize,
    /// Bytes of the answer.
    pub bytes: usize,
}

/// What is wrong with a range, whatever the state here is: the peer's lie.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum RangeFault {
    #[error("{got} blocks where at most {most} were asked for")]
    TooMany { got: usize, most: u32 },
    #[error("a block of height {got} in the place of height {expected}")]
    WrongHeight { got: Height, expected: Height },
    #[error("block {block} at height {height} has parent {got}; the block below is {expected}")]
    WrongParent { block: BlockId, height: Height, got: BlockId, expected: BlockId },
    #[error("the transactions of block {block} at height {height} are not those its header commits to")]
    WrongTransactions { block: BlockId, height: Height },
    #[error("the certificate given for block {block} at height {height} names another block, view or epoch")]
    WrongCertificate { block: BlockId, height: Height },
    #[error(
        "the headers above block {block} at height {height} do not follow one another, or there are too many of them"
    )]
    WrongAbove { block: BlockId, height: Height },
    #[error("block {block} at height {height} ends its epoch without the proof of it")]
    NoEnd { block: BlockId, height: Height },
    #[error("the proof given for block {block} at height {height} is of another block")]
    OtherEnd { block: BlockId, height: Height },
    #[error("the certificate of block {block} at height {height}: {why}")]
    BadCertificate { block: BlockId, height: Height, why: String },
}

/// Judges an answer to "`count` blocks from `from`". `judge` is asked about every certificate and proof, with the
/// header it names; no range goes beyond the end of an epoch. `bytes` is the length of the answer.
///
/// # Errors
/// What is provably wrong.
pub fn check_range(
    from: Height,
    count: u32,
    entries: Vec<Entry>,
    bytes: usize,
    judge: &mut dyn FnMut(&Header, Proof<'_>) -> Judge,
) -> Result<Range, RangeFault> {
    let given = entries.len();
    if given > count as usize {
        return Err(RangeFault::TooMany { got: given, most: count });
    }
    check_links(from, &entries)?;
    let (mut rest, mut end) = (Rest::Nothing, None);
    let (mut blocks, mut covered) = (Vec::with_capacity(given), Vec::new());
    let mut entries = entries.into_iter();
    for entry in entries.by_ref() {
        let named = entry.above.last().cloned();
        let Entry { block, certificate: offered, end: proof, .. } = entry;
        let (height, id, epoch) = (block.header().height, block.id(), block.header().epoch);
        if !block.matches_tx_root() {
            return Err(RangeFault::WrongTransactions { block: id, height });
        }
        let header = block.header().clone();
        covered.push(block);
        let proof = if header.ends_epoch() {
            Some(proof.ok_or(RangeFault::NoEnd { block: id, height })?)
        } else {
            None
        };
        let certificate = proof.as_ref().map(|proof| Arc::clone(&proof.certificate)).or(offered);
        let (Some(certificate), Some(first)) = (certificate, covered.first()) else { continue };
        let first = first.header();
        if first.epoch != epoch {
            // No certificate crosses epochs: the end of the epoch before came without its proof.
            break;
        }
        let first = first.height;
        let judged = match &proof {
            Some(proof) => judge(&header, Proof::End(proof)),
            None => judge(named.as_ref().unwrap_or(&header), Proof::Certificate(&certificate)),
        };
        match judged {
            Judge::Good => {
                let certify = |block| CertifiedBlock { block, certificate: Arc::clone(&certificate) };
                blocks.extend(covered.drain(..).map(certify));
            }
            Judge::Bad(why) => return Err(RangeFault::BadCertificate { block: id, height, why }),
            Judge::EpochUnknown => {
                rest = Rest::EpochUnknown(first);
                break;
            }
        }
        if proof.is_some() {
            end = proof;
            break;
        }
    }
    match (rest, covered.first(), entries.next()) {
        (Rest::Nothing, Some(first), _) => rest = Rest::Uncertified(first.header().height),
        // The next epoch's validators are known when this one's end is applied.
        (Rest::Nothing, None, Some(next)) => rest = Rest::EpochUnknown(next.block.header().height),
        _ => {}
    }
    Ok(Range { blocks, end, rest, given, bytes })
}

/// Whether headers lead up from a block within its epoch.
fn follow(below: &Header, id: BlockId, above: &[Header]) -> bool {
    if above.len() > ABOVE_MAX.saturating_add(EPOCH_HEADERS_MAX) {
        return false;
    }
    let (mut below, mut parent) = (below, id);
    for header in above {
        let follows = header.height.follows(below.height) && header.parent == parent;
        if !follows || header.epoch != below.epoch || header.view <= below.view {
            return false;
        }
        (below, parent) = (header, header.id());
    }
    true
}

/// Heights and parents, and that each certificate names the block it is given for.
fn check_links(from: Height, entries: &[Entry]) -> Result<(), RangeFault> {
    let (mut expected, mut parent) = (from, None);
    for (place, entry) in (1..).zip(entries) {
        let Entry { block, certificate, end, above } = entry;
        let (header, id) = (block.header(), block.id());
        let height = header.height;
        if height != expected {
            return Err(RangeFault::WrongHeight { got: height, expected });
        }
        if let Some(parent) = parent.filter(|parent| *parent != header.parent) {
            return Err(RangeFault::WrongParent { block: id, height, got: header.parent, expected: parent });
        }
        if !above.is_empty() && (place < entries.len() || !follow(header, id, above)) {
            return Err(RangeFault::WrongAbove { block: id, height });
        }
        let named = entry.named();
        let names_it = |cert: &Arc<CommitCert>| {
            cert.block == named.id() && cert.view == named.view && cert.epoch == named.epoch
        };
        if certificate.as_ref().is_some_and(|certificate| !names_it(certificate)) {
            return Err(RangeFault::WrongCertificate { block: id, height });
        }
        let ends_here = |end: &Arc<EpochProof>| end.last_block().is_ok_and(|last| last.id() == id);
        if end.as_ref().is_some_and(|end| !ends_here(end)) {
            return Err(RangeFault::OtherEnd { block: id, height });
        }
        (expected, parent) = (height.next(), Some(id));
    }
    Ok(())
}
