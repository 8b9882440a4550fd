//! The consensus loop: one thread that owns the replica, the safety journal and the timers.
//!
//! A turn takes every input that waits, makes all of it durable with one sync, and only then acts.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cairn_consensus::{
    Action, Durable, Formed, Input, Outgoing, Recovered, Reject, Replica, SafetyStore, Step,
};
use cairn_consensus::{Blame, Equivocation};
use cairn_crypto::MessageFault;
use cairn_journal::Journal;
use cairn_p2p::{MessageKind, Outbound, Plane};
use cairn_testnet::rehearsal::Point;
use cairn_types::safety::SafetyRecord;
use cairn_types::{BlockCert, BlockId, CertifiedBlock, Epoch, Height, Message, ValidatorIndex, encode};
use tokio::sync::mpsc;

use super::compact;
use super::context::Context;
use super::epoch::EpochInForce;
use super::keys::Signer;
use super::opening::{check_no_later_signature, open_journal, recover_tip};
use super::presence::{self, KEY_RUNS_ELSEWHERE};
use super::stages::Moment;
use super::task::{Job, Task};
use super::timers::Timers;
use super::wire::Found;
use crate::exit::{Exit, exit_of};

/// Inputs taken in one turn: bounds how long a vote waits for its turn's sync.
const TURN_INPUTS_MAX: usize = 256;

/// Where the durable record goes: the journal of a validator; nowhere for a follower, which never signs.
pub(crate) enum Store {
    /// A validator's journal, and where to say what was signed.
    Journal(Box<Journal>, Arc<Context>),
    /// A follower signs nothing, so it has nothing to remember.
    Follower,
}

impl Store {
    /// The journal of a validator; nothing for a follower.
    pub(crate) fn of(journal: Option<Journal>, context: &Arc<Context>) -> Self {
        match journal {
            Some(journal) => Self::Journal(Box::new(journal), Arc::clone(context)),
            None => Self::Follower,
        }
    }

    /// Whether the journal's block log has the body of each of these blocks.
    fn holds_all(&self, blocks: &[CertifiedBlock]) -> bool {
        match self {
            Self::Journal(journal, _) => blocks.iter().all(|certified| journal.holds(certified.block.id())),
            Self::Follower => false,
        }
    }
}

impl SafetyStore for Store {
    type Error = io::Error;

    fn persist(&mut self, write: &Durable) -> io::Result<()> {
        match self {
            Self::Journal(journal, context) => {
                journal.write(&write.record, &write.certificates, &write.bodies)?;
                context.position.signed(&write.record);
                Ok(())
            }
            Self::Follower => Ok(()),
        }
    }
}

/// The loop's state.
pub(crate) struct ConsensusLoop {
    context: Arc<Context>,
    /// The replica's epoch. That in force may be the next one already.
    epoch: Arc<EpochInForce>,
    replica: Replica,
    store: Store,
    timers: Timers,
    inputs: mpsc::Receiver<Input>,
    /// What the replica was last told about work, and for which certified block.
    told: (bool, BlockId),
    pruned: Height,
}

impl ConsensusLoop {
    /// A loop that has not started.
    pub(crate) fn new(
        context: Arc<Context>,
        replica: Replica,
        store: Store,
        inputs: mpsc::Receiver<Input>,
    ) -> Self {
        let told = (false, replica.high_qc().block());
        let epoch = context.epoch();
        Self { context, epoch, replica, store, timers: Timers::default(), inputs, told, pruned: Height::ZERO }
    }

    /// Runs until shutdown. A failure of the journal or a contradiction in the chain stops the node.
    /// A key that has signed before first listens for `silence`: if it is heard signing, or answers, it runs elsewhere.
    pub(crate) async fn run(mut self, silence: Duration) {
        tokio::select! {
            biased;
            () = self.context.shutdown.cancelled() => return,
            () = self.listen(silence) => {}
        }
        self.context.position.set_started();
        if let Err(why) = self.turns().await {
            self.context.fail(why);
        }
    }

    /// A journal that has signed nothing, beside a data folder that has nothing, may be a new one for an old key: then the chain
    /// is asked before the first signature.
    async fn listen(&self, silence: Duration) {
        let knows_nothing =
            matches!(&self.store, Store::Journal(journal, _) if *journal.record() == SafetyRecord::default());
        let mut may_join = self.context.may_join.subscribe();
        let decided = async {
            if knows_nothing {
                // Fails only where nobody can decide any more.
                let _ = may_join.wait_for(|may_join| !may_join).await;
            }
        };
        tokio::join!(presence::listen(&self.context, silence), decided);
    }

    async fn turns(&mut self) -> Result<(), String> {
        // A snapshot may have begun another one meanwhile.
        match self.context.epoch().number() == self.epoch.number() {
            true => self.turn(Input::Start)?,
            false => self.begin_epoch()?,
        }
        let context = Arc::clone(&self.context);
        loop {
            tokio::select! {
                biased;
                () = context.shutdown.cancelled() => return Ok(()),
                // Rare, and never to be starved by a flood of messages.
                timer = self.timers.next() => self.turn(Input::TimerFired(timer))?,
                () = context.epoch_turned.notified() => self.begin_epoch()?,
                () = context.pool_changed.notified() => self.tell_work()?,
                input = self.inputs.recv() => match input {
                    Some(input) => self.turn(input)?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Goes on with a replica of the epoch in force. What the state holds is durable, so the record may name
    /// the epoch from here on (rule E).
    fn begin_epoch(&mut self) -> Result<(), String> {
        let epoch = self.context.epoch();
        if epoch.number() == self.epoch.number() {
            return Ok(());
        }
        let mut config = epoch.replica_config(self.context.chain);
        let mut recovered = match (&epoch.signer, &self.store) {
            (None, _) => Recovered::default(),
            (Some(_), Store::Journal(journal, _)) => {
                Recovered { record: journal.record().clone(), ..Recovered::default() }
            }
            (Some(signer), Store::Follower) => {
                let recovered = self.take_up_the_journal(signer, epoch.number())?;
                config.me = config.me.filter(|_| recovered.record.epoch <= epoch.number());
                if config.me.is_some() { recovered } else { Recovered::default() }
            }
        };
        if config.me.is_some() {
            self.hold_to_the_journal(&epoch, &recovered.record)?;
        }
        // Where the epoch was begun by a snapshot, final blocks stand above its root already.
        let failed = |fault: anyhow::Error| format!("epoch {} cannot be begun: {fault:#}", epoch.number());
        recover_tip(&self.context.state, epoch.number(), &mut recovered).map_err(failed)?;
        self.replica = Replica::new(config, recovered)
            .map_err(|fault| format!("epoch {} cannot be begun: {fault}", epoch.number()))?;
        self.epoch = epoch;
        self.timers = Timers::default(); // those of the epoch before mean nothing any more
        self.told = (false, self.replica.high_qc().block());
        self.turn(Input::Start)?;
        self.tell_work()
    }

    /// Refuses to sign in an epoch, begun in its middle by a snapshot, of which the journal does not know all signatures.
    fn hold_to_the_journal(&self, epoch: &EpochInForce, record: &SafetyRecord) -> Result<(), String> {
        let context = &self.context;
        check_no_later_signature(&context.state, epoch, record).map_err(|fault| {
            let why = format!("{fault:#}");
            context.fail_with(exit_of(&fault), why.clone());
            why
        })?;
        let nothing = SafetyRecord::default();
        context.position.signs_after(if record.epoch == epoch.number() { record } else { &nothing });
        Ok(())
    }

    /// A follower until now that this epoch's set names: from here on it signs, unless its journal has signed in
    /// a later epoch, which is then waited for.
    fn take_up_the_journal(&mut self, signer: &Signer, epoch: Epoch) -> Result<Recovered, String> {
        let context = Arc::clone(&self.context);
        let (journal, recovered) = open_journal(&context.keys, signer, context.chain).map_err(|fault| {
            let why = format!("the epoch names this node as validator {}, but {fault:#}", signer.address);
            context.fail_with(Exit::SigningRefused, why.clone());
            why
        })?;
        if recovered.record.epoch > epoch {
            context.keys.hold_until(recovered.record.epoch);
        } else {
            self.store = Store::Journal(Box::new(journal), context);
        }
        Ok(recovered)
    }

    /// One turn: `first` and whatever else waits, then our own messages until none is left.
    fn turn(&mut self, first: Input) -> Result<(), String> {
        let mut waiting = VecDeque::from([first]);
        while waiting.len() < TURN_INPUTS_MAX
            && let Ok(input) = self.inputs.try_recv()
        {
            waiting.push_back(input);
        }
        self.work_off(waiting)?;
        self.context.position.set_view(self.replica.view());
        self.context.metrics.view.set(i64::try_from(self.replica.view().get()).unwrap_or(i64::MAX));
        self.prune();
        // Otherwise the pool says when it has changed.
        if self.replica.high_qc().block() == self.told.1 { Ok(()) } else { self.tell_work() }
    }

    /// Steps through `waiting` and through what our own messages add to it, one sync a round.
    fn work_off(&mut self, mut waiting: VecDeque<Input>) -> Result<(), String> {
        while !waiting.is_empty() {
            let mut step = Step::default();
            for input in waiting.drain(..) {
                match self.replica.step(input) {
                    Ok(next) => step.merge(next),
                    Err(reject) => self.note(&reject),
                }
            }
            let syncs = step.needs_sync();
            let started = std::time::Instant::now();
            let actions = step.commit_to(&mut self.store).map_err(|error| {
                format!("the safety journal cannot be written, so nothing more may be signed: {error}")
            })?;
            if syncs {
                self.context.metrics.journal_sync.observe(started.elapsed().as_secs_f64());
            }
            for action in actions {
                self.perform(action, &mut waiting)?;
            }
        }
        Ok(())
    }

    fn note(&self, reject: &Reject) {
        match reject.blame() {
            Blame::Peer | Blame::Signer => {
                self.context.metrics.rejected.inc();
                tracing::warn!(%reject, "refused a validator's message");
            }
            Blame::Nobody => tracing::trace!(%reject, "passed over"),
        }
    }

    /// Tells the replica about work when the answer, or the block it is about, has changed.
    fn tell_work(&mut self) -> Result<(), String> {
        let tip = self.replica.high_qc().block();
        // Lowered before looking: whoever fills the pool from here on sees it, and wakes this loop.
        self.context.position.set_told_of_work(false);
        let work = self.context.has_work(tip);
        self.context.position.set_told_of_work(work);
        // A change of block resets the replica's answer to "no".
        let known = self.told.0 && self.told.1 == tip;
        self.told = (work, tip);
        if work == known {
            return Ok(());
        }
        self.work_off(VecDeque::from([Input::Work(work)]))?;
        self.context.position.set_view(self.replica.view());
        Ok(())
    }

    /// Lets the journal forget bodies that the synced state holds.
    fn prune(&mut self) {
        let height = self.context.position.durable();
        if height > self.pruned
            && let Store::Journal(journal, _) = &mut self.store
        {
            journal.prune(height);
            self.pruned = height;
        }
    }

    fn perform(&mut self, action: Action, own: &mut VecDeque<Input>) -> Result<(), String> {
        match action {
            Action::Broadcast(outgoing) => self.broadcast(outgoing, own),
            Action::Send(to, outgoing) => self.send(to, outgoing),
            Action::RequestPayload(slot) => self.execute(Task::Build(slot)),
            Action::CheckBlock { block, lag_exponent } => self.execute(Task::Check { block, lag_exponent }),
            Action::FetchBlock { id, from } => self.ask(Job::Fetch { id, from }),
            Action::CatchUp(catch_up) => self.ask(Job::CatchUp(catch_up)),
            Action::SetTimer { timer, after } => {
                self.timers.set(timer, after);
                Ok(())
            }
            Action::Commit(blocks) => {
                let backed = self.store.holds_all(&blocks);
                self.execute(Task::Commit { blocks, backed })
            }
            Action::EndEpoch(end) => self.execute(Task::EndEpoch(end, None)),
            Action::Formed(formed) => {
                self.remember(&formed);
                Ok(())
            }
            Action::Accuse(equivocation) => {
                self.accuse(&equivocation);
                Ok(())
            }
            Action::Halt(fatal) => Err(fatal.to_string()),
        }
    }

    fn execute(&self, task: Task) -> Result<(), String> {
        // The replica has a bounded number of requests in flight, far below this queue's length.
        self.context
            .executor
            .try_send(task)
            .map_err(|_| "the executor does not keep up, or has ended".to_owned())
    }

    fn ask(&self, job: Job) -> Result<(), String> {
        if self.context.jobs.try_send(job).is_err() {
            // The replica asks again while it still needs the block.
            tracing::debug!("the fetch queue is full; a request was dropped");
        }
        Ok(())
    }

    fn broadcast(&self, outgoing: Outgoing, own: &mut VecDeque<Input>) -> Result<(), String> {
        let Some(signer) = self.epoch.signer.clone() else { return Ok(()) };
        let message = outgoing.seal(self.context.chain, signer.index, |preimage| signer.sign(preimage));
        self.context.disaster.passes(Point::Signed);
        // A peer that is sent something by itself is behind, and gets blocks whole.
        let outbound = match &message {
            Message::Proposal(proposal) => compact::outbound(&self.context, proposal),
            message => outbound(message),
        };
        self.context.net.broadcast(&outbound);
        if let Some(input) =
            self.own_input(message).map_err(|fault| own_signature_refused(&signer, &fault))?
        {
            own.push_back(input);
        }
        Ok(())
    }

    fn send(&self, to: ValidatorIndex, outgoing: Outgoing) -> Result<(), String> {
        let (Some(signer), Some(validator)) = (&self.epoch.signer, self.epoch.set.get(to)) else {
            return Ok(());
        };
        let message = outgoing.seal(self.context.chain, signer.index, |preimage| signer.sign(preimage));
        self.context.net.send_to(&validator.address, &outbound(&message));
        Ok(())
    }

    /// Our own message as an input, through the same verifier as everyone's: a faulty key or scheme is
    /// noticed here first.
    fn own_input(&self, message: Message) -> Result<Option<Input>, MessageFault> {
        let (context, set, root) = (&self.context, &*self.epoch.set, self.epoch.root_id);
        Ok(Some(match message {
            Message::Proposal(proposal) => {
                context.recent.lock().keep(Found::Proposal(Arc::new(proposal.clone())));
                Input::Proposal(context.verifier.proposal(set, root, proposal)?)
            }
            Message::Vote(vote) => Input::Vote(context.verifier.vote(set, vote)?),
            Message::CommitVote(vote) => Input::CommitVote(context.verifier.commit_vote(set, vote)?),
            Message::Timeout(timeout) => Input::Timeout(context.verifier.timeout(set, root, timeout)?),
            Message::Certificate(_)
            | Message::TimeoutCert(_)
            | Message::CommitCert(_)
            | Message::Status(_)
            | Message::EpochProof(_) => return Ok(None),
        }))
    }

    fn remember(&self, formed: &Formed) {
        let (verifier, set) = (&self.context.verifier, &*self.epoch.set);
        match formed {
            Formed::Quorum(cert) => {
                self.context.stages.note(cert.block, Moment::Certified);
                verifier.remember(set, &BlockCert::Quorum(Arc::clone(cert)));
            }
            Formed::Timeout(cert) => {
                self.context.metrics.timeouts.inc();
                tracing::info!(view = %cert.view, "view given up by a quorum");
                verifier.remember_timeout(set, cert);
            }
            Formed::Commit(cert) => {
                self.context.stages.note(cert.block, Moment::Final);
                verifier.remember_commit(set, cert);
            }
        }
    }

    fn accuse(&self, equivocation: &Equivocation) {
        if self.epoch.signer.as_ref().is_some_and(|signer| signer.index == equivocation.validator()) {
            self.context.fail_with(Exit::SigningRefused, KEY_RUNS_ELSEWHERE);
            return;
        }
        self.context.metrics.equivocations.inc();
        let index = equivocation.validator();
        let address = self.epoch.set.get(index).map(|validator| validator.address.to_string());
        tracing::error!(
            validator = address.as_deref().unwrap_or("unknown"),
            evidence = ?equivocation,
            "a validator signed two different things where one is allowed"
        );
        if let Some(evidence) = equivocation.evidence()
            && self.context.evidence.try_send(evidence).is_err()
        {
            tracing::warn!("too much evidence waits; the other validators bring it too");
        }
    }
}

fn own_signature_refused(signer: &Signer, fault: &MessageFault) -> String {
    format!("our own message does not verify under the key of {}: {fault}", signer.address)
}

/// A consensus message as the mesh carries it.
pub(crate) fn outbound(message: &Message) -> Outbound {
    Outbound {
        plane: Plane::Hot,
        kind: MessageKind::of(message),
        epoch: message.epoch(),
        view: message.view(),
        body: encode(message).into(),
    }
}
