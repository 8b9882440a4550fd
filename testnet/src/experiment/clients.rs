//! Clients of an experiment: every transaction is due at its time whatever the network does, goes to a validator of
//! its own, and is sent to another one when it is not final after `load.retry`. Its latency counts from when it was
//! due (no coordinated omission).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cairn_sim::Manifest;
use cairn_types::{ChainId, Scheme, TxId};
use parking_lot::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::api::NodeApi;
use crate::load::signing::{self, Plan};
use crate::load::{Finals, finality};

/// How often the end is looked for.
const POLL: Duration = Duration::from_millis(20);
/// Longest a submission may take before it counts as not answered.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// The life of one transaction. Times are microseconds after the start.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) id: TxId,
    pub(super) due: u64,
    /// The validator it was first sent to.
    pub(super) entry: usize,
    pub(super) tries: u32,
    /// When any node was first seen to have it final.
    pub(super) final_at: Option<u64>,
}

/// When each transaction became final.
struct Ledger {
    started: Mutex<Option<Instant>>,
    by_id: HashMap<TxId, usize>,
    all: Mutex<Vec<Submission>>,
}

impl Ledger {
    fn is_final(&self, index: usize) -> bool {
        self.all.lock()[index].final_at.is_some()
    }
}

impl Finals for Ledger {
    fn became_final(&self, id: &TxId) {
        let (Some(started), Some(index)) = (*self.started.lock(), self.by_id.get(id)) else { return };
        let at = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.all.lock()[*index].final_at.get_or_insert(at);
    }
}

/// Everything signed, and every validator's stream of final blocks open.
pub(super) struct Clients {
    apis: Vec<NodeApi>,
    bodies: Vec<Vec<u8>>,
    ledger: Arc<Ledger>,
    retry: Duration,
    followers: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(super) async fn prepare(
        manifest: &Manifest,
        chain: ChainId,
        scheme: Scheme,
        apis: &[NodeApi],
    ) -> Result<Self> {
        let load = &manifest.load;
        let until = load.stop.unwrap_or(manifest.duration).0.min(manifest.duration.0);
        let interval = Duration::from_secs_f64(load.rate.max(1e-9).recip());
        let seconds = until.saturating_sub(load.start.0) as f64 / 1e6;
        let count = (load.rate * seconds).floor().max(0.0) as usize;
        let plan = Plan {
            chain,
            senders: (0..load.clients.clamp(1, 256)).map(|_| signing::new_sender(scheme)).collect(),
            proofs: load.proofs as usize,
            metadata: 0,
            interval,
        };
        let signed = tokio::task::spawn_blocking(move || signing::sign_all(&plan, count)).await??;
        let (ids, bodies): (Vec<_>, Vec<_>) = signed.into_iter().map(|one| (one.id, one.body)).unzip();
        let validators = manifest.net.n;
        let submission = |(index, id): (usize, &TxId)| Submission {
            id: *id,
            due: load.start.0 + (interval.as_secs_f64() * index as f64 * 1e6) as u64,
            entry: index % validators,
            tries: 0,
            final_at: None,
        };
        let ledger = Arc::new(Ledger {
            started: Mutex::new(None),
            by_id: ids.iter().enumerate().map(|(index, id)| (*id, index)).collect(),
            all: Mutex::new(ids.iter().enumerate().map(submission).collect()),
        });
        let mut followers = Vec::new();
        for api in &apis[..validators] {
            followers.push(finality::follow(api.clone(), Arc::clone(&ledger)).await?);
        }
        let apis = apis[..validators].to_vec();
        Ok(Self { apis, bodies, ledger, retry: load.retry.into(), followers })
    }

    /// Submits everything on time and returns when the last one is due and was answered or given up.
    pub(super) async fn submit(&self, started: Instant) {
        *self.ledger.started.lock() = Some(started);
        let mut under_way = JoinSet::new();
        for (index, body) in self.bodies.iter().enumerate() {
            let due = Duration::from_micros(self.ledger.all.lock()[index].due);
            sleep_until(started + due).await;
            while under_way.try_join_next().is_some() {}
            under_way.spawn(submit_one(
                self.apis.clone(),
                Arc::clone(&self.ledger),
                index,
                body.clone(),
                self.retry,
            ));
        }
        // Each gives up by itself: a transaction lives for a minute.
        while under_way.join_next().await.is_some() {}
    }

    /// Waits until everything is final, at most `patience`, and stops watching.
    pub(super) async fn drain(&self, _: Instant, patience: Duration) {
        let until = Instant::now() + patience;
        while Instant::now() < until && self.ledger.all.lock().iter().any(|it| it.final_at.is_none()) {
            sleep(POLL).await;
        }
        self.followers.iter().for_each(JoinHandle::abort);
    }

    pub(super) fn submissions(&self) -> Vec<Submission> {
        self.ledger.all.lock().clone()
    }
}

/// Sends one transaction to validator after validator until it is final or would expire.
async fn submit_one(apis: Vec<NodeApi>, ledger: Arc<Ledger>, index: usize, body: Vec<u8>, retry: Duration) {
    let entry = ledger.all.lock()[index].entry;
    let until = Instant::now() + Duration::from_millis(crate::anchoring::LIFE_MS);
    for api in apis.iter().cycle().skip(entry) {
        ledger.all.lock()[index].tries += 1;
        let again = Instant::now() + retry;
        // A refusal or silence is what the retry is for.
        let _ = timeout(ANSWER_PATIENCE, api.post(body.clone())).await;
        while !ledger.is_final(index) && Instant::now() < again {
            sleep(POLL).await;
        }
        if ledger.is_final(index) || Instant::now() >= until {
            return;
        }
    }
}
