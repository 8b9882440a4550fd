//! Every field and every length of every message and certificate, changed: nothing is accepted with another meaning.
//!
//! A valid message of real keys is taken apart byte by byte. Outside signatures and keys every bit is flipped and
//! every byte set to values that tags and counts like; inside, bytes are sampled. The bytes are cut at every
//! length, lengthened, and spliced with those of another valid message. What still decodes goes through the
//! verifier as in a node: certificates first and on their own, then the message, then a proposal's body.

#[path = "mutations/network.rs"]
mod network;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cairn_crypto::{Certificate, Verifier};
use cairn_types::certificate::{First, Second};
use cairn_types::node_record::SignedNodeRecord;
use cairn_types::{
    BlockCert, Message, Payload, Scheme, Signature, SignedTransaction, TimeoutCert, View, Vote, decode,
    encode,
};
use network::{CHAIN, NOW_MS, Network, ROOT, block_id, opaque_parts};

/// Inside a signature or key one byte in so many is changed, and the last ones all.
const SAMPLE_STEP: usize = 61;
/// The last 61 bytes of a signature of either scheme are hints, whose encoding is where schemes have been malleable.
const SIGNATURE_TAIL_BYTES: usize = 61;
/// Bytes put behind a message.
const EXTENSION_BYTES_MAX: usize = 40;

/// How far changed bytes got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Undecodable,
    Refused,
    Accepted,
}

type Judge<'a> = Box<dyn Fn(&Verifier, &[u8]) -> Fate + 'a>;

/// A valid message, what decides about changed ones, and counts.
struct Subject<'a> {
    name: &'static str,
    bytes: Vec<u8>,
    opaque: Vec<Range<usize>>,
    judge: Judge<'a>,
    /// Has seen the valid message: what it remembers must not serve another.
    warm: Verifier,
    tried: u64,
    refused: u64,
}

impl<'a> Subject<'a> {
    fn new(
        name: &'static str,
        bytes: Vec<u8>,
        opaque: &[Vec<u8>],
        judge: impl Fn(&Verifier, &[u8]) -> Fate + 'a,
    ) -> Self {
        let opaque = opaque.iter().flat_map(|part| places(&bytes, part)).collect();
        let warm = Verifier::new(CHAIN);
        assert_eq!(judge(&warm, &bytes), Fate::Accepted, "{name}: the valid one");
        assert_eq!(judge(&warm, &bytes), Fate::Accepted, "{name}: the valid one, remembered");
        Self { name, bytes, opaque, judge: Box::new(judge), warm, tried: 0, refused: 0 }
    }

    fn of_message(net: &'a Network, name: &'static str, message: &Message) -> Self {
        Self::of_messages(net, name, message, message)
    }

    /// As [`Self::of_message`], to be spliced with `other`, whose certificates are as good.
    fn of_messages(net: &'a Network, name: &'static str, message: &Message, other: &Message) -> Self {
        let known = [Certificate::of(message), Certificate::of(other)].concat();
        Self::new(name, encode(message), &opaque_parts(message), move |verifier, bytes| {
            judge_message(net, &known, verifier, bytes)
        })
    }

    fn refuse(&mut self, bytes: &[u8], what: impl FnOnce() -> String) {
        if bytes == self.bytes {
            return;
        }
        self.tried += 1;
        let mut fate = (self.judge)(&self.warm, bytes);
        if fate == Fate::Refused {
            self.refused += 1;
            if self.refused.is_multiple_of(64) {
                fate = (self.judge)(&Verifier::new(CHAIN), bytes); // also without memories
            }
        }
        assert_ne!(fate, Fate::Accepted, "{} accepted after {}", self.name, what());
    }

    fn is_opaque(&self, at: usize) -> bool {
        self.opaque.iter().any(|range| range.contains(&at))
    }

    /// Bytes outside signatures and keys.
    fn structured(&self) -> Vec<usize> {
        (0..self.bytes.len()).filter(|at| !self.is_opaque(*at)).collect()
    }

    fn change(&mut self, at: usize, value: u8) {
        let mut bytes = self.bytes.clone();
        bytes[at] = value;
        self.refuse(&bytes, || format!("byte {at} became {value:#04x}"));
    }

    /// Every bit, and the values that tags, counts and lengths like.
    fn change_fields(&mut self) {
        for at in self.structured() {
            let byte = self.bytes[at];
            let mut values: Vec<u8> = (0..8).map(|bit| byte ^ 1 << bit).collect();
            values.extend([0, 1, 2, 0xff, byte.wrapping_add(1), byte.wrapping_sub(1)]);
            values.sort_unstable();
            values.dedup();
            values.into_iter().for_each(|value| self.change(at, value));
        }
    }

    fn change_signatures(&mut self) {
        for range in self.opaque.clone() {
            for at in range.clone().step_by(SAMPLE_STEP) {
                self.change(at, self.bytes[at] ^ 1 << (at % 8));
            }
            for at in range.end - SIGNATURE_TAIL_BYTES..range.end {
                self.change(at, self.bytes[at] ^ 1 << (at % 8));
            }
        }
    }

    /// Cut at every length, lengthened by anything, and one byte less or more at every place.
    fn change_lengths(&mut self) {
        let whole = self.bytes.clone();
        for length in 0..whole.len() {
            self.refuse(&whole[..length], || format!("a cut to {length} bytes"));
        }
        for extra in 1..=EXTENSION_BYTES_MAX {
            for filler in [vec![0; extra], vec![0xff; extra], whole[..extra].to_vec()] {
                let bytes = [whole.as_slice(), &filler].concat();
                self.refuse(&bytes, || format!("{extra} bytes more at the end"));
            }
        }
        for at in self.structured() {
            let (head, tail) = whole.split_at(at);
            self.refuse(&[head, &tail[1..]].concat(), || format!("byte {at} taken out"));
            self.refuse(&[head, &[0], tail].concat(), || format!("a zero put in before byte {at}"));
        }
    }

    /// Fields of another valid message of the same length: everything from one place on, and single fields.
    fn splice(&mut self, other: &[u8]) {
        let whole = self.bytes.clone();
        assert_eq!(whole.len(), other.len(), "{}: messages to splice", self.name);
        for at in self.structured() {
            let bytes = [&whole[..at], &other[at..]].concat();
            if bytes != other {
                self.refuse(&bytes, || format!("everything from byte {at} on is another's"));
            }
            for width in [1, 2, 8, 32] {
                let end = whole.len().min(at + width);
                let bytes = [&whole[..at], &other[at..end], &whole[end..]].concat();
                self.refuse(&bytes, || format!("bytes {at} to {end} are another's"));
            }
        }
        for range in self.opaque.clone() {
            let bytes = [&whole[..range.start], &other[range.clone()], &whole[range.end..]].concat();
            self.refuse(&bytes, || format!("the signature at byte {} is another's", range.start));
        }
    }

    fn all(mut self, other: &[u8]) {
        self.change_fields();
        self.change_signatures();
        self.change_lengths();
        self.splice(other);
        println!(
            "{}: {} bytes, {} of them structured; {} changes, {} decoded and were refused, 0 accepted",
            self.name,
            self.bytes.len(),
            self.structured().len(),
            self.tried,
            self.refused
        );
        assert!(self.tried > 3_000 && self.refused > 100, "{}: too few changes", self.name);
    }
}

/// Everywhere `part` is found in `bytes`.
fn places(bytes: &[u8], part: &[u8]) -> Vec<Range<usize>> {
    let found = (0..bytes.len().saturating_sub(part.len()) + 1).filter(|at| bytes[*at..].starts_with(part));
    let found: Vec<_> = found.map(|at| at..at + part.len()).collect();
    assert!(!found.is_empty(), "a part of the message is not in its bytes");
    found
}

fn judge_message(net: &Network, known: &[Certificate], verifier: &Verifier, bytes: &[u8]) -> Fate {
    let Ok(message) = decode::<Message>(bytes) else { return Fate::Undecodable };
    assert_eq!(encode(&message), bytes, "one message has two encodings");
    for certificate in Certificate::of(&message) {
        let good = verifier.certificate(&net.set, ROOT, certificate.clone()).is_ok();
        assert!(!good || known.contains(&certificate), "a certificate that nobody made: {certificate:?}");
    }
    let set = &net.set;
    let good = match message {
        // What the verifier leaves to the replica: the body is the one that the header names.
        Message::Proposal(m) => m.block.matches_tx_root() && verifier.proposal(set, ROOT, m).is_ok(),
        Message::Vote(m) => verifier.vote(set, m).is_ok(),
        Message::CommitVote(m) => verifier.commit_vote(set, m).is_ok(),
        Message::Timeout(m) => verifier.timeout(set, ROOT, m).is_ok(),
        Message::Certificate(m) => verifier.block_cert(set, ROOT, m).is_ok(),
        Message::TimeoutCert(m) => verifier.timeout_cert(set, ROOT, m).is_ok(),
        Message::CommitCert(m) => verifier.commit_cert(set, m).is_ok(),
        Message::EpochProof(m) => verifier.epoch_proof(set, m).is_ok(),
        Message::Status(_) => panic!("a signed message became a status"),
    };
    if good { Fate::Accepted } else { Fate::Refused }
}

fn for_both_schemes(check: impl Fn(&Network)) {
    for scheme in Scheme::ALL {
        println!("{scheme}");
        check(&Network::new(scheme));
    }
}

#[test]
fn a_changed_vote_is_refused() {
    for_both_schemes(|net| {
        let message = Message::Vote(net.ballot::<First>(5, block_id(1), 2));
        let other = Message::Vote(net.ballot::<First>(6, block_id(2), 1));
        Subject::of_message(net, "Vote", &message).all(&encode(&other));
    });
}

#[test]
fn a_changed_commit_vote_is_refused() {
    for_both_schemes(|net| {
        let message = Message::CommitVote(net.ballot::<Second>(5, block_id(1), 2));
        let other = Message::CommitVote(net.ballot::<Second>(6, block_id(2), 1));
        Subject::of_message(net, "CommitVote", &message).all(&encode(&other));
    });
}

#[test]
fn a_changed_quorum_certificate_is_refused() {
    for_both_schemes(|net| {
        let message = Message::Certificate(net.quorum(5, block_id(1)));
        let other = Message::Certificate(net.quorum(6, block_id(2)));
        Subject::of_message(net, "QuorumCert", &message).all(&encode(&other));
    });
}

#[test]
fn a_changed_commit_certificate_is_refused() {
    for_both_schemes(|net| {
        let (cert, other) = (net.commit(5, block_id(1)), net.commit(6, block_id(2)));
        let message = Message::CommitCert(cert.clone());
        Subject::of_message(net, "CommitCert", &message).all(&encode(&Message::CommitCert(other.clone())));
        let message = Message::Certificate(BlockCert::Commit(cert));
        let other = Message::Certificate(BlockCert::Commit(other));
        Subject::of_message(net, "CommitCert as a block's", &message).all(&encode(&other));
    });
}

#[test]
fn a_changed_timeout_certificate_is_refused() {
    for_both_schemes(|net| {
        let high_qc = net.quorum(4, block_id(1));
        let message = Message::TimeoutCert(net.timeout_cert(6, &high_qc));
        let other = Message::TimeoutCert(net.timeout_cert(7, &high_qc));
        Subject::of_message(net, "TimeoutCert", &message).all(&encode(&other));
    });
}

#[test]
fn a_changed_timeout_is_refused() {
    for_both_schemes(|net| {
        let high_qc = net.quorum(4, block_id(1));
        let (tc, later) = (net.timeout_cert(5, &high_qc), net.timeout_cert(6, &high_qc));
        let message = Message::Timeout(net.timeout(6, 1, &high_qc, &tc));
        let other = Message::Timeout(net.timeout(7, 2, &high_qc, &later));
        Subject::of_messages(net, "Timeout", &message, &other).all(&encode(&other));
    });
}

#[test]
fn a_changed_proposal_is_refused() {
    for_both_schemes(|net| {
        let justify = net.quorum(4, block_id(1));
        let (tc, later) = (net.timeout_cert(5, &justify), net.timeout_cert(6, &justify));
        let message = Message::Proposal(net.proposal(6, &justify, &tc));
        let other = Message::Proposal(net.proposal(7, &justify, &later));
        Subject::of_messages(net, "Proposal", &message, &other).all(&encode(&other));
    });
}

#[test]
fn a_changed_epoch_proof_is_refused() {
    for_both_schemes(|net| {
        let message = Message::EpochProof(net.epoch_proof(5));
        let other = Message::EpochProof(net.epoch_proof(6));
        Subject::of_message(net, "EpochProof", &message).all(&encode(&other));
    });
}

/// The accused's signatures are not those of the transaction: they too must be over exactly what is said.
#[test]
fn changed_evidence_is_refused() {
    for_both_schemes(|net| {
        let signed = net.evidence([1, 2]);
        let keys = vec![net.set.validators()[0].key.clone(), net.set.validators()[2].key.clone()];
        let judge = |verifier: &Verifier, bytes: &[u8]| {
            let Ok(signed) = decode::<SignedTransaction>(bytes) else { return Fate::Undecodable };
            let good = verifier.transaction(Arc::new(signed), bytes.len(), keys.clone()).is_ok();
            if good { Fate::Accepted } else { Fate::Refused }
        };
        let Payload::Evidence(evidence) = &signed.transaction.payload else { panic!("evidence") };
        let mut parts: Vec<_> = evidence.signed(CHAIN).map(|(_, it)| it.as_bytes().to_vec()).into();
        parts.push(signed.signatures[0].as_bytes().to_vec());
        parts.push(keys[0].as_bytes().to_vec());
        Subject::new("Evidence", encode(signed.as_ref()), &parts, judge)
            .all(&encode(net.evidence([1, 3]).as_ref()));
        let swapped = vec![keys[0].clone(), net.set.validators()[1].key.clone()];
        let bytes = encode(signed.as_ref()).len();
        assert!(
            Verifier::new(CHAIN).transaction(signed, bytes, swapped).is_err(),
            "of another than the accused"
        );
    });
}

#[test]
fn a_changed_node_record_is_refused() {
    for_both_schemes(|net| {
        let record = net.node_record(2, 1);
        let parts = [record.signature.as_bytes().to_vec()];
        let judge = |verifier: &Verifier, bytes: &[u8]| {
            let Ok(record) = decode::<SignedNodeRecord>(bytes) else { return Fate::Undecodable };
            assert_eq!(encode(&record), bytes, "one record has two encodings");
            let good = verifier.node_record(&net.set, NOW_MS, record).is_ok();
            if good { Fate::Accepted } else { Fate::Refused }
        };
        Subject::new("NodeRecord", encode(&record), &parts, judge).all(&encode(&net.node_record(1, 2)));
    });
}

type Change = fn(&mut TimeoutCert);

/// Whole parts of a timeout certificate left out, repeated, exchanged or claimed for another view.
#[test]
fn a_timeout_certificate_of_rearranged_parts_is_refused() {
    for_both_schemes(|net| {
        let (high_qc, older) = (net.quorum(4, block_id(1)), net.quorum(1, block_id(2)));
        let good = net.timeout_cert(6, &high_qc);
        let verifier = Verifier::new(CHAIN);
        assert!(verifier.timeout_cert(&net.set, ROOT, good.clone()).is_ok());
        let changes: [(&str, Change); 8] = [
            ("one entry less", |cert| drop(cert.entries.pop())),
            ("an entry twice", |cert| cert.entries.push(cert.entries[2].clone())),
            ("an entry for another", |cert| cert.entries[1] = cert.entries[0].clone()),
            ("entries out of order", |cert| cert.entries.swap(0, 1)),
            ("signatures exchanged", |cert| {
                let (first, second) = (cert.entries[0].signature.clone(), cert.entries[2].signature.clone());
                cert.entries[0].signature = second;
                cert.entries[2].signature = first;
            }),
            ("a lower view claimed", |cert| cert.entries[0].high_qc_view = View::new(1)),
            ("all claim nothing", |cert| {
                cert.entries.iter_mut().for_each(|entry| entry.high_qc_view = View::ZERO);
            }),
            ("an unsigned entry", |cert| cert.entries[1].signature = Signature::empty()),
        ];
        for (what, change) in changes {
            let mut changed = good.as_ref().clone();
            change(&mut changed);
            let verdict = verifier.timeout_cert(&net.set, ROOT, changed.into());
            assert!(verdict.is_err(), "accepted with {what}");
        }
        let mut lower = good.as_ref().clone();
        lower.high_qc = older;
        assert!(
            verifier.timeout_cert(&net.set, ROOT, lower.into()).is_err(),
            "accepted with less than claimed"
        );
    });
}

type Forget = fn(&mut Vote, &Vote);

/// The canary: a verifier for which one field of a vote did not count would be found.
#[test]
fn a_field_that_is_not_covered_is_found() {
    let net = Network::new(Scheme::MlDsa65);
    let original: Vote = net.ballot::<First>(5, block_id(1), 2);
    let fields: [(&str, Forget); 5] = [
        ("epoch", |vote, original| vote.epoch = original.epoch),
        ("view", |vote, original| vote.view = original.view),
        ("block", |vote, original| vote.block = original.block),
        ("validator", |vote, original| vote.validator = original.validator),
        ("signature", |vote, original| vote.signature = original.signature.clone()),
    ];
    let other = encode(&net.ballot::<First>(6, block_id(2), 1));
    for (field, forget) in fields {
        let judge = |verifier: &Verifier, bytes: &[u8]| {
            let Ok(mut vote) = decode::<Vote>(bytes) else { return Fate::Undecodable };
            forget(&mut vote, &original);
            if verifier.vote(&net.set, vote).is_ok() { Fate::Accepted } else { Fate::Refused }
        };
        let parts = [original.signature.as_bytes().to_vec()];
        let subject = Subject::new("Vote", encode(&original), &parts, judge);
        let found = catch_unwind(AssertUnwindSafe(|| subject.all(&other)));
        assert!(found.is_err(), "a vote whose {field} does not count passes");
    }
}
