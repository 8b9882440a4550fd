//! The log: append-only segments with the body of every block voted for and the bytes of the
//! certificates that the record names.
//!
//! ```text
//! segment = frame*                      the first one is a header
//! frame   = u8 kind ‖ u32 length ‖ u32 CRC-32 of (segment number ‖ offset ‖ kind ‖ length ‖ payload) ‖ payload
//! ```
//! The checksum covers the frame's place, so a whole frame in the wrong place is damage too. The record
//! says where the last segment ends, each segment's header where the one before it ended. The file goes on, so that
//! most appends overwrite and their sync has no file length to make durable: with what an older segment held, whose
//! file the new one took over, or with zeros where there was none to take.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::certificate::digest_of_bytes;
use cairn_types::{Block, BlockId, Hash, Height, decode};

use crate::fault::JournalFault;
use crate::files::Files;
use crate::owner::Owner;

/// A segment is closed once it is this long. Small enough that committed bodies leave the disk soon, large
/// enough that the two extra syncs of a new segment are rare.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// A segment grows by this much at once, in zeros: some eighty views of a small network.
pub const EXTENT_BYTES: u64 = 1 << 20;
/// More than the header of a block takes.
const HEADER_ROOM: usize = 1 << 10;
/// Files of older segments kept for new ones.
const SPARES_MAX: usize = 2;
/// All segments together, at most. Reached only when blocks are voted for and none is committed for
/// hundreds of full blocks; further votes are then refused, timeouts are not.
pub const LOG_BYTES_MAX: u64 = 1 << 30;
/// One body or certificate, at most: far above any block or certificate the protocol allows.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

const PREFIX: &str = "log-";
const FRAME_HEAD_BYTES: usize = 9;
const SEGMENT_VERSION: u16 = 1;

/// The part of the log that was synced before a record was written: every byte of it must be whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct LogSpan {
    /// The oldest segment.
    pub(crate) first: u64,
    /// The segment written to.
    pub(crate) active: u64,
    /// Bytes in the segment written to.
    pub(crate) length: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Header = 0,
    Certificate = 1,
    Body = 2,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct SegmentHeader {
    version: u16,
    owner: Owner,
    number: u64,
    /// Where segment `number - 1` ended; 0 in the first.
    previous_bytes: u64,
}

/// A segment's file name.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{PREFIX}{number:012}")
}

/// The segment whose file has this name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(PREFIX)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

fn checksum(segment: u64, offset: u64, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Frames gathered for one write at `start` of a segment; 0 opens the segment.
pub(crate) struct Frames {
    segment: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Frames {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// Adds a frame of what `payload` serialises to, `room` bytes of it or so.
    fn push(&mut self, kind: Kind, room: usize, payload: &impl BorshSerialize) -> io::Result<()> {
        let (at, offset) = (self.bytes.len(), self.end());
        self.bytes.reserve(room.saturating_add(FRAME_HEAD_BYTES));
        self.bytes.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        payload.serialize(&mut self.bytes)?;
        let (head, payload) = self.bytes.split_at_mut(at.saturating_add(FRAME_HEAD_BYTES));
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= FRAME_BYTES_MAX)
            .ok_or_else(|| {
                let why = format!("{} bytes for the log; expected at most {FRAME_BYTES_MAX}", payload.len());
                io::Error::new(io::ErrorKind::InvalidInput, why)
            })?;
        let ([l0, l1, l2, l3], crc) =
            (length.to_le_bytes(), checksum(self.segment, offset, kind as u8, payload));
        let [c0, c1, c2, c3] = crc.to_le_bytes();
        if let Some(head) = head.last_chunk_mut::<FRAME_HEAD_BYTES>() {
            *head = [kind as u8, l0, l1, l2, l3, c0, c1, c2, c3];
        }
        Ok(())
    }

    /// Adds a frame of these bytes.
    fn push_bytes(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        self.push(kind, bytes.len(), &Plain(bytes))
    }
}

/// Bytes that serialise to themselves.
struct Plain<'a>(&'a [u8]);

impl BorshSerialize for Plain<'_> {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.0)
    }
}

/// The header frame that starts a segment.
pub(crate) fn segment_start(owner: Owner, number: u64, previous_bytes: u64) -> io::Result<Vec<u8>> {
    let mut frames = Frames { segment: number, start: 0, bytes: Vec::new() };
    let header = SegmentHeader { version: SEGMENT_VERSION, owner, number, previous_bytes };
    frames.push(Kind::Header, 0, &header)?;
    Ok(frames.bytes)
}

/// Splits a segment into frames; every byte must belong to a whole one.
fn read_frames(number: u64, bytes: &[u8]) -> Result<Vec<(Kind, &[u8])>, String> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let offset = bytes.len().saturating_sub(rest.len());
        let broken = || format!("{} is broken at byte {offset}", segment_name(number));
        let (head, after) = rest.split_at_checked(FRAME_HEAD_BYTES).ok_or_else(broken)?;
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = *head else { return Err(broken()) };
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let (payload, next) = after.split_at_checked(length).ok_or_else(broken)?;
        if checksum(number, offset as u64, kind, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(broken());
        }
        let kind = [Kind::Header, Kind::Certificate, Kind::Body]
            .into_iter()
            .find(|known| *known as u8 == kind)
            .ok_or_else(broken)?;
        frames.push((kind, payload));
        rest = next;
    }
    Ok(frames)
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Length of the file, zeros included.
    allocated: u64,
    bodies: BTreeMap<BlockId, Height>,
}

/// A segment that is no longer needed, whose file still is there.
#[derive(Debug)]
struct Spare {
    number: u64,
    /// Length of the file.
    allocated: u64,
}

/// The open log: where it ends and which bodies it holds.
#[derive(Debug)]
pub(crate) struct BlockLog {
    owner: Owner,
    segments: VecDeque<Segment>,
    /// Segments no longer needed; their files are free once a record without them is synced.
    retired: Vec<Spare>,
    /// Files that no record names, for new segments.
    spares: Vec<Spare>,
    /// Length from which a segment is closed.
    pub(crate) segment_bytes: u64,
    /// What a segment grows by.
    pub(crate) extent_bytes: u64,
    /// Bound on all segments together.
    pub(crate) log_bytes_max: u64,
}

/// What was read from the log on opening.
#[derive(Debug, Default)]
pub(crate) struct LogContents {
    pub(crate) certificates: BTreeMap<Hash, Vec<u8>>,
    /// By segment, oldest first.
    pub(crate) bodies: Vec<Vec<Arc<Block>>>,
}

impl BlockLog {
    /// The log whose single segment, number 1, holds nothing but its header of `length` bytes.
    pub(crate) fn fresh(owner: Owner, length: u64) -> Self {
        Self {
            owner,
            segments: VecDeque::from([Segment {
                number: 1,
                bytes: length,
                allocated: length,
                bodies: BTreeMap::new(),
            }]),
            retired: Vec::new(),
            spares: Vec::new(),
            segment_bytes: SEGMENT_BYTES,
            extent_bytes: EXTENT_BYTES,
            log_bytes_max: LOG_BYTES_MAX,
        }
    }

    /// Reads the segments of `span`, cuts off what follows it, removes other segments.
    pub(crate) fn open(
        files: &mut dyn Files,
        owner: Owner,
        span: LogSpan,
    ) -> Result<(Self, LogContents), JournalFault> {
        let (log, contents) = Self::read(files, owner, span)?;
        let place = files.place();
        let fault =
            |source| JournalFault::Io { place: place.clone(), doing: "tidying the block log", source };
        cut(files, &segment_name(span.active), span.length).map_err(fault)?;
        let names = files.names().map_err(fault)?;
        let numbers = names.iter().filter_map(|name| segment_number(name));
        let strays: Vec<u64> = numbers.filter(|n| !(span.first..=span.active).contains(n)).collect();
        for number in &strays {
            files.remove(&segment_name(*number)).map_err(fault)?;
        }
        if !strays.is_empty() {
            files.sync_directory().map_err(fault)?;
        }
        Ok((log, contents))
    }

    /// Reads the segments of `span` and changes nothing.
    pub(crate) fn read(
        files: &mut dyn Files,
        owner: Owner,
        span: LogSpan,
    ) -> Result<(Self, LogContents), JournalFault> {
        let mut log = Self { segments: VecDeque::new(), ..Self::fresh(owner, 0) };
        let mut contents = LogContents::default();
        let mut length = span.length;
        for number in (span.first..=span.active).rev() {
            let read = read_segment(files, owner, number, length)?;
            length = read.previous_bytes;
            log.segments.push_front(read.segment);
            contents.certificates.extend(read.certificates);
            contents.bodies.push(read.bodies);
        }
        contents.bodies.reverse();
        if log.segments.is_empty() {
            let what = format!("the record names segments {} to {}", span.first, span.active);
            return Err(JournalFault::Damaged { place: files.place(), what });
        }
        Ok((log, contents))
    }

    /// Whether the log holds this block's body.
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        self.segments.iter().any(|segment| segment.bodies.contains_key(&id))
    }

    /// What a record written now has to name.
    pub(crate) fn span(&self) -> LogSpan {
        let number = |segment: Option<&Segment>| segment.map_or(1, |segment| segment.number);
        LogSpan {
            first: number(self.segments.front()),
            active: number(self.segments.back()),
            length: self.segments.back().map_or(0, |segment| segment.bytes),
        }
    }

    /// Bytes on disk that a record names.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.bytes))
    }

    /// Lays out the next append. `named` are all certificates the next record names, of which those in
    /// `fresh` are not in the log yet; a new segment takes them all, so that older segments may go.
    pub(crate) fn lay_out(
        &self,
        named: &[(Hash, Arc<[u8]>)],
        fresh: &[Arc<[u8]>],
        bodies: &[Arc<Block>],
    ) -> io::Result<Frames> {
        let LogSpan { active, length, .. } = self.span();
        let mut frames = Frames { segment: active, start: length, bytes: Vec::new() };
        if length >= self.segment_bytes {
            let used_up = || io::Error::other("segment numbers are used up");
            let segment = active.checked_add(1).ok_or_else(used_up)?;
            frames = Frames { segment, start: 0, bytes: segment_start(self.owner, segment, length)? };
            named.iter().try_for_each(|(_, bytes)| frames.push_bytes(Kind::Certificate, bytes))?;
        } else {
            fresh.iter().try_for_each(|bytes| frames.push_bytes(Kind::Certificate, bytes))?;
        }
        for body in bodies {
            frames.push(Kind::Body, body.transactions_bytes().saturating_add(HEADER_ROOM), body.as_ref())?;
        }
        Ok(frames)
    }

    /// Appends `frames`, which hold `bodies`, and syncs.
    pub(crate) fn append(
        &mut self,
        files: &mut dyn Files,
        frames: &Frames,
        bodies: &[Arc<Block>],
    ) -> io::Result<()> {
        let name = segment_name(frames.segment);
        let opens = frames.start == 0;
        let allocated = if opens {
            self.open_segment(files, &name)?
        } else {
            self.segments.back().map_or(0, |active| active.allocated)
        };
        let grown = frames.end().saturating_add(self.extent_bytes);
        if frames.end() > allocated {
            let zeros = usize::try_from(self.extent_bytes).unwrap_or(0);
            let mut bytes = frames.bytes.clone();
            bytes.resize(bytes.len().saturating_add(zeros), 0);
            files.write_at(&name, frames.start, &bytes)?;
        } else {
            files.write_at(&name, frames.start, &frames.bytes)?;
        }
        files.sync(&name)?;
        if opens {
            files.sync_directory()?;
            let bodies = BTreeMap::new();
            self.segments.push_back(Segment { number: frames.segment, bytes: 0, allocated: 0, bodies });
        }
        if let Some(active) = self.segments.back_mut() {
            active.bytes = frames.end();
            active.allocated = if frames.end() > allocated { grown } else { allocated };
            active.bodies.extend(bodies.iter().map(|body| (body.id(), body.header().height)));
        }
        Ok(())
    }

    /// Makes the file of a new segment, which is its own once it and the directory are synced: before that no record
    /// names it. Gives its length.
    fn open_segment(&mut self, files: &mut dyn Files, name: &str) -> io::Result<u64> {
        match self.spares.pop() {
            Some(spare) => {
                files.rename(&segment_name(spare.number), name)?;
                Ok(spare.allocated)
            }
            None => {
                files.create(name)?;
                Ok(0)
            }
        }
    }

    /// Lets go of the oldest segments whose bodies are all at or below `committed`.
    pub(crate) fn prune(&mut self, committed: Height) {
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && oldest.bodies.values().all(|height| *height <= committed)
        {
            self.retired.push(Spare { number: oldest.number, allocated: oldest.allocated });
            self.segments.pop_front();
        }
    }

    /// Keeps the files of retired segments for new ones, or removes them where enough are kept. Only after a record that
    /// no longer names them is synced. One that cannot be removed is removed on the next opening, as are those kept.
    pub(crate) fn free_retired(&mut self, files: &mut dyn Files) {
        for spare in self.retired.drain(..) {
            if self.spares.len() < SPARES_MAX {
                self.spares.push(spare);
            } else if let Err(error) = files.remove(&segment_name(spare.number)) {
                tracing::warn!(spare.number, %error, "an old segment of the block log was not removed");
            }
        }
    }
}

/// Cuts a file to `length`, durably, when it is longer.
fn cut(files: &mut dyn Files, name: &str, length: u64) -> io::Result<()> {
    if files.read(name)?.is_some_and(|bytes| bytes.len() as u64 > length) {
        files.truncate(name, length)?;
        files.sync(name)?;
    }
    Ok(())
}

/// What one segment holds.
struct SegmentContents {
    segment: Segment,
    previous_bytes: u64,
    certificates: BTreeMap<Hash, Vec<u8>>,
    bodies: Vec<Arc<Block>>,
}

/// Reads the first `length` bytes of a segment, every one of which must be whole.
fn read_segment(
    files: &mut dyn Files,
    owner: Owner,
    number: u64,
    length: u64,
) -> Result<SegmentContents, JournalFault> {
    let (place, name) = (files.place(), segment_name(number));
    let damaged = |what: String| JournalFault::Damaged { place: place.clone(), what };
    let fault = |source| JournalFault::Io { place: place.clone(), doing: "reading the block log", source };
    let bytes = files.read(&name).map_err(fault)?;
    let bytes = bytes.ok_or_else(|| damaged(format!("{name} is missing")))?;
    let synced = usize::try_from(length)
        .ok()
        .and_then(|length| bytes.get(..length))
        .ok_or_else(|| damaged(format!("{name} has {} bytes, expected at least {length}", bytes.len())))?;
    let frames = read_frames(number, synced).map_err(damaged)?;
    let Some(((Kind::Header, header), frames)) = frames.split_first() else {
        return Err(damaged(format!("{name} does not start with a header")));
    };
    let header: SegmentHeader = decode(header).map_err(|error| damaged(format!("{name}: {error}")))?;
    header.owner.check(&place, owner)?;
    if header.version != SEGMENT_VERSION || header.number != number {
        return Err(damaged(format!("{name} is segment {} of version {}", header.number, header.version)));
    }
    let mut read = SegmentContents {
        segment: Segment { number, bytes: length, allocated: length, bodies: BTreeMap::new() },
        previous_bytes: header.previous_bytes,
        certificates: BTreeMap::new(),
        bodies: Vec::new(),
    };
    for (kind, payload) in frames {
        match kind {
            Kind::Header => return Err(damaged(format!("{name} has a second header"))),
            Kind::Certificate => {
                read.certificates.insert(digest_of_bytes(payload), payload.to_vec());
            }
            Kind::Body => {
                let body: Block = decode(payload).map_err(|error| damaged(format!("{name}: {error}")))?;
                read.segment.bodies.insert(body.id(), body.header().height);
                read.bodies.push(Arc::new(body));
            }
        }
    }
    Ok(read)
}
