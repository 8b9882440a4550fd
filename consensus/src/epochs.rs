//! Rule E between replicas of different epochs: nothing crosses but the proof that an epoch has ended.

use cairn_types::Epoch;

/// What a message of some epoch calls for at a replica of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Across {
    /// The same epoch: it is the replica's to judge.
    Ours,
    /// Its sender may be behind: it is answered with the commit proof of the message's epoch.
    AnswerWithProof,
    /// Its sender claims to be ahead: it is answered with our status, to which an honest one answers with the commit
    /// proof of our epoch. Nothing else of the message is looked at, for its signers are unknown here.
    AskForProof,
}

/// What a message of epoch `theirs` calls for at a replica of epoch `ours`. The driver limits how often it
/// answers one peer.
pub fn across(ours: Epoch, theirs: Epoch) -> Across {
    match theirs.cmp(&ours) {
        std::cmp::Ordering::Less => Across::AnswerWithProof,
        std::cmp::Ordering::Equal => Across::Ours,
        std::cmp::Ordering::Greater => Across::AskForProof,
    }
}
