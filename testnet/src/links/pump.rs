//! One direction of one connection.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Way, Weather};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces under way in one direction of one connection, at most 16 MiB: what a path of 1 Gbit/s and 130 ms holds.
const PIECES_MAX: usize = 256;

/// Carries bytes until the reading side ends or either fails, then closes the writing side.
pub(super) async fn pump(weather: &Weather, way: Way, from: OwnedReadHalf, to: OwnedWriteHalf) {
    let (pieces, under_way) = mpsc::channel(PIECES_MAX);
    tokio::join!(take(weather, way, from, pieces), deliver(weather, way, to, under_way));
}

async fn take(weather: &Weather, way: Way, mut from: OwnedReadHalf, pieces: mpsc::Sender<(Instant, Bytes)>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(read) if read > 0 => {
                let piece = buffer.split().freeze();
                let at = weather.arrival(way, piece.len());
                if pieces.send((at, piece)).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

async fn deliver(
    weather: &Weather,
    way: Way,
    mut to: OwnedWriteHalf,
    mut under_way: mpsc::Receiver<(Instant, Bytes)>,
) {
    while let Some((at, piece)) = under_way.recv().await {
        sleep_until(at).await;
        if !weather.open(way).await || to.write_all(&piece).await.is_err() {
            return;
        }
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        weather.delivered[weather.place(way)].fetch_add(bytes, Ordering::Relaxed);
    }
    // The other side has closed; that this one is closed as well is all there is to say.
    let _ = to.shutdown().await;
}
