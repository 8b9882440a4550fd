//! Bodies of large blocks in files of their own, each written once ([024](../../docs/decisions/024-bodies-in-files.md)).
//!
//! ```text
//! bodies/<number>-<first>.bodies     number: rising from 1; first: height of the first body in it
//! ```
//!
//! A body begins at a multiple of 4 KiB, and zeros follow it up to the next. What a file holds is said by the rows of the blocks,
//! each a [`Place`], and nowhere else. So bytes that no row names are nothing, whatever they are; and since every process begins a file of its
//! own, what a crash left half written is in nobody's way.
//!
//! No file holds a body at or above the first height of a later one. So when old blocks go, names tell which files hold nothing any more.

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
/// Files that may hold what was written and not synced: as much as the journal's block log holds, 1 GiB, and room to spare.
const UNSYNCED_FILES_MAX: usize = 32;
/// The end of a file's name.
const SUFFIX: &str = ".bodies";

/// Where a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Place {
    /// The file's number.
    file: u64,
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

    /// Whether it is the first of its file.
    pub(crate) const fn begins_file(&self) -> bool {
        self.at == 0
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

/// The folder of the files. One writes, many read.
pub(crate) struct Bodies {
    folder: PathBuf,
    /// Whether writes pass the page cache by.
    direct: bool,
    /// Whether what is not synced stays in memory, to be gone when the process dies.
    holds_back: bool,
    writer: Mutex<Writer>,
    files: Mutex<Files>,
    /// Held by whoever syncs; whether a sync has failed.
    syncing: Mutex<bool>,
}

#[derive(Default)]
struct Writer {
    /// The file that is written to; none before the first body.
    tail: Option<Tail>,
    /// What is written, aligned somewhere within.
    buffer: Vec<u8>,
}

struct Tail {
    number: u64,
    file: Arc<File>,
    end: u64,
}

#[derive(Default)]
struct Files {
    /// First heights by number.
    firsts: BTreeMap<u64, u64>,
    /// Files to read from, by number.
    open: BTreeMap<u64, Arc<File>>,
    /// Files written to since the last sync.
    unsynced: BTreeMap<u64, Arc<File>>,
    /// Whether a file is new since then.
    created: bool,
    /// What is held back, by its place.
    held: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Bodies {
    /// The files in `folder`, which need not exist yet.
    pub(crate) fn open(folder: PathBuf, direct: bool) -> io::Result<Self> {
        let files = Files { firsts: list(&folder)?, ..Files::default() };
        let (writer, files, syncing) = (Mutex::default(), Mutex::new(files), Mutex::default());
        Ok(Self { folder, direct, holds_back: false, writer, files, syncing })
    }

    /// The same, rehearsing a power cut at the end of the process or not.
    pub(crate) fn holding_back(self, holds_back: bool) -> Self {
        Self { holds_back, ..self }
    }

    /// Puts on disk what an earlier process may have written and not synced: it is in the newest files, since callers have
    /// all of it elsewhere and no room for more. With it what was removed since: a number may be given again.
    pub(crate) fn settle(&self) -> io::Result<()> {
        for (number, first) in self.files().into_iter().rev().take(UNSYNCED_FILES_MAX) {
            File::open(self.path(number, first))?.sync_data()?;
        }
        if self.folder.exists() { File::open(&self.folder)?.sync_all() } else { Ok(()) }
    }

    /// The number of a file that is missing: every number between the lowest and the highest is that of a file.
    pub(crate) fn gap(&self) -> Option<u64> {
        let files = self.files.lock();
        let (lowest, highest) = (files.firsts.first_key_value()?.0, files.firsts.last_key_value()?.0);
        (*lowest..*highest).find(|number| !files.firsts.contains_key(number))
    }

    /// Whether the file of this place is here.
    pub(crate) fn has(&self, place: &Place) -> bool {
        self.files.lock().firsts.contains_key(&place.file)
    }

    /// Number and first height of every file, by number.
    pub(crate) fn files(&self) -> Vec<(u64, u64)> {
        self.files.lock().firsts.iter().map(|(number, first)| (*number, *first)).collect()
    }

    /// Writes a body behind the last one. It survives the process when the call returns, and a power cut once
    /// [`Bodies::sync`] has.
    pub(crate) fn append(&self, height: u64, body: &[u8]) -> io::Result<Place> {
        let bytes = u32::try_from(body.len()).map_err(|_| io::Error::other("a body of 4 GiB"))?;
        let mut writer = self.writer.lock();
        // After a failed write what the file ends with is unknown: the next body begins another.
        let tail = match writer.tail.take().filter(|tail| tail.end < FILE_BYTES) {
            Some(tail) => tail,
            None => self.begin_file(height)?,
        };
        let Tail { number, file, end } = tail;
        let padded = padded(&mut writer.buffer, body)?;
        let written = padded.len() as u64;
        if self.holds_back {
            self.files.lock().held.insert((number, end), padded.to_vec());
        } else {
            file.write_all_at(padded, end)?;
        }
        writer.tail = Some(Tail { number, file: Arc::clone(&file), end: end.saturating_add(written) });
        self.files.lock().unsynced.insert(number, file);
        Ok(Place { file: number, at: end, bytes, checksum: crc32fast::hash(body) })
    }

    fn begin_file(&self, first: u64) -> io::Result<Tail> {
        std::fs::create_dir_all(&self.folder)?;
        let mut files = self.files.lock();
        let number = files.firsts.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        let mut options = OpenOptions::new();
        options.create_new(true).write(true);
        if self.direct {
            options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        }
        let file = Arc::new(options.open(self.path(number, first))?);
        files.firsts.insert(number, first);
        files.created = true;
        Ok(Tail { number, file, end: 0 })
    }

    /// The body at a place.
    ///
    /// # Errors
    /// When it is not there, or not what was written.
    pub(crate) fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        let held = self.files.lock().held.get(&(place.file, place.at)).cloned();
        let body = match held {
            Some(mut held) => {
                held.truncate(place.bytes as usize);
                held
            }
            None => {
                let mut body = vec![0; place.bytes as usize];
                self.file(place.file)?.read_exact_at(&mut body, place.at)?;
                body
            }
        };
        if crc32fast::hash(&body) != place.checksum {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
        }
        Ok(body)
    }

    fn file(&self, number: u64) -> io::Result<Arc<File>> {
        let mut files = self.files.lock();
        if let Some(file) = files.open.get(&number) {
            return Ok(Arc::clone(file));
        }
        if !files.firsts.contains_key(&number) {
            // Another process writes, and this one reads beside it.
            files.firsts = list(&self.folder)?;
        }
        let first = files.firsts.get(&number).copied().ok_or(io::ErrorKind::NotFound)?;
        let file = Arc::new(File::open(self.path(number, first))?);
        if files.open.len() >= OPEN_MAX {
            files.open.pop_first();
        }
        files.open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Puts every body that was written before this call on disk. Holds no [`Bodies::append`] up.
    ///
    /// # Errors
    /// When the device fails, and always after that: what a failed sync leaves on disk is unknown, and another may say otherwise.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // Whoever comes meanwhile waits: what is being synced is not on disk yet.
        let mut failed = self.syncing.lock();
        if *failed {
            return Err(io::Error::other("an earlier sync failed"));
        }
        let done = self.sync_files();
        *failed = done.is_err();
        done
    }

    fn sync_files(&self) -> io::Result<()> {
        let (unsynced, created, held) = {
            let mut files = self.files.lock();
            (std::mem::take(&mut files.unsynced), std::mem::take(&mut files.created), files.held.clone())
        };
        for ((number, at), bytes) in &held {
            if let Some(file) = unsynced.get(number) {
                let mut buffer = Vec::new();
                file.write_all_at(padded(&mut buffer, bytes)?, *at)?;
            }
        }
        for file in unsynced.values() {
            file.sync_data()?;
        }
        if created {
            File::open(&self.folder)?.sync_all()?;
            // Its own name is in the folder above.
            self.folder.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())?;
        }
        self.files.lock().held.retain(|place, _| !held.contains_key(place));
        Ok(())
    }

    /// Removes the files that hold nothing at or above a height.
    pub(crate) fn forget_below(&self, height: u64) -> io::Result<()> {
        let mut files = self.files.lock();
        loop {
            let mut oldest_first = files.firsts.iter().map(|(number, first)| (*number, *first));
            let Some((number, first)) = oldest_first.next() else { return Ok(()) };
            if !oldest_first.any(|(_, later)| later <= height) {
                return Ok(());
            }
            files.remove(number, &self.path(number, first))?;
        }
    }

    /// Removes the files that hold nothing at or below a height; all of them for `None`. For a folder that was just opened.
    pub(crate) fn forget_above(&self, height: Option<u64>) -> io::Result<()> {
        let mut files = self.files.lock();
        let above = |first: u64| height.is_none_or(|height| first > height);
        let gone: Vec<_> = files.firsts.iter().map(|(number, first)| (*number, *first)).collect();
        for (number, first) in gone.into_iter().filter(|(_, first)| above(*first)) {
            files.remove(number, &self.path(number, first))?;
        }
        Ok(())
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

impl Files {
    fn remove(&mut self, number: u64, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)?;
        self.firsts.remove(&number);
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

/// `body` and zeros up to the next multiple of the alignment, in memory that is aligned too.
fn padded<'a>(buffer: &'a mut Vec<u8>, body: &[u8]) -> io::Result<&'a [u8]> {
    let bytes = body.len().next_multiple_of(ALIGNMENT);
    let room = bytes.saturating_add(ALIGNMENT);
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let skip = buffer.as_ptr().align_offset(ALIGNMENT);
    let aligned = buffer.get_mut(skip..skip.saturating_add(bytes));
    let aligned = aligned.ok_or_else(|| io::Error::other("memory cannot be aligned"))?;
    let (text, zeros) = aligned.split_at_mut(body.len());
    text.copy_from_slice(body);
    zeros.fill(0);
    Ok(aligned)
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
