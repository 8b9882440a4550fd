//! Whom a time stamp is believed from: certificates that the verifier gives, the path to the one that signed,
//! and the signature. Nothing of this is taken from the receipt but what is checked against it.

use std::fmt;
use std::time::Duration;

use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use sha1::{Digest as _, Sha1};
use webpki::aws_lc_rs as algorithms;
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectKeyIdentifier};

use super::token::{HashName, ID_RSA_PSS, SignerId, SigningCertificate, Token};

/// Certificates given as trust, at most: a store of all public authorities has fewer than 200.
const AUTHORITIES_MAX: usize = 256;
/// `id-kp-timeStamping`, 1.3.6.1.5.5.7.3.8, as the value of its DER.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
/// The same as a name.
const ID_TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const ID_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// What certificates on the path may be signed with.
const PATH_ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 16] = [
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::ED25519,
];

/// The authorities whose word on time a verifier takes: certificates of certificate authorities, from a file of the
/// verifier's own. Empty by default: then no time stamp is counted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TimeAuthorities {
    certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for TimeAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.certificates.iter().map(|certificate| subject(certificate))).finish()
    }
}

impl TimeAuthorities {
    /// Reads PEM with one or more certificates, or the DER of one.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let is_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
        let certificates: Vec<CertificateDer<'static>> = match is_pem {
            true => CertificateDer::pem_slice_iter(bytes)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("not PEM: {error}"))?,
            false => vec![CertificateDer::from(bytes.to_vec())],
        };
        if certificates.is_empty() || certificates.len() > AUTHORITIES_MAX {
            let got = certificates.len();
            return Err(format!("{got} certificates; expected 1 to {AUTHORITIES_MAX}, as PEM or DER"));
        }
        for (position, certificate) in certificates.iter().enumerate() {
            anchor_from_trusted_cert(certificate)
                .map_err(|error| format!("certificate {position} cannot be trusted: {}", explain(&error)))?;
        }
        Ok(Self { certificates })
    }

    /// Adds those of another file.
    pub fn extend(&mut self, other: Self) {
        self.certificates.extend(other.certificates);
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Judges who signed a token, as of the time it states.
    pub(crate) fn judge(&self, token: &Token<'_>) -> Result<Signed, Doubt> {
        let signer = signer_of(token).map_err(Doubt::False)?;
        let end = EndEntityCert::try_from(&signer.der)
            .map_err(|error| Doubt::False(format!("its signer's certificate: {}", explain(&error))))?;
        check_purpose(&signer.certificate).map_err(Doubt::False)?;
        let between: Vec<CertificateDer<'_>> =
            token.certificates.iter().map(|bytes| CertificateDer::from(*bytes)).collect();
        let at = UnixTime::since_unix_epoch(Duration::from_millis(token.statement.time_ms));
        let authority = signer.certificate.tbs_certificate().subject().to_string();
        let mut failed = None;
        for certificate in &self.certificates {
            let anchor = anchor_from_trusted_cert(certificate)
                .map_err(|error| Doubt::False(format!("a trusted certificate: {}", explain(&error))))?;
            let anchors = [anchor];
            // The signer's own usage is checked above; an authority on the path need not name any.
            let usage = KeyUsage::required_if_present(TIME_STAMPING);
            match end.verify_for_usage(&PATH_ALGORITHMS, &anchors, &between, at, usage, None, None) {
                Ok(_) => return Ok(Signed { authority, root: subject(certificate) }),
                Err(Error::UnknownIssuer) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(match failed {
            None => {
                let issuer = signer.certificate.tbs_certificate().issuer();
                Doubt::Unknown(format!(
                    "{authority} is under none of the authorities given; its certificate is issued by {issuer}"
                ))
            }
            Some(error) => Doubt::False(format!("{authority}: {}", explain(&error))),
        })
    }
}

/// Who signed a token.
pub(crate) struct Signed {
    /// The subject of the certificate that signed.
    pub(crate) authority: String,
    /// The subject of the given certificate that it leads to.
    pub(crate) root: String,
}

/// Why a token does not count.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is by someone the verifier does not know: no fault of its own.
    Unknown(String),
    /// It is not what it says.
    False(String),
}

/// The certificate that signed a token.
struct SignerCertificate<'a> {
    der: CertificateDer<'a>,
    certificate: Certificate,
}

/// The name of whoever signed, once the signature is found to be by the certificate that the token carries. Says
/// nothing about whether that certificate is anyone's.
pub(crate) fn check_signature(token: &Token<'_>) -> Result<String, String> {
    Ok(signer_of(token)?.certificate.tbs_certificate().subject().to_string())
}

fn signer_of<'a>(token: &Token<'a>) -> Result<SignerCertificate<'a>, String> {
    if !token.attributes_fit() {
        return Err("its signed digest is not that of its content".to_owned());
    }
    let mut found = None;
    for bytes in &token.certificates {
        let certificate = Certificate::from_der(bytes)
            .map_err(|error| format!("a certificate in it is malformed: {error}"))?;
        if names(&token.signer, &certificate)? {
            found = Some(SignerCertificate { der: CertificateDer::from(*bytes), certificate });
            break;
        }
    }
    let signer =
        found.ok_or("it does not carry its signer's certificate; ask for it with the request's certReq")?;
    let bound = match token.signing_certificate {
        SigningCertificate::Sha1(hash) => Sha1::digest(&signer.der).as_slice() == hash,
        SigningCertificate::Hash(name, hash) => name.hash(&signer.der) == hash,
    };
    if !bound {
        return Err("its signature is bound to another certificate than the one it carries".to_owned());
    }
    let end = EndEntityCert::try_from(&signer.der)
        .map_err(|error| format!("its signer's certificate: {}", explain(&error)))?;
    let message = token.signed_bytes();
    let mut failed = None;
    for candidate in candidates(token.algorithm, token.hash)? {
        match end.verify_signature(candidate, &message, token.signature) {
            Ok(()) => return Ok(signer),
            Err(error @ Error::InvalidSignatureForPublicKey) => failed = Some(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let why = failed.as_ref().map_or_else(String::new, explain);
    Err(format!("its signature does not match the key of its certificate: {why}"))
}

/// Whether this is the certificate that the token names.
fn names(id: &SignerId<'_>, certificate: &Certificate) -> Result<bool, String> {
    let inner = certificate.tbs_certificate();
    let wrong = |error: der::Error| format!("a certificate in it is malformed: {error}");
    match id {
        SignerId::IssuerAndSerial(issuer, serial) => {
            let same_issuer = inner.issuer().to_der().map_err(wrong)? == *issuer;
            Ok(same_issuer && inner.serial_number().to_der().map_err(wrong)? == *serial)
        }
        SignerId::KeyId(id) => {
            let own = inner.get_extension::<SubjectKeyIdentifier>().map_err(wrong)?;
            Ok(own.is_some_and(|(_, own)| own.0.as_bytes() == *id))
        }
    }
}

/// RFC 3161, 2.3: the key serves time stamping alone, and the certificate says so where none may overlook it.
fn check_purpose(certificate: &Certificate) -> Result<(), String> {
    let inner = certificate.tbs_certificate();
    let usage = inner
        .get_extension::<ExtendedKeyUsage>()
        .map_err(|error| format!("its certificate's extended key usage: {error}"))?;
    let subject = inner.subject();
    match usage {
        None => Err(format!("the certificate of {subject} is not for timeStamping: no extended key usage")),
        Some((_, usage)) if usage.0 != [ID_TIME_STAMPING] => {
            let list = usage.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(format!("the certificate of {subject} is for {list}; expected timeStamping alone"))
        }
        Some((false, _)) => {
            Err(format!("the certificate of {subject} does not mark its timeStamping usage as critical"))
        }
        Some((true, _)) => Ok(()),
    }
}

/// The algorithms that a signature of this name may be by: the name of ECDSA does not say the curve.
fn candidates(
    name: ObjectIdentifier,
    hash: HashName,
) -> Result<Vec<&'static dyn SignatureVerificationAlgorithm>, String> {
    use algorithms as a;
    let (rsa, rsa_name) = match hash {
        HashName::Sha256 => (a::RSA_PKCS1_2048_8192_SHA256, "1.2.840.113549.1.1.11"),
        HashName::Sha384 => (a::RSA_PKCS1_2048_8192_SHA384, "1.2.840.113549.1.1.12"),
        HashName::Sha512 => (a::RSA_PKCS1_2048_8192_SHA512, "1.2.840.113549.1.1.13"),
    };
    let pss = match hash {
        HashName::Sha256 => a::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        HashName::Sha384 => a::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        HashName::Sha512 => a::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    };
    let (ecdsa_name, ecdsa): (_, Vec<&'static dyn SignatureVerificationAlgorithm>) = match hash {
        HashName::Sha256 => {
            ("1.2.840.10045.4.3.2", vec![a::ECDSA_P256_SHA256, a::ECDSA_P384_SHA256, a::ECDSA_P521_SHA256])
        }
        HashName::Sha384 => {
            ("1.2.840.10045.4.3.3", vec![a::ECDSA_P256_SHA384, a::ECDSA_P384_SHA384, a::ECDSA_P521_SHA384])
        }
        HashName::Sha512 => {
            ("1.2.840.10045.4.3.4", vec![a::ECDSA_P256_SHA512, a::ECDSA_P384_SHA512, a::ECDSA_P521_SHA512])
        }
    };
    let text = name.to_string();
    match () {
        () if name == ID_RSA || text == rsa_name => Ok(vec![rsa]),
        () if name == ID_RSA_PSS => Ok(vec![pss]),
        () if text == ecdsa_name => Ok(ecdsa),
        () if name == ID_ED25519 => Ok(vec![a::ED25519]),
        () => Err(format!("a signature by {name} over {}; expected RSA, ECDSA or Ed25519", hash.name())),
    }
}

/// The subject of a certificate, for people.
fn subject(certificate: &CertificateDer<'_>) -> String {
    Certificate::from_der(certificate)
        .map_or_else(|error| format!("({error})"), |it| it.tbs_certificate().subject().to_string())
}

/// A fault of a certificate or its path, for people.
fn explain(error: &Error) -> String {
    let seconds = |time: &UnixTime| super::date(time.as_secs());
    match error {
        Error::CertExpired { time, not_after } => {
            format!(
                "the certificate expired {}, before the time stated, {}",
                seconds(not_after),
                seconds(time)
            )
        }
        Error::CertNotValidYet { time, not_before } => {
            format!(
                "the certificate begins {}, after the time stated, {}",
                seconds(not_before),
                seconds(time)
            )
        }
        Error::InvalidSignatureForPublicKey => "the signature is wrong".to_owned(),
        Error::CaUsedAsEndEntity => "a certificate authority's own key signed it".to_owned(),
        Error::EndEntityUsedAsCa => "a certificate on its path is not an authority's".to_owned(),
        Error::RequiredEkuNotFoundContext(_) => "an authority on its path is not for timeStamping".to_owned(),
        Error::BadDer | Error::TrailingData(_) => "it is no certificate, or malformed".to_owned(),
        other => format!("{other:?}"),
    }
}
