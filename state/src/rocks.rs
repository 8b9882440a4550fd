//! RocksDB as [`Storage`]: the only file that names it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::shortcut::{self, Step};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompactionStyle, DBCompressionType, DBRecoveryMode, Direction, Env, IteratorMode, LogLevel, Options,
    ReadOptions, SliceTransform, Snapshot, WriteBatch, WriteOptions,
};
use rustix::fs::{Mode, OFlags};

use crate::batch::Batch;
use crate::bodies::{Bodies, Place};
use crate::layout::META_BODIES;
use crate::storage::{
    Durability, Order, ReadStorage, Scan, Storage, StorageError, Table, Visitor, prefix_end,
};
use crate::warm::{Found, Warm};

/// One cache for the blocks, indexes and filters of all tables, MiB: what is read again and again are identities and keys, which
/// are kept beside it, and the newest rows.
pub const BLOCK_CACHE_MIB: usize = 8;
/// All memtables together; above it the oldest is flushed.
const MEMTABLES_BYTES: usize = 32 << 20;
/// What a memtable grows by. RocksDB's own choice, a megabyte, is taken of the sum above by each table that has one row.
const MEMTABLE_BLOCK_BYTES: usize = 64 << 10;
/// Write-ahead logs together; above it the oldest tables are flushed. Bounds the replay at start.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// Write-ahead logs that are kept when they are no longer needed, for new ones to take over. A log spans a memtable of some table, usually a few
/// megabytes (docs/decisions/021).
const SPARE_LOGS: usize = 16;
/// Dirty pages handed to the kernel at a time, so that a sync never meets a mountain.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// A part of a filter or index.
const METADATA_BLOCK_BYTES: usize = 4 << 10;
/// File handles: enough for some hundred gigabytes of 64 MiB files to be served from the hot ones.
const OPEN_FILES_MAX: i32 = 512;
/// The block cache of a reader beside a running node, which reads everything once.
const BESIDE_CACHE_BYTES: usize = 8 << 20;
/// Values of at least this size leave the tree for blob files and are never rewritten by compaction.
const BLOB_BYTES_MIN: u64 = 4 << 10;
/// Files of a scattered table that are merged at a time, at least.
const SCATTERED_FILES: i32 = 8;
/// Bodies of at least this size are written to files of their own where the writer has them elsewhere until a sync. Below it a write of
/// whole pages that passes the cache by costs more than it saves.
const FILED_BYTES_MIN: usize = 32 << 10;
/// Their folder, beside the tables.
const BODIES_FOLDER: &str = "bodies";
/// A file that is made and removed to see whether direct writes are taken.
const DIRECT_PROBE: &str = "direct.probe";
/// Index keys begin with a 32-byte digest; bloom filters work on it.
const DIGEST_BYTES: usize = 32;

/// What becomes of written bytes that were not synced when the process dies. Anything but the first is to rehearse power cuts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unsynced {
    /// They stay: the kernel has them.
    #[default]
    Stays,
    /// They are gone.
    Goes,
    /// The bodies of blocks are gone, if they are in files of their own; the kernel was quicker to write all the rest.
    BodiesGo,
}

/// The state's tables in a RocksDB folder.
pub struct RocksStorage {
    db: DB,
    /// Whether another process writes, and this one reads what had been written when it opened the folder.
    beside: bool,
    warm: Warm,
    bodies: Bodies,
    /// Bodies below this height have been deleted, perhaps not on the disk yet.
    gone: AtomicU64,
    path: PathBuf,
}

impl RocksStorage {
    /// Opens the folder, creating it and its tables when they do not exist.
    ///
    /// # Errors
    /// When another process has it open, the disk fails, or the data is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_with(path, BLOCK_CACHE_MIB << 20, Unsynced::Stays)
    }

    /// [`RocksStorage::open`] with a block cache of this many bytes instead of [`BLOCK_CACHE_MIB`], and perhaps a rehearsed
    /// power cut at its end.
    ///
    /// # Errors
    /// As [`RocksStorage::open`].
    pub fn open_with(
        path: impl AsRef<Path>,
        cache_bytes: usize,
        unsynced: Unsynced,
    ) -> Result<Self, StorageError> {
        let path = path.as_ref().to_path_buf();
        let mut options = database_options();
        options.set_manual_wal_flush(unsynced == Unsynced::Goes);
        let direct = writes_directly(&path);
        options.set_use_direct_io_for_flush_and_compaction(direct);
        let mut threads = Env::new().map_err(|error| fault(&error, "open", &path))?;
        // Merges of a long chain keep a core busy for seconds, and nobody waits for them: they stand back behind blocks
        // (docs/decisions/008). When they fall behind, RocksDB slows its writers down, which leaves processor time to them.
        threads.lower_thread_pool_cpu_priority();
        options.set_env(&threads);
        let db = DB::open_cf_descriptors(&options, &path, families(cache_bytes))
            .map_err(|error| fault(&error, "open", &path))?;
        let bodies = open_bodies(&path, direct)?.holding_back(unsynced != Unsynced::Stays);
        let storage = Self { db, beside: false, warm: Warm::new(), bodies, gone: AtomicU64::new(0), path };
        storage.remove_unnamed_bodies()?;
        storage.bodies.settle().map_err(|error| io_fault(&error, "sync the bodies"))?;
        Ok(storage)
    }

    /// Opens a folder to read from, beside the process that has it open: what that process has written so far. Every
    /// write is refused. `scratch` takes this reader's own log.
    ///
    /// A reader whose files went away under it, because that process compacted them just then, says so: open it again.
    ///
    /// # Errors
    /// When there is no database, the disk fails, or the data is damaged.
    pub fn open_beside(path: impl AsRef<Path>, scratch: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref().to_path_buf();
        let mut options = database_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        // All files are opened now: they may be deleted by name at any moment.
        options.set_max_open_files(-1);
        let families = families(BESIDE_CACHE_BYTES);
        let db = DB::open_cf_descriptors_as_secondary(&options, path.as_path(), scratch.as_ref(), families)
            .map_err(|error| fault(&error, "open", &path))?;
        let bodies = open_bodies(&path, false)?;
        Ok(Self { db, beside: true, warm: Warm::new(), bodies, gone: AtomicU64::new(0), path })
    }

    fn family(&self, table: Table) -> Result<&ColumnFamily, StorageError> {
        self.db.cf_handle(table.name()).ok_or_else(|| StorageError::Damaged {
            doing: "find a table",
            why: format!("table {} is missing", table.name()),
        })
    }

    /// Bytes on disk, write-ahead logs included.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn disk_bytes(&self) -> Result<u64, StorageError> {
        let io = |error: std::io::Error| StorageError::Io { doing: "measure", why: error.to_string() };
        let bodies = self.bodies.disk_bytes().map_err(io)?;
        std::fs::read_dir(&self.path).map_err(io)?.try_fold(bodies, |sum, entry| {
            let bytes = entry.and_then(|entry| entry.metadata()).map_err(io)?.len();
            Ok(sum.saturating_add(bytes))
        })
    }

    /// The row of a key as it stands in RocksDB.
    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut options = ReadOptions::default();
        options.fill_cache(!is_asked_once(table));
        let row = self.db.get_cf_opt(self.family(table)?, key, &options);
        row.map_err(|error| fault(&error, "read", &self.path))
    }

    /// A body where its row says that it is, if the row is not the body itself.
    fn body(&self, row: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, StorageError> {
        let damaged = |why: String| StorageError::Damaged { doing: "read a block's body", why };
        let Some(row) = row else { return Ok(None) };
        let Some(place) = Place::of_row(&row).map_err(damaged)? else { return Ok(Some(row)) };
        let body = self.bodies.read(&place);
        body.map(Some).map_err(|error| damaged(format!("{place} in {}: {error}", self.path.display())))
    }

    /// Removes the files of bodies that no row names: of blocks that a power cut took away with their rows, and of deleted ones that
    /// it brought back.
    fn remove_unnamed_bodies(&self) -> Result<(), StorageError> {
        let family = self.family(Table::Bodies)?;
        let height = |mode| -> Result<Option<u64>, StorageError> {
            let row = self.db.iterator_cf(family, mode).next().transpose();
            let row = row.map_err(|error| fault(&error, "scan", &self.path))?;
            Ok(row.and_then(|(key, _)| body_height(Table::Bodies, &key)))
        };
        let (lowest, highest) = (height(IteratorMode::Start)?, height(IteratorMode::End)?);
        let below = self.bodies.forget_below(lowest.unwrap_or_default());
        let removed = below.and_then(|()| self.bodies.forget_above(highest));
        removed.map_err(|error| io_fault(&error, "remove a file of bodies"))
    }

    /// Before the rows that name them: once those are on disk, the caller lets its copies go.
    fn sync_bodies(&self) -> Result<(), StorageError> {
        if shortcut::is_left_out(Step::Sync) {
            return Ok(());
        }
        self.bodies.sync().map_err(|error| io_fault(&error, "sync the bodies"))
    }

    /// Moves all memtables into table files and compacts them: what the data weighs at rest.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn compact(&self) -> Result<(), StorageError> {
        for table in Table::ALL {
            let family = self.family(table)?;
            self.db.flush_cf(family).map_err(|error| fault(&error, "flush", &self.path))?;
            self.db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(MEMTABLES_BYTES);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_wal_bytes_per_sync(BYTES_PER_SYNC);
    options.set_recycle_log_file_num(SPARE_LOGS);
    options.set_max_open_files(OPEN_FILES_MAX);
    // A torn tail is an unsynced block, which consensus delivers again. Nothing after damage is replayed.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_background_jobs(2);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(4 << 20);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options
}

/// Whether the folder's file system takes writes that pass the page cache by. Flushes and compactions then neither fill that cache nor leave
/// the kernel megabytes to write back at a time, for which the journal's syncs would wait (docs/decisions/016).
fn writes_directly(folder: &Path) -> bool {
    let probe = folder.join(DIRECT_PROBE);
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    // Whatever else is wrong with the folder, RocksDB says better.
    let opened = std::fs::create_dir_all(folder)
        .and_then(|()| rustix::fs::open(&probe, flags, Mode::RUSR | Mode::WUSR).map_err(Into::into));
    let _ = std::fs::remove_file(&probe);
    if let Err(error) = &opened {
        tracing::info!(folder = %folder.display(), %error, "no direct writes here: load will show in the latency");
    }
    opened.is_ok()
}

/// All tables, which share a block cache of this many bytes.
fn families(cache_bytes: usize) -> [ColumnFamilyDescriptor; Table::ALL.len()] {
    let cache = Cache::new_lru_cache(cache_bytes);
    Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), table_options(table, &cache)))
}

fn table_options(table: Table, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Filters and indexes in small parts: whole, those of a file of 2 million keys are as large as a shard of the
    // cache, and every lookup reads them from the file again.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
    blocks.set_pin_top_level_index_and_filter(true);
    blocks.set_format_version(5);
    let mut options = Options::default();
    options.set_write_buffer_size(16 << 20);
    options.set_arena_block_size(MEMTABLE_BLOCK_BYTES);
    options.set_level_compaction_dynamic_level_bytes(true);
    // Rows are mostly digests: a stronger compression of the last level costs processor time and saves little.
    options.set_compression_type(DBCompressionType::Lz4);
    if is_scattered(table) {
        options.set_compaction_style(DBCompactionStyle::Universal);
        options.set_level_zero_file_num_compaction_trigger(SCATTERED_FILES);
    }
    match table {
        Table::Bodies | Table::Certificates => {
            // Signatures and keys do not compress.
            options.set_enable_blob_files(true);
            options.set_min_blob_size(BLOB_BYTES_MIN);
            options.set_blob_compression_type(DBCompressionType::None);
        }
        _ if is_index_by_digest(table) => {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(DIGEST_BYTES));
            options.set_memtable_prefix_bloom_ratio(0.02);
            blocks.set_bloom_filter(10.0, false);
            blocks.set_whole_key_filtering(false);
        }
        Table::Transactions | Table::Blocks | Table::TreeValues | Table::PublicKeys => {
            options.set_memtable_prefix_bloom_ratio(0.02);
            options.set_memtable_whole_key_filtering(true);
            blocks.set_bloom_filter(10.0, false);
        }
        _ => {}
    }
    options.set_block_based_table_factory(&blocks);
    options
}

/// Whether new rows lie anywhere among the old ones, because their keys begin with digests or addresses. Level by level each would
/// be written again some ten times; file by file of about one size it is half of that. Every other table only grows at its end.
const fn is_scattered(table: Table) -> bool {
    matches!(
        table,
        Table::Blocks
            | Table::Transactions
            | Table::Proofs
            | Table::Roots
            | Table::References
            | Table::Senders
            | Table::TreeNodes
            | Table::StateKeys
            | Table::IdentityHistory
            | Table::Links
    )
}

/// Whether a table lists what begins with a digest; its filters are of that digest.
const fn is_index_by_digest(table: Table) -> bool {
    matches!(table, Table::Proofs | Table::Roots | Table::References)
}

/// Whether every question to a table is about another digest, mostly one that it does not have: each transaction and each proof is
/// looked for when it is submitted. Filters and rows of a long chain that were read for it would fill the block cache and serve no
/// other; the kernel's page cache has them. Those of the newest files are pinned.
const fn is_asked_once(table: Table) -> bool {
    matches!(table, Table::Transactions) || is_index_by_digest(table)
}

/// Whether every key of the scan shares the digest that the table's bloom filter is built on.
fn within_one_digest(scan: &Scan<'_>) -> bool {
    is_index_by_digest(scan.table) && scan.prefix.len() >= DIGEST_BYTES
}

/// Bounds of a scan, and where it begins.
fn scan_options<'a>(scan: &Scan<'a>) -> (ReadOptions, IteratorMode<'a>) {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(scan.prefix);
    if let Some(end) = prefix_end(scan.prefix) {
        options.set_iterate_upper_bound(end);
    }
    if !within_one_digest(scan) || scan.order == Order::Descending {
        options.set_total_order_seek(true);
    }
    let mode = match (scan.order, scan.from) {
        (Order::Ascending, from) => {
            IteratorMode::From(from.unwrap_or_default().max(scan.prefix), Direction::Forward)
        }
        (Order::Descending, Some(from)) => IteratorMode::From(from, Direction::Reverse),
        (Order::Descending, None) => IteratorMode::End,
    };
    (options, mode)
}

/// Hands rows out until `visit` breaks.
fn visit_rows(
    rows: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>,
    visit: &mut Visitor<'_>,
    path: &Path,
) -> Result<(), StorageError> {
    for row in rows {
        let (key, value) = row.map_err(|error| fault(&error, "scan", path))?;
        if visit(&key, &value).is_break() {
            break;
        }
    }
    Ok(())
}

/// The tables as they were at one moment. What is read here once is not read again, so it takes no room in caches.
struct Frozen<'a> {
    storage: &'a RocksStorage,
    /// None beside another process: what is read there stays as it is.
    snapshot: Option<Snapshot<'a>>,
}

impl ReadStorage for Frozen<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let family = self.storage.family(table)?;
        let row = match &self.snapshot {
            Some(snapshot) => snapshot.get_cf_opt(family, key, options),
            None => self.storage.db.get_cf_opt(family, key, &options),
        };
        let row = row.map_err(|error| fault(&error, "read", &self.storage.path))?;
        if table == Table::Bodies { self.storage.body(row) } else { Ok(row) }
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let family = self.storage.family(scan.table)?;
        let (mut options, mode) = scan_options(&scan);
        options.fill_cache(false);
        let rows = match &self.snapshot {
            Some(snapshot) => snapshot.iterator_cf_opt(family, options, mode),
            None => self.storage.db.iterator_cf_opt(family, options, mode),
        };
        visit_rows(rows, visit, &self.storage.path)
    }
}

impl ReadStorage for RocksStorage {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let ticket = match self.warm.get(table, key) {
            Some(Found::Row(row)) => return Ok(row),
            Some(Found::Unknown(ticket)) => Some(ticket),
            None => None,
        };
        let row = self.row(table, key)?;
        if table == Table::Bodies {
            return self.body(row);
        }
        if let Some(ticket) = ticket {
            self.warm.keep(ticket, row.as_deref());
        }
        Ok(row)
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let family = self.family(scan.table)?;
        let (mut options, mode) = scan_options(&scan);
        options.fill_cache(!is_asked_once(scan.table));
        visit_rows(self.db.iterator_cf_opt(family, options, mode), visit, &self.path)
    }
}

impl Storage for RocksStorage {
    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError> {
        let mut writes =
            WriteBatch::with_capacity_bytes(batch.bytes().saturating_add(batch.len().saturating_mul(8)));
        let mut families = [None; Table::ALL.len()];
        for (slot, table) in families.iter_mut().zip(Table::ALL) {
            *slot = Some(self.family(table)?);
        }
        // A row finds its place in a memtable along the path of the row before it, which the processor's caches still hold when
        // the two are neighbours.
        let mut gone = 0;
        let mut rows: Vec<_> = batch.entries().collect();
        rows.sort_by_key(|&(table, key, _)| (table.index(), key));
        for (table, key, value) in rows {
            let Some(Some(family)) = families.get(table.index()) else { continue };
            let height = body_height(table, key);
            match (value, height) {
                (Some(body), Some(height))
                    if durability == Durability::Backed && body.len() >= FILED_BYTES_MIN =>
                {
                    let place = self.bodies.append(height, body);
                    let place = place.map_err(|error| io_fault(&error, "write a block's body"))?;
                    writes.put_cf(family, key, place.row());
                    if place.begins_file() {
                        writes.put_cf(self.family(Table::Meta)?, META_BODIES, key);
                    }
                }
                (Some(value), _) => writes.put_cf(family, key, value),
                (None, height) => {
                    writes.delete_cf(family, key);
                    gone = gone.max(height.map_or(0, |height| height.saturating_add(1)));
                }
            }
        }
        if durability == Durability::Synced {
            self.sync_bodies()?;
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced && !shortcut::is_left_out(Step::Sync));
        let done = self.db.write_opt(writes, &options);
        self.gone.fetch_max(gone, Ordering::SeqCst);
        self.warm.forget(batch.entries().map(|(table, key, _)| (table, key)));
        done.map_err(|error| fault(&error, "write", &self.path))
    }

    fn sync(&self) -> Result<(), StorageError> {
        let gone = self.gone.load(Ordering::SeqCst);
        self.sync_bodies()?;
        self.db
            .flush_wal(!shortcut::is_left_out(Step::Sync))
            .map_err(|error| fault(&error, "sync", &self.path))?;
        // Not before: a row that comes back after a power cut finds its body.
        self.bodies.forget_below(gone).map_err(|error| io_fault(&error, "remove a file of bodies"))
    }

    /// Whether the files of bodies are all here: a copy of the folder may have been made without those below it.
    fn check(&self) -> Result<(), StorageError> {
        let missing = |what: String| StorageError::Damaged {
            doing: "look for the files of bodies",
            why: format!("{what} is missing from {}", self.path.join(BODIES_FOLDER).display()),
        };
        if let Some(number) = self.bodies.gap() {
            return Err(missing(format!("file {number}")));
        }
        // A body that went with its file and was brought back is in its row.
        let Some(height) = self.row(Table::Meta, META_BODIES)? else { return Ok(()) };
        let first = self.row(Table::Bodies, &height)?;
        match first.as_deref().map(Place::of_row) {
            Some(Ok(Some(place))) if !self.bodies.has(&place) => Err(missing(format!("the file of {place}"))),
            // A row that is damaged is told when it is read.
            _ => Ok(()),
        }
    }

    fn frozen(&self) -> Box<dyn ReadStorage + '_> {
        Box::new(Frozen { storage: self, snapshot: (!self.beside).then(|| self.db.snapshot()) })
    }
}

/// The files of bodies beside the tables.
fn open_bodies(path: &Path, direct: bool) -> Result<Bodies, StorageError> {
    Bodies::open(path.join(BODIES_FOLDER), direct)
        .map_err(|error| io_fault(&error, "list the files of bodies"))
}

/// The height of a block's body by its key.
fn body_height(table: Table, key: &[u8]) -> Option<u64> {
    let height = || key.try_into().ok().map(u64::from_be_bytes);
    (table == Table::Bodies).then(height).flatten()
}

/// A failure of the operating system as one of ours.
fn io_fault(error: &io::Error, doing: &'static str) -> StorageError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::DiskFull { doing },
        _ => StorageError::Io { doing, why: error.to_string() },
    }
}

/// RocksDB's words as one of ours.
fn fault(error: &rocksdb::Error, doing: &'static str, path: &Path) -> StorageError {
    let why = error.to_string();
    if doing == "open" && (why.contains("lock hold by current process") || why.contains("While lock file")) {
        return StorageError::Locked { path: path.to_path_buf() };
    }
    if why.contains("No space left on device") || why.contains("NoSpace") {
        return StorageError::DiskFull { doing };
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StorageError::Damaged { doing, why },
        _ => StorageError::Io { doing, why },
    }
}

#[cfg(test)]
#[path = "rocks_tests.rs"]
mod tests;
