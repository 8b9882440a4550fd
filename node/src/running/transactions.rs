//! A transaction's way into the pool, and on to the leaders and everyone else.

use std::sync::Arc;

use bytes::Bytes;
use cairn_mempool::Refusal;
use cairn_p2p::{Command, GossipTicket, MessageKind, Outbound, Plane, Verdict};
use cairn_rpc::Fault;
use cairn_types::{AuthenticatedTx, SignedTransaction, TxId, Verified, decode, encode};
use rayon::prelude::*;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::clock::now_ms;
use super::context::Context;
use super::faults::{fault_of_pool, fault_of_refusal, fault_of_shape, fault_of_signatures};
use super::wire::{FORWARD_TRANSACTIONS_MAX, Forwarded};

/// Transactions whose signatures are being checked at one moment. The rest waits in bounded queues before.
const CHECKING_MAX: usize = 1_024;
/// Transactions waiting to be forwarded; what does not fit still reaches the leaders by gossip.
pub(crate) const FORWARDS_MAX: usize = 8_192;

/// Validators up to which a client's transaction is sent to each of them directly: one copy each, one hop.
/// In larger sets that would cost its first node too much, and gossip spreads the cost.
const DIRECT_VALIDATORS_MAX: usize = 16;
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
    verifiers: Arc<rayon::ThreadPool>,
    room: Arc<Semaphore>,
    forwards: mpsc::Sender<Bytes>,
}

impl Transactions {
    /// A door whose signature checks run on `verifiers`; `forwards` goes to [`forward`].
    pub(crate) fn new(
        context: Arc<Context>,
        verifiers: Arc<rayon::ThreadPool>,
        forwards: mpsc::Sender<Bytes>,
    ) -> Self {
        Self { context, verifiers, room: Arc::new(Semaphore::new(CHECKING_MAX)), forwards }
    }

    /// Checks everything about a transaction but whether it is known already, cheapest first.
    ///
    /// # Errors
    /// The first rule broken, as a client should see it.
    pub(crate) async fn authenticate(
        &self,
        signed: Arc<SignedTransaction>,
    ) -> Result<Verified<AuthenticatedTx>, Fault> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(Fault::internal)?;
        let (reply, outcome) = oneshot::channel();
        let context = Arc::clone(&self.context);
        self.verifiers.spawn(move || {
            // A caller that gave up needs no verdict.
            let _ = reply.send(check(&context, signed));
            drop(room);
        });
        outcome.await.map_err(Fault::internal)?
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
                    self.pass_on(&signed);
                }
                Ok(Admitted::New)
            }
            Err(Refusal::Duplicate { .. }) => Ok(Admitted::Pending),
            Err(refusal) => Err(fault_of_pool(&refusal)),
        }
    }

    fn pass_on(&self, signed: &SignedTransaction) {
        let bytes = Bytes::from(encode(signed));
        let direct = self.context.epoch().signer.is_some();
        if direct && self.forwards.try_send(bytes.clone()).is_err() {
            tracing::debug!(
                "the forward queue is full; a transaction is not sent to the validators directly"
            );
        }
        if direct && reaches_everyone(&self.context) {
            return;
        }
        if self.context.net.try_send(Command::GossipTransactions(vec![bytes])).is_err() {
            tracing::debug!("the gossip queue is full; a transaction is not gossiped");
        }
    }

    /// Takes transactions that another node sent: canonical bytes each. Gives the verdict on the batch.
    pub(crate) async fn receive(&self, batch: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Verdict {
        let mut fresh = Vec::new();
        for bytes in batch {
            let Ok(signed) = decode::<SignedTransaction>(bytes.as_ref()) else { return Verdict::Reject };
            if !self.is_known(&signed.transaction.id()) {
                fresh.push(Arc::new(signed));
            }
        }
        if fresh.is_empty() {
            return Verdict::Accept;
        }
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return Verdict::Ignore };
        let (reply, outcome) = oneshot::channel();
        let context = Arc::clone(&self.context);
        self.verifiers.spawn(move || {
            let judged: Vec<_> = fresh.into_par_iter().map(|signed| check(&context, signed)).collect();
            // The node stops; then nobody needs the verdicts.
            let _ = reply.send(judged);
            drop(room);
        });
        let judged = outcome.await.unwrap_or_default();
        judged.into_iter().fold(Verdict::Accept, |verdict, judged| worse(verdict, self.take(judged)))
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

    /// Takes a gossiped batch and reports on it.
    pub(crate) async fn receive_gossip(&self, batch: Vec<Bytes>, ticket: GossipTicket) {
        let verdict = self.receive(batch).await;
        // Networking is gone only when the node stops.
        let _ = self.context.net.send(Command::ReportValidation { ticket, verdict }).await;
    }

    fn is_known(&self, id: &TxId) -> bool {
        self.context.pool.lock().contains(id)
            || self.context.state.transaction(id).is_ok_and(|location| location.is_some())
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
    let transaction = &signed.transaction;
    transaction.check_shape(context.chain).map_err(|fault| fault_of_shape(&fault))?;
    let bytes = encode(signed.as_ref()).len();
    let most = context.epoch().params.transaction_bytes_max as usize;
    if bytes > most {
        return Err(Fault::invalid(format!("the transaction has {bytes} bytes; expected at most {most}")));
    }
    let refuse = |refusal| fault_of_refusal(&refusal);
    let keys = context.state.resolve_keys(None, transaction).map_err(refuse)?;
    let verified =
        context.verifier.transaction(signed, bytes, keys).map_err(|fault| fault_of_signatures(&fault))?;
    context.state.dry_run(None, &verified, now_ms()).map_err(refuse)?;
    Ok(verified)
}

/// Whether a client's transaction goes to every validator over the mesh, so that gossip would only repeat it.
fn reaches_everyone(context: &Context) -> bool {
    let count = context.epoch().set.count();
    count <= DIRECT_VALIDATORS_MAX && context.net.linked().len() + 1 >= count
}

/// Sends clients' transactions on over the mesh, as many at once as wait: to every validator of a small
/// set, to the current and the next leader of a large one.
pub(crate) async fn forward(context: Arc<Context>, mut queue: mpsc::Receiver<Bytes>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, FORWARD_TRANSACTIONS_MAX).await > 0 {
        let (view, epoch) = (context.position.view(), context.epoch());
        let set = &epoch.set;
        for bytes in chunks(std::mem::take(&mut batch)) {
            let message = Outbound {
                plane: Plane::Bulk,
                kind: MessageKind::Transactions,
                epoch: set.epoch(),
                view,
                body: encode(&Forwarded(bytes)).into(),
            };
            if set.count() <= DIRECT_VALIDATORS_MAX {
                context.net.broadcast(&message);
                continue;
            }
            for leader in [set.leader(view), set.leader(view.next())] {
                let address = set.get(leader).map(|validator| validator.address);
                let ours = epoch.signer.as_ref().map(|signer| signer.address);
                if let Some(address) = address.filter(|address| Some(*address) != ours) {
                    context.net.send_to(&address, &message);
                }
            }
        }
    }
}

/// Bytes of one forwarded list: well below what the bulk plane takes.
const FORWARD_BYTES_MAX: usize = 1 << 20;

fn chunks(batch: Vec<Bytes>) -> Vec<Vec<Vec<u8>>> {
    let mut lists: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = 0;
    for transaction in batch {
        bytes += transaction.len();
        match lists.last_mut() {
            Some(list) if bytes <= FORWARD_BYTES_MAX => list.push(transaction.to_vec()),
            _ => {
                bytes = transaction.len();
                lists.push(vec![transaction.to_vec()]);
            }
        }
    }
    lists
}
