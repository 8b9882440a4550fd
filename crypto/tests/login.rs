//! Challenge and answer: the right key lets in once, for one service, for a few minutes.

use cairn_crypto::{KeyPair, LoginFault, LoginGuard, LoginMoment, sign_login, verify_login};
use cairn_types::identity::{IdentityEntry, KeyEntry, Purpose, Purposes};
use cairn_types::login::{LOGIN_LIFETIME_MAX_MS, LoginChallenge, LoginResponse};
use cairn_types::{Address, ChainId, Hash, Height, KeyRef, PublicKey, Scheme, decode, encode};

const CHAIN: ChainId = ChainId::new(Hash([5; 32]));
const SERVICE: &str = "https://example.org";
const NOW_MS: u64 = 1_767_225_600_000;

fn challenge(address: Address) -> LoginChallenge {
    LoginChallenge {
        audience: SERVICE.into(),
        address,
        nonce: [3; 32],
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + LOGIN_LIFETIME_MAX_MS,
    }
}

fn held(key: &PublicKey, from: u64, until: Option<u64>, purposes: Purposes) -> KeyEntry {
    KeyEntry {
        address: key.address(),
        purposes,
        from: Height::new(from),
        until: until.map(Height::new),
        expires_ms: None,
    }
}

/// An identity with a good key, a retired one and one for anchoring only.
struct Person {
    pairs: Vec<KeyPair>,
    keys: Vec<PublicKey>,
    entry: IdentityEntry,
}

impl Person {
    fn new(scheme: Scheme) -> Self {
        let pairs: Vec<_> = (0..3).map(|_| KeyPair::generate(scheme)).collect();
        let keys: Vec<_> = pairs.iter().map(|pair| pair.public().clone()).collect();
        let anchoring = Purposes::of([Purpose::Assertion]).unwrap();
        let entry = IdentityEntry {
            threshold: 1,
            admitted: true,
            deactivated: None,
            agent: None,
            proposals: vec![],
            keys: vec![
                held(&keys[0], 1, None, Purposes::ORDINARY),
                held(&keys[1], 1, Some(5), Purposes::ORDINARY),
                held(&keys[2], 1, None, anchoring),
            ],
        };
        Self { pairs, keys, entry }
    }

    fn address(&self) -> Address {
        self.keys[0].address()
    }

    fn answer(&self, challenge: LoginChallenge, key: KeyRef, pair: usize) -> LoginResponse {
        sign_login(CHAIN, challenge, key, &self.pairs[pair])
    }

    fn at(&self, now_ms: u64) -> LoginMoment<'_> {
        LoginMoment { entry: Some(&self.entry), keys: &self.keys, height: Height::new(9), now_ms }
    }
}

#[test]
fn a_key_for_authentication_lets_in_and_no_other_does() {
    for scheme in Scheme::ALL {
        let person = Person::new(scheme);
        let ask = || challenge(person.address());
        let judge = |response: &LoginResponse| verify_login(CHAIN, SERVICE, response, person.at(NOW_MS + 1));
        let by_index = person.answer(ask(), KeyRef::Registered(0), 0);
        assert_eq!(judge(&by_index), Ok(()));
        let carried = person.answer(ask(), KeyRef::Inline(person.keys[0].clone()), 0);
        assert_eq!(judge(&carried), Ok(()));
        let alone = LoginMoment { keys: &[], ..person.at(NOW_MS) };
        assert_eq!(verify_login(CHAIN, SERVICE, &carried, alone), Ok(()), "a proven state is enough");
        assert!(matches!(verify_login(CHAIN, SERVICE, &by_index, alone), Err(LoginFault::UnknownKey { .. })));
        for (key, pair) in [(1, 1), (2, 2)] {
            let response = person.answer(ask(), KeyRef::Registered(key), pair);
            assert!(matches!(judge(&response), Err(LoginFault::Key { .. })), "key {key}");
        }
        let unknown = person.answer(ask(), KeyRef::Registered(9), 0);
        assert!(matches!(judge(&unknown), Err(LoginFault::UnknownKey { index: 9, .. })));
        let wrong_pair = person.answer(ask(), KeyRef::Registered(0), 2);
        assert!(matches!(judge(&wrong_pair), Err(LoginFault::Signature(_))));
        let stranger = KeyPair::generate(scheme);
        let foreign = sign_login(CHAIN, ask(), KeyRef::Inline(stranger.public().clone()), &stranger);
        assert!(matches!(judge(&foreign), Err(LoginFault::Key { .. })));
        let other_chain = sign_login(ChainId::ZERO, ask(), KeyRef::Registered(0), &person.pairs[0]);
        assert!(matches!(judge(&other_chain), Err(LoginFault::Signature(_))));
    }
}

#[test]
fn an_address_that_was_never_registered_logs_in_with_the_key_it_hashes_from() {
    let pair = KeyPair::generate(Scheme::MlDsa65);
    let at = LoginMoment { entry: None, keys: &[], height: Height::ZERO, now_ms: NOW_MS };
    let inline = KeyRef::Inline(pair.public().clone());
    let good = sign_login(CHAIN, challenge(pair.address()), inline.clone(), &pair);
    assert_eq!(verify_login(CHAIN, SERVICE, &good, at), Ok(()));
    let other = sign_login(CHAIN, challenge(Address::ZERO), inline, &pair);
    assert!(matches!(verify_login(CHAIN, SERVICE, &other, at), Err(LoginFault::InlineKeyOfOther { .. })));
    let index = sign_login(CHAIN, challenge(pair.address()), KeyRef::Registered(0), &pair);
    assert!(matches!(verify_login(CHAIN, SERVICE, &index, at), Err(LoginFault::UnknownIdentity { .. })));
}

#[test]
fn a_challenge_is_for_one_service_and_for_minutes() {
    let person = Person::new(Scheme::MlDsa65);
    let sign = |challenge| person.answer(challenge, KeyRef::Registered(0), 0);
    let good = sign(challenge(person.address()));
    let judge = |response: &LoginResponse, service: &str, now_ms| {
        verify_login(CHAIN, service, response, person.at(now_ms))
    };
    assert!(matches!(judge(&good, "https://evil.example", NOW_MS), Err(LoginFault::OtherAudience { .. })));
    assert!(matches!(judge(&good, SERVICE, NOW_MS - 10_001), Err(LoginFault::FromTheFuture { .. })));
    assert_eq!(judge(&good, SERVICE, NOW_MS - 10_000), Ok(()));
    assert_eq!(judge(&good, SERVICE, NOW_MS + LOGIN_LIFETIME_MAX_MS - 1), Ok(()));
    assert!(matches!(judge(&good, SERVICE, NOW_MS + LOGIN_LIFETIME_MAX_MS), Err(LoginFault::Expired { .. })));
    let mut long = challenge(person.address());
    long.expires_ms += 1;
    assert!(matches!(judge(&sign(long), SERVICE, NOW_MS), Err(LoginFault::Challenge(_))));
    let mut backwards = challenge(person.address());
    backwards.expires_ms = backwards.issued_ms;
    assert!(matches!(judge(&sign(backwards), SERVICE, NOW_MS), Err(LoginFault::Challenge(_))));
}

#[test]
fn an_answer_lets_in_once() {
    let person = Person::new(Scheme::MlDsa65);
    let mut guard = LoginGuard::new();
    let response = person.answer(challenge(person.address()), KeyRef::Registered(0), 0);
    let mut bad = response.clone();
    bad.key = KeyRef::Registered(2);
    assert!(guard.accept(CHAIN, SERVICE, &bad, person.at(NOW_MS)).is_err());
    assert_eq!(guard.remembered(), 0, "a bad answer does not use the challenge up");
    assert_eq!(guard.accept(CHAIN, SERVICE, &response, person.at(NOW_MS)), Ok(()));
    assert_eq!(guard.accept(CHAIN, SERVICE, &response, person.at(NOW_MS + 5)), Err(LoginFault::Replayed));
    let again = person.answer(challenge(person.address()), KeyRef::Inline(person.keys[0].clone()), 0);
    assert_eq!(guard.accept(CHAIN, SERVICE, &again, person.at(NOW_MS + 6)), Err(LoginFault::Replayed));
    let late = NOW_MS + LOGIN_LIFETIME_MAX_MS;
    assert!(matches!(
        guard.accept(CHAIN, SERVICE, &response, person.at(late)),
        Err(LoginFault::Expired { .. })
    ));
    assert_eq!(guard.remembered(), 0, "what has expired need not be remembered");
}

#[test]
fn no_changed_answer_lets_in() {
    let person = Person::new(Scheme::Dilithium3);
    let good = person.answer(challenge(person.address()), KeyRef::Registered(0), 0);
    let bytes = encode(&good);
    for bit in (0..2_000).chain((2_000..bytes.len() * 8).step_by(611)) {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(response) = decode::<LoginResponse>(&changed) {
            assert!(verify_login(CHAIN, SERVICE, &response, person.at(NOW_MS)).is_err(), "bit {bit}");
        }
    }
}
