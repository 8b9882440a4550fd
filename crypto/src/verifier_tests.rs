use super::*;
use crate::key_pair::KeyPair;
use cairn_types::Message;
use cairn_types::certificate::{First, Second, TimeoutEntry};
use cairn_types::message::CertReference;
use cairn_types::node_record::{NODE_RECORD_LIFE_MAX_MS, NodeRecord, SignedNodeRecord};
use cairn_types::{Block, Genesis, Params, QuorumCert, Scheme, Validator, decode};

const ROOT: BlockId = BlockId::new(Hash([3; 32]));
const EPOCH: Epoch = Epoch::ZERO;

/// Four validators of equal power, with the keys in set order.
struct Network {
    chain: ChainId,
    set: ValidatorSet,
    keys: Vec<KeyPair>,
}

impl Network {
    fn new(scheme: Scheme) -> Self {
        let mut keys: Vec<_> = (0..4).map(|_| KeyPair::generate(scheme)).collect();
        keys.sort_by_key(KeyPair::address);
        let validators = keys
            .iter()
            .map(|key| Validator { address: key.address(), key: key.public().clone(), power: 1 })
            .collect();
        let chain = ChainId::new(Hash([7; 32]));
        Self { chain, set: ValidatorSet::new(EPOCH, validators).unwrap(), keys }
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(self.chain)
    }

    fn ballot<P: Phase>(&self, view: u64, block: BlockId, validator: u16) -> Ballot<P> {
        let empty = Signature::new(&[]).unwrap();
        let mut vote = Ballot::<P>::new(EPOCH, View::new(view), block, ValidatorIndex(validator), empty);
        vote.signature = self.keys[usize::from(validator)].sign(&vote.preimage(self.chain));
        vote
    }

    fn cert<P: Phase>(&self, view: u64, block: BlockId, signers: &[u16]) -> BallotCert<P> {
        let votes = signers
            .iter()
            .map(|index| (ValidatorIndex(*index), self.ballot::<P>(view, block, *index).signature))
            .collect();
        BallotCert::new(EPOCH, View::new(view), block, self.set.count(), votes)
    }

    fn quorum(&self, view: u64) -> BlockCert {
        BlockCert::Quorum(Arc::new(self.cert::<First>(view, block_id(view), &[0, 1, 3])))
    }

    fn timeout_cert(&self, view: u64, high_qc: BlockCert) -> Arc<TimeoutCert> {
        let mut cert = TimeoutCert { epoch: EPOCH, view: View::new(view), entries: Vec::new(), high_qc };
        for index in [0u16, 2, 3] {
            let high_qc_view = if index == 2 { View::ZERO } else { cert.high_qc.view() };
            let empty = Signature::new(&[]).unwrap();
            let mut entry = TimeoutEntry { validator: ValidatorIndex(index), high_qc_view, signature: empty };
            entry.signature = self.keys[usize::from(index)].sign(&cert.preimage(self.chain, &entry));
            cert.entries.push(entry);
        }
        Arc::new(cert)
    }

    fn timeout(&self, view: u64, high_qc: BlockCert, tc: Option<Arc<TimeoutCert>>) -> Timeout {
        let mut timeout = Timeout {
            epoch: EPOCH,
            view: View::new(view),
            high_qc_view: high_qc.view(),
            high_qc: Carried::Inline(high_qc),
            tc: tc.map(Carried::Inline),
            validator: ValidatorIndex(1),
            signature: Signature::new(&[]).unwrap(),
        };
        timeout.signature = self.keys[1].sign(&timeout.preimage(self.chain));
        timeout
    }

    fn proposal(&self, view: u64, justify: BlockCert, tc: Option<Arc<TimeoutCert>>) -> Proposal {
        let genesis = Genesis {
            version: 1,
            name: "t".into(),
            time_ms: 1,
            params: Params::default(),
            admission: cairn_types::Admission::Open,
            validators: self.set.validators().to_vec(),
        };
        let mut header = genesis.header(Hash([1; 32])).unwrap();
        header.chain = self.chain;
        header.view = View::new(view);
        header.proposer = self.set.leader(header.view);
        header.parent = justify.block();
        header.parent_view = justify.view();
        let signer = &self.keys[usize::from(header.proposer.0)];
        let mut proposal = Proposal {
            block: Arc::new(Block::new(header, Vec::new())),
            justify: Carried::Inline(justify),
            tc: tc.map(Carried::Inline),
            signature: Signature::new(&[]).unwrap(),
        };
        proposal.signature = signer.sign(&proposal.preimage(self.chain));
        proposal
    }
}

fn block_id(view: u64) -> BlockId {
    BlockId::new(Hash([view as u8 + 10; 32]))
}

fn root() -> BlockCert {
    BlockCert::Root { epoch: EPOCH, block: ROOT }
}

fn reference() -> CertReference {
    CertReference { epoch: EPOCH, view: View::new(1), block: ROOT, signers: vec![7], digest: Hash([0; 32]) }
}

#[test]
fn votes_of_both_phases_verify_and_no_field_may_change() {
    for scheme in Scheme::ALL {
        let net = Network::new(scheme);
        let verifier = net.verifier();
        let vote: Vote = net.ballot(3, block_id(3), 2);
        assert!(verifier.vote(&net.set, vote.clone()).is_ok());
        let commit: CommitVote = net.ballot(3, block_id(3), 2);
        assert!(verifier.commit_vote(&net.set, commit.clone()).is_ok());
        // A signature of one phase is none of the other.
        let crossed = CommitVote::new(EPOCH, vote.view, vote.block, vote.validator, vote.signature.clone());
        assert!(matches!(verifier.commit_vote(&net.set, crossed), Err(MessageFault::Signature { .. })));
        let crossed = Vote::new(EPOCH, commit.view, commit.block, commit.validator, commit.signature);
        assert!(matches!(verifier.vote(&net.set, crossed), Err(MessageFault::Signature { .. })));

        let bytes = encode(&vote);
        for bit in (0..8 * 50).chain((8 * 50..bytes.len() * 8).step_by(331)) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = decode::<Vote>(&changed) {
                assert!(verifier.vote(&net.set, changed).is_err(), "bit {bit}");
            }
        }
    }
}

#[test]
fn another_chain_s_vote_is_refused() {
    let net = Network::new(Scheme::MlDsa65);
    let other = Verifier::new(ChainId::new(Hash([8; 32])));
    let vote: Vote = net.ballot(3, block_id(3), 2);
    let refused = other.vote(&net.set, vote);
    assert!(matches!(refused, Err(MessageFault::Signature { .. })));
}

#[test]
fn votes_of_strangers_of_view_zero_and_of_other_epochs_are_refused_without_cryptography() {
    let net = Network::new(Scheme::MlDsa65);
    let verifier = net.verifier();
    let mut vote: Vote = net.ballot(3, block_id(3), 2);
    vote.validator = ValidatorIndex(4);
    let fault = verifier.vote(&net.set, vote.clone()).unwrap_err();
    assert_eq!(fault, MessageFault::UnknownValidator { index: ValidatorIndex(4), count: 4 });
    vote.view = View::ZERO;
    assert_eq!(verifier.vote(&net.set, vote.clone()).unwrap_err(), MessageFault::ViewZero);
    vote.epoch = Epoch::new(1);
    let fault = verifier.vote(&net.set, vote).unwrap_err();
    assert_eq!(fault, MessageFault::WrongEpoch { got: Epoch::new(1), expected: EPOCH });
    assert!(!fault.is_peers_fault());
    assert_eq!(verifier.remembered(), (0, 0, 0));
}

#[test]
fn certificates_verify_and_no_bit_of_them_may_change() {
    for scheme in Scheme::ALL {
        let net = Network::new(scheme);
        let verifier = net.verifier();
        let cert = Arc::new(net.cert::<Second>(4, block_id(4), &[0, 1, 3]));
        assert!(verifier.commit_cert(&net.set, Arc::clone(&cert)).is_ok());
        let all = Arc::new(net.cert::<Second>(4, block_id(4), &[0, 1, 2, 3]));
        assert!(verifier.commit_cert(&net.set, all).is_ok());
        let bytes = encode(cert.as_ref());
        for bit in (0..8 * 62).chain((8 * 62..bytes.len() * 8).step_by(317)) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = decode::<CommitCert>(&changed) {
                assert!(verifier.commit_cert(&net.set, Arc::new(changed)).is_err(), "bit {bit}");
            }
        }
        // A quorum of first votes is no commit certificate, whoever relabels it.
        let votes = net.cert::<First>(4, block_id(4), &[0, 1, 3]);
        let relabelled: CommitCert = decode(&encode(&votes)).unwrap();
        assert!(verifier.commit_cert(&net.set, Arc::new(relabelled)).is_err());
    }
}

#[test]
fn the_shape_of_a_certificate_is_checked_first() {
    let net = Network::new(Scheme::MlDsa65);
    let verifier = net.verifier();
    let two = QuorumCert::new(EPOCH, View::new(4), ROOT, 4, Vec::new());
    let fault = verifier.block_cert(&net.set, ROOT, BlockCert::Quorum(Arc::new(two))).unwrap_err();
    assert!(matches!(
        fault,
        MessageFault::Certificate { kind: CertKind::Quorum, fault: CertFault::NoQuorum { .. } }
    ));
    let mut surplus = net.cert::<First>(4, block_id(4), &[0, 1, 2]);
    surplus.signatures.push(surplus.signatures[0].clone());
    let fault = verifier.block_cert(&net.set, ROOT, BlockCert::Quorum(Arc::new(surplus))).unwrap_err();
    assert!(fault.is_peers_fault());
    assert!(fault.to_string().contains("4 signatures for 3 signers"), "{fault}");
    // Signatures of the right validators in the wrong places.
    let mut swapped = net.cert::<First>(4, block_id(4), &[0, 1, 2]);
    swapped.signatures.swap(0, 1);
    let fault = verifier.block_cert(&net.set, ROOT, BlockCert::Quorum(Arc::new(swapped))).unwrap_err();
    assert!(matches!(fault, MessageFault::CertificateSignature { kind: CertKind::Quorum, .. }));
    assert_eq!(verifier.remembered().1, 0);
}

#[test]
fn the_implicit_certificate_names_the_epoch_and_its_root() {
    let net = Network::new(Scheme::MlDsa65);
    let verifier = net.verifier();
    assert!(verifier.block_cert(&net.set, ROOT, root()).is_ok());
    let fault = verifier.block_cert(&net.set, block_id(1), root()).unwrap_err();
    assert_eq!(fault, MessageFault::WrongRoot { epoch: EPOCH, got: ROOT, expected: block_id(1) });
    let later = BlockCert::Root { epoch: Epoch::new(1), block: ROOT };
    assert!(matches!(verifier.block_cert(&net.set, ROOT, later), Err(MessageFault::WrongEpoch { .. })));
}

#[test]
fn each_signature_and_each_certificate_is_verified_once() {
    let net = Network::new(Scheme::Dilithium3);
    let verifier = net.verifier();
    let votes: Vec<Vote> = [0, 1, 3].map(|index| net.ballot(4, block_id(4), index)).to_vec();
    for vote in &votes {
        verifier.vote(&net.set, vote.clone()).unwrap();
    }
    let parts = votes.iter().map(|vote| (vote.validator, vote.signature.clone())).collect();
    let cert = Arc::new(QuorumCert::new(EPOCH, View::new(4), block_id(4), 4, parts));
    verifier.block_cert(&net.set, ROOT, BlockCert::Quorum(Arc::clone(&cert))).unwrap();
    assert_eq!(verifier.remembered(), (3, 1, 0), "the certificate's signatures are those of the votes");

    // A remembered certificate costs no signature check at all.
    let fresh = net.verifier();
    fresh.remember(&net.set, &BlockCert::Quorum(cert));
    let tc = net.timeout_cert(5, net.quorum(4));
    fresh.remember_timeout(&net.set, &tc);
    fresh.timeout_cert(&net.set, ROOT, tc).unwrap();
    assert_eq!(fresh.remembered().0, 0);
}

#[test]
fn a_memory_of_one_set_does_not_serve_another() {
    let (net, other) = (Network::new(Scheme::MlDsa65), Network::new(Scheme::MlDsa65));
    let verifier = net.verifier();
    let cert = net.quorum(4);
    verifier.block_cert(&net.set, ROOT, cert.clone()).unwrap();
    for _ in 0..3 {
        assert!(verifier.block_cert(&other.set, ROOT, cert.clone()).is_err());
    }
}

#[test]
fn timeout_certificates_verify_and_no_field_may_change() {
    for scheme in Scheme::ALL {
        let net = Network::new(scheme);
        let verifier = net.verifier();
        let tc = net.timeout_cert(5, net.quorum(4));
        assert!(verifier.timeout_cert(&net.set, ROOT, Arc::clone(&tc)).is_ok());
        assert!(verifier.timeout_cert(&net.set, ROOT, net.timeout_cert(1, root())).is_ok());
        assert!(verifier.timeout_cert(&net.set, block_id(9), net.timeout_cert(1, root())).is_err());
        let bytes = encode(tc.as_ref());
        for bit in (0..8 * 36).chain((8 * 36..bytes.len() * 8).step_by(311)) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = decode::<TimeoutCert>(&changed) {
                assert!(verifier.timeout_cert(&net.set, ROOT, Arc::new(changed)).is_err(), "bit {bit}");
            }
        }
    }
}

#[test]
fn a_timeout_needs_proof_of_entry_and_a_certificate_as_high_as_it_claims() {
    let net = Network::new(Scheme::MlDsa65);
    let verifier = net.verifier();
    let check = |timeout: Timeout| verifier.timeout(&net.set, ROOT, timeout).map(drop);
    assert_eq!(check(net.timeout(1, root(), None)), Ok(()));
    assert_eq!(check(net.timeout(5, net.quorum(4), None)), Ok(()));
    assert_eq!(check(net.timeout(6, net.quorum(4), Some(net.timeout_cert(5, net.quorum(4))))), Ok(()));
    // Re-sent with a higher certificate than was signed.
    let mut higher = net.timeout(5, net.quorum(2), Some(net.timeout_cert(4, net.quorum(2))));
    higher.high_qc = Carried::Inline(net.quorum(3));
    assert_eq!(check(higher.clone()), Ok(()));

    higher.high_qc = Carried::Inline(net.quorum(1));
    let low = MessageFault::HighCertificateTooLow { signed: View::new(2), carried: View::new(1) };
    assert_eq!(check(higher.clone()), Err(low));
    higher.high_qc = Carried::Inline(net.quorum(5));
    assert!(matches!(check(higher), Err(MessageFault::CertificateNotBelow { .. })));
    let bare = check(net.timeout(6, net.quorum(4), None));
    assert!(matches!(bare, Err(MessageFault::TimeoutCertMissing { .. })));
    let stale = check(net.timeout(7, net.quorum(4), Some(net.timeout_cert(5, net.quorum(4)))));
    let expected = View::new(6);
    assert_eq!(stale, Err(MessageFault::TimeoutCertView { got: View::new(5), expected }));
    let mut lying = net.timeout(5, net.quorum(4), None);
    lying.high_qc_view = View::new(3);
    assert!(matches!(check(lying), Err(MessageFault::Signature { .. })));
    let mut named = net.timeout(5, net.quorum(4), None);
    named.high_qc = Carried::Reference(reference());
    let fault = check(named).unwrap_err();
    assert!(matches!(fault, MessageFault::Unresolved(_)) && !fault.is_peers_fault());
}

#[test]
fn a_proposal_is_its_leaders_and_carries_exactly_what_it_needs() {
    for scheme in Scheme::ALL {
        let net = Network::new(scheme);
        let verifier = net.verifier();
        let check = |proposal: Proposal| verifier.proposal(&net.set, ROOT, proposal).map(drop);
        assert_eq!(check(net.proposal(1, root(), None)), Ok(()));
        assert_eq!(check(net.proposal(5, net.quorum(4), None)), Ok(()));
        let commit = BlockCert::Commit(Arc::new(net.cert::<Second>(4, block_id(4), &[1, 2, 3])));
        assert_eq!(check(net.proposal(5, commit, None)), Ok(()));
        let tc = net.timeout_cert(5, net.quorum(4));
        assert_eq!(check(net.proposal(6, net.quorum(4), Some(Arc::clone(&tc)))), Ok(()));

        let unneeded = net.proposal(6, net.quorum(5), Some(Arc::clone(&tc)));
        assert_eq!(check(unneeded), Err(MessageFault::TimeoutCertUnneeded));
        let bare = check(net.proposal(6, net.quorum(4), None));
        assert!(matches!(bare, Err(MessageFault::TimeoutCertMissing { .. })));
        let stale = check(net.proposal(7, net.quorum(4), Some(tc)));
        assert!(matches!(stale, Err(MessageFault::TimeoutCertView { .. })));
        let future = check(net.proposal(5, net.quorum(5), None));
        assert!(matches!(future, Err(MessageFault::CertificateNotBelow { .. })));

        let mut forged = net.proposal(5, net.quorum(4), None);
        forged.signature = net.keys[1].sign(&forged.preimage(net.chain));
        assert!(matches!(check(forged), Err(MessageFault::Signature { .. })));
        let good = net.proposal(5, net.quorum(4), None);
        let with = |change: &dyn Fn(&mut cairn_types::Header)| {
            let mut header = good.block.header().clone();
            change(&mut header);
            let mut proposal = good.clone();
            proposal.block = Arc::new(Block::new(header, Vec::new()));
            check(proposal).unwrap_err()
        };
        let wrong_leader = with(&|header| header.proposer = ValidatorIndex(1));
        let (view, expected, got) = (View::new(5), ValidatorIndex(0), ValidatorIndex(1));
        assert_eq!(wrong_leader, MessageFault::WrongLeader { view, expected, got });
        assert!(matches!(with(&|header| header.chain = ChainId::ZERO), MessageFault::WrongChain { .. }));
        assert!(matches!(with(&|header| header.epoch = Epoch::new(3)), MessageFault::WrongEpoch { .. }));
        assert!(matches!(with(&|header| header.time_ms += 1), MessageFault::Signature { .. }));
        assert_eq!(with(&|header| header.view = View::ZERO), MessageFault::ViewZero);
    }
}

#[test]
fn certificates_are_taken_out_of_any_message_inner_first() {
    let net = Network::new(Scheme::MlDsa65);
    let verifier = net.verifier();
    let tc = net.timeout_cert(5, net.quorum(4));
    let mut proposal = net.proposal(6, net.quorum(4), Some(Arc::clone(&tc)));
    proposal.signature = Signature::new(&[]).unwrap();
    assert!(verifier.proposal(&net.set, ROOT, proposal.clone()).is_err());
    let found = Certificate::of(&Message::Proposal(proposal));
    assert_eq!(found.len(), 3);
    assert_eq!(found.last(), Some(&Certificate::Timeout(Arc::clone(&tc))));
    for certificate in found {
        assert!(verifier.certificate(&net.set, ROOT, certificate).is_ok());
    }
    let commit = Arc::new(net.cert::<Second>(4, block_id(4), &[1, 2, 3]));
    let found = Certificate::of(&Message::CommitCert(Arc::clone(&commit)));
    assert!(matches!(
        verifier.certificate(&net.set, ROOT, found[0].clone()),
        Ok(VerifiedCertificate::Commit(_))
    ));
    let mut timeout = net.timeout(6, net.quorum(4), Some(tc));
    timeout.high_qc = Carried::Reference(reference());
    assert_eq!(Certificate::of(&Message::Timeout(timeout)).len(), 2);
    assert!(Certificate::of(&Message::Vote(net.ballot(3, ROOT, 0))).is_empty());
}

#[test]
fn node_records_verify_within_their_bounds_only() {
    for scheme in Scheme::ALL {
        let net = Network::new(scheme);
        let verifier = net.verifier();
        let now = 1_000_000;
        let check = |signer: usize, change: &dyn Fn(&mut NodeRecord)| {
            let mut record = NodeRecord {
                chain: net.chain,
                address: net.keys[2].address(),
                mesh_peer: vec![1; 38],
                public_peer: vec![2; 38],
                mesh_addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
                public_addresses: Vec::new(),
                seq: 1,
                expires_ms: now + 1_000,
            };
            change(&mut record);
            let signature = net.keys[signer].sign(&record.preimage());
            verifier.node_record(&net.set, now, SignedNodeRecord { record, signature }).map(drop)
        };
        assert_eq!(check(2, &|_| ()), Ok(()));
        assert!(matches!(check(1, &|_| ()), Err(MessageFault::Signature { .. })));
        assert!(matches!(check(2, &|r| r.chain = ChainId::ZERO), Err(MessageFault::WrongChain { .. })));
        let stranger = check(2, &|r| r.address = cairn_types::Address::ZERO);
        assert!(matches!(stranger, Err(MessageFault::UnknownAddress { .. })));
        for expires_ms in [0, now, now + NODE_RECORD_LIFE_MAX_MS + 1, u64::MAX] {
            let late = check(2, &|r| r.expires_ms = expires_ms);
            assert!(matches!(late, Err(MessageFault::NodeRecordExpiry { .. })), "{expires_ms}");
        }
        let nine = check(2, &|r| r.mesh_addresses = vec![String::new(); 9]);
        assert!(matches!(nine, Err(MessageFault::NodeRecord { .. })));
        let long = check(2, &|r| r.mesh_peer = vec![0; 65]);
        assert!(matches!(long, Err(MessageFault::NodeRecord { .. })));
        let huge = check(2, &|r| r.public_addresses = vec!["x".repeat(9_000)]);
        assert!(matches!(huge, Err(MessageFault::NodeRecord { .. })));
    }
}
