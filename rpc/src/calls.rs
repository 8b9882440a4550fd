//! What the interfaces do, before any encoding: shared by JSON-RPC, GET and gRPC.

use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Block, CommitCert, Header, Height, ProofId, Record, SignedTransaction, TxId};

use crate::args::BlockRef;
use crate::backend::{At, RecordKey, SubmitState, TxLookup};
use crate::context::Context;
use crate::fault::Fault;

/// How long a submission waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: accepted is enough.
    Accepted,
    /// Until it is final, at most so long.
    Final(Duration),
}

/// What became of a submission.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) tx_id: TxId,
    pub(crate) proof_ids: Vec<ProofId>,
    pub(crate) duplicate: bool,
    /// One record per proof once final.
    pub(crate) records: Vec<Record>,
    /// Height and time once final.
    pub(crate) landed: Option<(Height, u64)>,
}

/// Submits, and waits as asked.
///
/// # Errors
/// What the node says of the transaction; [`Fault::TimeoutNotFinal`] with the ids when time ran out.
pub(crate) async fn submit(cx: &Context, tx: SignedTransaction, wait: Wait) -> Result<Outcome, Fault> {
    let submitted = cx.backend.submit(tx).await?;
    let mut outcome = Outcome {
        tx_id: submitted.tx_id,
        proof_ids: submitted.proof_ids,
        duplicate: submitted.state != SubmitState::New,
        records: Vec::new(),
        landed: None,
    };
    if let SubmitState::Final(records) = submitted.state {
        outcome.landed = match records.iter().min_by_key(|record| record.seq) {
            Some(first) => Some((first.height, first.time_ms)),
            None => landing(cx, outcome.tx_id).await?,
        };
        outcome.records = records;
        return Ok(outcome);
    }
    let Wait::Final(timeout) = wait else { return Ok(outcome) };
    let Some(landed) = cx.backend.wait_final(outcome.tx_id, timeout).await? else {
        return Err(Fault::TimeoutNotFinal {
            tx_id: outcome.tx_id,
            proof_ids: outcome.proof_ids,
            waited_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        });
    };
    outcome.landed = Some((landed.height, landed.time_ms));
    outcome.records = landed.records;
    Ok(outcome)
}

async fn landing(cx: &Context, tx: TxId) -> Result<Option<(Height, u64)>, Fault> {
    let found = cx.backend.transaction(tx).await?;
    Ok(found.and_then(|found| found.landed).map(|landed| (landed.height, landed.time_ms)))
}

/// The block a reference names, once it is known to be within what this node keeps.
///
/// # Errors
/// [`Fault::FutureHeight`] and [`Fault::Pruned`].
pub(crate) fn locate(cx: &Context, block: BlockRef) -> Result<At, Fault> {
    let latest = latest(cx);
    let earliest = cx.backend.earliest();
    match block {
        BlockRef::Latest => Ok(At::Height(latest)),
        BlockRef::Earliest => Ok(At::Height(earliest)),
        BlockRef::Id(id) => Ok(At::Id(id)),
        BlockRef::Height(asked) if asked > latest => Err(Fault::FutureHeight { asked, latest }),
        BlockRef::Height(asked) if asked < earliest => {
            Err(Fault::Pruned { what: format!("block {asked}"), earliest })
        }
        BlockRef::Height(asked) => Ok(At::Height(asked)),
    }
}

/// The last final height.
pub(crate) fn latest(cx: &Context) -> Height {
    *cx.backend.final_height().borrow()
}

fn no_block(at: At) -> Fault {
    match at {
        At::Height(height) => Fault::not_found(format!("block {height}")),
        At::Id(id) => Fault::not_found(format!("block {id}")),
    }
}

/// A final header.
pub(crate) async fn header(cx: &Context, block: BlockRef) -> Result<Header, Fault> {
    let at = locate(cx, block)?;
    cx.backend.header(at).await?.ok_or_else(|| no_block(at))
}

/// A final block.
pub(crate) async fn block(cx: &Context, block: BlockRef) -> Result<Arc<Block>, Fault> {
    let at = locate(cx, block)?;
    cx.backend.block(at).await?.ok_or_else(|| no_block(at))
}

/// The commit certificate that made a block final.
pub(crate) async fn certificate(cx: &Context, block: BlockRef) -> Result<CommitCert, Fault> {
    let at = locate(cx, block)?;
    if at == At::Height(Height::ZERO) {
        return Err(Fault::not_found("a certificate of block 0 (it is the genesis, nobody signed it)"));
    }
    cx.backend.certificate(at).await?.ok_or_else(|| no_block(at))
}

/// The records of a key, lowest `seq` first, never empty.
///
/// # Errors
/// [`Fault::NotFound`] when there are none.
pub(crate) async fn records(cx: &Context, key: RecordKey) -> Result<Vec<Record>, Fault> {
    let found = cx.backend.records(key.clone()).await?;
    if found.is_empty() { Err(Fault::not_found(describe(&key))) } else { Ok(found) }
}

fn describe(key: &RecordKey) -> String {
    match key {
        RecordKey::Seq(seq) => format!("record {seq}"),
        RecordKey::Proof(id) => format!("proof {id}"),
        RecordKey::Root(root) => format!("a proof of root {root}"),
        RecordKey::Tx(id) => format!("a proof of transaction {id}"),
        RecordKey::Reference { sender, .. } => format!("a proof of sender {sender} with this reference"),
    }
}

/// A transaction, pending or final.
pub(crate) async fn transaction(cx: &Context, tx: TxId) -> Result<TxLookup, Fault> {
    cx.backend.transaction(tx).await?.ok_or_else(|| Fault::not_found(format!("transaction {tx}")))
}
