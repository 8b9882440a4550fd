//! How validators find one another: node records in Kademlia, and the address book.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use cairn_types::node_record::{NODE_ADDRESSES_MAX, NodeRecord, SignedNodeRecord};
use cairn_types::{Address, encode};
use libp2p::kad::{self, GetRecordOk, InboundRequest, PeerRecord, QueryResult, Quorum, Record, RecordKey};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::book::{BOOK_PEERS_MAX, Book};
use super::records::Offer;
use super::task::Public;
use crate::address::{self, split_peer};
use crate::command::MeshCommand;

use libp2p::kad::store::RecordStore as _;

/// How long our record is valid: half the longest life, so that clocks may differ by hours.
const RECORD_LIFE_MS: u64 = 12 * 3_600 * 1_000;
/// Lookups under way at once.
const LOOKUPS_MAX: usize = 16;
/// Peers sought by our own dials.
const PEERS_SOUGHT: usize = 8;
/// Dials begun per look-up tick.
const DIALS_PER_TICK: usize = 4;
/// Peers of one network (/24, /48) in the routing table and in one bucket of it.
const TABLE_PER_NETWORK_MAX: usize = 3;
const BUCKET_PER_NETWORK_MAX: usize = 2;
/// Between two publications of our record, at least.
const PUBLISH_PAUSE: Duration = Duration::from_secs(2);
/// How often a changed address book is written.
const BOOK_INTERVAL: Duration = Duration::from_secs(10);

impl Public {
    /// Takes what the address book remembers: records (verified again), bans, and peers to dial once.
    pub(super) fn open_book(&mut self) {
        let book = std::mem::take(&mut self.parts.book);
        for bytes in &book.records {
            self.offer_record(bytes, None);
        }
        let now = Instant::now();
        let now_ms = (self.parts.clock)();
        for (peer, until_ms) in &book.bans {
            let left = Duration::from_millis(until_ms.saturating_sub(now_ms)).min(crate::gate::BAN_TIME);
            if let Ok(peer) = PeerId::from_bytes(peer)
                && !left.is_zero()
            {
                self.swarm.behaviour_mut().gate.ban(peer, now + left);
            }
        }
        for text in book.peers.iter().take(BOOK_PEERS_MAX) {
            let Ok(remembered) = text.parse::<Multiaddr>() else { continue };
            if let (address, Some(peer)) = split_peer(remembered)
                && address::is_dialable(&address)
            {
                self.dial_peer(peer, vec![address]);
            }
        }
        self.book_dirty = false;
    }

    /// Writes the address book. A failure costs no more than a slower start.
    pub(super) fn save_book(&mut self) {
        self.book_dirty = false;
        self.book_saved = Instant::now();
        let Some(path) = &self.parts.book_path else { return };
        let (now, now_ms) = (Instant::now(), (self.parts.clock)());
        let bans = self.swarm.behaviour().gate.bans(now);
        let until_ms = |until: Instant| {
            let left = until.saturating_duration_since(now).as_millis();
            now_ms.saturating_add(u64::try_from(left).unwrap_or(u64::MAX))
        };
        let peers = self.peers.iter().filter(|(_, state)| state.ready);
        let peers = peers.filter_map(|(peer, state)| Some(format!("{}/p2p/{peer}", state.dial.as_ref()?)));
        let book = Book {
            records: self.records.iter().map(|(_, known)| known.bytes.clone()).collect(),
            peers: peers.take(BOOK_PEERS_MAX).collect(),
            bans: bans.into_iter().map(|(peer, until)| (peer.to_bytes(), until_ms(until))).collect(),
        };
        if let Err(fault) = book.save(path) {
            tracing::warn!(path = %path.display(), %fault, "the address book could not be written");
        }
    }

    fn dial_peer(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        if let Err(fault) = self.swarm.dial(opts) {
            tracing::trace!(%peer, %fault, "not dialled");
        }
    }

    /// Puts a peer's addresses into the routing table, as far as they are to be believed.
    pub(super) fn route(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(state) = self.peers.get(&peer) else { return };
        let reached_over = state.endpoint.clone();
        let mut first = None;
        for address in addresses.into_iter().take(NODE_ADDRESSES_MAX) {
            let (address, named) = split_peer(address);
            let believed = named.is_none_or(|named| named == peer)
                && self.may_dial(&address, &reached_over)
                && self.table_has_room(peer, &address);
            if believed {
                first.get_or_insert_with(|| address.clone());
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.dial = first;
        }
        self.book_dirty = true;
    }

    /// Kademlia itself has no limit against one network filling the table.
    fn table_has_room(&mut self, peer: PeerId, address: &Multiaddr) -> bool {
        let Some(ip) = address::ip(address).filter(|ip| address::is_global(*ip)) else { return true };
        let network = address::network(ip);
        let kad = &mut self.swarm.behaviour_mut().kad;
        let own_bucket = kad.kbucket(peer).map(|bucket| bucket.range());
        let mut in_table = 0;
        let mut in_bucket = 0;
        for bucket in kad.kbuckets() {
            let shares = |ip: IpAddr| address::network(ip) == network;
            let count = bucket
                .iter()
                .filter(|entry| *entry.node.key.preimage() != peer)
                .filter(|entry| entry.node.value.iter().filter_map(address::ip).any(shares))
                .count();
            in_table += count;
            if own_bucket.as_ref().is_some_and(|own| own.0 == bucket.range().0) {
                in_bucket += count;
            }
        }
        in_table < TABLE_PER_NETWORK_MAX && in_bucket < BUCKET_PER_NETWORK_MAX
    }

    /// New peers or addresses have been quiet for a moment: find the rest of the network through them,
    /// and tell it about us.
    pub(super) fn on_settled(&mut self) {
        self.settle = None;
        if self.ready_peers() > 0 {
            // Without known peers there is nothing to do.
            let _ = self.swarm.behaviour_mut().kad.bootstrap();
        }
        self.record_due = true;
        self.publish_due_record();
        self.look_up();
    }

    pub(super) fn on_look_tick(&mut self) {
        for address in self.records.expire((self.parts.clock)()) {
            tracing::debug!(%address, "a validator's node record has expired");
        }
        self.parts.metrics.records(self.records.len());
        self.look_up();
        self.seek_peers();
        self.publish_due_record();
        if self.book_dirty && self.book_saved.elapsed() >= BOOK_INTERVAL {
            self.save_book();
        }
    }

    /// Looks for the validators that have no link, and reminds the mesh of those that are known.
    pub(super) fn look_up(&mut self) {
        let Some(mesh) = self.parts.mesh.clone() else { return };
        let linked = self.parts.links.addresses();
        let missing: Vec<Address> =
            self.records.others().filter(|address| !linked.contains(address)).collect();
        for address in missing {
            self.tell_mesh(&mesh, address);
            let under_way = self.lookups.values().any(|sought| *sought == address);
            if !under_way && self.lookups.len() < LOOKUPS_MAX && self.ready_peers() > 0 {
                let key = RecordKey::new(NodeRecord::key(self.parts.chain, &address).as_bytes());
                let query = self.swarm.behaviour_mut().kad.get_record(key);
                self.lookups.insert(query, address);
            }
        }
    }

    fn tell_mesh(&self, mesh: &tokio::sync::mpsc::Sender<MeshCommand>, address: Address) {
        if let Some(known) = self.records.get(&address) {
            let (peer, addresses) = (known.mesh_peer, known.mesh_addresses.clone());
            // A full queue is no loss: this is repeated with the next look-up.
            let _ = mesh.try_send(MeshCommand::Known { address, peer, addresses });
        }
    }

    /// Dials peers of the routing table while there are few.
    fn seek_peers(&mut self) {
        if self.peers.len() >= PEERS_SOUGHT {
            return;
        }
        let mut found: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for bucket in self.swarm.behaviour_mut().kad.kbuckets() {
            for entry in bucket.iter() {
                let peer = *entry.node.key.preimage();
                if found.len() < DIALS_PER_TICK && !self.peers.contains_key(&peer) {
                    found.insert(peer, entry.node.value.iter().cloned().collect());
                }
            }
        }
        for (peer, addresses) in found {
            self.dial_peer(peer, addresses);
        }
    }

    /// Publishes our record when it is due, and not twice within a moment: peers come and go as they like,
    /// and a signature costs something.
    pub(super) fn publish_due_record(&mut self) {
        let due = match self.published_at.map(|at| at.elapsed()) {
            None => true,
            Some(age) => age >= self.parts.record_interval || (self.record_due && age >= PUBLISH_PAUSE),
        };
        if due {
            self.publish_record();
        }
    }

    /// Signs our node record and stores it at the peers closest to its key.
    fn publish_record(&mut self) {
        let (Some(address), Some(mesh_peer)) = (self.parts.identity.address(), self.parts.mesh_peer) else {
            return;
        };
        let listening = self.parts.mesh_listening.borrow().clone();
        let mesh_addresses = texts(&self.parts.mesh_external, &listening);
        if mesh_addresses.is_empty() || self.ready_peers() == 0 {
            return;
        }
        let listeners: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        let now_ms = (self.parts.clock)();
        self.record_seq = now_ms.max(self.record_seq.saturating_add(1));
        let record = NodeRecord {
            chain: self.parts.chain,
            address,
            mesh_peer: mesh_peer.to_bytes(),
            public_peer: self.swarm.local_peer_id().to_bytes(),
            mesh_addresses,
            public_addresses: texts(&self.parts.external, &listeners),
            seq: self.record_seq,
            expires_ms: now_ms.saturating_add(RECORD_LIFE_MS),
        };
        let signature = self.parts.identity.sign(&record.preimage());
        let key = RecordKey::new(NodeRecord::key(self.parts.chain, &address).as_bytes());
        let value = encode(&SignedNodeRecord { record, signature });
        let expires = Some(Instant::now().into_std() + Duration::from_millis(RECORD_LIFE_MS));
        let record = Record { key, value, publisher: None, expires };
        match self.swarm.behaviour_mut().kad.put_record(record, Quorum::One) {
            Ok(_) => {
                self.record_due = false;
                self.published_at = Some(Instant::now());
            }
            Err(fault) => tracing::warn!(%fault, "our node record could not be stored"),
        }
    }

    pub(super) fn on_kad_event(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            } => self.on_put(source, record),
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                match result {
                    QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(PeerRecord { record, .. }))) => {
                        let newer = self.offer_record(&record.value, Some(record.key.as_ref()));
                        if newer && let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
                            query.finish();
                        }
                    }
                    QueryResult::PutRecord(Err(fault)) => {
                        tracing::debug!(%fault, "our node record reached nobody");
                        self.published_at = None;
                    }
                    _ => {}
                }
                if step.last {
                    self.lookups.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// A peer wants to store a record with us: only node records that we believe are kept.
    fn on_put(&mut self, source: PeerId, mut record: Record) {
        let newer = self.offer_record(&record.value, Some(record.key.as_ref()));
        if !newer {
            return;
        }
        record.publisher = None;
        record.expires = Some(Instant::now().into_std() + Duration::from_millis(RECORD_LIFE_MS));
        if let Err(fault) = self.swarm.behaviour_mut().kad.store_mut().put(record) {
            tracing::debug!(%source, %fault, "a node record was not kept");
        }
    }

    /// Checks a record; true when it is news, which the mesh is then told.
    fn offer_record(&mut self, bytes: &[u8], key: Option<&[u8]>) -> bool {
        let now_ms = (self.parts.clock)();
        match self.records.offer(bytes, key, now_ms, self.parts.identity.as_ref()) {
            Ok(Offer::New(address)) => {
                self.book_dirty = true;
                self.parts.metrics.records(self.records.len());
                if let Some(mesh) = &self.parts.mesh {
                    self.tell_mesh(mesh, address);
                }
                true
            }
            Ok(Offer::Known) => false,
            Err(fault) => {
                self.parts.metrics.record_refused();
                tracing::debug!(%fault, "a node record is refused");
                false
            }
        }
    }
}

/// The configured addresses, or those listened on, as text.
fn texts(external: &[Multiaddr], listening: &[Multiaddr]) -> Vec<String> {
    let chosen = if external.is_empty() { listening } else { external };
    chosen.iter().take(NODE_ADDRESSES_MAX).map(ToString::to_string).collect()
}
