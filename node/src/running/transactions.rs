//! A transaction's way into the pool, and on to the leaders and everyone else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_crypto::{Resolved, TransactionFault};
use cairn_mempool::{DIRECT_VALIDATORS_MAX, Refusal};
use cairn_p2p::{Command, GossipTicket, MeshMessage, MessageKind, Outbound, Plane, Verdict};
use cairn_rpc::Fault;
use cairn_types::{AuthenticatedTx, SignedTransaction, Verified};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::clock::now_ms;
use super::context::Context;
use super::faults::{fault_of_pool, fault_of_refusal, fault_of_shape, fault_of_signatures};
use super::wire::{FORWARD_TRANSACTIONS_MAX, Forwarded};
use super::workers::Workers;

/// Lists of transactions from other nodes that are being checked at one moment. The rest waits in p2p's queues,
/// which are bounded in bytes.
const CHECKING_MAX: usize = 64;
/// Keys of a transaction whose signatures are checked by the interfaces' own threads: up to a tenth of a
/// millisecond, less than handing it to other threads and back costs.
const KEYS_CHECKED_INLINE: usize = 2;
/// Transactions waiting to be forwarded; what does not fit still reaches the leaders by gossip.
pub(crate) const FORWARDS_MAX: usize = 8_192;
/// Pause between two lists of forwarded transactions: each costs its receiver a handful of wake-ups, and a
/// lone transaction does not wait.
const FORWARD_PAUSE: Duration = Duration::from_millis(10);
/// The same while so many wait in the pool that a longer pause delays none of them: they wait longer for their block.
const FORWARD_PAUSE_BUSY: Duration = Duration::from_millis(25);
/// Transactions in the pool from which on a node is that busy: those of 25 ms at 6,000 a second.
const BUSY_TRANSACTIONS: usize = 150;

/// Transactions of a list whose signatures are checked together: as many as that gains by.
pub(crate) const CHECKED_TOGETHER: usize = 8;
/// When a sender whose transaction was evicted should try again, ms.
const EVICTED_RETRY_MS: u64 = 1_000;

/// Where a transaction came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// A client of this node: pass it on.
    Client,
    /// Another node, which passes it on itself.
    Network,
}

/// What became of an admitted transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admitted {
    /// It is in the pool now.
    New,
    /// It was there before.
    Pending,
}

/// The door to the pool.
pub(crate) struct Transactions {
    context: Arc<Context>,
    workers: Workers,
    room: Arc<Semaphore>,
    forwards: mpsc::Sender<Arc<SignedTransaction>>,
}

impl Transactions {
    /// A door that checks what other nodes send on `workers`; `forwards` goes to [`forward`].
    pub(crate) fn new(
        context: Arc<Context>,
        workers: Workers,
        forwards: mpsc::Sender<Arc<SignedTransaction>>,
    ) -> Self {
        Self { context, workers, room: Arc::new(Semaphore::new(CHECKING_MAX)), forwards }
    }

    /// Refuses a client's transaction unchecked when too many wait already.
    ///
    /// # Errors
    /// With the time after which there should be room.
    pub(crate) fn check_room(&self) -> Result<(), Fault> {
        let waiting = self.context.pool.lock().stats();
        if self.context.drain.has_room(waiting.bytes) {
            return Ok(());
        }
        self.context.metrics.refused_full.inc();
        let retry_after_ms = self.context.drain.retry_after_ms(waiting.bytes);
        let (count, bytes) = (waiting.transactions, waiting.bytes);
        let reason = format!(
            "{count} transactions of {bytes} bytes wait already, as many as this network makes final in time"
        );
        Err(Fault::MempoolFull { reason, retry_after_ms })
    }

    /// Checks everything about a transaction but whether it is known already, cheapest first.
    ///
    /// # Errors
    /// The first rule broken, as a client should see it.
    pub(crate) async fn authenticate(
        &self,
        signed: Arc<SignedTransaction>,
    ) -> Result<Verified<AuthenticatedTx>, Fault> {
        if signed.transaction.keys.len() <= KEYS_CHECKED_INLINE {
            return check(&self.context, signed);
        }
        let context = Arc::clone(&self.context);
        tokio::task::spawn_blocking(move || check(&context, signed)).await.map_err(Fault::internal)?
    }

    /// Puts a checked transaction into the pool and passes a client's on.
    ///
    /// # Errors
    /// When the pool has no room for it.
    pub(crate) fn admit(&self, tx: Verified<AuthenticatedTx>, origin: Origin) -> Result<Admitted, Fault> {
        let signed = Arc::clone(&tx.signed);
        let outcome = {
            let mut pool = self.context.pool.lock();
            let outcome = pool.insert(tx, now_ms());
            self.context.metrics.pool.set(i64::try_from(pool.len()).unwrap_or(i64::MAX));
            outcome
        };
        match outcome {
            Ok(evicted) => {
                let reason = "it had to make room for a sender with fewer pending transactions".to_owned();
                let news = Err(Fault::MempoolFull { reason, retry_after_ms: EVICTED_RETRY_MS });
                evicted.iter().for_each(|id| self.context.waiters.tell(id, &news));
                if !self.context.position.told_of_work() {
                    self.context.pool_changed.notify_one();
                }
                if origin == Origin::Client {
                    self.pass_on(signed);
                }
                Ok(Admitted::New)
            }
            Err(Refusal::Duplicate { .. }) => Ok(Admitted::Pending),
            Err(refusal) => Err(fault_of_pool(&refusal)),
        }
    }

    fn pass_on(&self, signed: Arc<SignedTransaction>) {
        let direct = self.context.epoch().signer.is_some();
        let gossiped = !(direct && reaches_everyone(&self.context));
        let bytes = gossiped.then(|| signed.canonical().clone());
        if direct {
            self.context.pool.lock().set_unsent(signed.id());
            if self.forwards.try_send(signed).is_err() {
                tracing::debug!(
                    "the forward queue is full; a transaction is not sent to the validators directly"
                );
            }
        }
        if let Some(bytes) = bytes
            && self.context.net.try_send(Command::GossipTransactions(vec![bytes])).is_err()
        {
            tracing::debug!("the gossip queue is full; a transaction is not gossiped");
        }
    }

    /// Takes the transactions that a validator passed on.
    pub(crate) async fn receive_forwarded(self: &Arc<Self>, message: MeshMessage) {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
        let transactions = Arc::clone(self);
        self.workers.spawn(move || {
            match Forwarded::decode(&message.body) {
                Ok(list) => {
                    transactions.receive(list.0);
                }
                Err(_) => {
                    transactions.context.metrics.rejected.inc();
                    tracing::warn!(from = %message.from, "a malformed list of transactions");
                }
            }
            drop((message, permit));
        });
    }

    /// Takes a gossiped batch and reports on it.
    pub(crate) async fn receive_gossip(self: &Arc<Self>, batch: Vec<Bytes>, ticket: GossipTicket) {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return };
        let transactions = Arc::clone(self);
        self.workers.spawn(move || {
            // Each in memory of its own: one that waits for long does not hold the others'.
            let verdict = transactions.receive(batch.iter().map(|bytes| Bytes::copy_from_slice(bytes)));
            let net = transactions.context.net.clone();
            // Networking is gone only when the node stops.
            transactions.context.runtime.spawn(async move {
                let _ = net.send(Command::ReportValidation { ticket, verdict }).await;
            });
            drop(permit);
        });
    }

    /// Takes transactions that another node sent: canonical bytes each. Gives the verdict on the batch.
    fn receive(&self, batch: impl IntoIterator<Item = Bytes>) -> Verdict {
        let mut verdict = Verdict::Accept;
        let mut batch = batch.into_iter();
        loop {
            let part = batch.by_ref().take(CHECKED_TOGETHER).map(SignedTransaction::from_canonical);
            let Ok(part) = part.collect::<Result<Vec<_>, _>>() else { return Verdict::Reject };
            if part.is_empty() {
                return verdict;
            }
            let fresh = part.into_iter().filter(|signed| !self.is_known(signed)).map(Arc::new).collect();
            for judged in check_together(&self.context, fresh) {
                verdict = worse(verdict, self.take(judged));
            }
        }
    }

    fn take(&self, judged: Result<Verified<AuthenticatedTx>, Fault>) -> Verdict {
        match judged.and_then(|tx| self.admit(tx, Origin::Network)) {
            Ok(_) => Verdict::Accept,
            // Signed wrongly or for another chain: nobody honest passes such a thing on.
            Err(Fault::InvalidSignature { .. } | Fault::WrongChain { .. } | Fault::InvalidParams { .. }) => {
                Verdict::Reject
            }
            // Expired, replayed, no room, or of an identity that this node does not know yet.
            Err(_) => Verdict::Ignore,
        }
    }

    fn is_known(&self, signed: &SignedTransaction) -> bool {
        let id = signed.id();
        self.context.pool.lock().contains(&id)
            || self.context.state.has_landed(&id, &signed.transaction).is_ok_and(|landed| landed)
    }
}

const fn worse(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Reject, _) | (_, Verdict::Reject) => Verdict::Reject,
        (Verdict::Ignore, _) | (_, Verdict::Ignore) => Verdict::Ignore,
        _ => Verdict::Accept,
    }
}

/// Shape, size, time, keys, signatures, and whether the chain would take it now.
fn check(context: &Context, signed: Arc<SignedTransaction>) -> Result<Verified<AuthenticatedTx>, Fault> {
    let Resolved { signed, bytes, keys } = resolve(context, signed)?;
    let verified = context.verifier.transaction(signed, bytes, keys);
    accept(context, verified)
}

/// The same of each.
fn check_together(
    context: &Context,
    list: Vec<Arc<SignedTransaction>>,
) -> Vec<Result<Verified<AuthenticatedTx>, Fault>> {
    let mut judged = Vec::with_capacity(list.len());
    let mut resolved = Vec::with_capacity(list.len());
    for signed in list {
        match resolve(context, signed) {
            Ok(one) => resolved.push(one),
            Err(fault) => judged.push(Err(fault)),
        }
    }
    let verified = context.verifier.transactions(resolved);
    judged.extend(verified.into_iter().map(|verified| accept(context, verified)));
    judged
}

/// Everything that comes before the signatures, and the keys to check them with.
fn resolve(context: &Context, signed: Arc<SignedTransaction>) -> Result<Resolved, Fault> {
    let transaction = &signed.transaction;
    transaction.check_shape(context.chain).map_err(|fault| fault_of_shape(&fault))?;
    let bytes = signed.canonical().len();
    let most = context.epoch().params.transaction_bytes_max as usize;
    if bytes > most {
        return Err(Fault::invalid(format!("the transaction has {bytes} bytes; expected at most {most}")));
    }
    let keys = context.state.resolve_keys(None, transaction).map_err(|it| fault_of_refusal(&it))?;
    Ok(Resolved { signed, bytes, keys })
}

/// What comes after the signatures.
fn accept(
    context: &Context,
    verified: Result<Verified<AuthenticatedTx>, TransactionFault>,
) -> Result<Verified<AuthenticatedTx>, Fault> {
    let verified = verified.map_err(|fault| fault_of_signatures(&fault))?;
    context.state.dry_run(None, &verified, now_ms()).map_err(|it| fault_of_refusal(&it))?;
    Ok(verified)
}

/// Whether a client's transaction goes to every validator over the mesh, so that gossip would only repeat it.
fn reaches_everyone(context: &Context) -> bool {
    let count = context.epoch().set.count();
    count <= DIRECT_VALIDATORS_MAX && context.net.linked().len() + 1 >= count
}

/// Sends clients' transactions on over the mesh, as many at once as wait: to every validator of a small
/// set, to the current and the next leader of a large one.
pub(crate) async fn forward(context: Arc<Context>, mut queue: mpsc::Receiver<Arc<SignedTransaction>>) {
    let mut next = Instant::now();
    while let Some(first) = queue.recv().await {
        sleep_until(next).await;
        let mut batch = vec![first];
        while batch.len() < FORWARD_TRANSACTIONS_MAX
            && let Ok(more) = queue.try_recv()
        {
            batch.push(more);
        }
        let (batch, waiting) = {
            let mut pool = context.pool.lock();
            (pool.take_unsent(batch), pool.len())
        };
        next = Instant::now() + if waiting < BUSY_TRANSACTIONS { FORWARD_PAUSE } else { FORWARD_PAUSE_BUSY };
        for list in lists(batch) {
            send_forwarded(&context, &list);
        }
    }
}

fn send_forwarded(context: &Context, list: &[Arc<SignedTransaction>]) {
    let (view, epoch) = (context.position.view(), context.epoch());
    let set = &epoch.set;
    let message = Outbound {
        plane: Plane::Bulk,
        kind: MessageKind::Transactions,
        epoch: set.epoch(),
        view,
        body: Forwarded::encode(list).into(),
    };
    if set.count() <= DIRECT_VALIDATORS_MAX {
        return context.net.broadcast(&message);
    }
    for leader in [set.leader(view), set.leader(view.next())] {
        let address = set.get(leader).map(|validator| validator.address);
        let ours = epoch.signer.as_ref().map(|signer| signer.address);
        if let Some(address) = address.filter(|address| Some(*address) != ours) {
            context.net.send_to(&address, &message);
        }
    }
}

/// Bytes of one forwarded list: a sixteenth of a second of one core's checking, so that lists spread over threads.
const FORWARD_BYTES_MAX: usize = 256 << 10;

/// Cuts a batch into lists of at most [`FORWARD_BYTES_MAX`], or of one transaction.
fn lists(batch: Vec<Arc<SignedTransaction>>) -> Vec<Vec<Arc<SignedTransaction>>> {
    let mut lists: Vec<Vec<Arc<SignedTransaction>>> = Vec::new();
    let mut bytes = 0;
    for tx in batch {
        bytes += tx.canonical().len();
        match lists.last_mut() {
            Some(list) if bytes <= FORWARD_BYTES_MAX => list.push(tx),
            _ => {
                bytes = tx.canonical().len();
                lists.push(vec![tx]);
            }
        }
    }
    lists
}
