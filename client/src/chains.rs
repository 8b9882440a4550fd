//! Chains of proofs along `previous`, verified from end to end.

use std::collections::BTreeMap;

use cairn_types::{ProofId, Record, decode};
use serde_json::json;

use crate::answers::{self, Read};
use crate::fault::ClientFault;
use crate::log::BUNDLE_RECORDS_MAX;
use crate::transport::Client;

/// Proofs of one chain that are followed, at most: bounds what a node can make a client fetch.
pub const CHAIN_PROOFS_MAX: usize = 10_000;

/// A proof and those before it, newest first. Each record was verified: it is in a log that a quorum made final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProofChain {
    /// The records, newest first; each names the next as its `previous`, and was anchored after it.
    pub records: Vec<Record>,
    /// Whether the last record is the start of the chain.
    pub complete: bool,
    /// Why the walk ended before the start, naming the link.
    pub broken: Option<String>,
}

impl ProofChain {
    /// Whether every link holds, back to the start.
    pub const fn is_whole(&self) -> bool {
        self.complete && self.broken.is_none()
    }

    /// Takes the next record of the walk in, or says why it is none.
    fn continue_with(&mut self, expected: ProofId, record: Record) -> Result<(), String> {
        if record.proof_id != expected {
            return Err(format!("proof {expected} is asked for, the node gives {}", record.proof_id));
        }
        if let Some(newer) = self.records.last()
            && record.seq >= newer.seq
        {
            return Err(format!(
                "proof {} (number {}) continues proof {} (number {}), which was not anchored before it",
                newer.proof_id, newer.seq, record.proof_id, record.seq
            ));
        }
        self.complete = record.previous.is_none();
        self.records.push(record);
        Ok(())
    }

    /// The proof that comes next in the walk.
    fn next(&self) -> Option<ProofId> {
        self.records.last().and_then(|record| record.previous)
    }
}

impl Client {
    /// A proof and those before it along `previous`, at most [`CHAIN_PROOFS_MAX`]: every record verified against the
    /// genesis, every link checked here. A link that does not hold ends the walk and is named.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` when the proof is not anchored; [`ClientFault::ReceiptRefused`] when a record
    /// does not verify.
    pub async fn proof_chain(&self, proof: ProofId) -> Result<ProofChain, ClientFault> {
        let mut chain = ProofChain { records: Vec::new(), complete: false, broken: None };
        let mut next = Some(proof);
        while let Some(start) = next.filter(|_| chain.broken.is_none()) {
            if chain.records.len() >= CHAIN_PROOFS_MAX {
                chain.broken = Some(format!("the chain has more than {CHAIN_PROOFS_MAX} proofs"));
                break;
            }
            let records = match self.chain_page(start).await {
                Err(fault) if fault.is_kind("not_found") && !chain.records.is_empty() => Vec::new(),
                page => self.verified_records(page?).await?,
            };
            if records.is_empty() {
                chain.broken = Some(format!("proof {start} is continued, but is not anchored"));
            }
            for record in records {
                let Some(expected) = chain.next().or_else(|| chain.records.is_empty().then_some(proof))
                else {
                    break;
                };
                if let Err(why) = chain.continue_with(expected, record) {
                    chain.broken = Some(why);
                    break;
                }
            }
            next = chain.next();
        }
        Ok(chain)
    }

    /// The records that a node gives from `start` on.
    async fn chain_page(&self, start: ProofId) -> Result<Vec<Record>, ClientFault> {
        let read = |value: &serde_json::Value| -> Read<Vec<Record>> { answers::records(value, "items") };
        self.read("proof_chain", json!({ "proof_id": start.to_string() }), read).await
    }

    /// The same records in the same order, each as the log has it under a header that verifies.
    async fn verified_records(&self, said: Vec<Record>) -> Result<Vec<Record>, ClientFault> {
        let mut seqs: Vec<u64> = said.iter().map(|record| record.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let mut held: BTreeMap<u64, Record> = BTreeMap::new();
        for seqs in seqs.chunks(BUNDLE_RECORDS_MAX) {
            let core = self.receipt_bundle(seqs, None, false).await?;
            for bytes in &core.records {
                if let Ok(record) = decode::<Record>(bytes) {
                    held.insert(record.seq, record);
                }
            }
        }
        let refused = |record: &Record| ClientFault::ReceiptRefused {
            url: self.nodes().join(", "),
            check: "record".to_owned(),
            detail: format!("number {} of the log is not the record that proof_chain gives", record.seq),
        };
        for record in &said {
            if held.get(&record.seq) != Some(record) {
                return Err(refused(record));
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::record::Landing;
    use cairn_types::{Address, Hash, Height, Proof, ProofKind, TreeKind, TxId};

    fn record(id: u8, seq: u64, previous: Option<u8>) -> Record {
        let proof = Proof {
            kind: ProofKind::Batch,
            tree: TreeKind::CairnB3V1,
            root: Hash([id; 32]),
            leaves: 1,
            reference: String::new(),
            previous: previous.map(|id| ProofId::new(Hash([id; 32]))),
            subject: None,
            on_behalf_of: None,
            metadata: Vec::new(),
        };
        let landing = Landing {
            seq,
            proof_id: ProofId::new(Hash([id; 32])),
            sender: Address::new(Hash([9; 32])),
            key_address: Address::new(Hash([9; 32])),
            tx_id: TxId::new(Hash([8; 32])),
            height: Height::new(seq),
            time_ms: seq,
        };
        Record::new(&proof, landing)
    }

    fn walk(records: Vec<Record>) -> (ProofChain, Option<String>) {
        let mut chain = ProofChain { records: Vec::new(), complete: false, broken: None };
        let mut asked = Some(ProofId::new(Hash([3; 32])));
        for record in records {
            let expected = asked.expect("the walk goes on");
            if let Err(why) = chain.continue_with(expected, record) {
                return (chain, Some(why));
            }
            asked = chain.next();
        }
        (chain, None)
    }

    #[test]
    fn a_chain_is_whole_only_when_every_link_leads_back_to_a_start() {
        let (chain, broken) = walk(vec![record(3, 7, Some(2)), record(2, 5, Some(1)), record(1, 0, None)]);
        assert!(broken.is_none() && chain.is_whole() && chain.records.len() == 3);
        let (chain, broken) = walk(vec![record(3, 7, Some(2)), record(2, 5, Some(1))]);
        assert!(broken.is_none() && !chain.is_whole(), "its start is missing");
        let (_, broken) = walk(vec![record(3, 7, Some(2)), record(1, 5, None)]);
        assert!(broken.is_some_and(|why| why.contains("is asked for, the node gives")));
        let (_, broken) = walk(vec![record(3, 7, Some(2)), record(2, 7, None)]);
        assert!(broken.is_some_and(|why| why.contains("which was not anchored before it")));
        let (_, broken) = walk(vec![record(4, 7, None)]);
        assert!(broken.is_some(), "another proof than was asked for");
    }
}
