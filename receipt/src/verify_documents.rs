//! Offline verification of everything but receipts: bundles, headers by themselves, consistency proofs.

use cairn_types::consistency::verify_consistency;
use cairn_types::log::TreeHash;
use cairn_types::multiproof::root_from_multiproof;
use cairn_types::receipt::{Bundle, BundledBatch};
use cairn_types::tree::{batch_leaf, bind_leaf_count};
use cairn_types::{Hash, Header, Record};

use crate::bundle::AnchorBundle;
use crate::document::{Checkpoint, ConsistencyProof, Document};
use crate::read::FormatFault;
use crate::timestamp::Stamped;
use crate::verdict::{CheckName, Verdict};
use crate::verify::{
    Found, Passed, ReceiptVerifier, Run, Stop, check_chain, check_header, check_record, check_salt, found,
    verdict,
};

impl ReceiptVerifier {
    /// Verifies whatever the text is, and says what it was; `None` when it was nothing of the format.
    pub fn verify_any(&self, text: &str) -> (Option<Document>, Verdict) {
        match Document::parse(text) {
            Ok(document) => {
                let verdict = self.verify_document(&document);
                (Some(document), verdict)
            }
            Err(fault) => (None, malformed(&fault)),
        }
    }

    /// Verifies a document of any kind.
    pub fn verify_document(&self, document: &Document) -> Verdict {
        match document {
            Document::Receipt(receipt) => self.verify(receipt),
            Document::Bundle(bundle) => self.verify_bundle(bundle),
            Document::Anchor(core) => self.verify_anchor(core),
            Document::Anchors(core) => self.verify_anchors(core),
            Document::Checkpoint(checkpoint) => self.verify_checkpoint(checkpoint),
            Document::Consistency(proof) => self.verify_consistency(proof),
        }
    }

    /// Verifies a bundle: valid when each of its leaves' receipts would be.
    pub fn verify_bundle(&self, bundle: &Bundle) -> Verdict {
        let mut run = Run::default();
        let records: Vec<&[u8]> = bundle.batches.iter().map(|batch| batch.record_bytes.as_slice()).collect();
        let outcome =
            self.run_records(&mut run, &records, &bundle.header_bytes).and_then(|(records, header)| {
                run.check(CheckName::Batch, check_batches(&bundle.batches, &records))?;
                self.finish_records(&mut run, &crate::bundle::core_of(bundle), records, header)
            });
        self.timed(run, outcome, &bundle.external, |passed| Stamped::bundle(bundle, passed))
    }

    /// Verifies that the *records* of a bundle's core were anchored.
    pub fn verify_anchors(&self, core: &AnchorBundle) -> Verdict {
        let mut run = Run::default();
        let records: Vec<&[u8]> = core.records.iter().map(Vec::as_slice).collect();
        let outcome = self
            .run_records(&mut run, &records, &core.header_bytes)
            .and_then(|(records, header)| self.finish_records(&mut run, core, records, header))
            .and_then(|passed| self.no_time(&mut run, passed));
        verdict(run, outcome, &[])
    }

    /// Verifies that a header is final.
    pub fn verify_checkpoint(&self, checkpoint: &Checkpoint) -> Verdict {
        let mut run = Run::default();
        let outcome =
            run.check(CheckName::Header, check_header(&checkpoint.header_bytes)).and_then(|header| {
                let trust = self.check_final(&mut run, &header, &checkpoint.finality, &checkpoint.epochs)?;
                Ok(Passed { records: Vec::new(), header, trust })
            });
        self.timed(run, outcome, &checkpoint.external, |passed| {
            Stamped::header(&checkpoint.header_bytes, passed)
        })
    }

    /// Verifies that the anchor log of the later, final header begins with that of the earlier one. The
    /// earlier header is taken at its word: who has seen it elsewhere learns that nothing in it was rewritten.
    pub fn verify_consistency(&self, proof: &ConsistencyProof) -> Verdict {
        let mut run = Run::default();
        let outcome = self.run_consistency(&mut run, proof);
        let outcome = outcome.and_then(|passed| self.no_time(&mut run, passed));
        verdict(run, outcome, &[])
    }

    /// The verdict on a document that may carry time stamps.
    fn timed<'a>(
        &self,
        mut run: Run,
        outcome: Result<Passed, Stop>,
        external: &[String],
        stamped: impl FnOnce(&Passed) -> Stamped<'a>,
    ) -> Verdict {
        let mut unverified = external.to_vec();
        let outcome = outcome.and_then(|passed| {
            unverified = self.check_times(&mut run, stamped(&passed), external)?;
            Ok(passed)
        });
        verdict(run, outcome, &unverified)
    }

    fn run_consistency(&self, run: &mut Run, proof: &ConsistencyProof) -> Result<Passed, Stop> {
        let header = run.check(CheckName::Header, check_header(&proof.to.header_bytes))?;
        let from = check_header(&proof.from_bytes).map_err(|why| format!("the earlier header: {why}"));
        let from = run.check(CheckName::Header, from)?;
        run.check(CheckName::Consistency, self.check_growth(proof, &from, &header))?;
        let trust = self.check_final(run, &header, &proof.to.finality, &proof.to.epochs)?;
        Ok(Passed { records: Vec::new(), header, trust })
    }

    fn check_growth(&self, proof: &ConsistencyProof, from: &Header, to: &Header) -> Found<()> {
        check_chain(from, self.trusted().chain).map_err(|why| format!("the earlier header: {why}"))?;
        let (old, new) = match proof.log {
            TreeHash::Anchors => (from.anchors_root, to.anchors_root),
            TreeHash::AnchorsSha256 => (from.anchors_sha256, to.anchors_sha256),
            _ => return Err("it is of a log that headers do not carry".to_owned()),
        };
        let (first, second) = (from.anchors_size, to.anchors_size);
        verify_consistency(proof.log, first, second, &proof.path, &old, &new)
            .map_err(|fault| fault.to_string())?;
        found(format!("the log of {second} records begins with the {first} of block {}", from.height))
    }

    fn run_records(
        &self,
        run: &mut Run,
        records: &[&[u8]],
        header: &[u8],
    ) -> Result<(Vec<Record>, Header), Stop> {
        let records = run.check(CheckName::Record, check_records(records))?;
        let header = run.check(CheckName::Header, check_header(header))?;
        Ok((records, header))
    }

    fn finish_records(
        &self,
        run: &mut Run,
        core: &AnchorBundle,
        records: Vec<Record>,
        header: Header,
    ) -> Result<Passed, Stop> {
        run.check(CheckName::Anchor, check_anchors(core, &records, &header))?;
        let trust = self.check_final(run, &header, &core.finality, &core.epochs)?;
        Ok(Passed { records, header, trust })
    }
}

fn malformed(fault: &FormatFault) -> Verdict {
    let mut run = Run::default();
    let stop = run.check::<Passed>(CheckName::Format, Err(fault.to_string()));
    verdict(run, stop, &[])
}

fn check_records(records: &[&[u8]]) -> Found<Vec<Record>> {
    let read = records
        .iter()
        .enumerate()
        .map(|(position, bytes)| {
            check_record(bytes).map(|(record, _)| record).map_err(|why| format!("record {position}: {why}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let detail = match read.as_slice() {
        [] => return Err("there is no record".to_owned()),
        [one] => format!("record {} of block {}", one.seq, one.height),
        all => format!("{} records", all.len()),
    };
    Ok((read, detail))
}

fn check_batches(batches: &[BundledBatch], records: &[Record]) -> Found<()> {
    let mut leaves = 0usize;
    for (batch, record) in batches.iter().zip(records) {
        check_batch(batch, record).map_err(|why| format!("record {}: {why}", record.seq))?;
        leaves = leaves.saturating_add(batch.leaves.len());
    }
    found(format!("{leaves} leaves of {} batches", batches.len()))
}

fn check_batch(batch: &BundledBatch, record: &Record) -> Result<(), String> {
    let mut leaves = Vec::with_capacity(batch.leaves.len());
    for leaf in &batch.leaves {
        check_salt(&leaf.subject).map_err(|why| format!("leaf {}: {why}", leaf.index))?;
        leaves.push((leaf.index, batch_leaf(record.tree, &leaf.subject.salt, &leaf.subject.digest)));
    }
    let hash = TreeHash::of_batch(record.tree);
    let top =
        root_from_multiproof(hash, &leaves, record.leaves, &batch.path).map_err(|fault| fault.to_string())?;
    if bind_leaf_count(record.tree, record.leaves, &top) == record.root {
        return Ok(());
    }
    Err(format!("its leaves do not lead to the record's root {}", record.root))
}

fn check_anchors(core: &AnchorBundle, records: &[Record], header: &Header) -> Found<()> {
    // The bytes as received are what the log hashed.
    let leaf = |(record, bytes): (&Record, &Vec<u8>)| (record.seq, TreeHash::Anchors.leaf(bytes));
    let leaves: Vec<(u64, Hash)> = records.iter().zip(&core.records).map(leaf).collect();
    let size = header.anchors_size;
    let root = root_from_multiproof(TreeHash::Anchors, &leaves, size, &core.anchor_path)
        .map_err(|fault| fault.to_string())?;
    if root != header.anchors_root {
        let expected = header.anchors_root;
        return Err(format!("the records lead to anchor root {root}; the header has {expected}"));
    }
    found(format!("{} of {size} anchors", leaves.len()))
}
