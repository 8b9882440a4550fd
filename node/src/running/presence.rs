//! One key, one process: whether another process uses this validator's key, asked before the first signature.
//!
//! Two processes with one key cannot link to each other, but each has a link to the same validators. A process seeks
//! itself: it sends its random number to a validator, which sends it back on *every* link of that key. A process that
//! gets a number that is not its own answers on the same way. So an answer shows that another process with the key is
//! alive now: the number did not exist before. It is believed when validators of weak power (at least one honest)
//! brought it, so that no few of them can keep a validator from starting.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_p2p::{MeshMessage, MessageKind, Outbound, Plane};
use cairn_types::{Address, DecodeError, View, decode, encode};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::context::Context;
use super::epoch::EpochInForce;
use crate::exit::Exit;

/// Pause between two questions while listening: several fit into the shortest silence.
const SEEK_EVERY: Duration = Duration::from_millis(100);
/// How many times the silence a start waits for links to a quorum. Where so many stay away, nothing can become final
/// with this signature or without it, and whoever returns asks again.
const LINKS_PATIENCE: u32 = 4;
/// Processes whose answers are counted. Only validators that lie bring more.
const OTHERS_MAX: usize = 64;

/// Why a node stops that hears its own key sign.
pub(crate) const KEY_RUNS_ELSEWHERE: &str = "this validator's key has signed beyond what its safety journal knows: \
     it signs in another process too, or the journal was restored from a backup. Two signers with one key would \
     contradict each other. Stop the other one, or give this node another key";

/// Why a node stops that found its key in use.
const KEY_IN_USE: &str = "this validator's key is in use by another process, which answered through other validators: it \
     signs in another process too, and two signers with one key would contradict each other. Stop the other one, or give \
     this node another key";

/// The random number of a process.
type ProcessId = [u8; 16];

#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
enum News {
    /// The sender's key is sought: does anyone but this process use it?
    Seek { process: ProcessId },
    /// Someone does.
    Answer { process: ProcessId, sought: ProcessId, signing: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
struct Notice {
    /// Sent back: it is about the receiver's key, not the sender's.
    returned: bool,
    news: News,
}

/// What this process knows of others with its key.
#[derive(Debug)]
pub(crate) struct Presence {
    process: ProcessId,
    /// Who brought an answer of which process.
    others: Mutex<HashMap<ProcessId, BTreeSet<Address>>>,
}

impl Presence {
    /// A process of its own.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut process = [0; 16];
        getrandom::fill(&mut process).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        Ok(Self { process, others: Mutex::default() })
    }

    /// Counts who brought an answer of `process`.
    fn brought(&self, process: ProcessId, by: Address, epoch: &EpochInForce) -> u64 {
        let mut others = self.others.lock();
        if others.len() >= OTHERS_MAX && !others.contains_key(&process) {
            return 0;
        }
        let bringers = others.entry(process).or_default();
        bringers.insert(by);
        epoch.power_of(bringers.iter())
    }
}

/// Listens for `silence`, counted from when a quorum is linked, and seeks other users of the key meanwhile. Ends at once
/// where there is nothing to listen for.
pub(crate) async fn listen(context: &Context, silence: Duration) {
    if silence.is_zero() {
        return;
    }
    let began = Instant::now();
    let mut linked_since = None;
    loop {
        context.net.broadcast(&outbound(seek(context)));
        sleep(SEEK_EVERY).await;
        if linked_since.is_none() && is_quorum_linked(context) {
            linked_since = Some(Instant::now());
        }
        if linked_since.is_some_and(|since| since.elapsed() >= silence) {
            return;
        }
        if linked_since.is_none() && began.elapsed() >= silence * LINKS_PATIENCE {
            return tracing::warn!("no links to a quorum yet: signing without having heard from so many");
        }
    }
}

/// A validator's link is up: it may know of someone who was out of reach before.
pub(crate) fn on_connected(context: &Context, address: &Address) {
    if context.epoch().signer.is_some() {
        context.net.send_to(address, &outbound(seek(context)));
    }
}

/// Takes a notice from a validator.
///
/// # Errors
/// When it is malformed.
pub(crate) fn receive(context: &Context, message: &MeshMessage) -> Result<(), DecodeError> {
    let Notice { returned, news } = decode(&message.body)?;
    if !returned {
        let back = outbound(Notice { returned: true, news });
        context.net.send_to_each_link(&message.from, &back);
        return Ok(());
    }
    let presence = &context.presence;
    match news {
        News::Seek { process } if process != presence.process => {
            let answer = News::Answer {
                process: presence.process,
                sought: process,
                signing: context.position.started(),
            };
            context.net.send_to(&message.from, &outbound(Notice { returned: false, news: answer }));
        }
        News::Answer { process, sought, signing } if sought == presence.process => {
            on_answer(context, message.from, process, signing);
        }
        News::Seek { .. } | News::Answer { .. } => {}
    }
    Ok(())
}

fn on_answer(context: &Context, by: Address, process: ProcessId, signing: bool) {
    let epoch = context.epoch();
    if epoch.signer.is_none() {
        return; // signs nothing
    }
    let power = context.presence.brought(process, by, &epoch);
    if epoch.set.is_weak(power)
        && gives_way(&context.presence.process, context.position.started(), &process, signing)
    {
        context.fail_with(Exit::SigningRefused, KEY_IN_USE);
    }
}

/// Whether a process stops for another with its key. Whoever still listens gives way to one that signs, and to one that
/// listens too and has the lower number; two that sign both stop.
fn gives_way(ours: &ProcessId, we_sign: bool, theirs: &ProcessId, they_sign: bool) -> bool {
    they_sign || (!we_sign && theirs < ours)
}

fn is_quorum_linked(context: &Context) -> bool {
    let epoch = context.epoch();
    let ours = epoch.signer.as_ref().map(|signer| signer.address);
    let linked = context.net.linked();
    epoch.set.is_quorum(epoch.power_of(linked.iter().filter(|it| Some(**it) != ours).chain(&ours)))
}

fn seek(context: &Context) -> Notice {
    Notice { returned: false, news: News::Seek { process: context.presence.process } }
}

/// Questions and answers have a view of their own, so that neither takes the other's place in a queue.
fn outbound(notice: Notice) -> Outbound {
    let view = match notice.news {
        News::Seek { .. } => View::ZERO,
        News::Answer { .. } => View::new(1),
    };
    let (plane, kind, epoch) = (Plane::Hot, MessageKind::Presence, Default::default());
    Outbound { plane, kind, epoch, view, body: encode(&notice).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: ProcessId = [1; 16];
    const HIGH: ProcessId = [2; 16];

    #[test]
    fn of_two_processes_at_most_one_signs() {
        for (first_signs, second_signs) in [(false, false), (false, true), (true, false), (true, true)] {
            let first_stops = gives_way(&LOW, first_signs, &HIGH, second_signs);
            let second_stops = gives_way(&HIGH, second_signs, &LOW, first_signs);
            assert!(first_stops || second_stops, "{first_signs} {second_signs}");
            let both_sign = first_signs && second_signs;
            assert_eq!(first_stops && second_stops, both_sign, "one that listens stops nobody that signs");
        }
    }

    #[test]
    fn notices_are_canonical() {
        let answer = News::Answer { process: LOW, sought: HIGH, signing: true };
        for news in [News::Seek { process: LOW }, answer] {
            let notice = Notice { returned: true, news };
            assert_eq!(decode::<Notice>(&encode(&notice)), Ok(notice));
        }
    }
}
