//! Posts transactions when they are due, over a bounded number of kept connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::measure::Ledger;
use crate::api::NodeApi;

/// From the last preparation to the first transaction: every worker is waiting by then.
const START_DELAY: Duration = Duration::from_millis(200);

/// Submissions that were not accepted, by kind.
pub(super) type Errors = BTreeMap<String, u64>;

struct Work {
    bodies: Vec<Mutex<Option<Vec<u8>>>>,
    next: AtomicUsize,
    errors: Mutex<Errors>,
}

/// Sends every body at its time. A worker takes the next one due, so a slow answer delays nothing while any
/// other connection is free; when all are busy, what is late is sent late and its latency says so.
pub(super) async fn send_all(
    apis: &[NodeApi],
    connections: u16,
    bodies: Vec<Vec<u8>>,
    ledger: &Arc<Ledger>,
) -> Result<Errors> {
    let bodies = bodies.into_iter().map(|body| Mutex::new(Some(body))).collect();
    let work = Arc::new(Work { bodies, next: AtomicUsize::new(0), errors: Mutex::default() });
    ledger.begin(Instant::now() + START_DELAY);
    let mut workers = tokio::task::JoinSet::new();
    // Interleaved, so that consecutive transactions go to different nodes.
    for _ in 0..connections {
        for api in apis {
            workers.spawn(send(api.clone(), Arc::clone(&work), Arc::clone(ledger)));
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended?;
    }
    let errors = work.errors.lock().clone();
    Ok(errors)
}

async fn send(api: NodeApi, work: Arc<Work>, ledger: Arc<Ledger>) {
    loop {
        let index = work.next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = work.bodies.get(index).and_then(|slot| slot.lock().take()) else { return };
        sleep_until(ledger.due(index)).await;
        ledger.sent(index);
        match api.post(body).await {
            Ok(_) => ledger.accepted(index),
            Err(fault) => *work.errors.lock().entry(fault.kind().to_owned()).or_default() += 1,
        }
    }
}
