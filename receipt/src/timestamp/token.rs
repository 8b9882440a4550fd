//! A time-stamp token as bytes: the DER of RFC 3161 and of CMS SignedData (RFC 5652), read strictly. Nothing is
//! believed here; `authority.rs` judges.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{DateTime, Decode, Reader, SliceReader, Tag};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Bytes of one token, at most. With a chain of certificates they have 3 to 9 kB.
pub(crate) const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Certificates that one token carries, at most: bounds the search for a path.
const CERTIFICATES_MAX: usize = 16;
/// The first byte of a `SET OF` in DER.
const SET_OF: u8 = 0x31;
/// Parts of any other constructed value, at most.
const PARTS_MAX: usize = 64;

const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const ID_TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const ID_CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const ID_MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const ID_SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const ID_SIGNING_CERTIFICATE_V2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// RSA-PSS, the only algorithm here whose name does not say all.
pub(crate) const ID_RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// A hash that a token may be made with. SHA-1 and MD5 are not among them: they collide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum HashName {
    Sha256,
    Sha384,
    Sha512,
}

impl HashName {
    pub(crate) const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    pub(crate) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha256 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"),
            Self::Sha384 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"),
            Self::Sha512 => ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    pub(crate) fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn of(oid: ObjectIdentifier) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|hash| hash.oid() == oid);
        known.ok_or_else(|| format!("the hash {oid}; expected sha256, sha384 or sha512"))
    }
}

/// What an authority states: that a hash existed at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Statement {
    /// The hash of what was stamped.
    pub(crate) imprint: (HashName, Vec<u8>),
    /// Unix milliseconds; a finer fraction is cut off.
    pub(crate) time_ms: u64,
    /// How far off the authority's clock may be, rounded up to milliseconds, where it says so.
    pub(crate) accuracy_ms: Option<u64>,
    /// Under which policy it stamps.
    pub(crate) policy: ObjectIdentifier,
    /// The token's serial number, lower-case hex.
    pub(crate) serial: String,
}

/// How a token names the certificate that signed it.
pub(crate) enum SignerId<'a> {
    /// The DER of the issuer's name and of the serial number.
    IssuerAndSerial(&'a [u8], &'a [u8]),
    /// The subject key identifier.
    KeyId(&'a [u8]),
}

/// How a token binds the certificate that signed it (RFC 2634 and RFC 5035).
pub(crate) enum SigningCertificate<'a> {
    /// By SHA-1. Only tells certificates apart; the trust comes from the path.
    Sha1(&'a [u8]),
    Hash(HashName, &'a [u8]),
}

/// A token taken apart.
pub(crate) struct Token<'a> {
    pub(crate) statement: Statement,
    /// The signed content: the DER of `TSTInfo`.
    content: &'a [u8],
    /// Every certificate it carries, as DER.
    pub(crate) certificates: Vec<&'a [u8]>,
    pub(crate) signer: SignerId<'a>,
    pub(crate) signing_certificate: SigningCertificate<'a>,
    /// The hash of content and attributes.
    pub(crate) hash: HashName,
    message_digest: &'a [u8],
    attributes: &'a [u8],
    pub(crate) algorithm: ObjectIdentifier,
    pub(crate) signature: &'a [u8],
}

impl<'a> Token<'a> {
    /// Reads a `TimeStampToken`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return Err(format!("{} bytes; a token has at most {TOKEN_BYTES_MAX}", bytes.len()));
        }
        let mut outer = Parts::of(&whole(bytes, "the token")?, Tag::Sequence, "the token")?;
        let kind = outer.oid("the content type")?;
        if kind != ID_SIGNED_DATA {
            return Err(format!("it holds {kind}; expected signed data ({ID_SIGNED_DATA})"));
        }
        let content = outer.explicit(0, "the signed data")?;
        outer.finish()?;
        let mut data = Parts::of(&content, Tag::Sequence, "the signed data")?;
        // 3: what is signed is no plain data (RFC 5652, 5.1).
        version(&mut data, &[3])?;
        let hashes = data.tagged(Tag::Set, "the hashes")?;
        let content = content_of(data.tagged(Tag::Sequence, "the content")?)?;
        let certificates = match data.optional(0) {
            Some(set) => items(set.value(), CERTIFICATES_MAX, "the certificates")?,
            None => Vec::new(),
        };
        data.optional(1);
        let signers = items(data.tagged(Tag::Set, "the signers")?.value(), PARTS_MAX, "the signers")?;
        data.finish()?;
        let [signer] = signers.as_slice() else {
            return Err(format!("{} signers; expected exactly one", signers.len()));
        };
        let certificates = certificates.into_iter().map(|part| part.bytes).collect();
        let token = Self::with_signer(content, certificates, signer)?;
        let hashes = items(hashes.value(), PARTS_MAX, "the hashes")?;
        match hashes.as_slice() {
            [one] if algorithm(one.clone())? == token.hash.oid() => Ok(token),
            _ => Err(format!("the hashes named are not exactly the signer's, {}", token.hash.name())),
        }
    }

    fn with_signer(content: &'a [u8], certificates: Vec<&'a [u8]>, info: &Part<'a>) -> Result<Self, String> {
        let mut info = Parts::of(info, Tag::Sequence, "the signer")?;
        let by_key = info.rest.get(1).is_some_and(|part| part.tag() != Tag::Sequence);
        version(&mut info, if by_key { &[3] } else { &[1] })?;
        let signer = match info.optional_value(0) {
            Some(key) => SignerId::KeyId(key.value()),
            None => issuer_and_serial(info.tagged(Tag::Sequence, "the signer's certificate")?)?,
        };
        let hash = HashName::of(algorithm(info.tagged(Tag::Sequence, "the signer's hash")?)?)?;
        let attributes = info.optional(0).ok_or("the signer signed no attributes")?;
        let algorithm = algorithm(info.tagged(Tag::Sequence, "the signature's algorithm")?)?;
        let signature = info.tagged(Tag::OctetString, "the signature")?.value();
        info.optional(1);
        info.finish()?;
        let signed = SignedAttributes::read(attributes.value())?;
        Ok(Self {
            statement: statement(content)?,
            content,
            certificates,
            signer,
            signing_certificate: signed.signing_certificate,
            hash,
            message_digest: signed.message_digest,
            attributes: attributes.bytes,
            algorithm,
            signature,
        })
    }

    /// Whether the signed attributes are about this content.
    pub(crate) fn attributes_fit(&self) -> bool {
        self.hash.hash(self.content) == self.message_digest
    }

    /// The bytes that the signature is over: the attributes as the SET OF they are, not as the field they
    /// stand in (RFC 5652, 5.4).
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = self.attributes.to_vec();
        if let Some(tag) = bytes.first_mut() {
            *tag = SET_OF;
        }
        bytes
    }
}

/// The token inside what an authority answers: a `TimeStampResp`, or a token by itself.
pub(crate) fn token_of_answer(bytes: &[u8]) -> Result<&[u8], String> {
    let answer = whole(bytes, "the answer")?;
    let mut parts = Parts::of(&answer, Tag::Sequence, "the answer")?;
    // A token begins with its content type, an answer with its status.
    if parts.next_is(Tag::ObjectIdentifier) {
        return Ok(bytes);
    }
    let mut status = Parts::of(&parts.tagged(Tag::Sequence, "the status")?, Tag::Sequence, "the status")?;
    let code = status.tagged(Tag::Integer, "the status")?.value();
    // 0 granted, 1 granted with modifications (RFC 3161, 2.4.2).
    if !matches!(code, [0 | 1]) {
        let said = status.rest.iter().map(|part| readable(part.value())).collect::<Vec<_>>().join(" ");
        return Err(format!("the authority refused: status {} {said}", hex::encode(code)).trim().to_owned());
    }
    Ok(parts.tagged(Tag::Sequence, "the token")?.bytes)
}

/// The request for a token of `hash`: no nonce, since an older answer states no less, and with the authority's
/// certificates, without which a token cannot be checked offline.
pub(crate) fn request(hash: &[u8; 32]) -> Vec<u8> {
    // SEQUENCE { version 1, SEQUENCE { SEQUENCE { sha256, NULL }, OCTET STRING }, certReq TRUE }
    const HEAD: [u8; 24] = [
        0x30, 0x39, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
        0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
    ];
    [&HEAD[..], hash, &[0x01, 0x01, 0xff]].concat()
}

struct SignedAttributes<'a> {
    message_digest: &'a [u8],
    signing_certificate: SigningCertificate<'a>,
}

impl<'a> SignedAttributes<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (mut kind, mut digest, mut first, mut second) = (None, None, None, None);
        for attribute in items(bytes, PARTS_MAX, "the signed attributes")? {
            let mut parts = Parts::of(&attribute, Tag::Sequence, "a signed attribute")?;
            let oid = parts.oid("a signed attribute's type")?;
            let slot = match oid {
                ID_CONTENT_TYPE => &mut kind,
                ID_MESSAGE_DIGEST => &mut digest,
                ID_SIGNING_CERTIFICATE => &mut first,
                ID_SIGNING_CERTIFICATE_V2 => &mut second,
                _ => continue,
            };
            let values =
                items(parts.tagged(Tag::Set, "an attribute's values")?.value(), 1, "an attribute's values")?;
            let value = values.into_iter().next().ok_or("a signed attribute without a value")?;
            if slot.replace(value).is_some() {
                return Err(format!("the signed attribute {oid} is repeated"));
            }
        }
        let kind = kind.ok_or("no signed content type")?;
        if oid(&kind, "the signed content type")? != ID_TST_INFO {
            return Err("its signed content type is not that of a time stamp".to_owned());
        }
        let digest = digest.ok_or("no signed digest of the content")?;
        let signing_certificate = match (second, first) {
            (Some(value), _) => signing_certificate(&value, true)?,
            (None, Some(value)) => signing_certificate(&value, false)?,
            (None, None) => return Err("it does not bind its signer's certificate".to_owned()),
        };
        let message_digest = expect(&digest, Tag::OctetString, "the digest of the content")?.value();
        Ok(Self { message_digest, signing_certificate })
    }
}

/// The first `ESSCertID` or `ESSCertIDv2`: the one of the signer.
fn signing_certificate<'a>(value: &Part<'a>, second: bool) -> Result<SigningCertificate<'a>, String> {
    let what = "the binding of the signer's certificate";
    let mut outer = Parts::of(value, Tag::Sequence, what)?;
    let list = outer.tagged(Tag::Sequence, what)?;
    let ids = items(list.value(), CERTIFICATES_MAX, what)?;
    let mut id = Parts::of(ids.first().ok_or("it binds no certificate")?, Tag::Sequence, what)?;
    if !second {
        return Ok(SigningCertificate::Sha1(id.tagged(Tag::OctetString, what)?.value()));
    }
    let hash = match id.next_is(Tag::Sequence) {
        true => HashName::of(algorithm(id.tagged(Tag::Sequence, what)?)?)?,
        false => HashName::Sha256,
    };
    Ok(SigningCertificate::Hash(hash, id.tagged(Tag::OctetString, what)?.value()))
}

fn content_of(part: Part<'_>) -> Result<&[u8], String> {
    let mut parts = Parts::of(&part, Tag::Sequence, "the content")?;
    let kind = parts.oid("the content's type")?;
    if kind != ID_TST_INFO {
        return Err(format!("it signs {kind}; expected a time stamp ({ID_TST_INFO})"));
    }
    let content = parts.explicit(0, "the content")?;
    parts.finish()?;
    Ok(expect(&content, Tag::OctetString, "the content")?.value())
}

fn issuer_and_serial(part: Part<'_>) -> Result<SignerId<'_>, String> {
    let mut parts = Parts::of(&part, Tag::Sequence, "the signer's certificate")?;
    let issuer = parts.tagged(Tag::Sequence, "its issuer")?.bytes;
    let serial = parts.tagged(Tag::Integer, "its serial number")?.bytes;
    parts.finish()?;
    Ok(SignerId::IssuerAndSerial(issuer, serial))
}

/// Reads `TSTInfo`.
fn statement(content: &[u8]) -> Result<Statement, String> {
    let mut info = Parts::of(&whole(content, "the time stamp")?, Tag::Sequence, "the time stamp")?;
    version(&mut info, &[1])?;
    let policy = info.oid("the policy")?;
    let imprint = info.tagged(Tag::Sequence, "the imprint")?;
    let mut imprint = Parts::of(&imprint, Tag::Sequence, "the imprint")?;
    let hash = HashName::of(algorithm(imprint.tagged(Tag::Sequence, "the imprint's hash")?)?)?;
    let digest = imprint.tagged(Tag::OctetString, "the imprint")?.value().to_vec();
    imprint.finish()?;
    let serial = hex::encode(info.tagged(Tag::Integer, "the serial number")?.value());
    let time_ms = time(info.tagged(Tag::GeneralizedTime, "the time")?.value())?;
    let accuracy_ms = match info.next_is(Tag::Sequence) {
        true => Some(accuracy(&info.tagged(Tag::Sequence, "the accuracy")?)?),
        false => None,
    };
    for tag in [Tag::Boolean, Tag::Integer] {
        if info.next_is(tag) {
            info.tagged(tag, "the ordering or nonce")?;
        }
    }
    info.optional(0);
    if info.optional(1).is_some() {
        return Err("it has extensions, whose meaning is not known here".to_owned());
    }
    info.finish()?;
    Ok(Statement { imprint: (hash, digest), time_ms, accuracy_ms, policy, serial })
}

/// `YYYYMMDDhhmmss[.f...]Z` to Unix milliseconds. RFC 3161 allows a fraction, DER's own rules of certificates do
/// not, so the parser of those cannot serve.
fn time(text: &[u8]) -> Result<u64, String> {
    let wrong = || format!("the time {:?}; expected YYYYMMDDhhmmss[.f]Z", readable(text));
    let text = text.strip_suffix(b"Z").ok_or_else(wrong)?;
    let (whole, fraction) = text.split_at_checked(14).ok_or_else(wrong)?;
    let number = |from: usize, to: usize| -> Option<u64> { decimal(whole.get(from..to)?) };
    let fields = (|| {
        let small = |from: usize| u8::try_from(number(from, from + 2)?).ok();
        let year = u16::try_from(number(0, 4)?).ok()?;
        DateTime::new(year, small(4)?, small(6)?, small(8)?, small(10)?, small(12)?).ok()
    })();
    let seconds = fields.ok_or_else(wrong)?.unix_duration().as_secs();
    let millis = match fraction.split_first() {
        None => 0,
        // DER: no trailing zero, so no empty fraction either.
        Some((b'.', digits)) if digits.last().is_some_and(|last| *last != b'0') => {
            if !digits.iter().all(u8::is_ascii_digit) {
                return Err(wrong());
            }
            let padded: Vec<u8> = digits.iter().copied().chain(*b"00").take(3).collect();
            decimal(&padded).ok_or_else(wrong)?
        }
        Some(_) => return Err(wrong()),
    };
    seconds.checked_mul(1_000).and_then(|whole| whole.checked_add(millis)).ok_or_else(wrong)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `Accuracy`: seconds, `[0]` milliseconds, `[1]` microseconds, each optional.
fn accuracy(part: &Part<'_>) -> Result<u64, String> {
    let mut parts = Parts::of(part, Tag::Sequence, "the accuracy")?;
    let value = |part: Option<Part<'_>>| part.map_or(Some(0), |part| small_integer(part.value()));
    let whole = match parts.next_is(Tag::Integer) {
        true => Some(parts.tagged(Tag::Integer, "the accuracy")?),
        false => None,
    };
    let (millis, micros) = (parts.optional_value(0), parts.optional_value(1));
    parts.finish()?;
    let sum = (|| {
        let micros = value(micros)?.div_ceil(1_000);
        value(whole)?.checked_mul(1_000)?.checked_add(value(millis)?)?.checked_add(micros)
    })();
    sum.ok_or_else(|| "the accuracy is out of range".to_owned())
}

/// A non-negative DER integer below 2^56.
fn small_integer(bytes: &[u8]) -> Option<u64> {
    match bytes {
        [first, ..] if *first < 0x80 && bytes.len() <= 7 => {
            Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        _ => None,
    }
}

/// What can be shown of bytes that may be text, without control characters.
fn readable(bytes: &[u8]) -> String {
    bytes.iter().take(80).filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte)).collect()
}

/// One DER value with the bytes it came from.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    any: AnyRef<'a>,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Part<'a> {
    fn tag(&self) -> Tag {
        der::Tagged::tag(&self.any)
    }

    fn value(&self) -> &'a [u8] {
        self.any.value()
    }
}

/// The parts of one constructed value that have not been read yet.
struct Parts<'a> {
    what: &'static str,
    rest: std::collections::VecDeque<Part<'a>>,
}

impl<'a> Parts<'a> {
    fn of(part: &Part<'a>, tag: Tag, what: &'static str) -> Result<Self, String> {
        let value = expect(part, tag, what)?.value();
        Ok(Self { what, rest: items(value, PARTS_MAX, what)?.into() })
    }

    fn next_is(&self, tag: Tag) -> bool {
        self.rest.front().is_some_and(|part| part.tag() == tag)
    }

    fn tagged(&mut self, tag: Tag, what: &str) -> Result<Part<'a>, String> {
        let part = self.rest.pop_front().ok_or_else(|| format!("{what} is missing"))?;
        expect(&part, tag, what)
    }

    fn oid(&mut self, what: &str) -> Result<ObjectIdentifier, String> {
        oid(&self.tagged(Tag::ObjectIdentifier, what)?, what)
    }

    /// A constructed part with the context tag `[number]`, where it comes next.
    fn optional(&mut self, number: u32) -> Option<Part<'a>> {
        self.context(number, true)
    }

    /// A primitive one.
    fn optional_value(&mut self, number: u32) -> Option<Part<'a>> {
        self.context(number, false)
    }

    fn context(&mut self, wanted: u32, form: bool) -> Option<Part<'a>> {
        match self.rest.front()?.tag() {
            Tag::ContextSpecific { number, constructed }
                if number.value() == wanted && constructed == form =>
            {
                self.rest.pop_front()
            }
            _ => None,
        }
    }

    /// The single value inside `[number] EXPLICIT`.
    fn explicit(&mut self, number: u32, what: &str) -> Result<Part<'a>, String> {
        let outer = self.optional(number).ok_or_else(|| format!("{what} is missing"))?;
        whole(outer.value(), what)
    }

    fn finish(self) -> Result<(), String> {
        match self.rest.front() {
            None => Ok(()),
            Some(part) => Err(format!("{} has a part too many, of type {}", self.what, part.tag())),
        }
    }
}

fn expect<'a>(part: &Part<'a>, tag: Tag, what: &str) -> Result<Part<'a>, String> {
    if part.tag() == tag {
        return Ok(part.clone());
    }
    Err(format!("{what} is of type {}; expected {tag}", part.tag()))
}

fn oid(part: &Part<'_>, what: &str) -> Result<ObjectIdentifier, String> {
    expect(part, Tag::ObjectIdentifier, what)?;
    ObjectIdentifier::from_bytes(part.value()).map_err(|error| format!("{what}: {error}"))
}

/// The name in an `AlgorithmIdentifier` without parameters.
fn algorithm(part: Part<'_>) -> Result<ObjectIdentifier, String> {
    let mut parts = Parts::of(&part, Tag::Sequence, "an algorithm")?;
    let name = parts.oid("an algorithm")?;
    match parts.rest.pop_front() {
        None => {}
        Some(part) if part.any.is_null() => {}
        // The parameters of RSA-PSS: the verification fixes them to those of the signer's hash.
        Some(part) if name == ID_RSA_PSS && part.tag() == Tag::Sequence => {}
        Some(part) => return Err(format!("the algorithm {name} with parameters of type {}", part.tag())),
    }
    parts.finish()?;
    Ok(name)
}

fn version(parts: &mut Parts<'_>, expected: &[u8]) -> Result<(), String> {
    let got = parts.tagged(Tag::Integer, "the version")?.value();
    if got == expected {
        return Ok(());
    }
    Err(format!("{} of version {}; expected {}", parts.what, hex::encode(got), hex::encode(expected)))
}

/// Exactly one DER value.
fn whole<'a>(bytes: &'a [u8], what: &str) -> Result<Part<'a>, String> {
    let any = AnyRef::from_der(bytes).map_err(|error| format!("{what} is no DER: {error}"))?;
    Ok(Part { any, bytes })
}

/// DER values one after the other.
fn items<'a>(bytes: &'a [u8], count_max: usize, what: &str) -> Result<Vec<Part<'a>>, String> {
    let wrong = |error: der::Error| format!("{what} is no DER: {error}");
    let mut reader = SliceReader::new(bytes).map_err(wrong)?;
    let mut parts = Vec::new();
    while !reader.is_finished() {
        if parts.len() == count_max {
            return Err(format!("{what} has more than {count_max} parts"));
        }
        parts.push(whole(reader.tlv_bytes().map_err(wrong)?, what)?);
    }
    Ok(parts)
}
