//! The sync protocol's bytes: protobuf, inside the length-prefixed exchange.

use bytes::Bytes;
use cairn_types::{BlockId, Epoch, Hash, Height};
use prost::Message as _;

use crate::message::{SyncRequest, SyncResponse, Tip};

/// Blocks asked for or answered at once; more would not fit a response anyway.
pub(crate) const BLOCKS_MAX: u32 = 4_096;

#[derive(Clone, PartialEq, prost::Message)]
struct WireRequest {
    #[prost(oneof = "Question", tags = "1, 2, 3")]
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
    #[prost(oneof = "Answer", tags = "1, 2, 3")]
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

fn block_id(bytes: &Bytes) -> Option<BlockId> {
    Some(BlockId::new(Hash(bytes.as_ref().try_into().ok()?)))
}

pub(crate) fn encode_request(request: SyncRequest) -> Bytes {
    let question = match request {
        SyncRequest::Status => Question::Status(WireStatusRequest {}),
        SyncRequest::Blocks { from, count } => {
            Question::Blocks(WireRange { from: from.get(), count: count.min(BLOCKS_MAX) })
        }
        SyncRequest::Block { id } => Question::Block(Bytes::copy_from_slice(id.as_bytes())),
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
    }
}

pub(crate) fn encode_response(response: SyncResponse) -> Bytes {
    let answer = match response {
        SyncResponse::Status(tip) => Answer::Tip(WireTip {
            height: tip.height.get(),
            block: Bytes::copy_from_slice(tip.block.as_bytes()),
            epoch: tip.epoch.get(),
            earliest: tip.earliest.get(),
        }),
        SyncResponse::Blocks(blocks) => Answer::Blocks(WireBlocks { blocks }),
        SyncResponse::Block(block) => Answer::Block(WireBlock { block }),
    };
    WireResponse { answer: Some(answer) }.encode_to_vec().into()
}

/// The answer to `request` in these bytes; `None` when they are none, or answer something else.
pub(crate) fn decode_response(request: SyncRequest, bytes: Bytes) -> Option<SyncResponse> {
    match (request, WireResponse::decode(bytes).ok()?.answer?) {
        (SyncRequest::Status, Answer::Tip(tip)) => Some(SyncResponse::Status(Tip {
            height: Height::new(tip.height),
            block: block_id(&tip.block)?,
            epoch: Epoch::new(tip.epoch),
            earliest: Height::new(tip.earliest),
        })),
        (SyncRequest::Blocks { count, .. }, Answer::Blocks(WireBlocks { blocks })) => {
            (blocks.len() <= count.min(BLOCKS_MAX) as usize).then_some(SyncResponse::Blocks(blocks))
        }
        (SyncRequest::Block { .. }, Answer::Block(WireBlock { block })) => Some(SyncResponse::Block(block)),
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
        let tip = Tip { height: from, block: id, epoch: Epoch::new(1), earliest: Height::new(1) };
        let cases = [
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
    }
}
