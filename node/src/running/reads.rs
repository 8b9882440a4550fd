//! Questions to the committed state, in the terms of the interfaces.

use std::sync::Arc;

use cairn_receipt::{AnchorReceipt, ReceiptVerifier, Trusted};
use cairn_rpc::backend::RECORDS_PER_KEY_MAX;
use cairn_rpc::{
    Activity, At, Fault, FinalBlock, FinalTx, ReceiptForm, RecordFilter, RecordKey, RecordPage, Trust,
    TxLookup, ValidatorsAt, Verdict, VerdictCheck,
};
use cairn_state::{ListFilter, Matches, State};
use cairn_types::receipt::EpochHandover;
use cairn_types::{Block, CommitCert, Epoch, Header, Height, Record, TxId, ValidatorSet, decode};

use super::context::Context;
use super::faults::fault_of_state;

/// Hand-overs in one standalone receipt, at most: at four validators 18 kB each, so 4.6 MB.
const RECEIPT_HANDOVERS_MAX: usize = 256;
/// Hand-overs in one answer about trust, at most; more are asked for from the last set on.
const TRUST_HANDOVERS_MAX: usize = 16;

type Read<T> = Result<T, Fault>;

fn height_of(state: &State, at: At) -> Read<Option<Height>> {
    match at {
        At::Height(height) => Ok(Some(height)),
        At::Id(id) => state.height_of(&id).map_err(fault_of_state),
    }
}

/// A final header.
pub(crate) fn header(context: &Context, at: At) -> Read<Option<Header>> {
    let Some(height) = height_of(&context.state, at)? else { return Ok(None) };
    context.state.header(height).map_err(fault_of_state)
}

/// A final block.
pub(crate) fn block(context: &Context, at: At) -> Read<Option<Arc<Block>>> {
    let Some(height) = height_of(&context.state, at)? else { return Ok(None) };
    Ok(context.state.block(height).map_err(fault_of_state)?.map(Arc::new))
}

/// The certificate that makes a block final: its own or the next above.
pub(crate) fn certificate(context: &Context, at: At) -> Read<Option<CommitCert>> {
    let Some(height) = height_of(&context.state, at)? else { return Ok(None) };
    Ok(context.state.finality(height).map_err(fault_of_state)?.map(|found| found.certificate))
}

/// A final block as subscribers see it.
pub(crate) fn final_block(context: &Context, height: Height) -> Read<Option<FinalBlock>> {
    let Some(block) = context.state.block(height).map_err(fault_of_state)? else { return Ok(None) };
    let header = block.header().clone();
    let before = match height.previous() {
        Some(below) => context.state.header(below).map_err(fault_of_state)?.map_or(0, |it| it.anchors_size),
        None => 0,
    };
    let mut records = Vec::new();
    for seq in before..header.anchors_size {
        records.extend(context.state.record(seq).map_err(fault_of_state)?);
    }
    let transactions = block.transactions().iter().map(|tx| tx.id()).collect();
    let events = context.state.events_of_block(height).map_err(fault_of_state)?;
    Ok(Some(FinalBlock { id: block.id(), header, transactions, records, events }))
}

/// Where a transaction landed.
pub(crate) fn final_tx(context: &Context, tx: &TxId) -> Read<Option<FinalTx>> {
    let Some(place) = context.state.transaction(tx).map_err(fault_of_state)? else { return Ok(None) };
    let header = context.state.header(place.height).map_err(fault_of_state)?;
    let Some(header) = header else { return Ok(None) };
    Ok(Some(FinalTx {
        height: place.height,
        block: header.id(),
        time_ms: place.time_ms,
        index: place.index,
        records: context.state.records_by_tx(tx).map_err(fault_of_state)?,
    }))
}

/// A pending or final transaction.
pub(crate) fn transaction(context: &Context, tx: &TxId) -> Read<Option<TxLookup>> {
    if let Some(landed) = final_tx(context, tx)? {
        let body = context.state.transaction_body(tx).map_err(fault_of_state)?;
        return Ok(Some(TxLookup { signed: body.map(|(_, signed)| signed), landed: Some(landed) }));
    }
    let pending = context.pool.lock().get(tx);
    Ok(pending.map(|signed| TxLookup { signed: Some(signed), landed: None }))
}

/// The records with a key, lowest `seq` first.
pub(crate) fn records(context: &Context, key: &RecordKey) -> Read<Vec<Record>> {
    let state = &context.state;
    let matches = match key {
        RecordKey::Seq(seq) => {
            return Ok(state.record(*seq).map_err(fault_of_state)?.into_iter().collect());
        }
        RecordKey::Tx(tx) => {
            let mut records = state.records_by_tx(tx).map_err(fault_of_state)?;
            records.truncate(RECORDS_PER_KEY_MAX);
            return Ok(records);
        }
        RecordKey::Proof(proof) => state.records_by_proof(proof),
        RecordKey::Root(root) => state.records_by_root(root),
        RecordKey::Reference { sender, reference } => state.records_by_reference(sender, reference),
    };
    let Some(Matches { first, others }) = matches.map_err(fault_of_state)? else {
        return not_here(context);
    };
    let mut records = vec![first];
    for seq in others.into_iter().take(RECORDS_PER_KEY_MAX - 1) {
        records.extend(state.record(seq).map_err(fault_of_state)?);
    }
    Ok(records)
}

/// What is not found may be among what is no longer kept: only a node that keeps all records knows.
fn not_here(context: &Context) -> Read<Vec<Record>> {
    let kept = context.state.kept();
    if kept.records_from == 0 {
        return Ok(Vec::new());
    }
    let what = format!("anything anchored before record {}", kept.records_from);
    Err(Fault::Pruned { what, earliest: kept.blocks_from })
}

/// A page of records in `seq` order.
pub(crate) fn list(context: &Context, filter: &RecordFilter) -> Read<RecordPage> {
    let wanted = ListFilter {
        sender: filter.sender,
        kind: filter.kind,
        from: filter.from,
        to: filter.to,
        newest_first: false,
    };
    let cursor = (filter.start > 0).then_some(filter.start);
    let page = context.state.list(&wanted, cursor, filter.limit).map_err(fault_of_state)?;
    Ok(RecordPage { records: page.records, next: page.next })
}

/// The receipt of a record's batch root, as JSON.
pub(crate) fn receipt(context: &Context, seq: u64, form: ReceiptForm) -> Read<Option<String>> {
    let Some(proof) = context.state.anchor_proof(seq).map_err(fault_of_state)? else { return Ok(None) };
    let receipt = match form {
        ReceiptForm::Standalone => AnchorReceipt::new(&proof, handovers(context, proof.header.epoch)?),
        ReceiptForm::Checkpoint => AnchorReceipt::new(&proof, Vec::new()).checkpoint_relative(),
    };
    Ok(Some(receipt.to_json()))
}

/// The hand-overs that lead from the genesis validators to those of `epoch`.
pub(crate) fn handovers(context: &Context, epoch: Epoch) -> Read<Vec<EpochHandover>> {
    let state = &context.state;
    let handovers = state.handovers(Epoch::ZERO, epoch, RECEIPT_HANDOVERS_MAX).map_err(fault_of_state)?;
    if handovers.len() as u64 == epoch.get() {
        return Ok(handovers);
    }
    Err(Fault::invalid(format!(
        "what stands alone in epoch {epoch} would hold more than {RECEIPT_HANDOVERS_MAX} hand-overs: ask for form \
         `checkpoint`, and verify it against a pinned checkpoint"
    )))
}

/// Verifies a receipt against this chain.
pub(crate) fn verify_receipt(context: &Context, text: &str) -> Read<Verdict> {
    let trusted = Trusted::genesis(&context.genesis).map_err(Fault::internal)?;
    Ok(judge_receipt(trusted, text))
}

/// A receipt of a leaf, or of a batch's root as [`receipt`] gives it.
fn judge_receipt(trusted: Trusted, text: &str) -> Verdict {
    let verifier = ReceiptVerifier::new(trusted);
    let (_, verdict) = verifier.verify_any(text);
    let check = |check: &cairn_receipt::Check| VerdictCheck {
        name: check.name.name().to_owned(),
        ok: check.passed,
        detail: check.detail.clone(),
    };
    Verdict {
        valid: verdict.valid,
        checks: verdict.checks.iter().map(check).collect(),
        record: verdict.record.filter(|_| verdict.valid).map(Box::new),
    }
}

/// The validators that sign a block, with what they have done.
pub(crate) fn validators(context: &Context, at: At) -> Read<Option<ValidatorsAt>> {
    let Some(header) = header(context, at)? else { return Ok(None) };
    let latest = header.height == context.state.tip().header.height;
    validators_in(context, if latest { context.state.epoch() } else { header.epoch })
}

/// The validators of an epoch. What they have done is counted for the epoch in force alone.
fn validators_in(context: &Context, epoch: Epoch) -> Read<Option<ValidatorsAt>> {
    let set = context.state.validators_of(epoch).map_err(fault_of_state)?;
    let now = context.epoch();
    let activity = |set: &ValidatorSet| match set.epoch() == now.number() {
        true => context.turns.counts(),
        false => vec![Activity::default(); set.count()],
    };
    Ok(set.map(|set| ValidatorsAt { activity: activity(&set), set: (*set).clone() }))
}

/// The sets from epoch `from` on, and the hand-overs between them; a page of at most [`TRUST_HANDOVERS_MAX`].
pub(crate) fn trust(context: &Context, from: Epoch) -> Read<Trust> {
    let state = &context.state;
    let newest = state.epoch();
    let missing = || Fault::not_found(format!("epoch {from} (the newest is {newest})"));
    let first = state.validators_of(from).map_err(fault_of_state)?.ok_or_else(missing)?;
    let handovers = state.handovers(from, newest, TRUST_HANDOVERS_MAX).map_err(fault_of_state)?;
    let mut sets = vec![(*first).clone()];
    for handover in &handovers {
        sets.push(decode(&handover.validators).map_err(Fault::internal)?);
    }
    Ok(Trust { sets, handovers })
}
