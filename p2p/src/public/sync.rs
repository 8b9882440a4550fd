//! The sync protocol's bytes: protobuf, inside the length-prefixed exchange.

use bytes::Bytes;
use cairn_types::{BlockId, Epoch, Hash, Height};
use prost::Message as _;

use crate::message::{SNAPSHOT_OFFERS_MAX, SnapshotContents, SnapshotOffer, SyncRequest, SyncResponse, Tip};

/// Blocks asked for or answered at once; more would not fit a response anyway.
pub(crate) const BLOCKS_MAX: u32 = 4_096;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;

#[derive(Clone, PartialEq, prost::Message)]
struct WireRequest {
    #[prost(oneof = "Question", tags = "1, 2, 3, 4, 5, 6, 7")]
    question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Question {
    #[prost(message, tag = "1")]
    Status(WireStatusRequest),
    #[prost(message, tag = "2")]
    Blocks(WireRange),
    #[prost(bytes = "bytes", tag = "3")]
    Block(Bytes),
    #[prost(message, tag = "4")]
    Snapshots(WireSnapshotsRequest),
    #[prost(bytes = "bytes", tag = "5")]
    SnapshotContents(Bytes),
    #[prost(message, tag = "6")]
    SnapshotChunk(WireChunkRequest),
    #[prost(uint64, tag = "7")]
    Handovers(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireSnapshotsRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct WireChunkRequest {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint32, tag = "2")]
    index: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireStatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct WireRange {
    #[prost(uint64, tag = "1")]
    from: u64,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireResponse {
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6, 7")]
    answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answer {
    #[prost(message, tag = "1")]
    Tip(WireTip),
    #[prost(message, tag = "2")]
    Blocks(WireBlocks),
    #[prost(message, tag = "3")]
    Block(WireBlock),
    #[prost(message, tag = "4")]
    Snapshots(WireOffers),
    #[prost(message, tag = "5")]
    SnapshotContents(WireContents),
    #[prost(message, tag = "6")]
    SnapshotChunk(WireBytes),
    #[prost(message, tag = "7")]
    Handovers(WireBytes),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireOffers {
    #[prost(message, repeated, tag = "1")]
    offers: Vec<WireOffer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireOffer {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(bytes = "bytes", tag = "2")]
    id: Bytes,
    #[prost(uint32, tag = "3")]
    chunks: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireContents {
    /// Empty when there is no such snapshot.
    #[prost(bytes = "bytes", tag = "1")]
    head: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    chunks: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireBytes {
    #[prost(bytes = "bytes", optional, tag = "1")]
    bytes: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireTip {
    #[prost(uint64, tag = "1")]
    height: u64,
    #[prost(bytes = "bytes", tag = "2")]
    block: Bytes,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(uint64, tag = "4")]
    earliest: u64,
    /// Absent from earlier builds, which thereby say that they have none.
    #[prost(uint64, optional, tag = "5")]
    snapshot: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireBlocks {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    blocks: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireBlock {
    #[prost(bytes = "bytes", optional, tag = "1")]
    block: Option<Bytes>,
}

fn hash(bytes: &Bytes) -> Option<Hash> {
    Some(Hash(bytes.as_ref().try_into().ok()?))
}

fn block_id(bytes: &Bytes) -> Option<BlockId> {
    hash(bytes).map(BlockId::new)
}

fn bytes_of(hash: &Hash) -> Bytes {
    Bytes::copy_from_slice(hash.as_bytes())
}

pub(crate) fn encode_request(request: SyncRequest) -> Bytes {
    let question = match request {
        SyncRequest::Status => Question::Status(WireStatusRequest {}),
        SyncRequest::Blocks { from, count } => {
            Question::Blocks(WireRange { from: from.get(), count: count.min(BLOCKS_MAX) })
        }
        SyncRequest::Block { id } => Question::Block(Bytes::copy_from_slice(id.as_bytes())),
        SyncRequest::Snapshots => Question::Snapshots(WireSnapshotsRequest {}),
        SyncRequest::SnapshotContents { id } => Question::SnapshotContents(bytes_of(&id)),
        SyncRequest::SnapshotChunk { id, index } => {
            Question::SnapshotChunk(WireChunkRequest { id: bytes_of(&id), index })
        }
        SyncRequest::Handovers { from } => Question::Handovers(from.get()),
    };
    WireRequest { question: Some(question) }.encode_to_vec().into()
}

/// The request in these bytes; `None` when they are none.
pub(crate) fn decode_request(bytes: Bytes) -> Option<SyncRequest> {
    match WireRequest::decode(bytes).ok()?.question? {
        Question::Status(_) => Some(SyncRequest::Status),
        Question::Blocks(WireRange { from, count }) => {
            Some(SyncRequest::Blocks { from: Height::new(from), count: count.min(BLOCKS_MAX) })
        }
        Question::Block(id) => Some(SyncRequest::Block { id: block_id(&id)? }),
        Question::Snapshots(_) => Some(SyncRequest::Snapshots),
        Question::SnapshotContents(id) => Some(SyncRequest::SnapshotContents { id: hash(&id)? }),
        Question::SnapshotChunk(WireChunkRequest { id, index }) => {
            Some(SyncRequest::SnapshotChunk { id: hash(&id)?, index })
        }
        Question::Handovers(from) => Some(SyncRequest::Handovers { from: Epoch::new(from) }),
    }
}

pub(crate) fn encode_response(response: SyncResponse) -> Bytes {
    let answer = match response {
        SyncResponse::Status(tip) => Answer::Tip(WireTip {
            height: tip.height.get(),
            block: Bytes::copy_from_slice(tip.block.as_bytes()),
            epoch: tip.epoch.get(),
            earliest: tip.earliest.get(),
            snapshot: tip.snapshot.map(Height::get),
        }),
        SyncResponse::Blocks(blocks) => Answer::Blocks(WireBlocks { blocks }),
        SyncResponse::Block(block) => Answer::Block(WireBlock { block }),
        SyncResponse::Snapshots(offers) => Answer::Snapshots(WireOffers {
            offers: offers.iter().take(SNAPSHOT_OFFERS_MAX).map(wire_offer).collect(),
        }),
        SyncResponse::SnapshotContents(contents) => {
            let (head, chunks) = contents.map(|it| (it.head, it.chunks)).unwrap_or_default();
            Answer::SnapshotContents(WireContents { head, chunks })
        }
        SyncResponse::SnapshotChunk(bytes) => Answer::SnapshotChunk(WireBytes { bytes }),
        SyncResponse::Handovers(bytes) => Answer::Handovers(WireBytes { bytes }),
    };
    WireResponse { answer: Some(answer) }.encode_to_vec().into()
}

fn wire_offer(offer: &SnapshotOffer) -> WireOffer {
    WireOffer { height: offer.height.get(), id: bytes_of(&offer.id), chunks: offer.chunks }
}

fn read_offers(offers: &[WireOffer]) -> Option<Vec<SnapshotOffer>> {
    let read = |offer: &WireOffer| {
        Some(SnapshotOffer { height: Height::new(offer.height), id: hash(&offer.id)?, chunks: offer.chunks })
    };
    if offers.len() > SNAPSHOT_OFFERS_MAX { None } else { offers.iter().map(read).collect() }
}

/// The answer to `request` in these bytes; `None` when they are none, or answer something else.
pub(crate) fn decode_response(request: SyncRequest, bytes: Bytes) -> Option<SyncResponse> {
    match (request, WireResponse::decode(bytes).ok()?.answer?) {
        (SyncRequest::Status, Answer::Tip(tip)) => Some(SyncResponse::Status(Tip {
            height: Height::new(tip.height),
            block: block_id(&tip.block)?,
            epoch: Epoch::new(tip.epoch),
            earliest: Height::new(tip.earliest),
            snapshot: tip.snapshot.map(Height::new),
        })),
        (SyncRequest::Blocks { count, .. }, Answer::Blocks(WireBlocks { blocks })) => {
            (blocks.len() <= count.min(BLOCKS_MAX) as usize).then_some(SyncResponse::Blocks(blocks))
        }
        (SyncRequest::Block { .. }, Answer::Block(WireBlock { block })) => Some(SyncResponse::Block(block)),
        (SyncRequest::Snapshots, Answer::Snapshots(WireOffers { offers })) => {
            read_offers(&offers).map(SyncResponse::Snapshots)
        }
        (SyncRequest::SnapshotContents { .. }, Answer::SnapshotContents(WireContents { head, chunks })) => {
            let whole = chunks.len().is_multiple_of(HASH_BYTES);
            let contents = (!head.is_empty()).then_some(SnapshotContents { head, chunks });
            whole.then_some(SyncResponse::SnapshotContents(contents))
        }
        (SyncRequest::SnapshotChunk { .. }, Answer::SnapshotChunk(WireBytes { bytes })) => {
            Some(SyncResponse::SnapshotChunk(bytes))
        }
        (SyncRequest::Handovers { .. }, Answer::Handovers(WireBytes { bytes })) => {
            Some(SyncResponse::Handovers(bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_come_back_as_they_were() {
        let id = BlockId::new(Hash([7; 32]));
        let from = Height::new(9);
        let tip = Tip {
            height: from,
            block: id,
            epoch: Epoch::new(1),
            earliest: Height::new(1),
            snapshot: Some(Height::new(4)),
        };
        let (name, from_epoch) = (Hash([8; 32]), Epoch::new(3));
        let offer = SnapshotOffer { height: from, id: name, chunks: 5 };
        let contents = SnapshotContents { head: "head".into(), chunks: vec![9; 64].into() };
        let chunk = SyncRequest::SnapshotChunk { id: name, index: 4 };
        let cases = [
            (SyncRequest::Status, SyncResponse::Status(Tip { snapshot: None, ..tip })),
            (SyncRequest::Snapshots, SyncResponse::Snapshots(vec![offer, offer])),
            (SyncRequest::Snapshots, SyncResponse::Snapshots(vec![])),
            (SyncRequest::SnapshotContents { id: name }, SyncResponse::SnapshotContents(Some(contents))),
            (SyncRequest::SnapshotContents { id: name }, SyncResponse::SnapshotContents(None)),
            (chunk, SyncResponse::SnapshotChunk(Some("chunk".into()))),
            (chunk, SyncResponse::SnapshotChunk(None)),
            (SyncRequest::Handovers { from: from_epoch }, SyncResponse::Handovers(Some("ends".into()))),
            (SyncRequest::Handovers { from: from_epoch }, SyncResponse::Handovers(None)),
            (SyncRequest::Status, SyncResponse::Status(tip)),
            (SyncRequest::Blocks { from, count: 2 }, SyncResponse::Blocks(vec!["a".into(), "b".into()])),
            (SyncRequest::Blocks { from, count: 2 }, SyncResponse::Blocks(vec![])),
            (SyncRequest::Block { id }, SyncResponse::Block(Some("block".into()))),
            (SyncRequest::Block { id }, SyncResponse::Block(None)),
        ];
        for (request, response) in cases {
            assert_eq!(decode_request(encode_request(request)), Some(request));
            let bytes = encode_response(response.clone());
            assert_eq!(decode_response(request, bytes), Some(response));
        }
    }

    #[test]
    fn an_answer_to_another_question_is_no_answer() {
        let blocks = encode_response(SyncResponse::Blocks(vec!["a".into(), "b".into()]));
        assert_eq!(decode_response(SyncRequest::Status, blocks.clone()), None);
        let one = SyncRequest::Blocks { from: Height::ZERO, count: 1 };
        assert_eq!(decode_response(one, blocks), None, "more blocks than asked for");
        assert_eq!(decode_response(SyncRequest::Status, Bytes::from_static(b"\xff\xff")), None);
        assert_eq!(decode_request(Bytes::from_static(b"\x1a\x03abc")), None, "an id of 3 bytes");
        assert_eq!(decode_request(Bytes::new()), None);
        assert_eq!(decode_request(Bytes::from_static(b"\x2a\x03abc")), None, "a name of 3 bytes");
    }

    #[test]
    fn answers_about_snapshots_keep_to_their_shape() {
        let offer = SnapshotOffer { height: Height::new(1), id: Hash([1; 32]), chunks: 1 };
        let many = vec![wire_offer(&offer); SNAPSHOT_OFFERS_MAX + 1];
        assert_eq!(read_offers(&many), None);
        assert_eq!(read_offers(&many[1..]).map(|offers| offers.len()), Some(SNAPSHOT_OFFERS_MAX));
        let many = encode_response(SyncResponse::Snapshots(vec![offer; 40]));
        let Some(SyncResponse::Snapshots(sent)) = decode_response(SyncRequest::Snapshots, many) else {
            panic!("snapshots")
        };
        assert_eq!(sent.len(), SNAPSHOT_OFFERS_MAX);
        let id = Hash([1; 32]);
        let ragged = SnapshotContents { head: "head".into(), chunks: vec![9; 63].into() };
        let ragged = encode_response(SyncResponse::SnapshotContents(Some(ragged)));
        assert_eq!(decode_response(SyncRequest::SnapshotContents { id }, ragged), None);
    }

    #[test]
    fn earlier_builds_say_that_they_have_no_snapshot_and_are_understood() {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Earlier {
            #[prost(message, optional, tag = "1")]
            tip: Option<EarlierTip>,
        }
        #[derive(Clone, PartialEq, prost::Message)]
        struct EarlierTip {
            #[prost(uint64, tag = "1")]
            height: u64,
            #[prost(bytes = "bytes", tag = "2")]
            block: Bytes,
        }
        let tip = EarlierTip { height: 7, block: vec![3; 32].into() };
        let bytes = Earlier { tip: Some(tip.clone()) }.encode_to_vec();
        let read = decode_response(SyncRequest::Status, bytes.into());
        let Some(SyncResponse::Status(read)) = read else { panic!("a status") };
        assert_eq!((read.height, read.snapshot), (Height::new(7), None));
        // And they read ours.
        let ours = SyncResponse::Status(Tip { snapshot: Some(Height::new(5)), ..read });
        assert_eq!(Earlier::decode(encode_response(ours)).unwrap().tip, Some(tip));
    }
}
