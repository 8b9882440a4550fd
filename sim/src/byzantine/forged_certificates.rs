//! Sends certificates that are none: of its own signature repeated, of too few signers, of another block, of a view that
//! was not, and proposals and timeouts that rest on them.

use std::rc::Rc;
use std::sync::Arc;

use cairn_types::certificate::{BallotCert, First, Phase, Second};
use cairn_types::{
    BlockCert, BlockId, Carried, Context, Message, Signature, Timeout, TimeoutCert, TimeoutEntry,
    ValidatorIndex, View,
};
use rand::Rng;

use super::{Role, Seat, Sending};
use crate::packet::Sealed;

/// Between two forgeries, microseconds.
const EVERY_US: u64 = 200_000;

pub(super) struct ForgedCertificates;

impl Role for ForgedCertificates {
    fn hears(&mut self, seat: &mut Seat<'_>, message: &Rc<Sealed>) -> Vec<Sending> {
        // A true certificate moved to another block.
        let Message::Certificate(BlockCert::Quorum(cert)) = &message.message else { return Vec::new() };
        let mut cert = cert.as_ref().clone();
        if cert.block == invented(cert.view) {
            return Vec::new(); // of another player of this role: the two would answer each other without end
        }
        cert.block = invented(cert.view);
        let moved = seat.seal(Message::Certificate(BlockCert::Quorum(Arc::new(cert))));
        seat.to_all(&moved)
    }

    fn every(&self) -> Option<u64> {
        Some(EVERY_US)
    }

    fn speaks(&mut self, seat: &mut Seat<'_>) -> Vec<Sending> {
        let view = View::new(seat.view.get() + seat.rng.random_range(0..3));
        let block = invented(view);
        let message = match seat.rng.random_range(0..5) {
            0 => Message::CommitCert(Arc::new(forged::<Second>(seat, view, block, false))),
            1 => Message::Certificate(BlockCert::Quorum(Arc::new(forged::<First>(seat, view, block, false)))),
            2 => Message::CommitCert(Arc::new(forged::<Second>(seat, view, block, true))),
            3 => Message::TimeoutCert(Arc::new(timeouts(seat, view))),
            _ => resting_on_forgery(seat, view.next(), view, block),
        };
        let sealed = seat.seal(message);
        seat.to_all(&sealed)
    }
}

fn invented(view: View) -> BlockId {
    BlockId::new(Context::Block.hash(&view.get().to_le_bytes()))
}

/// "Signatures" of a quorum, all made with its own key; or of itself alone.
fn forged<P: Phase>(seat: &Seat<'_>, view: View, block: BlockId, alone: bool) -> BallotCert<P> {
    let own = seat.ballot::<P>(view, block).signature;
    let count = seat.regime.set.count();
    let named: Vec<(ValidatorIndex, Signature)> = seat
        .world
        .set
        .indexed()
        .filter(|(index, _)| !alone || *index == seat.me)
        .map(|(index, _)| (index, own.clone()))
        .collect();
    BallotCert::new(seat.regime.set.epoch(), view, block, count, named)
}

fn timeouts(seat: &Seat<'_>, view: View) -> TimeoutCert {
    let epoch = seat.regime.set.epoch();
    let high_qc = BlockCert::Root { epoch, block: seat.regime.root_id };
    let preimage = cairn_types::signing::timeout_preimage(seat.world.chain, epoch, view, View::ZERO);
    let signature = seat.sign(&preimage);
    let entry =
        |(validator, _)| TimeoutEntry { validator, high_qc_view: View::ZERO, signature: signature.clone() };
    TimeoutCert { epoch, view, entries: seat.regime.set.indexed().map(entry).collect(), high_qc }
}

/// A timeout of its own that carries a forged certificate.
fn resting_on_forgery(seat: &Seat<'_>, view: View, certified: View, block: BlockId) -> Message {
    let epoch = seat.regime.set.epoch();
    let preimage = cairn_types::signing::timeout_preimage(seat.world.chain, epoch, view, certified);
    Message::Timeout(Timeout {
        epoch,
        view,
        high_qc_view: certified,
        high_qc: Carried::Inline(BlockCert::Quorum(Arc::new(forged::<First>(seat, certified, block, false)))),
        tc: None,
        validator: seat.me,
        signature: seat.sign(&preimage),
    })
}
