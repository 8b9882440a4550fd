//! Gossip settings. Where they differ from libp2p's defaults, the default has bitten someone.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cairn_types::ChainId;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, Message,
    MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicScoreParams, ValidationMode,
    WhitelistSubscriptionFilter,
};

/// Topics there are; a peer may subscribe to no others.
const TOPICS: usize = 2;
/// Messages are at most 64 KiB; the rest is headroom, because the size check covers the whole read buffer.
const TRANSMIT_BYTES_MAX: usize = 128 * 1_024;
/// Receivers refuse larger control sections, and after a few of those disable a peer until it reconnects.
const CONTROL_BYTES_MAX: usize = 32 * 1_024;
/// Ids sent in one control message: 400 x 24 B stay below the limit of every receiver.
const CONTROL_MESSAGES_MAX: usize = 400;
/// Messages waiting for one peer: 16 MiB of full batches.
const PEER_QUEUE_MAX: usize = 256;

pub(crate) type Gossip =
    Behaviour<IdentityTransform, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>;

/// The topics of one chain.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    pub(crate) transactions: IdentTopic,
    pub(crate) announcements: IdentTopic,
}

impl Topics {
    pub(crate) fn new(chain: ChainId) -> Self {
        Self {
            transactions: IdentTopic::new(format!("/cairn/{chain}/transactions/1")),
            announcements: IdentTopic::new(format!("/cairn/{chain}/announcements/1")),
        }
    }
}

/// Names a message by its content, so that two senders of one batch send one message.
fn message_id(message: &Message) -> MessageId {
    let mut hasher = blake3::Hasher::new_derive_key("cairn 2026 gossip-message v1");
    hasher.update(&(message.topic.as_str().len() as u64).to_le_bytes());
    hasher.update(message.topic.as_str().as_bytes());
    hasher.update(&message.data);
    MessageId::from(hasher.finalize().as_bytes().get(..20).unwrap_or_default())
}

/// The behaviour, subscribed to both topics.
pub(crate) fn behaviour(topics: &Topics) -> Result<Gossip, String> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        .mesh_outbound_min(3)
        .gossip_lazy(6)
        .gossip_factor(0.25)
        .history_length(6)
        .history_gossip(3)
        .heartbeat_interval(Duration::from_millis(700))
        .heartbeat_initial_delay(Duration::from_millis(100))
        .flood_publish(false)
        .duplicate_cache_time(Duration::from_secs(120))
        .max_transmit_size(TRANSMIT_BYTES_MAX)
        .max_control_messages_sent(CONTROL_MESSAGES_MAX)
        .max_control_message_size(CONTROL_BYTES_MAX)
        .max_publish_messages(64)
        .connection_handler_queue_len(PEER_QUEUE_MAX)
        .publish_queue_duration(Duration::from_secs(2))
        .forward_queue_duration(Duration::from_millis(750))
        .idontwant_message_size_threshold(4_096)
        .idontwant_on_publish(false)
        .build()
        .map_err(|why| why.to_string())?;
    let allowed: HashSet<_> = [topics.transactions.hash(), topics.announcements.hash()].into();
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(allowed),
        max_subscribed_topics: TOPICS,
        max_subscriptions_per_request: 2 * TOPICS,
    };
    let mut gossip = Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)?;
    let (params, thresholds) = scoring(topics);
    gossip.with_peer_score(params, thresholds)?;
    for topic in [&topics.transactions, &topics.announcements] {
        gossip.subscribe(topic).map_err(|why| why.to_string())?;
    }
    Ok(gossip)
}

/// Peers gain by being first and lose by invalid messages. Nobody loses for silence (P3 and P3b are off:
/// topics are quiet at times) nor for sharing an IP address (the gate limits those that count).
fn scoring(topics: &Topics) -> (PeerScoreParams, PeerScoreThresholds) {
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0033,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 3_600.0,
        first_message_deliveries_weight: 1.0,
        first_message_deliveries_decay: 0.985,
        first_message_deliveries_cap: 40.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -20.0,
        invalid_message_deliveries_decay: 0.992,
        ..TopicScoreParams::default()
    };
    let all = [topics.transactions.hash(), topics.announcements.hash()];
    let params = PeerScoreParams {
        topics: all.into_iter().map(|hash| (hash, topic.clone())).collect::<HashMap<_, _>>(),
        topic_score_cap: 50.0,
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -10.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.992,
        slow_peer_weight: -1.0,
        decay_interval: Duration::from_secs(1),
        decay_to_zero: 0.01,
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -100.0,
        publish_threshold: -200.0,
        graylist_threshold: -400.0,
        accept_px_threshold: 100.0,
        opportunistic_graft_threshold: 2.0,
    };
    (params, thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_accepted_and_content_names_a_message() {
        let topics = Topics::new(ChainId::ZERO);
        behaviour(&topics).unwrap();
        let message = |data: &[u8], topic: &IdentTopic| Message {
            source: None,
            data: data.to_vec(),
            sequence_number: None,
            topic: topic.hash(),
        };
        let first = message_id(&message(b"a", &topics.transactions));
        assert_eq!(first, message_id(&message(b"a", &topics.transactions)));
        assert_ne!(first, message_id(&message(b"b", &topics.transactions)));
        assert_ne!(first, message_id(&message(b"a", &topics.announcements)));
        assert_eq!(first.0.len(), 20);
    }
}
