//! Link authentication: each side shows that it holds a validator key, for this connection only.
//!
//! 1. Dialer and listener each send a fresh 32-byte nonce.
//! 2. The dialer sends its proof: address, epoch, signature over
//!    `tag ‖ chain ‖ dialer ‖ listener ‖ dialer's nonce ‖ listener's nonce ‖ epoch` (each peer id behind one
//!    length byte).
//! 3. The listener verifies it, and only then spends a signature on its own proof.
//!
//! A recorded transcript is worthless on another connection, because our nonce is in it; a proof sent
//! back to its maker is refused, because nobody links to itself. TLS 1.3 ties the peer ids to the channel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::signing::Tag;
use cairn_types::{Address, ChainId, Epoch, Signature, decode, encode};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::PeerId;

use crate::identity::LinkIdentity;

const NONCE_BYTES: usize = 32;
/// Address, epoch and a signature of the longest kind, with room to spare.
const PROOF_BYTES_MAX: usize = 4_096;

/// Which side of a connection we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Dialer,
    Listener,
}

/// What authentication needs to know of us.
pub(crate) struct LinkContext {
    pub(crate) chain: ChainId,
    pub(crate) local: PeerId,
    pub(crate) identity: Arc<dyn LinkIdentity>,
    epoch: AtomicU64,
}

impl LinkContext {
    pub(crate) fn new(chain: ChainId, local: PeerId, identity: Arc<dyn LinkIdentity>, epoch: Epoch) -> Self {
        Self { chain, local, identity, epoch: AtomicU64::new(epoch.get()) }
    }

    /// Proofs made from now on name `epoch`.
    pub(crate) fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.get(), Ordering::Relaxed);
    }

    fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for LinkContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkContext({})", self.local)
    }
}

/// Why a link was refused or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkFault {
    #[error("authentication took longer than {} s", super::handler::AUTH_TIME_MAX.as_secs())]
    Late,
    #[error("the stream broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("a proof of {0} bytes; at most {PROOF_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("the proof cannot be decoded: {0}")]
    Malformed(#[from] cairn_types::DecodeError),
    #[error("the peer shows our own address")]
    OwnAddress,
    #[error("no valid proof of validator {0}")]
    BadProof(Address),
    #[error("validator {0} is not admitted to the mesh now")]
    NotAdmitted(Address),
    #[error("this node has no validator key")]
    NoKey,
    #[error("no random numbers")]
    NoRandomness,
    #[error("the peer does not speak this chain's link protocol")]
    Unsupported,
    #[error("the peer closed the {0} stream")]
    Closed(&'static str),
}

#[derive(Debug, BorshSerialize, BorshDeserialize)]
struct Proof {
    address: Address,
    epoch: Epoch,
    signature: Signature,
}

/// The bytes signed for one connection.
pub(crate) struct Transcript {
    pub(crate) chain: ChainId,
    pub(crate) dialer: PeerId,
    pub(crate) listener: PeerId,
    pub(crate) dialer_nonce: [u8; NONCE_BYTES],
    pub(crate) listener_nonce: [u8; NONCE_BYTES],
}

impl Transcript {
    /// The preimage of a proof made in `epoch`.
    pub(crate) fn preimage(&self, epoch: Epoch) -> Vec<u8> {
        let mut body = Vec::with_capacity(192);
        for peer in [self.dialer, self.listener] {
            let bytes = peer.to_bytes();
            // A peer id is a multihash of at most 66 bytes.
            body.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
            body.extend_from_slice(&bytes);
        }
        body.extend_from_slice(&self.dialer_nonce);
        body.extend_from_slice(&self.listener_nonce);
        body.extend_from_slice(&epoch.get().to_le_bytes());
        Tag::Link.preimage(self.chain, &body)
    }
}

/// Runs the exchange; gives the validator at the other end.
pub(crate) async fn authenticate<S>(
    mut io: S,
    role: Role,
    context: Arc<LinkContext>,
    remote: PeerId,
) -> Result<Address, LinkFault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut ours = [0; NONCE_BYTES];
    getrandom::fill(&mut ours).map_err(|_| LinkFault::NoRandomness)?;
    io.write_all(&ours).await?;
    io.flush().await?;
    let mut theirs = [0; NONCE_BYTES];
    io.read_exact(&mut theirs).await?;
    let (chain, local) = (context.chain, context.local);
    let transcript = match role {
        Role::Dialer => {
            Transcript { chain, dialer: local, listener: remote, dialer_nonce: ours, listener_nonce: theirs }
        }
        Role::Listener => {
            Transcript { chain, dialer: remote, listener: local, dialer_nonce: theirs, listener_nonce: ours }
        }
    };
    match role {
        Role::Dialer => {
            send_proof(&mut io, &context, &transcript).await?;
            read_proof(&mut io, &context, &transcript).await
        }
        Role::Listener => {
            let address = read_proof(&mut io, &context, &transcript).await?;
            send_proof(&mut io, &context, &transcript).await?;
            Ok(address)
        }
    }
}

async fn send_proof<S: AsyncWrite + Unpin>(
    io: &mut S,
    context: &LinkContext,
    transcript: &Transcript,
) -> Result<(), LinkFault> {
    let address = context.identity.address().ok_or(LinkFault::NoKey)?;
    let epoch = context.epoch();
    let signature = context.identity.sign(&transcript.preimage(epoch));
    let bytes = encode(&Proof { address, epoch, signature });
    let length = u32::try_from(bytes.len()).map_err(|_| LinkFault::TooLong(bytes.len()))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(&bytes).await?;
    io.flush().await?;
    Ok(())
}

async fn read_proof<S: AsyncRead + Unpin>(
    io: &mut S,
    context: &LinkContext,
    transcript: &Transcript,
) -> Result<Address, LinkFault> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > PROOF_BYTES_MAX {
        return Err(LinkFault::TooLong(length));
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    let proof: Proof = decode(&bytes)?;
    if context.identity.address() == Some(proof.address) {
        return Err(LinkFault::OwnAddress);
    }
    let preimage = transcript.preimage(proof.epoch);
    match context.identity.verify(&proof.address, &preimage, &proof.signature) {
        true => Ok(proof.address),
        false => Err(LinkFault::BadProof(proof.address)),
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
