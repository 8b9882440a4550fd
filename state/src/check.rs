//! Comparing a block with what its parent and its execution say it must be.

use std::sync::Arc;

use cairn_types::{AuthenticatedTx, Block, Header, Slot, Verified, View};

use crate::error::StateError;
use crate::execute::Executed;
use crate::governance::Rules;
use crate::overlay::Head;
use crate::refusal::{BlockFault, HeaderField};

/// The view a child names as its parent's: 0 for the block an epoch starts from.
fn parent_view(head: &Head, rules: &Rules) -> View {
    if head.header.epoch == rules.set.epoch() { head.header.view } else { View::ZERO }
}

/// Whether a block for `slot` with this time may follow `head`.
pub(crate) fn slot_fits(slot: &Slot, time_ms: u64, head: &Head, rules: &Rules) -> Result<(), StateError> {
    let parent = &head.header;
    let why = if slot.epoch != rules.set.epoch() {
        format!("epoch {}, expected {}", slot.epoch, rules.set.epoch())
    } else if !slot.height.follows(parent.height) {
        format!("height {}, expected {}", slot.height, parent.height.next())
    } else if slot.parent_view != parent_view(head, rules) || slot.view <= slot.parent_view {
        format!("view {} on parent view {}; the parent's is {}", slot.view, slot.parent_view, parent.view)
    } else if time_ms <= parent.time_ms {
        format!("time {time_ms}, expected more than the parent's {}", parent.time_ms)
    } else if rules.set.get(slot.proposer).is_none() {
        format!("proposer {} of {} validators", slot.proposer, rules.set.count())
    } else {
        return Ok(());
    };
    Err(StateError::BadSlot { why })
}

/// Whether `txs` are the block's own transactions, in order.
pub(crate) fn same_transactions(block: &Block, txs: &[Verified<AuthenticatedTx>]) -> Result<(), BlockFault> {
    let (got, expected) = (txs.len(), block.transactions().len());
    if got != expected {
        return Err(BlockFault::TransactionCount { got, expected });
    }
    let differs = |(held, given): (&Arc<_>, &Verified<AuthenticatedTx>)| {
        !Arc::ptr_eq(held, &given.signed) && held != &given.signed
    };
    match block.transactions().iter().zip(txs).position(differs) {
        None => Ok(()),
        Some(index) => Err(BlockFault::OtherTransaction { index }),
    }
}

/// The fields and sizes that need no execution.
pub(crate) fn before_execution(block: &Block, head: &Head, rules: &Rules) -> Result<(), BlockFault> {
    let (header, parent) = (block.header(), &head.header);
    equal(HeaderField::Version, &header.version, &rules.protocol)?;
    equal(HeaderField::Chain, &header.chain, &rules.chain)?;
    equal(HeaderField::Epoch, &header.epoch, &rules.set.epoch())?;
    equal(HeaderField::Height, &header.height, &parent.height.next())?;
    equal(HeaderField::ParentView, &header.parent_view, &parent_view(head, rules))?;
    let fault = |field, got: String, expected: String| BlockFault::Header { field, got, expected };
    if header.view <= header.parent_view {
        let expected = format!("more than the parent's {}", header.parent_view);
        return Err(fault(HeaderField::View, header.view.to_string(), expected));
    }
    if header.time_ms <= parent.time_ms {
        let expected = format!("more than the parent's {}", parent.time_ms);
        return Err(fault(HeaderField::TimeMs, header.time_ms.to_string(), expected));
    }
    if rules.set.get(header.proposer).is_none() {
        let expected = format!("less than {}", rules.set.count());
        return Err(fault(HeaderField::Proposer, header.proposer.to_string(), expected));
    }
    equal(HeaderField::Validators, &header.validators, &rules.set_digest)?;
    let count = u32::try_from(block.transactions().len()).unwrap_or(u32::MAX);
    equal(HeaderField::TxCount, &header.tx_count, &count)
}

/// The fields that execution decides.
pub(crate) fn outcome(header: &Header, rules: &Rules, outcome: &Executed) -> Result<(), BlockFault> {
    let executed = &outcome.roots;
    let next = outcome.next.as_ref().map_or(rules.set_digest, |next| next.set_digest);
    equal(HeaderField::NextValidators, &header.next_validators, &next)?;
    equal(HeaderField::TxRoot, &header.tx_root, &executed.tx_root)?;
    equal(HeaderField::TxCount, &header.tx_count, &executed.tx_count)?;
    equal(HeaderField::StateRoot, &header.state_root, &executed.state_root)?;
    equal(HeaderField::AnchorsRoot, &header.anchors_root, &executed.anchors_root)?;
    equal(HeaderField::AnchorsSize, &header.anchors_size, &executed.anchors_size)?;
    equal(HeaderField::AnchorsSha256, &header.anchors_sha256, &executed.anchors_sha256)?;
    equal(HeaderField::HistoryRoot, &header.history_root, &executed.history_root)
}

fn equal<T: PartialEq + ToString>(field: HeaderField, got: &T, expected: &T) -> Result<(), BlockFault> {
    if got == expected {
        return Ok(());
    }
    Err(BlockFault::Header { field, got: got.to_string(), expected: expected.to_string() })
}
