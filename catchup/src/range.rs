//! A range of final blocks as a peer gives it, and its verdict (rule S1).

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{Block, BlockId, CertifiedBlock, CommitCert, Header, Height};
use thiserror::Error;

/// A final block, with a commit certificate where one names exactly this block.
///
/// An epoch's last block may be final by a certificate of a carrier (consensus rule E); the headers that link
/// the two belong here, beside the certificate.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    /// The block.
    pub block: Arc<Block>,
    /// Its own commit certificate; none for a block that became final as an ancestor.
    pub certificate: Option<Arc<CommitCert>>,
}

/// What the driver says about a certificate for a header that it names.
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
    #[error("the certificate of block {block} at height {height}: {why}")]
    BadCertificate { block: BlockId, height: Height, why: String },
}

/// Judges an answer to "`count` blocks from `from`". `certificate` is asked about every certificate, with the
/// header it names. `bytes` is the length of the answer.
///
/// # Errors
/// What is provably wrong.
pub fn check_range(
    from: Height,
    count: u32,
    entries: Vec<Entry>,
    bytes: usize,
    certificate: &mut dyn FnMut(&Header, &Arc<CommitCert>) -> Judge,
) -> Result<Range, RangeFault> {
    let given = entries.len();
    if given > count as usize {
        return Err(RangeFault::TooMany { got: given, most: count });
    }
    check_links(from, &entries)?;
    let mut rest = Rest::Nothing;
    let (mut blocks, mut covered) = (Vec::with_capacity(given), Vec::new());
    for Entry { block, certificate: offered } in entries {
        let (height, id) = (block.header().height, block.id());
        if !block.matches_tx_root() {
            return Err(RangeFault::WrongTransactions { block: id, height });
        }
        covered.push(block);
        let (Some(offered), Some(block), Some(first)) = (offered, covered.last(), covered.first()) else {
            continue;
        };
        if first.header().epoch != block.header().epoch {
            // No certificate crosses epochs: the end of the epoch before came without its proof.
            break;
        }
        match certificate(block.header(), &offered) {
            Judge::Good => {
                let certify = |block| CertifiedBlock { block, certificate: Arc::clone(&offered) };
                blocks.extend(covered.drain(..).map(certify));
            }
            Judge::Bad(why) => return Err(RangeFault::BadCertificate { block: id, height, why }),
            Judge::EpochUnknown => {
                rest = Rest::EpochUnknown(first.header().height);
                break;
            }
        }
    }
    if let (Rest::Nothing, Some(first)) = (rest, covered.first()) {
        rest = Rest::Uncertified(first.header().height);
    }
    Ok(Range { blocks, rest, given, bytes })
}

/// Heights and parents, and that each certificate names the block it is given for.
fn check_links(from: Height, entries: &[Entry]) -> Result<(), RangeFault> {
    let (mut expected, mut parent) = (from, None);
    for Entry { block, certificate } in entries {
        let (header, id) = (block.header(), block.id());
        let height = header.height;
        if height != expected {
            return Err(RangeFault::WrongHeight { got: height, expected });
        }
        if let Some(parent) = parent.filter(|parent| *parent != header.parent) {
            return Err(RangeFault::WrongParent { block: id, height, got: header.parent, expected: parent });
        }
        let names_it = |cert: &Arc<CommitCert>| {
            cert.block == id && cert.view == header.view && cert.epoch == header.epoch
        };
        if certificate.as_ref().is_some_and(|certificate| !names_it(certificate)) {
            return Err(RangeFault::WrongCertificate { block: id, height });
        }
        (expected, parent) = (height.next(), Some(id));
    }
    Ok(())
}
