//! The tables of a run, as CSV. Times are virtual milliseconds since the start.

use std::fmt::Write as _;

use super::assertions::ms;
use crate::cluster::Cluster;

fn maybe(time: Option<u64>) -> String {
    time.map(ms).unwrap_or_default()
}

/// One row for each final block.
pub(crate) fn blocks(cluster: &Cluster) -> String {
    let mut text = String::from(
        "height,epoch,view,proposer,transactions,bytes,proposed_ms,first_final_ms,last_final_ms,nodes_final\n",
    );
    for row in cluster.record.blocks.values() {
        let proposed = cluster.record.views.get(&(row.epoch, row.view)).and_then(|view| view.proposed);
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{}",
            row.height,
            row.epoch,
            row.view,
            row.proposer,
            row.transactions,
            row.bytes,
            maybe(proposed),
            ms(row.first_final),
            ms(row.last_final),
            row.finals
        );
    }
    text
}

/// One row for each view: who led, who voted, how it ended.
pub(crate) fn views(cluster: &Cluster) -> String {
    let mut text = String::from(
        "epoch,view,leader,entered_ms,proposed_ms,final_ms,timed_out_ms,voted,commit_voted,gave_up\n",
    );
    let names = |list: &[(u16, u64)]| {
        let mut names: Vec<u16> = list.iter().map(|(validator, _)| *validator).collect();
        names.sort_unstable();
        names.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
    };
    for ((epoch, view), row) in &cluster.record.views {
        let _ = writeln!(
            text,
            "{epoch},{view},{},{},{},{},{},{},{},{}",
            row.leader,
            maybe(row.entered),
            maybe(row.proposed),
            maybe(row.final_at),
            maybe(row.timed_out),
            names(&row.voted),
            names(&row.commit_voted),
            names(&row.gave_up)
        );
    }
    text
}

/// One row for each epoch after the first: when it began, at how many honest nodes, on what, and who is in it.
pub(crate) fn epochs(cluster: &Cluster) -> String {
    let mut text = String::from(
        "epoch,root_height,first_began_ms,last_began_ms,nodes_began,carriers,convicted,validators\n",
    );
    for row in &cluster.record.epochs {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{}",
            row.number,
            row.root,
            ms(row.began),
            ms(row.last_began),
            row.joined,
            row.carriers,
            row.convicted,
            row.members
        );
    }
    text
}

/// One row for each transaction.
pub(crate) fn transactions(cluster: &Cluster) -> String {
    let mut text = String::from(
        "transaction,submitted_ms,validator,tries,first_final_ms,seen_final_ms,finality_ms,height\n",
    );
    for it in &cluster.clients.submissions {
        let height = it.final_at.map(|_| it.height.to_string()).unwrap_or_default();
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{height}",
            it.id,
            ms(it.submitted),
            it.entry,
            it.tries,
            maybe(it.final_at),
            maybe(it.seen_at),
            maybe(it.seen_at.map(|seen| seen - it.submitted))
        );
    }
    text
}

/// One row for each sender and kind of message.
pub(crate) fn messages(cluster: &Cluster) -> String {
    let mut text = String::from("node,region,kind,messages,bytes,bytes_per_view\n");
    let views = cluster.record.views.len().max(1) as f64;
    for ((node, kind), traffic) in &cluster.record.traffic {
        let region = cluster.record.regions.get(*node).map_or("", String::as_str);
        let _ = writeln!(
            text,
            "{},{region},{kind},{},{},{:.0}",
            cluster.name(*node),
            traffic.count,
            traffic.bytes,
            traffic.bytes as f64 / views
        );
    }
    text
}
