//! Time stamps by authorities that OpenSSL runs: counted when everything holds, named when anything does not.

mod fixture;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_receipt::{
    CheckName, Document, ReceiptVerifier, TimeAuthorities, TimedPart, TimestampFault, Verdict,
    attach_timestamp, bundle, claimed_times, core_of, receipts_of, refreshed, timestamp_request,
};
use cairn_types::receipt::Receipt;
use cairn_types::{Height, Scheme, TreeKind, encode};
use fixture::authority::{Office, TIME_STAMPING, statement};
use fixture::documents::Log;
use fixture::{Batch, World, receipt};
use sha2::{Digest, Sha256};

/// A receipt, and an office whose authority `tsa` is under `root`.
struct Scene {
    office: Office,
    world: World,
    receipt: Receipt,
}

impl Scene {
    fn new() -> Self {
        let office = Office::new();
        office.issue("root", "tsa", "ec:prime256v1", TIME_STAMPING);
        let world = World::new(Scheme::MlDsa65);
        let receipt = receipt(&world, &Batch::new(TreeKind::CairnB3V1, 7, true), 3);
        Self { office, world, receipt }
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.receipt.record_bytes).into()
    }

    /// The receipt with these tokens as they are, checked by nobody.
    fn with(&self, tokens: &[Vec<u8>]) -> Receipt {
        let item =
            |token: &Vec<u8>| format!("{{\"kind\":\"rfc3161\",\"token\":\"{}\"}}", STANDARD.encode(token));
        Receipt { external: tokens.iter().map(item).collect(), ..self.receipt.clone() }
    }

    /// The receipt with the answer of an authority, taken in as a user would.
    fn stamped_by(&self, authority: &str, chain: Option<&str>) -> Receipt {
        let mut document = Document::Receipt(Box::new(self.receipt.clone()));
        let (_, request) = timestamp_request(&document).unwrap();
        attach_timestamp(&mut document, &self.office.answer(authority, &request, chain)).unwrap();
        receipt_in(document)
    }

    fn verify(&self, receipt: &Receipt, authorities: TimeAuthorities) -> Verdict {
        let mut trusted = self.world.trusted();
        trusted.authorities = authorities;
        // Through the text: what counts must survive a file.
        ReceiptVerifier::new(trusted).verify_json(&cairn_receipt::to_json(receipt))
    }

    /// Why a token does not count under `root`.
    fn refusal(&self, token: &[u8]) -> String {
        refusal(&self.verify(&self.with(&[token.to_vec()]), self.office.trust("root")))
    }
}

fn receipt_in(document: Document) -> Receipt {
    match document {
        Document::Receipt(receipt) => *receipt,
        other => panic!("a {}", other.kind()),
    }
}

/// The detail of the check `time`, which must be the one that failed.
fn refusal(verdict: &Verdict) -> String {
    let failed = verdict.failed().expect("it does not verify");
    assert_eq!(failed.name, CheckName::Time, "{}", failed.detail);
    assert!(!verdict.valid && verdict.times.is_empty());
    failed.detail.clone()
}

/// The only token of a receipt.
fn token(receipt: &Receipt) -> Vec<u8> {
    let item: serde_json::Value = serde_json::from_str(&receipt.external[0]).unwrap();
    STANDARD.decode(item["token"].as_str().unwrap()).unwrap()
}

#[test]
fn a_stamped_record_has_the_authoritys_time() {
    let scene = Scene::new();
    let stamped = scene.stamped_by("tsa", None);
    let verdict = scene.verify(&stamped, scene.office.trust("root"));
    assert!(verdict.valid, "{:?}", verdict.checks);
    let [time] = verdict.times.as_slice() else { panic!("{:?}", verdict.times) };
    assert_eq!(time.part, TimedPart::Record(verdict.record.as_ref().unwrap().seq));
    assert_eq!((time.authority.as_str(), time.root.as_str()), ("CN=tsa", "CN=Test_Root"));
    assert_eq!((time.accuracy_ms, time.policy.as_str()), (Some(1_501), "1.2.3.4.1"));
    let modified = std::fs::metadata(scene.office.path("answer.tsr")).unwrap().modified().unwrap();
    let written = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(time.time_ms.abs_diff(written) < 60_000, "{} against {written}", time.time_ms);
    let last = verdict.checks.last().unwrap();
    assert_eq!((last.name, last.passed), (CheckName::Time, true));
    assert!(last.detail.contains("by CN=tsa, under CN=Test_Root"), "{}", last.detail);
    assert!(!verdict.warnings.iter().any(|warning| warning.contains("external")), "{:?}", verdict.warnings);

    // OpenSSL finds the same of the same bytes.
    scene.office.write("record", &scene.receipt.record_bytes);
    scene.office.openssl("ts -verify -data record -in answer.tsr -CAfile root.pem");

    let unasked = scene.verify(&stamped, TimeAuthorities::default());
    assert!(unasked.valid && unasked.times.is_empty());
    assert!(unasked.warnings.iter().any(|warning| warning.contains("1 of them are time stamps")));
}

#[test]
fn authorities_of_every_key_and_hash_are_understood() {
    let scene = Scene::new();
    let keys = [("rsa", "rsa:2048"), ("p384", "ec:secp384r1"), ("p521", "ec:secp521r1")];
    for (name, key) in keys {
        scene.office.issue("root", name, key, TIME_STAMPING);
        let verdict = scene.verify(&scene.stamped_by(name, None), scene.office.trust("root"));
        assert!(verdict.valid, "{name}: {:?}", verdict.failed());
    }
    for hash in ["sha256", "sha384", "sha512"] {
        for bytes in [&scene.receipt.record_bytes, &scene.receipt.header_bytes] {
            let answer = scene.office.answer("rsa", &scene.office.request(bytes, hash), None);
            let mut document = Document::Receipt(Box::new(scene.receipt.clone()));
            attach_timestamp(&mut document, &answer).unwrap();
            let verdict = scene.verify(&receipt_in(document), scene.office.trust("root"));
            assert!(verdict.valid, "{hash}: {:?}", verdict.failed());
        }
    }
    let by_key = format!("{TIME_STAMPING}\nsubjectKeyIdentifier=hash");
    scene.office.issue("root", "by_key", "rsa:2048", &by_key);
    for options in ["-keyid", "-keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:-1"] {
        let (time, time_ms) = scene.office.soon();
        let token = scene.office.sign_with("by_key", &statement(&scene.hash(), &time), options);
        let verdict = scene.verify(&scene.with(&[token]), scene.office.trust("root"));
        assert!(verdict.valid, "{options}: {:?}", verdict.failed());
        assert_eq!(verdict.times[0].time_ms, time_ms);
    }
}

#[test]
fn the_path_to_the_authority_may_be_longer() {
    let scene = Scene::new();
    scene.office.intermediate("root", "between");
    scene.office.issue("between", "deep", "rsa:2048", TIME_STAMPING);
    let verdict = scene.verify(&scene.stamped_by("deep", Some("between")), scene.office.trust("root"));
    assert!(verdict.valid, "{:?}", verdict.failed());
    let pathless = scene.verify(&scene.stamped_by("deep", None), scene.office.trust("root"));
    assert!(refusal(&pathless).contains("CN=deep is under none of the authorities given"));
    let der = TimeAuthorities::read(&scene.office.der("between")).unwrap();
    assert!(scene.verify(&scene.stamped_by("deep", None), der).valid);
}

#[test]
fn each_way_to_be_wrong_is_named() {
    let scene = Scene::new();
    let office = &scene.office;
    for (name, extensions) in [
        ("none", "keyUsage=digitalSignature"),
        ("loose", "extendedKeyUsage=timeStamping"),
        ("more", "extendedKeyUsage=critical,timeStamping,serverAuth"),
        ("other", "extendedKeyUsage=critical,emailProtection"),
    ] {
        office.issue("root", name, "ec:prime256v1", extensions);
    }
    let now = "20261121070000Z";
    let mut not_ours = scene.hash();
    not_ours[0] ^= 1;
    let cases = [
        (office.sign("tsa", &statement(&not_ours, now)), "neither a record nor the header"),
        (office.sign("none", &statement(&scene.hash(), now)), "CN=none is not for timeStamping"),
        (
            office.sign("loose", &statement(&scene.hash(), now)),
            "does not mark its timeStamping usage as critical",
        ),
        (office.sign("more", &statement(&scene.hash(), now)), "expected timeStamping alone"),
        (
            office.sign("other", &statement(&scene.hash(), now)),
            "1.3.6.1.5.5.7.3.4; expected timeStamping alone",
        ),
        (office.sign("tsa", &statement(&scene.hash(), "20990101000000Z")), "expired"),
        (office.sign("tsa", &statement(&scene.hash(), "20010101000000Z")), "the certificate begins"),
        (office.sign("tsa", &statement(&scene.hash(), "20261121070000.120Z")), "expected YYYYMMDDhhmmss"),
        (office.sign("tsa", &statement(&scene.hash(), "20261321070000Z")), "expected YYYYMMDDhhmmss"),
        (office.sign("tsa", b"no statement"), "no DER"),
        (b"no token".to_vec(), "no DER"),
    ];
    for (token, expected) in cases {
        let why = scene.refusal(&token);
        assert!(why.contains(expected), "{why}; expected {expected}");
    }
    let none = refusal(&scene.verify(&scene.receipt, office.trust("root")));
    assert!(none.contains("carries no time stamp"), "{none}");
    let weak = office.answer("tsa", &office.request(&scene.receipt.record_bytes, "sha1"), None);
    let mut document = Document::Receipt(Box::new(scene.receipt.clone()));
    let fault = attach_timestamp(&mut document, &weak).unwrap_err().to_string();
    assert!(fault.contains("1.3.14.3.2.26; expected sha256"), "{fault}");
}

#[test]
fn another_authority_or_another_key_does_not_pass() {
    let scene = Scene::new();
    let stamped = scene.stamped_by("tsa", None);
    scene.office.root("stranger", "/CN=Stranger");
    scene.office.root("namesake", "/CN=Test Root");
    let stranger = refusal(&scene.verify(&stamped, scene.office.trust("stranger")));
    assert!(stranger.contains("CN=tsa is under none of the authorities given"), "{stranger}");
    let namesake = refusal(&scene.verify(&stamped, scene.office.trust("namesake")));
    assert!(namesake.contains("the signature is wrong"), "{namesake}");

    // The same name and serial number over another key, put in the place of the signer's certificate.
    scene.office.issue("root", "rsa", "rsa:2048", TIME_STAMPING);
    let (own, genuine) = (scene.office.der("rsa"), token(&scene.stamped_by("rsa", None)));
    scene.office.issue("root", "rsa", "rsa:2048", TIME_STAMPING);
    let other = scene.office.der("rsa");
    assert_eq!(own.len(), other.len(), "so that lengths around it stay right");
    let at = genuine.windows(own.len()).position(|window| window == own).expect("carried");
    let mut swapped = genuine.clone();
    swapped[at..at + own.len()].copy_from_slice(&other);
    assert!(scene.refusal(&swapped).contains("bound to another certificate"));

    // A stranger's stamp beside one that counts is no harm; a false one is.
    let strange = {
        scene.office.issue("stranger", "elsewhere", "ec:prime256v1", TIME_STAMPING);
        token(&scene.stamped_by("elsewhere", None))
    };
    let both = scene.with(&[strange, token(&stamped)]);
    let verdict = scene.verify(&both, scene.office.trust("root"));
    assert!(verdict.valid && verdict.times.len() == 1, "{:?}", verdict.failed());
    assert!(verdict.warnings.iter().any(|warning| warning.starts_with("1 items of external evidence")));
    let spoilt = scene.with(&[token(&stamped), swapped]);
    assert!(refusal(&scene.verify(&spoilt, scene.office.trust("root"))).contains("another certificate"));
}

#[test]
fn no_changed_bit_of_a_token_is_accepted() {
    let scene = Scene::new();
    let genuine = token(&scene.stamped_by("tsa", None));
    let mut trusted = scene.world.trusted();
    trusted.authorities = scene.office.trust("root");
    let verifier = ReceiptVerifier::new(trusted);
    let (mut accepted, mut tried) = (Vec::new(), 0);
    for bit in 0..genuine.len() * 8 {
        let mut changed = genuine.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verdict = verifier.verify(&scene.with(&[changed]));
        tried += 1;
        match verdict.valid {
            true => accepted.push(bit),
            false => assert_eq!(verdict.failed().unwrap().name, CheckName::Time),
        }
    }
    assert_eq!(accepted, Vec::<usize>::new(), "of {tried} changed bits");
    println!("{tried} changed bits of a token of {} bytes: accepted, none", genuine.len());
}

#[test]
fn a_stamp_of_the_record_outlives_what_a_stamp_of_the_header_does_not() {
    let office = Office::new();
    office.issue("root", "tsa", "ec:prime256v1", TIME_STAMPING);
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    let mut trusted = world.trusted();
    trusted.authorities = office.trust("root");
    let verifier = ReceiptVerifier::new(trusted);
    let (mut first, mut second) = (
        Document::Receipt(Box::new(log.receipt(&world, 0, 3))),
        Document::Receipt(Box::new(log.receipt(&world, 1, 2))),
    );
    for document in [&mut first, &mut second] {
        let (part, request) = timestamp_request(document).unwrap();
        assert!(matches!(part, TimedPart::Record(_)));
        attach_timestamp(document, &office.answer("tsa", &request, None)).unwrap();
    }
    let many = bundle(&[receipt_in(first), receipt_in(second)]).unwrap();
    let mut whole = Document::Bundle(Box::new(many));
    let (part, request) = timestamp_request(&whole).unwrap();
    assert_eq!(part, TimedPart::Header(Height::new(9)));
    attach_timestamp(&mut whole, &office.answer("tsa", &request, None)).unwrap();
    let verdict = verifier.verify_document(&whole);
    assert!(verdict.valid && verdict.times.len() == 3, "{:?}", verdict.failed());

    let Document::Bundle(many) = &whole else { panic!("a bundle") };
    for one in receipts_of(many).unwrap() {
        assert_eq!(one.external.len(), 2, "its record's and the header's");
        assert!(verifier.verify(&one).valid);
    }
    let mut core = core_of(many);
    let mut later = log.header.clone();
    later.view = cairn_types::View::new(12);
    core.header_bytes = encode(&later);
    let fresh = refreshed(many, core).unwrap();
    assert_eq!(fresh.external, many.external[..2], "the record's stamps stay, the old header's goes");
}

#[test]
fn a_checkpoint_carries_a_time_and_other_documents_say_that_they_cannot() {
    let office = Office::new();
    office.issue("root", "tsa", "ec:prime256v1", TIME_STAMPING);
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    let mut trusted = world.trusted();
    trusted.authorities = office.trust("root");
    let verifier = ReceiptVerifier::new(trusted);
    let mut document = Document::Checkpoint(Box::new(log.checkpoint(&world)));
    let (_, request) = timestamp_request(&document).unwrap();
    let answer = office.answer("tsa", &request, None);
    attach_timestamp(&mut document, &answer).unwrap();
    assert_eq!(attach_timestamp(&mut document, &answer), Err(TimestampFault::Twice));
    let (read, verdict) = verifier.verify_any(&document.to_json());
    assert_eq!(read.as_ref(), Some(&document));
    assert!(verdict.valid && verdict.times[0].part == TimedPart::Header(Height::new(9)));
    let claims = claimed_times(&document);
    assert_eq!(claims[0].as_ref().unwrap().time_ms, verdict.times[0].time_ms);

    let proof = log.consistency(&world, 4, cairn_types::log::TreeHash::Anchors);
    assert!(refusal(&verifier.verify_consistency(&proof)).contains("no time stamp"));
    let mut other = Document::Consistency(Box::new(proof));
    assert!(matches!(timestamp_request(&other), Err(TimestampFault::Kind { .. })));
    assert!(matches!(attach_timestamp(&mut other, &answer), Err(TimestampFault::Kind { .. })));
}

#[test]
fn what_an_authority_refuses_or_garbles_is_not_taken_in() {
    let scene = Scene::new();
    let mut document = Document::Receipt(Box::new(scene.receipt.clone()));
    // PKIStatusInfo { status 2, { "busy" } }: a rejection.
    let rejection =
        [0x30, 0x0d, 0x30, 0x0b, 0x02, 0x01, 0x02, 0x30, 0x06, 0x0c, 0x04, b'b', b'u', b's', b'y'];
    let fault = attach_timestamp(&mut document, &rejection).unwrap_err().to_string();
    assert!(fault.contains("the authority refused: status 02 busy"), "{fault}");
    let other = scene.office.answer("tsa", &scene.office.request(b"another file", "sha256"), None);
    let fault = attach_timestamp(&mut document, &other).unwrap_err();
    assert!(matches!(fault, TimestampFault::OtherImprint { hash: "sha256", .. }), "{fault}");
    let mut garbled = scene.office.answer("tsa", &timestamp_request(&document).unwrap().1, None);
    *garbled.last_mut().unwrap() ^= 1;
    let fault = attach_timestamp(&mut document, &garbled).unwrap_err().to_string();
    assert!(fault.contains("does not match the key of its certificate"), "{fault}");
    assert!(attach_timestamp(&mut document, &vec![0x30; 1 << 20]).is_err());
    assert!(receipt_in(document).external.is_empty());

    for wrong in
        [&b"no certificate"[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b""]
    {
        assert!(TimeAuthorities::read(wrong).is_err());
    }
}
