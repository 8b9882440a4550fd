use cairn_types::certificate::{First, Second};
use cairn_types::message::Ballot;
use cairn_types::{Context, encode};

use super::*;
use crate::manifest::Manifest;

fn world(signatures: &str) -> World {
    let text = format!("signatures = \"{signatures}\"\n[load]\nclients = 1");
    World::new(&Manifest::parse(&text, "test").unwrap()).unwrap()
}

/// One message of each kind, with certificates inside.
fn messages(world: &World) -> Vec<Message> {
    let block = BlockId::new(Context::Block.hash(b"a block"));
    let (epoch, view) = (world.set.epoch(), View::new(7));
    let sign =
        |at: u16, preimage: &[u8]| world.signer_in(usize::from(at), &world.set).unwrap().1.sign(preimage);
    let cert = |commit: bool| {
        let sign_ballot = |at: u16| {
            let preimage = if commit {
                Ballot::<Second>::new(epoch, view, block, ValidatorIndex(at), Signature::empty())
                    .preimage(world.chain)
            } else {
                Ballot::<First>::new(epoch, view, block, ValidatorIndex(at), Signature::empty())
                    .preimage(world.chain)
            };
            (ValidatorIndex(at), sign(at, &preimage))
        };
        (0..3).map(sign_ballot).collect::<Vec<_>>()
    };
    let quorum = BlockCert::Quorum(Arc::new(BallotCert::new(epoch, view, block, 4, cert(false))));
    let commit: Arc<CommitCert> = Arc::new(BallotCert::new(epoch, view, block, 4, cert(true)));
    let entry = |validator: u16| {
        let preimage = cairn_types::signing::timeout_preimage(world.chain, epoch, View::new(9), view);
        cairn_types::TimeoutEntry {
            validator: ValidatorIndex(validator),
            high_qc_view: view,
            signature: sign(validator, &preimage),
        }
    };
    let tc = Arc::new(TimeoutCert {
        epoch,
        view: View::new(9),
        entries: (0..3).map(entry).collect(),
        high_qc: quorum.clone(),
    });
    let timeout = cairn_types::Timeout {
        epoch,
        view: View::new(10),
        high_qc_view: view,
        high_qc: Carried::Inline(quorum.clone()),
        tc: Some(Carried::Inline(Arc::clone(&tc))),
        validator: ValidatorIndex(1),
        signature: sign(1, &cairn_types::signing::timeout_preimage(world.chain, epoch, View::new(10), view)),
    };
    let header = cairn_types::Header { view: View::new(8), parent_view: view, ..world.root.clone() };
    let mut proposal = cairn_types::Proposal {
        block: Arc::new(Block::new(
            cairn_types::Header { proposer: ValidatorIndex(3), ..header },
            Vec::new(),
        )),
        justify: Carried::Inline(quorum.clone()),
        tc: None,
        signature: Signature::empty(),
    };
    proposal.signature = sign(3, &proposal.preimage(world.chain));
    let (vote, _) = (cert(false).remove(0), ());
    let vote = Ballot::<First>::new(epoch, view, block, vote.0, vote.1);
    vec![
        Message::Proposal(proposal),
        Message::Vote(vote),
        Message::Timeout(timeout),
        Message::Certificate(quorum),
        Message::TimeoutCert(tc),
        Message::CommitCert(commit),
        Message::Status(cairn_types::Status::default()),
    ]
}

#[test]
fn sizes_are_those_of_real_messages_whatever_the_signatures_are() {
    let (mock, real) = (world("mock"), world("real"));
    for (short, whole) in messages(&mock).into_iter().zip(messages(&real)) {
        let encoded = encode(&whole).len() as u64 + OVERHEAD_BYTES;
        let (short, whole) = (Sealed::new(&mock, short, true), Sealed::new(&real, whole, true));
        assert_eq!(short.fault, None, "{}", short.kind());
        assert_eq!(whole.fault, None, "{}", whole.kind());
        assert_eq!(whole.bytes, encoded, "{}", whole.kind());
        assert_eq!(short.bytes, encoded, "{}", short.kind());
        assert!(short.bytes_by_reference() <= short.bytes);
    }
}

#[test]
fn what_one_validator_did_not_sign_is_noticed() {
    let world = world("mock");
    let messages = messages(&world);
    let Message::Vote(mut vote) = messages[1].clone() else { panic!("a vote") };
    vote.validator = ValidatorIndex(2);
    assert!(Sealed::new(&world, Message::Vote(vote), false).fault.is_some());
    let Message::CommitCert(cert) = &messages[5] else { panic!("a commit certificate") };
    let mut cert = cert.as_ref().clone();
    cert.view = cert.view.next();
    let sealed = Sealed::new(&world, Message::CommitCert(Arc::new(cert)), false);
    assert!(sealed.fault.is_some() && sealed.inputs.is_empty());
}

#[test]
fn a_signature_is_named_the_same_alone_and_inside_a_certificate() {
    let world = world("mock");
    let messages = messages(&world);
    let names = |at: usize| Sealed::new(&world, messages[at].clone(), true).signatures.clone();
    let (vote, certificate) = (names(1), names(3));
    assert_eq!((vote.len(), certificate.len()), (1, 3));
    assert!(certificate.contains(&vote[0]));
    assert!(!names(5).contains(&vote[0]), "a commit vote is another signature");
}
