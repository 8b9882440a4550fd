//! One batch of blocks after another.

use std::sync::Arc;

use cairn_client::{BUNDLE_RECORDS_MAX, BlockRef, Blocks, Client};
use cairn_crypto::Verifier;
use cairn_state::{State, StateError};
use cairn_types::consistency::verify_consistency;
use cairn_types::{
    AuthenticatedTx, Block, CertifiedBlock, CommitCert, EpochProof, Genesis, Header, Height,
    SignedTransaction, Verified,
};
use rayon::prelude::*;

use super::finding::{AuditFault, Finding};
use super::journal::AuditJournal;
use cairn_receipt::LOG_NAMES;

/// Blocks asked for at once; the node gives fewer when they are large.
const BATCH_BLOCKS: usize = 200;
/// Blocks between two certified ones, at most: consensus looks eight views ahead, and a chain of certified
/// blocks that waits for a commit is as long as the state's overlays.
const UNCERTIFIED_MAX: usize = cairn_state::OVERLAYS_MAX;

type Outcome<T> = Result<T, AuditFault>;

/// What one batch brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Progress {
    /// Everything up to here was audited.
    pub(crate) height: Height,
    /// The node's last final block.
    pub(crate) latest: Height,
    /// Blocks executed in this batch.
    pub(crate) blocks: u64,
    /// Records proven in this batch.
    pub(crate) proofs: u64,
}

/// Executes a node's chain again.
pub(crate) struct Auditor {
    client: Client,
    state: State,
    verifier: Verifier,
    journal: AuditJournal,
    /// Up to here the node has proven what it serves; our own state may be ahead after an interruption.
    proven: Header,
}

impl Auditor {
    /// An auditor whose own state stands where its journal says.
    ///
    /// # Errors
    /// When the node shows another history than it did, or state and journal contradict one another.
    pub(crate) async fn resume(
        client: Client,
        genesis: &Genesis,
        state: State,
        journal: AuditJournal,
    ) -> Outcome<Self> {
        let mark = journal.mark().map_or(Height::ZERO, |mark| mark.height);
        let from = match state.header(mark)? {
            Some(header) => header,
            None => state.header(Height::ZERO)?.ok_or_else(|| anyhow::anyhow!("the state has no block 0"))?,
        };
        let verifier = Verifier::new(genesis.chain());
        let auditor = Self { client, state, verifier, journal, proven: from };
        if let Some(mark) = auditor.journal.mark().cloned() {
            let shown = auditor.client.chain_header(BlockRef::Height(mark.height)).await;
            let shown = shown.map_err(|fault| AuditFault::of_client(mark.height, "history", fault))?;
            if shown.id() != mark.block {
                let detail =
                    format!("the node shows {} where an earlier audit saw {}", shown.id(), mark.block);
                return Err(Finding::new(mark.height, "history", detail).into());
            }
            // A state in memory begins again; one on disk is at the mark or, after a crash, beyond it.
            let held = auditor.state.header(mark.height)?;
            if held.is_some_and(|held| held.id() != mark.block) {
                return Err(AuditFault::Own(anyhow::anyhow!(
                    "the audit's own state and journal are of different histories at block {}",
                    mark.height
                )));
            }
        }
        Ok(auditor)
    }

    /// The last block audited.
    pub(crate) fn height(&self) -> Height {
        self.state.tip().header.height
    }

    /// Writes a finding down.
    pub(crate) fn record(&mut self, finding: &Finding) -> anyhow::Result<()> {
        self.journal.found(finding)
    }

    /// Audits the next batch. No blocks when the node has none that are new.
    ///
    /// # Errors
    /// What is wrong, or that the node did not answer.
    pub(crate) async fn batch(&mut self) -> Outcome<Progress> {
        let before = self.state.tip().header;
        let from = before.height.next();
        let Blocks { blocks, latest } = match self.client.chain_blocks(from, BATCH_BLOCKS).await {
            Ok(blocks) => blocks,
            Err(fault) if fault.is_kind("future_height") => {
                let proofs = self.catch_up_proofs().await?;
                return Ok(Progress { height: before.height, latest: before.height, blocks: 0, proofs });
            }
            Err(fault) => return Err(AuditFault::of_client(from, "block", fault)),
        };
        if blocks.is_empty() && latest >= from {
            return Err(Finding::new(from, "block", format!("none, though {latest} is final")).into());
        }
        let mut waiting: Vec<Arc<Block>> = Vec::new();
        for (block, certificate) in blocks {
            waiting.push(Arc::new(block));
            self.execute(&waiting)?;
            if let Some(certificate) = certificate {
                self.commit(std::mem::take(&mut waiting), certificate)?;
            } else if waiting.len() >= UNCERTIFIED_MAX {
                let height = waiting.first().map_or(from, |block| block.header().height);
                let detail = format!("{UNCERTIFIED_MAX} blocks in a row without a certificate");
                return Err(Finding::new(height, "certificate", detail).into());
            }
        }
        let proofs = self.catch_up_proofs().await?;
        let after = self.proven.height;
        let blocks = after.get().saturating_sub(before.height.get());
        Ok(Progress { height: after, latest: latest.max(after), blocks, proofs })
    }

    /// Has everything proven that was executed, and writes it down.
    async fn catch_up_proofs(&mut self) -> Outcome<u64> {
        let after = self.state.tip().header;
        if self.proven.height == after.height {
            return Ok(0);
        }
        let proofs = self.prove(&self.proven, &after).await?;
        // A state in memory passes again what an earlier run wrote down.
        if self.journal.mark().is_none_or(|mark| mark.height < after.height) {
            self.journal.audited(&after, proofs)?;
        }
        self.proven = (*after).clone();
        Ok(proofs)
    }

    /// Verifies the newest of `blocks` and executes it on its parent.
    fn execute(&self, blocks: &[Arc<Block>]) -> Outcome<()> {
        let Some(block) = blocks.last() else { return Ok(()) };
        let height = block.header().height;
        let txs = block
            .transactions()
            .par_iter()
            .enumerate()
            .map(|(index, signed)| self.authenticate(block, index, signed))
            .collect::<Outcome<Vec<_>>>()?;
        match self.state.check(block, &txs) {
            Ok(()) => Ok(()),
            Err(cairn_state::BlockFault::Unavailable(error @ StateError::UnknownParent { .. })) => Err(
                Finding::new(height, "block", format!("it does not stand on the block before it: {error}"))
                    .into(),
            ),
            Err(cairn_state::BlockFault::Unavailable(error)) => Err(error.into()),
            Err(fault) => Err(Finding::of_block(height, &fault).into()),
        }
    }

    fn authenticate(
        &self,
        block: &Block,
        index: usize,
        signed: &Arc<SignedTransaction>,
    ) -> Outcome<Verified<AuthenticatedTx>> {
        let (height, parent) = (block.header().height, block.header().parent);
        let wrong = |why: String| {
            let place = u64::try_from(index).unwrap_or(u64::MAX);
            AuditFault::Wrong(Finding::new(height, "transaction", why).at(place))
        };
        let keys = self.state.resolve_keys(Some(parent), &signed.transaction);
        let keys = keys.map_err(|refusal| wrong(refusal.to_string()))?;
        let bytes = borsh::object_length(signed.as_ref()).unwrap_or(usize::MAX);
        self.verifier.transaction(Arc::clone(signed), bytes, keys).map_err(|fault| wrong(fault.to_string()))
    }

    /// Checks that `certificate` makes exactly the last of `blocks` final, and commits them.
    fn commit(&self, blocks: Vec<Arc<Block>>, certificate: CommitCert) -> Outcome<()> {
        let Some(last) = blocks.last() else { return Ok(()) };
        let header = last.header();
        let wrong = |why: String| AuditFault::Wrong(Finding::new(header.height, "certificate", why));
        let (got, expected) = (
            (certificate.epoch, certificate.view, certificate.block),
            (header.epoch, header.view, last.id()),
        );
        if got != expected {
            return Err(wrong(format!(
                "it is of view {}, block {}; the block is {}",
                got.1, got.2, expected.2
            )));
        }
        let set = self.state.validators_of(header.epoch)?;
        let set = set.ok_or_else(|| wrong(format!("no validators of epoch {} are known", header.epoch)))?;
        let certificate = self
            .verifier
            .commit_cert(&set, Arc::new(certificate))
            .map_err(|fault| wrong(fault.to_string()))?
            .into_inner();
        let certified = |block| CertifiedBlock { block, certificate: Arc::clone(&certificate) };
        // The last block of an epoch, by a certificate of its own, is its own proof.
        let proof = EpochProof { headers: vec![header.clone()], certificate: Arc::clone(&certificate) };
        let ends = header.ends_epoch();
        let blocks: Vec<_> = blocks.into_iter().map(certified).collect();
        let _ = if ends { self.state.end_epoch(&blocks, &proof)? } else { self.state.commit(&blocks)? };
        Ok(())
    }

    /// Lets the node prove that its logs continue, and that its receipts hold our records. Gives how many.
    async fn prove(&self, before: &Header, after: &Header) -> Outcome<u64> {
        for (name, log) in LOG_NAMES {
            let (first, second) = (before.anchors_size, after.anchors_size);
            let path = self.client.log_consistency(log, first, second).await;
            let path = path.map_err(|fault| AuditFault::of_client(after.height, "consistency", fault))?;
            let (old, new) = match name {
                "anchors" => (before.anchors_root, after.anchors_root),
                _ => (before.anchors_sha256, after.anchors_sha256),
            };
            verify_consistency(log, first, second, &path, &old, &new).map_err(|fault| {
                Finding::new(after.height, "consistency", format!("log {name}: {fault}")).at(first)
            })?;
        }
        let seqs: Vec<u64> = (before.anchors_size..after.anchors_size).collect();
        for part in seqs.chunks(BUNDLE_RECORDS_MAX) {
            self.prove_records(part, after).await?;
        }
        Ok(seqs.len() as u64)
    }

    async fn prove_records(&self, seqs: &[u64], after: &Header) -> Outcome<()> {
        let at = Some(BlockRef::Height(after.height));
        let core = self.client.receipt_bundle(seqs, at, true).await;
        let core = core.map_err(|fault| AuditFault::of_client(after.height, "receipt", fault))?;
        let shown = core.header().map(|header| header.id()).ok();
        if shown != Some(after.id()) {
            return Err(
                Finding::new(after.height, "receipt", "it is under another header than asked for").into()
            );
        }
        for (seq, bytes) in seqs.iter().zip(&core.records) {
            let own = self.state.record(*seq)?.map(|record| record.to_bytes());
            if own.as_ref() != Some(bytes) {
                let finding =
                    Finding::new(after.height, "record", "the node's record is not the one executed");
                return Err(finding.at(*seq).into());
            }
        }
        Ok(())
    }
}
