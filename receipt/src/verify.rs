//! Offline verification (FORMATS, "Finality proof and receipt").

use std::sync::Arc;

use cairn_crypto::Verifier;
use cairn_types::block::HEADER_VERSION;
use cairn_types::log::TreeHash;
use cairn_types::receipt::{BatchPath, EpochHandover, Finality, Receipt, Subject};
use cairn_types::record::RECORD_VERSION;
use cairn_types::tree::{batch_leaf, root_from_path, verify_batch_path};
use cairn_types::validator::SetFault;
use cairn_types::{
    BlockId, ChainId, CommitCert, Context, Epoch, Genesis, Header, Height, Record, ValidatorSet, decode,
};

use crate::anchor::AnchorReceipt;
use crate::read::parse;
use crate::timestamp::{self, ExternalTime, Stamped, TimeAuthorities};
use crate::verdict::{Check, CheckName, Trust, Verdict};

/// Length of a salt, bytes, where there is one.
const SALT_BYTES: usize = 16;

/// What a verifier takes for granted.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The genesis hash.
    pub chain: ChainId,
    /// The validators of epoch 0, from the genesis.
    pub validators: ValidatorSet,
    /// Ids of blocks known to be final.
    pub checkpoints: Vec<BlockId>,
    /// Whose RFC 3161 time stamps count. With any, a receipt must carry one by them, and no false one.
    pub authorities: TimeAuthorities,
}

impl Trusted {
    /// Trust in a genesis and nothing else.
    ///
    /// # Errors
    /// When its validators make no set.
    pub fn genesis(genesis: &Genesis) -> Result<Self, SetFault> {
        Ok(Self {
            chain: genesis.chain(),
            validators: genesis.validator_set()?,
            checkpoints: Vec::new(),
            authorities: TimeAuthorities::default(),
        })
    }
}

/// Verifies one receipt. For many, keep a [`ReceiptVerifier`]: receipts share certificates.
pub fn verify(receipt: &Receipt, trusted: &Trusted) -> Verdict {
    ReceiptVerifier::new(trusted.clone()).verify(receipt)
}

/// Verifies the text of a receipt with nothing but the genesis.
pub fn verify_json(text: &str, genesis: &Genesis) -> Verdict {
    match Trusted::genesis(genesis) {
        Ok(trusted) => ReceiptVerifier::new(trusted).verify_json(text),
        Err(fault) => {
            let mut run = Run::default();
            let stop = run.check::<Passed>(CheckName::Validators, Err(format!("the genesis: {fault}")));
            verdict(run, stop, &[])
        }
    }
}

/// Verifies receipts of one chain; a certificate that several share is checked once.
pub struct ReceiptVerifier {
    trusted: Trusted,
    verifier: Verifier,
}

/// The outcome of one check: what was found, or why it failed.
pub(crate) type Found<T> = Result<(T, String), String>;

/// The checks made so far. Stops at the first failure.
#[derive(Default)]
pub(crate) struct Run {
    checks: Vec<Check>,
    pub(crate) times: Vec<ExternalTime>,
}

/// A check failed; it is the last of the run.
pub(crate) struct Stop;

impl Run {
    pub(crate) fn check<T>(&mut self, name: CheckName, found: Found<T>) -> Result<T, Stop> {
        match found {
            Ok((value, detail)) => {
                self.checks.push(Check { name, passed: true, detail });
                Ok(value)
            }
            Err(detail) => {
                self.checks.push(Check { name, passed: false, detail });
                Err(Stop)
            }
        }
    }
}

/// What a run that met no failure ends with.
pub(crate) struct Passed {
    /// Of a receipt: one. Of a bundle: each. Of a header by itself: none.
    pub(crate) records: Vec<Record>,
    pub(crate) header: Header,
    pub(crate) trust: Trust,
}

impl ReceiptVerifier {
    /// A verifier that trusts `trusted`.
    pub fn new(trusted: Trusted) -> Self {
        let verifier = Verifier::new(trusted.chain);
        Self { trusted, verifier }
    }

    /// What it trusts.
    pub const fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// Verifies a receipt's text.
    pub fn verify_json(&self, text: &str) -> Verdict {
        match parse(text) {
            Ok(receipt) => self.verify(&receipt),
            Err(fault) => {
                let mut run = Run::default();
                let stop = run.check::<Passed>(CheckName::Format, Err(fault.to_string()));
                verdict(run, stop, &[])
            }
        }
    }

    /// Verifies a receipt.
    pub fn verify(&self, receipt: &Receipt) -> Verdict {
        let mut run = Run::default();
        let core = AnchorReceipt::of(receipt);
        let leaf = Some((&receipt.subject, receipt.batch.as_ref()));
        let mut unverified = receipt.external.clone();
        let outcome = self.run(&mut run, leaf, &core).and_then(|passed| {
            for record in &passed.records {
                unverified = self.check_evidence(&mut run, record, &receipt.external)?;
            }
            unverified = self.check_times(&mut run, Stamped::receipt(receipt, &passed), &unverified)?;
            Ok(passed)
        });
        verdict(run, outcome, &unverified)
    }

    /// Verifies that the *record* was anchored: everything but the way from a leaf to the record's root.
    pub fn verify_anchor(&self, receipt: &AnchorReceipt) -> Verdict {
        let mut run = Run::default();
        let outcome = self.run(&mut run, None, receipt).and_then(|passed| self.no_time(&mut run, passed));
        verdict(run, outcome, &[])
    }

    fn run(
        &self,
        run: &mut Run,
        leaf: Option<(&Subject, Option<&BatchPath>)>,
        receipt: &AnchorReceipt,
    ) -> Result<Passed, Stop> {
        let record = run.check(CheckName::Record, check_record(&receipt.record_bytes))?;
        let header = run.check(CheckName::Header, check_header(&receipt.header_bytes))?;
        if let Some((subject, batch)) = leaf {
            run.check(CheckName::Batch, check_batch(subject, batch, &record))?;
        }
        run.check(CheckName::Anchor, check_anchor(receipt, &record, &header))?;
        let trust = self.check_final(run, &header, &receipt.finality, &receipt.epochs)?;
        Ok(Passed { records: vec![record], header, trust })
    }

    /// That a header is final and part of the trusted chain: the last checks of every document.
    pub(crate) fn check_final(
        &self,
        run: &mut Run,
        header: &Header,
        finality: &Finality,
        epochs: &[EpochHandover],
    ) -> Result<Trust, Stop> {
        run.check(CheckName::Chain, check_chain(header, self.trusted.chain))?;
        run.check(CheckName::Carrier, check_carrier(header))?;
        match finality {
            Finality::Certificate(certificate) => {
                let set = run.check(CheckName::Epochs, self.hand_over(epochs, header.epoch))?;
                run.check(CheckName::Validators, check_validators(&set, header))?;
                run.check(CheckName::Certificate, self.check_certificate(certificate, header, &set))?;
                Ok(Trust::Genesis { epoch: header.epoch })
            }
            Finality::Checkpoint => {
                let unneeded = (!epochs.is_empty()).then_some("hand-overs beside a checkpoint prove nothing");
                run.check(CheckName::Epochs, unneeded.map_or_else(|| found("none needed"), refused))?;
                run.check(CheckName::Checkpoint, self.check_checkpoint(header))?;
                Ok(Trust::Checkpoint(header.id()))
            }
        }
    }

    /// The set of `until`, from the genesis set through contiguous hand-overs.
    fn hand_over(&self, epochs: &[EpochHandover], until: Epoch) -> Found<ValidatorSet> {
        let steps = epochs.len() as u64;
        if steps != until.get() {
            return Err(format!(
                "{steps} hand-overs; the header is of epoch {until} and needs exactly {until}"
            ));
        }
        let mut set = self.trusted.validators.clone();
        for handover in epochs {
            set = self.stepped(handover, &set)?.0;
        }
        Ok((set, format!("{steps} hand-overs from the genesis validators")))
    }

    /// Every validator set from the genesis on through these hand-overs, each with the height of the last block that
    /// it signs; of the last set no end is known.
    ///
    /// # Errors
    /// The first hand-over that does not verify.
    pub fn validator_sets(
        &self,
        epochs: &[EpochHandover],
    ) -> Result<Vec<(ValidatorSet, Option<Height>)>, String> {
        let (mut set, mut sets) = (self.trusted.validators.clone(), Vec::new());
        for handover in epochs {
            let (next, last) = self.stepped(handover, &set)?;
            sets.push((std::mem::replace(&mut set, next), Some(last)));
        }
        sets.push((set, None));
        Ok(sets)
    }

    fn stepped(
        &self,
        handover: &EpochHandover,
        set: &ValidatorSet,
    ) -> Result<(ValidatorSet, Height), String> {
        self.next_set(handover, set).map_err(|why| format!("hand-over of epoch {}: {why}", set.epoch()))
    }

    /// The set that `set` handed over to, and the height of the last block of its own.
    fn next_set(
        &self,
        handover: &EpochHandover,
        set: &ValidatorSet,
    ) -> Result<(ValidatorSet, Height), String> {
        let headers = handover
            .headers
            .iter()
            .map(|bytes| check_header(bytes).map(|(header, _)| header))
            .collect::<Result<Vec<_>, _>>()?;
        let Some((last_block, carriers)) = headers.split_first() else {
            return Err("no header".into());
        };
        check_chain(last_block, self.trusted.chain)?;
        check_validators(set, last_block)?;
        if !last_block.ends_epoch() || last_block.tx_count == 0 {
            return Err("its first header is not the last block of an epoch".into());
        }
        let mut above = last_block;
        for carrier in carriers {
            if !carrier.carries(above) {
                return Err(format!(
                    "the header at height {} is no carrier of the one before it",
                    carrier.height
                ));
            }
            above = carrier;
        }
        self.check_certificate(&handover.certificate, above, set)?;
        let next: ValidatorSet = decode(&handover.validators).map_err(|error| error.to_string())?;
        if !next.epoch().follows(set.epoch()) {
            return Err(format!(
                "the next set is numbered {}; expected {}",
                next.epoch(),
                set.epoch().next()
            ));
        }
        let (got, expected) = (Context::ValidatorSet.hash(&handover.validators), last_block.next_validators);
        if got != expected {
            return Err(format!("the next set hashes to {got}; the epoch's last block names {expected}"));
        }
        Ok((next, last_block.height))
    }

    fn check_certificate(&self, bytes: &[u8], header: &Header, set: &ValidatorSet) -> Found<()> {
        let certificate: CommitCert = decode(bytes).map_err(|error| error.to_string())?;
        let got = (certificate.epoch, certificate.view, certificate.block);
        let expected = (header.epoch, header.view, header.id());
        if got != expected {
            return Err(format!(
                "the certificate is of epoch {}, view {}, block {}; the header of epoch {}, view {}, block {}",
                got.0, got.1, got.2, expected.0, expected.1, expected.2
            ));
        }
        let signers = certificate.signatures.len();
        self.verifier.commit_cert(set, Arc::new(certificate)).map_err(|fault| fault.to_string())?;
        Ok(((), format!("signed by {signers} of {} validators", set.count())))
    }

    fn check_checkpoint(&self, header: &Header) -> Found<()> {
        let id = header.id();
        if self.trusted.checkpoints.contains(&id) {
            return found(format!("block {id} is pinned"));
        }
        Err(format!("block {id} is none of the {} pinned checkpoints", self.trusted.checkpoints.len()))
    }
}

pub(crate) fn found(detail: impl Into<String>) -> Found<()> {
    Ok(((), detail.into()))
}

fn refused(detail: impl Into<String>) -> Found<()> {
    Err(detail.into())
}

pub(crate) fn verdict(run: Run, outcome: Result<Passed, Stop>, external: &[String]) -> Verdict {
    let mut warnings = Vec::new();
    if !external.is_empty() {
        warnings.push(format!("{} items of external evidence were not verified", external.len()));
        let stamps = external.iter().filter(|item| timestamp::is_timestamp(item)).count();
        if stamps > 0 {
            warnings.push(format!(
                "{stamps} of them are time stamps, which count only under a time authority that you trust"
            ));
        }
    }
    // Both conditions say the same; a verdict is valid only when neither dissents.
    let all_passed = run.checks.iter().all(|check| check.passed);
    match outcome {
        Ok(Passed { records, header, trust }) if all_passed => {
            if let Trust::Genesis { epoch } = trust {
                warnings.push(format!(
                    "this rests on the genesis alone: whoever trusts only the genesis trusts every key that was a \
                     validator's up to epoch {epoch}, retired ones included; pin a recent checkpoint to narrow that"
                ));
            }
            let record = if records.len() == 1 { records.first().cloned() } else { None };
            Verdict {
                valid: true,
                checks: run.checks,
                trust,
                warnings,
                record,
                records,
                header: Some(header),
                times: run.times,
            }
        }
        _ => {
            let trust = Trust::Nothing;
            let (record, records, header) = (None, Vec::new(), None);
            let times = Vec::new();
            Verdict { valid: false, checks: run.checks, trust, warnings, record, records, header, times }
        }
    }
}

pub(crate) fn check_record(bytes: &[u8]) -> Found<Record> {
    let record: Record = decode(bytes).map_err(|error| error.to_string())?;
    if record.version != RECORD_VERSION {
        return Err(format!("record version {}; expected {RECORD_VERSION}", record.version));
    }
    let detail = format!("record {} of block {}", record.seq, record.height);
    Ok((record, detail))
}

pub(crate) fn check_header(bytes: &[u8]) -> Found<Header> {
    let header: Header = decode(bytes).map_err(|error| error.to_string())?;
    if header.version != HEADER_VERSION {
        return Err(format!("header version {}; expected {HEADER_VERSION}", header.version));
    }
    let detail = format!("block {} at height {}", header.id(), header.height);
    Ok((header, detail))
}

fn check_batch(subject: &Subject, batch: Option<&BatchPath>, record: &Record) -> Found<()> {
    check_salt(subject)?;
    let single = BatchPath { index: 0, path: Vec::new() };
    let place = match (batch, record.leaves) {
        (None, 1) => &single,
        (Some(place), leaves) if leaves != 1 => place,
        (None, leaves) => return Err(format!("no batch path; the record has {leaves} leaves")),
        (Some(_), _) => return Err("a batch path; the record has one leaf, which needs none".into()),
    };
    let leaf = batch_leaf(record.tree, &subject.salt, &subject.digest);
    match verify_batch_path(record.tree, leaf, place.index, record.leaves, &place.path, &record.root) {
        Ok(true) => found(format!("leaf {} of {}", place.index, record.leaves)),
        Ok(false) => Err(format!("the subject does not lead to the record's root {}", record.root)),
        Err(fault) => Err(fault.to_string()),
    }
}

pub(crate) fn check_salt(subject: &Subject) -> Result<(), String> {
    match subject.salt.len() {
        0 | SALT_BYTES => Ok(()),
        got => Err(format!("a salt of {got} bytes; expected none or {SALT_BYTES}")),
    }
}

fn check_anchor(receipt: &AnchorReceipt, record: &Record, header: &Header) -> Found<()> {
    // The bytes as received are what the log hashed.
    let leaf = TreeHash::Anchors.leaf(&receipt.record_bytes);
    let (index, size) = (record.seq, header.anchors_size);
    let root = root_from_path(TreeHash::Anchors, leaf, index, size, &receipt.anchor_path)
        .map_err(|fault| fault.to_string())?;
    if root != header.anchors_root {
        return Err(format!(
            "the record leads to anchor root {root}; the header has {}",
            header.anchors_root
        ));
    }
    found(format!("anchor {index} of {size}"))
}

pub(crate) fn check_chain(header: &Header, chain: ChainId) -> Found<()> {
    if header.chain == chain {
        return found(format!("chain {chain}"));
    }
    Err(format!("the header is of chain {}; the trusted genesis hashes to {chain}", header.chain))
}

/// A carrier changes the set and holds no transaction; the epoch's last block holds at least the one that
/// changes it.
fn check_carrier(header: &Header) -> Found<()> {
    if header.is_carrier() {
        return Err("the header only carries an epoch's end and is no part of the chain".into());
    }
    found("part of the chain")
}

fn check_validators(set: &ValidatorSet, header: &Header) -> Found<()> {
    if header.epoch != set.epoch() {
        return Err(format!("the header is of epoch {}; the set of epoch {}", header.epoch, set.epoch()));
    }
    let digest = set.digest();
    if header.validators != digest {
        return Err(format!("the header names validators {}; the set hashes to {digest}", header.validators));
    }
    found(format!("{} validators of epoch {}", set.count(), set.epoch()))
}
