//! Documents of the state: what an identity or a delegation was, proven against a final header; and what they say
//! about a record, when they travel with its receipt.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::delegation::DelegationEntry;
use cairn_types::identity::{IdentityEntry, KeyStanding, Purpose};
use cairn_types::receipt::{EpochHandover, Finality};
pub use cairn_types::state_key::StateSubject;
use cairn_types::state_key::read_state_value;
use cairn_types::{Address, Header, Record, StateProof, decode};
use serde::Serialize;

use crate::RECEIPT_VERSION;
use crate::document::Checkpoint;
use crate::read::{self, Fields, FinalFields, FormatFault};
use crate::verdict::{CheckName, Verdict};
use crate::verify::{Found, Passed, ReceiptVerifier, Run, Stop, check_header, verdict};
use crate::write::{self, EpochJson, FinalityJson};

/// What a final state holds, or does not hold, about a subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateDocument {
    /// What it is about.
    pub subject: StateSubject,
    /// Canonical bytes of the [`StateProof`].
    pub proof_bytes: Vec<u8>,
    /// The header whose `state_root` the proof leads to.
    pub at: Checkpoint,
}

/// What a proven state says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateFinding {
    /// Nothing is held under the subject's key.
    Absent,
    /// The identity.
    Identity(Box<IdentityEntry>),
    /// The delegation.
    Delegation(DelegationEntry),
}

/// The outcome of verifying a state document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateVerdict {
    /// The checks and what they rest on; `header` is the block the finding holds at.
    pub verdict: Verdict,
    /// What was found; only of a valid verdict.
    pub finding: Option<StateFinding>,
}

#[derive(Serialize)]
struct StateJson {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegate: Option<String>,
    proof: String,
    header: String,
    finality: FinalityJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    epochs: Vec<EpochJson>,
}

impl StateDocument {
    /// From what a node's state holds.
    pub fn new(
        subject: StateSubject,
        proof: &StateProof,
        header: &Header,
        finality: Finality,
        epochs: Vec<EpochHandover>,
    ) -> Self {
        let at = Checkpoint::new(cairn_types::encode(header), finality, epochs);
        Self { subject, proof_bytes: cairn_types::encode(proof), at }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// The first thing that is not exactly as specified.
    pub fn parse(text: &str) -> Result<Self, FormatFault> {
        let mut fields = Fields::of_text(text)?;
        fields.version()?;
        let address = |fields: &mut Fields, name: &str| {
            fields.required(name).and_then(|at| read::hash(&at)).map(Address::new)
        };
        let subject = if fields.has("identity") {
            StateSubject::Identity(address(&mut fields, "identity")?)
        } else {
            let principal = address(&mut fields, "principal")?;
            StateSubject::Delegation { principal, delegate: address(&mut fields, "delegate")? }
        };
        let proof_bytes = read::base64(fields.required("proof")?)?;
        let FinalFields { header_bytes, finality, epochs } = read::final_fields(&mut fields)?;
        fields.finish()?;
        Ok(Self { subject, proof_bytes, at: Checkpoint::new(header_bytes, finality, epochs) })
    }

    /// The JSON form, on one line, as it also stands in a receipt's `external`.
    pub fn to_json(&self) -> String {
        let (identity, principal, delegate) = match self.subject {
            StateSubject::Identity(address) => (Some(address), None, None),
            StateSubject::Delegation { principal, delegate } => (None, Some(principal), Some(delegate)),
        };
        let text = |address: Option<Address>| address.map(|address| address.to_string());
        let json = StateJson {
            version: RECEIPT_VERSION,
            identity: text(identity),
            principal: text(principal),
            delegate: text(delegate),
            proof: STANDARD.encode(&self.proof_bytes),
            header: STANDARD.encode(&self.at.header_bytes),
            finality: FinalityJson::new(&self.at.finality),
            epochs: self.at.epochs.iter().map(write::epoch).collect(),
        };
        // Strings and integers: nothing here can fail to serialise.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// The same without signatures, for verifiers that have pinned the header's id.
    #[must_use]
    pub fn checkpoint_relative(mut self) -> Self {
        self.at.finality = Finality::Checkpoint;
        self.at.epochs = Vec::new();
        self
    }
}

impl ReceiptVerifier {
    /// Verifies the text of a state document.
    pub fn verify_state_json(&self, text: &str) -> StateVerdict {
        match StateDocument::parse(text) {
            Ok(document) => self.verify_state(&document),
            Err(fault) => {
                let mut run = Run::default();
                let stop = run.check::<Passed>(CheckName::Format, Err(fault.to_string()));
                StateVerdict { verdict: verdict(run, stop, &[]), finding: None }
            }
        }
    }

    /// Verifies a state document.
    pub fn verify_state(&self, document: &StateDocument) -> StateVerdict {
        let mut run = Run::default();
        let mut finding = None;
        let outcome = self.run_state(&mut run, document).map(|(passed, found)| {
            finding = Some(found);
            passed
        });
        let verdict = verdict(run, outcome, &[]);
        StateVerdict { finding: finding.filter(|_| verdict.valid), verdict }
    }

    fn run_state(&self, run: &mut Run, document: &StateDocument) -> Result<(Passed, StateFinding), Stop> {
        let header = run.check(CheckName::Header, check_header(&document.at.header_bytes))?;
        let finding = run.check(CheckName::State, check_state(document, &header))?;
        let trust = self.check_final(run, &header, &document.at.finality, &document.at.epochs)?;
        Ok((Passed { records: Vec::new(), header, trust }, finding))
    }

    /// Checks the state documents among a receipt's external evidence against its record. Gives the items
    /// that are none, or are about something else.
    pub(crate) fn check_evidence(
        &self,
        run: &mut Run,
        record: &Record,
        external: &[String],
    ) -> Result<Vec<String>, Stop> {
        let mut others = Vec::new();
        for text in external {
            let Ok(document) = StateDocument::parse(text) else {
                others.push(text.clone());
                continue;
            };
            let name = match document.subject {
                StateSubject::Identity(address) if address == record.sender => CheckName::Signer,
                StateSubject::Delegation { principal, delegate }
                    if record.on_behalf_of == Some(principal) && delegate == record.sender =>
                {
                    CheckName::Delegation
                }
                _ => {
                    others.push(text.clone());
                    continue;
                }
            };
            run.check(name, self.judge_evidence(&document, record))?;
        }
        Ok(others)
    }

    fn judge_evidence(&self, document: &StateDocument, record: &Record) -> Found<()> {
        let StateVerdict { verdict, finding } = self.verify_state(document);
        let (Some(finding), Some(header)) = (finding, &verdict.header) else {
            let failed = verdict.failed().map(|check| format!("{}: {}", check.name, check.detail));
            return Err(failed.unwrap_or_else(|| "it does not verify".to_owned()));
        };
        if header.height < record.height {
            return Err(format!(
                "it is of block {}, before the record's block {}",
                header.height, record.height
            ));
        }
        match finding {
            StateFinding::Delegation(entry) => delegated(&entry, record),
            StateFinding::Identity(entry) => signed(Some(&entry), record),
            StateFinding::Absent => match document.subject {
                StateSubject::Identity(_) => signed(None, record),
                StateSubject::Delegation { .. } => Err("nothing was ever granted".to_owned()),
            },
        }
    }
}

fn check_state(document: &StateDocument, header: &Header) -> Found<StateFinding> {
    let proof: StateProof = decode(&document.proof_bytes).map_err(|error| error.to_string())?;
    let value =
        proof.verify(&document.subject.key(), header.state_root).map_err(|fault| fault.to_string())?;
    let Some(value) = value else {
        return Ok((
            StateFinding::Absent,
            format!("the state at height {} holds nothing of it", header.height),
        ));
    };
    let found = match document.subject {
        StateSubject::Identity(_) => {
            read_state_value(value).map(|entry| StateFinding::Identity(Box::new(entry)))
        }
        StateSubject::Delegation { .. } => read_state_value(value).map(StateFinding::Delegation),
    };
    let found = found.map_err(|error| error.to_string())?;
    Ok((found, format!("held by the state at height {}", header.height)))
}

/// Whether the key that signed a record was the sender's when it signed.
fn signed(entry: Option<&IdentityEntry>, record: &Record) -> Found<()> {
    let standing = match entry {
        Some(entry) => entry.standing(
            record.sender,
            record.key_address,
            Purpose::Assertion,
            record.height,
            record.time_ms,
        ),
        None if record.key_address == record.sender => KeyStanding::Valid { index: None, retired: None },
        None => KeyStanding::Unknown,
    };
    let said = format!("signed at height {} with {standing}", record.height);
    match standing {
        KeyStanding::Valid { .. } => Ok(((), said)),
        _ => Err(said),
    }
}

fn delegated(entry: &DelegationEntry, record: &Record) -> Found<()> {
    let (_, grant) = entry.in_force(record.height, record.time_ms).map_err(|lack| lack.to_string())?;
    if !grant.terms.scope.kinds.has(record.kind) {
        return Err(format!(
            "kind {} is outside the scope ({})",
            record.kind.name(),
            grant.terms.scope.kinds
        ));
    }
    if let Some(tree) = grant.terms.scope.tree
        && tree != record.tree
    {
        return Err(format!("tree {} is outside the scope ({})", record.tree.name(), tree.name()));
    }
    let ended = grant.until.map_or_else(String::new, |until| format!(", ended later at height {until}"));
    Ok(((), format!("granted at height {}, in force at height {}{ended}", grant.from, record.height)))
}
