use super::*;

fn validator(number: u8) -> Address {
    Address::new(cairn_types::Hash([number; 32]))
}

fn place(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

fn refused() -> DialError {
    DialError::NoAddresses
}

#[tokio::test]
async fn a_failed_dial_is_tried_again_after_a_growing_wait() {
    let now = Instant::now();
    let mut dialer = Dialer::new(None, vec![place(1)], now);
    let mut at = now;
    let mut waits = Vec::new();
    for _ in 0..6 {
        let dials = dialer.due(at, |_| false);
        assert_eq!(dials.len(), 1);
        assert!(dialer.due(at + BACKOFF_MAX * 9, |_| false).is_empty(), "one dial at a time");
        dialer.failed(dials[0].connection_id(), &refused(), at);
        let begun = at;
        while dialer.due(at, |_| false).is_empty() {
            at += Duration::from_millis(10);
        }
        waits.push(at - begun);
        let key = Key::Fixed(0);
        let target = dialer.targets.get_mut(&key).unwrap();
        let (connection, _) = target.connection.take().unwrap();
        dialer.dials.remove(&connection);
    }
    assert!(waits[0] <= BACKOFF_MIN * 5 / 4 + Duration::from_millis(10), "{waits:?}");
    assert!(waits[5] >= BACKOFF_MAX * 3 / 4 && waits[5] <= BACKOFF_MAX * 5 / 4 + Duration::from_millis(10));
    assert!(dialer.dials.len() <= 1, "no dial is forgotten");
}

#[tokio::test]
async fn the_lower_address_dials_first() {
    let now = Instant::now();
    let peer = PeerId::random();
    let mut lower = Dialer::new(Some(validator(1)), vec![], now);
    lower.know(validator(2), peer, vec![place(2)], now);
    assert_eq!(lower.due(now, |_| false).len(), 1);
    let mut higher = Dialer::new(Some(validator(3)), vec![], now);
    higher.know(validator(2), peer, vec![place(2)], now);
    assert!(higher.due(now, |_| false).is_empty());
    assert_eq!(higher.due(now + YIELD, |_| false).len(), 1);
}

#[tokio::test]
async fn linked_validators_and_their_configured_addresses_are_not_dialled() {
    let now = Instant::now();
    let mut dialer = Dialer::new(None, vec![place(1)], now);
    let dial = dialer.due(now, |_| false).remove(0).connection_id();
    dialer.connected(dial, PeerId::random());
    dialer.proved(dial, validator(1));
    assert!(dialer.due(now + BACKOFF_MAX * 9, |_| true).is_empty());
    dialer.closed(dial, Some(validator(1)), now + LINK_LIFE_MIN * 2);
    let later = now + LINK_LIFE_MIN * 2 + BACKOFF_MAX;
    assert!(dialer.due(later, |address| *address == validator(1)).is_empty(), "another link is up");
    assert_eq!(dialer.due(later, |_| false).len(), 1);
}

#[tokio::test]
async fn ourselves_are_dialled_once_and_departed_validators_not_at_all() {
    let now = Instant::now();
    let mut dialer = Dialer::new(None, vec![place(1)], now);
    let dial = dialer.due(now, |_| false).remove(0).connection_id();
    dialer.failed(dial, &DialError::LocalPeerId { address: place(1) }, now);
    assert!(dialer.due(now + BACKOFF_MAX * 9, |_| false).is_empty());
    dialer.know(validator(2), PeerId::random(), vec![place(2)], now);
    dialer.retain(|address| *address != validator(2));
    assert!(dialer.due(now + BACKOFF_MAX * 9, |_| false).is_empty());
}
