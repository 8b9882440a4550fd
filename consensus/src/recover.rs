//! Start and restart: what was remembered becomes a replica again.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::safety::SafetyRecord;
use cairn_types::{BlockCert, TimeoutCert, View};

use crate::config::{CommittedTip, Config, RecoverFault, Recovered};
use crate::pacemaker::Timers;
use crate::propose::Leading;
use crate::reject::Reject;
use crate::replica::Replica;
use crate::step::Step;
use crate::tally::{Tally, Timeouts};
use crate::tree::{Tip, Tree};

impl Replica {
    /// The replica as it was when `recovered` was written: `view = max(high_qc, high_tc) + 1`. It does nothing
    /// until [`crate::Input::Start`].
    ///
    /// # Errors
    /// When the record contradicts what it was recovered with. Signing would then be unsafe.
    pub fn new(config: Config, recovered: Recovered) -> Result<Self, RecoverFault> {
        if let Some(me) = config.me.filter(|me| config.set.get(*me).is_none()) {
            return Err(RecoverFault::NotInSet { me, count: config.set.count() });
        }
        let expected = config.epoch();
        let tip = recovered.commit.as_ref();
        if let Some(header) = tip.map(|tip| &tip.header).filter(|header| header.epoch != expected) {
            return Err(RecoverFault::TipEpoch { id: header.id(), got: header.epoch, expected });
        }
        if recovered.record.epoch > expected {
            return Err(RecoverFault::LaterEpoch { got: recovered.record.epoch, expected });
        }
        // A record of an earlier epoch says nothing about this one: nothing signed crosses epochs.
        let fresh = recovered.record.epoch < expected;
        let (record, high_qc, high_tc, blocks) = if fresh {
            (SafetyRecord { epoch: expected, ..SafetyRecord::default() }, None, None, Vec::new())
        } else {
            (recovered.record, recovered.high_qc, recovered.high_tc, recovered.blocks)
        };
        check_certificates(&record, high_qc.as_ref(), high_tc.as_ref())?;
        let high_qc = high_qc.unwrap_or_else(|| config.root_cert());
        check_signed(&record, entered(&high_qc, high_tc.as_ref(), tip))?;
        let set_digest = config.set.digest();
        let mut tree = Tree::new(match tip {
            None => root_tip(&config),
            Some(tip) => committed_tip(&config, tip),
        });
        for block in blocks {
            if block.header().height > tree.tip().height && block.header().epoch == expected {
                tree.insert(block, false, &[]);
            }
        }
        let view = entered(&high_qc, high_tc.as_ref(), None); // the committed block's is learnt at the start
        Ok(Self {
            config,
            set_digest,
            record,
            view,
            high_qc,
            high_tc,
            commit_cert: None,
            epoch_proof: None,
            over: false,
            tree,
            votes: Tally::new(),
            commit_votes: Tally::new(),
            timeouts: Timeouts::default(),
            proposals: Vec::new(),
            wanted: BTreeMap::new(),
            catching_up: false,
            timers: Timers::default(),
            timeouts_since: 0,
            working: false,
            pool_work: false,
            leading: Leading::default(),
            answers: BTreeMap::new(),
            recovered_commit: recovered.commit.map(|tip| tip.certificate),
            started: false,
            halted: false,
            out: Step::default(),
        })
    }

    /// The first input: learn what the committed block proves, execute the block log again, say where we stand.
    pub(crate) fn on_start(&mut self) -> Result<(), Reject> {
        self.started = true;
        if let Some(certificate) = self.recovered_commit.take() {
            self.learn_commit_cert(&certificate);
        }
        self.set_idle_timer();
        self.resend(None); // R: also after a restart
        Ok(())
    }
}

/// A: the view that the certificates lead to.
fn entered(high_qc: &BlockCert, high_tc: Option<&Arc<TimeoutCert>>, tip: Option<&CommittedTip>) -> View {
    let timed_out = high_tc.map_or(View::ZERO, |tc| tc.view);
    let committed = tip.map_or(View::ZERO, |tip| tip.certificate.view);
    high_qc.view().max(timed_out).max(committed).next()
}

fn root_tip(config: &Config) -> Tip {
    let root = &config.root;
    Tip { id: root.id(), height: root.height, view: View::ZERO, time_ms: root.time_ms }
}

fn committed_tip(config: &Config, tip: &CommittedTip) -> Tip {
    let header = &tip.header;
    if header.id() == config.root.id() {
        return root_tip(config);
    }
    Tip { id: header.id(), height: header.height, view: header.view, time_ms: header.time_ms }
}

fn check_certificates(
    record: &SafetyRecord,
    high_qc: Option<&BlockCert>,
    high_tc: Option<&Arc<TimeoutCert>>,
) -> Result<(), RecoverFault> {
    if let Some((view, digest)) = record.high_qc
        && high_qc.is_none_or(|qc| qc.view() != view || qc.digest() != digest)
    {
        return Err(RecoverFault::CertificateMissing { what: "block certificate", view });
    }
    if let Some((view, digest)) = record.high_tc
        && high_tc.is_none_or(|tc| tc.view != view || tc.digest() != digest)
    {
        return Err(RecoverFault::CertificateMissing { what: "timeout certificate", view });
    }
    Ok(())
}

/// Nothing is signed in a view that was not entered, and the certificates that led there were synced no
/// later: a record that says otherwise is not whole.
fn check_signed(record: &SafetyRecord, reached: View) -> Result<(), RecoverFault> {
    let signed = [
        record.last_voted.map(|(view, _)| view),
        record.last_timeout.map(|(view, _)| view),
        record.last_proposed.map(|(view, _)| view),
        record.last_commit_voted.map(|(view, _)| view.next()),
    ];
    match signed.into_iter().flatten().max().filter(|signed| *signed > reached) {
        None => Ok(()),
        Some(signed) => Err(RecoverFault::ViewUnproven { signed, reached }),
    }
}
