//! Bodies of large blocks in files of their own, each written once ([024](../../docs/decisions/024-bodies-in-files.md)).
//!
//! ```text
//! bodies/<number>-<first>.bodies     number: rising from 1; first: height of the first body in it
//! ```
//!
//! A body begins at a multiple of 4 KiB, and zeros follow it up to the next. Nothing in a file says what it holds: that says the row
//! of the block, its [`Place`]. So bytes that no row names are nothing, whatever they are, and a file is never written to again once
//! its process has ended: what a crash left half written does no harm.
//!
//! For every file, bodies at or above its first height are in it or in files of higher numbers. So it takes no list
//! to see which files hold nothing any more when old blocks go.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{decode, encode};
use parking_lot::Mutex;
use rustix::fs::OFlags;

/// Bytes that a row which names a place begins with: as many transactions no block has.
const TAG: [u8; 4] = [0xff; 4];
/// What direct writes begin at and are a multiple of.
const ALIGNMENT: usize = 4 << 10;
/// A file is ended once it is so long.
const FILE_BYTES: u64 = 64 << 20;
/// Files held open to read from.
const OPEN_MAX: usize = 16;
/// The end of a file's name.
const SUFFIX: &str = ".bodies";

/// Where a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Place {
    /// The file's number.
    pub(crate) file: u64,
    at: u64,
    bytes: u32,
    /// CRC-32 of the body.
    checksum: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} of file {}", self.bytes, self.at, self.file)
    }
}

impl Place {
    /// The row that names it.
    pub(crate) fn row(&self) -> Vec<u8> {
        let mut row = TAG.to_vec();
        row.extend_from_slice(&encode(self));
        row
    }

    /// The place that a row names; `None` for a row that is a body itself.
    ///
    /// # Errors
    /// Says what is wrong with a row that names none.
    pub(crate) fn of_row(row: &[u8]) -> Result<Option<Self>, String> {
        let Some(place) = row.strip_prefix(&TAG) else { return Ok(None) };
        decode(place).map(Some).map_err(|error| format!("the place of a body: {error}"))
    }
}

/// The folder of the files.
pub(crate) struct Bodies {
    folder: PathBuf,
    /// Whether writes pass the page cache by.
    direct: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// First heights by number.
    files: BTreeMap<u64, u64>,
    /// The file that is written to; none before the first body.
    tail: Option<Tail>,
    /// Files to read from, by number.
    open: BTreeMap<u64, Arc<File>>,
    /// Files written to since the last sync.
    unsynced: Vec<Arc<File>>,
    /// Whether a file is new since then.
    new_file: bool,
    /// Aligned somewhere within: what is written.
    buffer: Vec<u8>,
}

struct Tail {
    number: u64,
    file: Arc<File>,
    end: u64,
}

impl Bodies {
    /// The files in `folder`, which need not exist yet.
    pub(crate) fn open(folder: PathBuf, direct: bool) -> io::Result<Self> {
        let files = list(&folder)?;
        Ok(Self { folder, direct, inner: Mutex::new(Inner { files, ..Inner::default() }) })
    }

    /// Number and first height of every file.
    pub(crate) fn files(&self) -> Vec<(u64, u64)> {
        self.inner.lock().files.iter().map(|(number, first)| (*number, *first)).collect()
    }

    /// Writes a body behind the last one. It survives the process when the call returns, and a power cut once
    /// [`Bodies::sync`] has.
    pub(crate) fn append(&self, height: u64, body: &[u8]) -> io::Result<Place> {
        let too_long = |_| io::Error::other("a body of 4 GiB");
        let bytes = u32::try_from(body.len()).map_err(too_long)?;
        let mut inner = self.inner.lock();
        let Tail { number, file, end } = self.tail(&mut inner, height)?;
        write_at(&mut inner.buffer, &file, body, end)?;
        let written = (body.len().next_multiple_of(ALIGNMENT)) as u64;
        inner.tail = Some(Tail { number, file: Arc::clone(&file), end: end.saturating_add(written) });
        if !inner.unsynced.iter().any(|other| Arc::ptr_eq(other, &file)) {
            inner.unsynced.push(file);
        }
        Ok(Place { file: number, at: end, bytes, checksum: crc32fast::hash(body) })
    }

    /// The file to write to and where in it, with room left; taken out until the write is done.
    fn tail(&self, inner: &mut Inner, height: u64) -> io::Result<Tail> {
        if let Some(tail) = inner.tail.take().filter(|tail| tail.end < FILE_BYTES) {
            return Ok(tail);
        }
        std::fs::create_dir_all(&self.folder)?;
        let number = inner.files.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        let mut options = OpenOptions::new();
        options.create_new(true).read(true).write(true);
        if self.direct {
            options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        }
        let file = Arc::new(options.open(self.path(number, height))?);
        inner.files.insert(number, height);
        inner.new_file = true;
        Ok(Tail { number, file, end: 0 })
    }

    /// The body at a place.
    ///
    /// # Errors
    /// When it is not there, or not what was written.
    pub(crate) fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        let file = self.file(place.file)?;
        let mut body = vec![0; place.bytes as usize];
        file.read_exact_at(&mut body, place.at)?;
        if crc32fast::hash(&body) != place.checksum {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
        }
        Ok(body)
    }

    fn file(&self, number: u64) -> io::Result<Arc<File>> {
        let mut inner = self.inner.lock();
        if let Some(file) = inner.open.get(&number) {
            return Ok(Arc::clone(file));
        }
        if !inner.files.contains_key(&number) {
            // Another process writes, and this one reads beside it.
            inner.files = list(&self.folder)?;
        }
        let first = inner.files.get(&number).copied();
        let first = first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("file {number} is missing")))?;
        let file = Arc::new(File::open(self.path(number, first))?);
        if inner.open.len() >= OPEN_MAX {
            inner.open.pop_first();
        }
        inner.open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Puts every body that was written before this call on disk. Holds no writer up.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let (unsynced, new_file) = {
            let mut inner = self.inner.lock();
            (std::mem::take(&mut inner.unsynced), std::mem::take(&mut inner.new_file))
        };
        for file in unsynced {
            file.sync_data()?;
        }
        if new_file {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes the files that hold nothing at or above a height.
    pub(crate) fn forget_below(&self, height: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        loop {
            let mut oldest = inner.files.iter().map(|(number, first)| (*number, *first));
            let (Some((number, first)), Some(_)) = (oldest.next(), oldest.find(|(_, first)| *first <= height)) else {
                return Ok(());
            };
            inner.remove(&self.path(number, first), number)?;
        }
    }

    /// Removes a file that no row names.
    pub(crate) fn remove(&self, number: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let Some(first) = inner.files.get(&number).copied() else { return Ok(()) };
        inner.remove(&self.path(number, first), number)
    }

    /// Bytes of all files.
    pub(crate) fn disk_bytes(&self) -> io::Result<u64> {
        self.files().into_iter().try_fold(0u64, |sum, (number, first)| {
            Ok(sum.saturating_add(std::fs::metadata(self.path(number, first))?.len()))
        })
    }

    fn path(&self, number: u64, first: u64) -> PathBuf {
        self.folder.join(format!("{number:08}-{first:012}{SUFFIX}"))
    }
}

impl Inner {
    fn remove(&mut self, path: &Path, number: u64) -> io::Result<()> {
        std::fs::remove_file(path)?;
        self.files.remove(&number);
        self.open.remove(&number);
        Ok(())
    }
}

/// Number and first height of the files in a folder; of other names, none.
fn list(folder: &Path) -> io::Result<BTreeMap<u64, u64>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.split_once('-'));
        if let Some((Ok(number), Ok(first))) = parts.map(|(number, first)| (number.parse(), first.parse())) {
            files.insert(number, first);
        }
    }
    Ok(files)
}

/// Writes `body` and zeros up to the next multiple of the alignment, from memory that is aligned too.
fn write_at(buffer: &mut Vec<u8>, file: &File, body: &[u8], at: u64) -> io::Result<()> {
    let bytes = body.len().next_multiple_of(ALIGNMENT);
    buffer.resize(bytes.saturating_add(ALIGNMENT).max(buffer.len()), 0);
    let skip = buffer.as_ptr().align_offset(ALIGNMENT);
    let end = skip.saturating_add(bytes);
    let Some(room) = buffer.get_mut(skip..end) else { return Err(io::Error::other("memory cannot be aligned")) };
    let (text, zeros) = room.split_at_mut(body.len());
    text.copy_from_slice(body);
    zeros.fill(0);
    file.write_all_at(room, at)
}
