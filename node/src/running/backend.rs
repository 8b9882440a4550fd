//! What the interfaces ask of this node: the `Backend` over state, pool, consensus and networks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_crypto::LoginGuard;
use cairn_p2p::Command;
use cairn_rpc::{
    AnchorLog, Answer, At, Backend, Fault, FinalBlock, FinalTx, LogCheckpoint, MempoolInfo, Motions, NetInfo,
    NodeAbout, NodeStatus, ParamsAt, PeerInfo, ReadyCheck, ReceiptForm, RecordFilter, RecordKey, RecordPage,
    StoredBlock, SubmitState, Submitted, Trust, TxLookup, ValidatorsAt, Verdict,
};
use cairn_types::{
    AuthenticatedTx, Block, CommitCert, Epoch, Hash, Header, Height, ProofId, Record, Regime,
    SignedTransaction, TxId, Verified,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::clock::now_ms;
use super::context::Context;
use super::faults::{fault_of_shape, fault_of_state};
use super::notary::{self, Notary};
use super::reads;
use super::stages::Stage;
use super::transactions::{Admitted, Origin, Transactions};

/// Blocks by which a ready node may be behind the highest final block it has heard of.
const READY_LAG_BLOCKS: u64 = 3;
/// Wait for the networks to describe themselves.
const NET_INFO_TIMEOUT: Duration = Duration::from_secs(2);

/// The node behind the interfaces.
pub(crate) struct NodeBackend {
    context: Arc<Context>,
    transactions: Arc<Transactions>,
    notary: Arc<Notary>,
    about: NodeAbout,
    started: Instant,
    pub(super) logins: Arc<Mutex<LoginGuard>>,
}

impl NodeBackend {
    /// The backend of a running node.
    pub(crate) fn new(context: Arc<Context>, transactions: Arc<Transactions>, notary: Notary) -> Self {
        let about = NodeAbout {
            chain: context.chain,
            chain_name: context.genesis.name.clone(),
            moniker: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            validator: context.epoch().signer.as_ref().map(|signer| signer.address),
            admission: context.genesis.admission,
        };
        let notary = Arc::new(notary);
        Self { context, transactions, notary, about, started: Instant::now(), logins: Arc::default() }
    }

    /// Runs a read of the state off the async threads.
    pub(super) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Context) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'_, T> {
        let context = Arc::clone(&self.context);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || read(&context)).await.map_err(Fault::internal)?
        })
    }

    /// An earlier submission of the very same transaction.
    fn known_transaction(
        &self,
        signed: &SignedTransaction,
        proof_ids: &[ProofId],
    ) -> Result<Option<Submitted>, Fault> {
        let id = signed.id();
        let context = &self.context;
        let answer = |state| Ok(Some(Submitted { tx_id: id, proof_ids: proof_ids.to_vec(), state }));
        if context.state.has_landed(&id, &signed.transaction).map_err(fault_of_state)? {
            return answer(SubmitState::Final(context.state.records_by_tx(&id).map_err(fault_of_state)?));
        }
        if context.pool.lock().contains(&id) { answer(SubmitState::Pending) } else { Ok(None) }
    }

    /// An earlier submission of the same proofs in another transaction.
    fn known_proofs(&self, proof_ids: &[ProofId]) -> Result<Option<Submitted>, Fault> {
        let Some(first) = proof_ids.first() else { return Ok(None) };
        let answer = |tx_id, state| Ok(Some(Submitted { tx_id, proof_ids: proof_ids.to_vec(), state }));
        let mut records = Vec::with_capacity(proof_ids.len());
        for proof in proof_ids {
            match self.context.state.records_by_proof(proof).map_err(fault_of_state)? {
                Some(matches) => records.push(matches.first),
                None => break,
            }
        }
        if records.len() == proof_ids.len()
            && let Some(record) = records.first()
        {
            return answer(record.tx_id, SubmitState::Final(records));
        }
        let pool = self.context.pool.lock();
        match pool.carrier(first) {
            Some(carrier) if proof_ids.iter().all(|proof| pool.carrier(proof) == Some(carrier)) => {
                answer(carrier, SubmitState::Pending)
            }
            _ => Ok(None),
        }
    }

    /// Everything that is checked before a transaction is taken. `None` for the transaction when there is
    /// nothing to take, because the same was submitted before.
    async fn judge(
        &self,
        signed: SignedTransaction,
    ) -> Result<(Option<Verified<AuthenticatedTx>>, Submitted), Fault> {
        let (chain, transaction) = (self.context.chain, &signed.transaction);
        transaction.check_shape(chain).map_err(|fault| fault_of_shape(&fault))?;
        let proof_ids: Vec<_> =
            transaction.proofs().iter().map(|proof| proof.id(chain, transaction.sender)).collect();
        let id = signed.id();
        if let Some(submitted) = self.known_transaction(&signed, &proof_ids)? {
            return Ok((None, submitted));
        }
        self.transactions.check_room()?;
        let tx = self.transactions.authenticate(Arc::new(signed)).await?;
        if let Some(submitted) = self.known_proofs(&proof_ids)? {
            return Ok((None, submitted));
        }
        Ok((Some(tx), Submitted { tx_id: id, proof_ids, state: SubmitState::New }))
    }

    fn checks(&self) -> Vec<ReadyCheck> {
        let context = &self.context;
        let (height, best) = (*context.final_height.borrow(), context.position.best_known());
        let linked = context.net.linked().len();
        let epoch = context.epoch();
        let set = &epoch.set;
        let peers = match &epoch.signer {
            Some(signer) => {
                let power = |address| set.index_of(&address).map_or(0, |index| set.power(index));
                let reached =
                    set.power(signer.index) + context.net.linked().into_iter().map(power).sum::<u64>();
                ReadyCheck {
                    name: "validators",
                    ok: set.is_quorum(reached),
                    detail: format!(
                        "{linked} links; power {reached} of {} reached, more than two thirds needed",
                        set.total_power()
                    ),
                }
            }
            None => {
                let count = context.position.public_peers();
                ReadyCheck { name: "peers", ok: count > 0, detail: format!("{count} public peers") }
            }
        };
        let behind = best.get().saturating_sub(height.get());
        let sync = ReadyCheck {
            name: "sync",
            ok: behind <= READY_LAG_BLOCKS,
            detail: format!("final height {height}, highest known {best}"),
        };
        let started = context.position.started();
        let detail = if started { "taking part" } else { "listening first whether this key signs elsewhere" };
        let consensus = ReadyCheck { name: "consensus", ok: started, detail: detail.to_owned() };
        let stopping = context.shutdown.is_cancelled();
        let detail = if stopping { "shutting down" } else { "running" };
        vec![peers, sync, consensus, ReadyCheck { name: "process", ok: !stopping, detail: detail.to_owned() }]
    }

    async fn describe_net(&self) -> Result<NetInfo, Fault> {
        let (reply, answer) = oneshot::channel();
        self.context.net.send(Command::NetInfo { reply }).await.map_err(Fault::internal)?;
        let info = tokio::time::timeout(NET_INFO_TIMEOUT, answer).await;
        let info = info.map_err(Fault::internal)?.map_err(Fault::internal)?;
        let mesh = info.validators.into_iter().map(|link| PeerInfo {
            peer_id: link.peer,
            plane: "mesh",
            address: link.endpoint,
            outbound: None,
            validator: Some(link.address),
            rtt_ms: None,
        });
        let public = info.peers.into_iter().map(|peer| PeerInfo {
            peer_id: peer.peer.to_string(),
            plane: "public",
            address: peer.endpoint,
            outbound: Some(!peer.inbound),
            validator: None,
            rtt_ms: None,
        });
        let listen = info.mesh_listen.into_iter().chain(info.public_listen).collect();
        Ok(NetInfo { peer_id: info.public_peer, listen, peers: mesh.chain(public).collect() })
    }
}

impl Backend for NodeBackend {
    fn about(&self) -> &NodeAbout {
        &self.about
    }

    fn final_height(&self) -> watch::Receiver<Height> {
        self.context.final_height.subscribe()
    }

    fn earliest(&self) -> Height {
        self.context.state.kept().blocks_from
    }

    fn status(&self) -> Answer<'_, NodeStatus> {
        Box::pin(async move {
            let context = &self.context;
            let tip = context.state.tip();
            Ok(NodeStatus {
                epoch: context.epoch().number(),
                view: context.position.view(),
                final_age_ms: now_ms().saturating_sub(tip.header.time_ms),
                peers: context.net.linked().len() + context.position.public_peers(),
                validators: context.epoch().set.count(),
                pending: context.pool.lock().len(),
                syncing: context.position.syncing(),
                best_known: context.position.best_known(),
                uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
                tip: (*tip.header).clone(),
            })
        })
    }

    fn readiness(&self) -> Answer<'_, Vec<ReadyCheck>> {
        Box::pin(async move { Ok(self.checks()) })
    }

    fn submit(&self, transaction: SignedTransaction) -> Answer<'_, Submitted> {
        Box::pin(async move {
            let began = Instant::now();
            let (tx, mut submitted) = self.judge(transaction).await?;
            if let Some(tx) = tx
                && self.transactions.admit(tx, Origin::Client)? == Admitted::Pending
            {
                submitted.state = SubmitState::Pending;
            }
            self.context.stages.observe(Stage::Admit, began.elapsed().as_secs_f64());
            Ok(submitted)
        })
    }

    fn check(&self, transaction: SignedTransaction) -> Answer<'_, Submitted> {
        Box::pin(async move { Ok(self.judge(transaction).await?.1) })
    }

    fn wait_final(&self, tx: TxId, timeout: Duration) -> Answer<'_, Option<FinalTx>> {
        Box::pin(async move {
            let Some(news) = self.context.waiters.register(tx) else {
                let reason = "too many callers wait for finality".to_owned();
                return Err(Fault::NotReady { reason, retry_after_ms: 1_000 });
            };
            // Looked up after registering: whatever commits from here on is told.
            if let Some(landed) = reads::final_tx(&self.context, &tx)? {
                return Ok(Some(landed));
            }
            tokio::select! {
                biased; // what has become final is told, also while the node stops
                news = news => match news {
                    Ok(Ok(())) => reads::final_tx(&self.context, &tx),
                    Ok(Err(fault)) => Err(fault),
                    Err(_) => Ok(None),
                },
                () = tokio::time::sleep(timeout) => Ok(None),
                () = self.context.shutdown.cancelled() => Ok(None),
            }
        })
    }

    fn transaction(&self, tx: TxId) -> Answer<'_, Option<TxLookup>> {
        self.read(move |context| reads::transaction(context, &tx))
    }

    fn pending_proof(&self, proof: ProofId) -> Answer<'_, Option<TxId>> {
        Box::pin(async move { Ok(self.context.pool.lock().carrier(&proof)) })
    }

    fn header(&self, at: At) -> Answer<'_, Option<Header>> {
        self.read(move |context| reads::header(context, at))
    }

    fn block(&self, at: At) -> Answer<'_, Option<Arc<Block>>> {
        self.read(move |context| reads::block(context, at))
    }

    fn certificate(&self, at: At) -> Answer<'_, Option<CommitCert>> {
        self.read(move |context| reads::certificate(context, at))
    }

    fn final_block(&self, height: Height) -> Answer<'_, Option<FinalBlock>> {
        self.read(move |context| reads::final_block(context, height))
    }

    fn records(&self, key: RecordKey) -> Answer<'_, Vec<Record>> {
        self.read(move |context| reads::records(context, &key))
    }

    fn list(&self, filter: RecordFilter) -> Answer<'_, RecordPage> {
        self.read(move |context| reads::list(context, &filter))
    }

    fn receipt(&self, seq: u64, form: ReceiptForm) -> Answer<'_, Option<String>> {
        self.read(move |context| reads::receipt(context, seq, form))
    }

    fn receipts(&self, seqs: Vec<u64>, form: ReceiptForm, at: Option<At>) -> Answer<'_, Option<String>> {
        self.read(move |context| notary::receipts(context, &seqs, form, at))
    }

    fn consistency(&self, log: AnchorLog, first: u64, second: u64) -> Answer<'_, Option<Vec<Hash>>> {
        self.read(move |context| notary::consistency(context, log, first, second))
    }

    fn log_path(&self, log: AnchorLog, seq: u64, size: u64) -> Answer<'_, Option<Vec<Hash>>> {
        self.read(move |context| notary::path(context, log, seq, size))
    }

    fn log_checkpoint(&self, at: At) -> Answer<'_, Option<LogCheckpoint>> {
        let notary = Arc::clone(&self.notary);
        self.read(move |context| notary.checkpoint(context, at))
    }

    fn blocks(&self, from: Height, limit: usize, bytes_max: usize) -> Answer<'_, Vec<StoredBlock>> {
        self.read(move |context| notary::blocks(context, from, limit, bytes_max))
    }

    fn verify_receipt(&self, receipt: String) -> Answer<'_, Verdict> {
        self.read(move |context| reads::verify_receipt(context, &receipt))
    }

    fn validators(&self, at: At) -> Answer<'_, Option<ValidatorsAt>> {
        self.read(move |context| reads::validators(context, at))
    }

    fn params(&self, at: At) -> Answer<'_, Option<ParamsAt>> {
        self.read(move |context| {
            let Some(header) = reads::header(context, at)? else { return Ok(None) };
            let regime = context.state.regime_of(header.epoch).map_err(fault_of_state)?;
            let at = |regime: Regime| ParamsAt { height: header.height, params: regime.params };
            Ok(regime.map(at))
        })
    }

    fn motions(&self) -> Answer<'_, Motions> {
        self.read(|context| {
            let open = context.state.motions().map_err(fault_of_state)?;
            let (set, protocol) = (context.state.validators(), context.state.protocol());
            Ok(Motions { open, set: (*set).clone(), protocol })
        })
    }

    fn genesis(&self) -> Answer<'_, Arc<str>> {
        Box::pin(async move { Ok(Arc::clone(&self.context.genesis_text)) })
    }

    fn trust(&self, from: Epoch) -> Answer<'_, Trust> {
        self.read(move |context| reads::trust(context, from))
    }

    fn mempool(&self) -> Answer<'_, MempoolInfo> {
        Box::pin(async move {
            let pool = self.context.pool.lock();
            let (stats, limits) = (pool.stats(), pool.limits());
            Ok(MempoolInfo {
                count: stats.transactions,
                bytes: stats.bytes,
                count_max: limits.transactions_max,
                bytes_max: limits.bytes_max,
                senders: stats.senders,
            })
        })
    }

    fn pending(&self, limit: usize) -> Answer<'_, Vec<Arc<SignedTransaction>>> {
        Box::pin(async move { Ok(self.context.pool.lock().oldest(limit)) })
    }

    fn net(&self) -> Answer<'_, NetInfo> {
        Box::pin(self.describe_net())
    }
}
