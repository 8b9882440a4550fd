use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures::channel::mpsc::{Receiver, Sender, channel};
use futures::{Sink as _, Stream as _};

use super::*;
use crate::net_tests::{TestIdentity, address, addresses, chain};

/// One end of an in-memory stream that keeps a copy of what it was sent.
struct Pipe {
    sender: Sender<Vec<u8>>,
    receiver: Receiver<Vec<u8>>,
    unread: Vec<u8>,
    heard: Vec<u8>,
}

fn pipes() -> (Pipe, Pipe) {
    let (first_sender, first_receiver) = channel(64);
    let (second_sender, second_receiver) = channel(64);
    let pipe = |sender, receiver| Pipe { sender, receiver, unread: Vec::new(), heard: Vec::new() };
    (pipe(first_sender, second_receiver), pipe(second_sender, first_receiver))
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        while self.unread.is_empty() {
            match Pin::new(&mut self.receiver).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Ready(Some(bytes)) => {
                    self.heard.extend_from_slice(&bytes);
                    self.unread = bytes;
                }
            }
        }
        let count = buffer.len().min(self.unread.len());
        buffer[..count].copy_from_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let broken = || Err(std::io::ErrorKind::BrokenPipe.into());
        match Pin::new(&mut self.sender).poll_ready(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(broken()),
            Poll::Ready(Ok(())) => {}
        }
        Poll::Ready(
            Pin::new(&mut self.sender).start_send(bytes.to_vec()).map(|()| bytes.len()).or_else(|_| broken()),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn context(identity: TestIdentity) -> Arc<LinkContext> {
    Arc::new(LinkContext::new(chain(), PeerId::random(), Arc::new(identity), Epoch::new(3)))
}

fn validator(number: u8) -> Arc<LinkContext> {
    context(TestIdentity::validator(address(number), &addresses(4)))
}

async fn meet(
    dialer: &Arc<LinkContext>,
    listener: &Arc<LinkContext>,
) -> (Result<Address, LinkFault>, Result<Address, LinkFault>) {
    let (near, far) = pipes();
    futures::join!(
        authenticate(near, Role::Dialer, Arc::clone(dialer), listener.local),
        authenticate(far, Role::Listener, Arc::clone(listener), dialer.local),
    )
}

#[tokio::test]
async fn two_validators_learn_each_others_address() {
    let (dialed, listened) = meet(&validator(1), &validator(2)).await;
    assert_eq!((dialed.unwrap(), listened.unwrap()), (address(2), address(1)));
}

#[tokio::test]
async fn a_wrong_key_a_stranger_a_follower_and_ourselves_are_refused() {
    let forger = context(TestIdentity { key: [9; 32], ..TestIdentity::validator(address(2), &addresses(4)) });
    let (_, listened) = meet(&forger, &validator(1)).await;
    assert!(matches!(listened, Err(LinkFault::BadProof(claimed)) if claimed == address(2)));
    let (dialed, _) = meet(&validator(1), &forger).await;
    assert!(matches!(dialed, Err(LinkFault::BadProof(_))), "a forging listener too");

    let stranger = context(TestIdentity::validator(address(77), &addresses(4)));
    let (_, listened) = meet(&stranger, &validator(1)).await;
    assert!(matches!(listened, Err(LinkFault::BadProof(_))));

    let follower = context(TestIdentity::follower(&addresses(4)));
    let (dialed, listened) = meet(&follower, &validator(1)).await;
    assert!(matches!(dialed, Err(LinkFault::NoKey)) && listened.is_err());

    let (_, listened) = meet(&validator(1), &validator(1)).await;
    assert!(matches!(listened, Err(LinkFault::OwnAddress)));
}

#[tokio::test]
async fn a_chain_or_a_peer_id_apart_makes_the_proof_invalid() {
    let other = Arc::new(LinkContext::new(
        ChainId::ZERO,
        PeerId::random(),
        Arc::new(TestIdentity::validator(address(2), &addresses(4))),
        Epoch::ZERO,
    ));
    let (_, listened) = meet(&other, &validator(1)).await;
    assert!(matches!(listened, Err(LinkFault::BadProof(_))));
    // A man in the middle, whose TLS sessions show his own peer id on both sides.
    let (dialer, listener, middle) = (validator(1), validator(2), PeerId::random());
    let (near, far) = pipes();
    let (dialed, listened) = futures::join!(
        authenticate(near, Role::Dialer, dialer, middle),
        authenticate(far, Role::Listener, listener, middle),
    );
    assert!(matches!(listened, Err(LinkFault::BadProof(_))) && dialed.is_err());
}

#[tokio::test]
async fn a_recorded_transcript_is_worthless() {
    let (dialer, listener) = (validator(1), validator(2));
    // Record what an honest dialer says.
    let (near, mut far) = pipes();
    let honest = tokio::spawn(authenticate(near, Role::Dialer, Arc::clone(&dialer), listener.local));
    let listened = authenticate(&mut far, Role::Listener, Arc::clone(&listener), dialer.local).await.unwrap();
    assert_eq!(listened, address(1));
    honest.await.unwrap().unwrap();
    // Say it again, byte for byte and under the same peer id: the listener's nonce is another now.
    let (mut replayer, again) = pipes();
    replayer.write_all(&far.heard).await.unwrap();
    let replayed = authenticate(again, Role::Listener, listener, dialer.local).await;
    assert!(matches!(replayed, Err(LinkFault::BadProof(claimed)) if claimed == address(1)));
}

#[tokio::test]
async fn oversize_and_garbled_proofs_are_refused() {
    for (proof, long) in [(vec![0xff; 4], true), ([&[0, 0, 0, 5][..], b"hello"].concat(), false)] {
        let listener = validator(2);
        let (mut near, far) = pipes();
        near.write_all(&[0; NONCE_BYTES]).await.unwrap();
        near.write_all(&proof).await.unwrap();
        let refused = authenticate(far, Role::Listener, listener, PeerId::random()).await;
        match refused {
            Err(LinkFault::TooLong(_)) => assert!(long),
            Err(LinkFault::Malformed(_)) => assert!(!long),
            other => panic!("{other:?}"),
        }
    }
}
