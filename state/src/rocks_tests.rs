//! RocksDB as a storage: what the tests of `Storage` cannot see.

use std::ops::ControlFlow;

use super::*;

#[test]
fn a_folder_that_takes_no_direct_writes_is_written_to_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    // No file can be opened in its place, as where direct writes are refused.
    std::fs::create_dir(folder.path().join(DIRECT_PROBE)).unwrap();
    assert!(!writes_directly(folder.path()));
    for round in 0..2 {
        let store = RocksStorage::open(folder.path()).unwrap();
        assert_eq!(store.get(Table::Bodies, &[7]).unwrap().is_some(), round == 1);
        let mut batch = Batch::new();
        batch.put(Table::Bodies, &[7], &[1; 9_000]);
        store.write(&batch, Durability::Synced).unwrap();
        store.compact().unwrap();
    }
}

#[test]
fn the_probe_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    writes_directly(folder.path());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn of_several_writes_to_a_row_in_one_batch_the_last_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStorage::open(folder.path()).unwrap();
    let mut batch = Batch::new();
    for round in 0..=40 {
        batch.put(Table::Meta, &[2], &[round]);
        batch.put(Table::Meta, &[1], &[round]);
        batch.delete(Table::Meta, &[1]);
        batch.delete(Table::Meta, &[3]);
        batch.put(Table::Meta, &[3], &[round]);
        batch.put(Table::Blocks, &[2], b"of another table");
    }
    store.write(&batch, Durability::Buffered).unwrap();
    let read = |table, key| store.get(table, &[key]).unwrap();
    assert_eq!(read(Table::Meta, 1), None);
    assert_eq!(read(Table::Meta, 2), Some(vec![40]));
    assert_eq!(read(Table::Meta, 3), Some(vec![40]));
    assert_eq!(read(Table::Blocks, 2).unwrap(), b"of another table");
}

#[test]
fn a_key_that_was_not_there_is_found_once_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStorage::open(folder.path()).unwrap();
    let read = || store.get(Table::TreeValues, &[7; 32]).unwrap();
    for _ in 0..2 {
        assert_eq!((read(), read()), (None, None), "asked, and remembered");
        let mut batch = Batch::new();
        batch.put(Table::TreeValues, &[7; 32], b"new");
        store.write(&batch, Durability::Buffered).unwrap();
        assert_eq!(read().unwrap(), b"new");
        let mut batch = Batch::new();
        batch.delete(Table::TreeValues, &[7; 32]);
        store.write(&batch, Durability::Buffered).unwrap();
    }
}

/// Logs of the folder by inode.
#[cfg(unix)]
fn logs(folder: &Path) -> std::collections::BTreeMap<u64, PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = paths.filter(|path| path.extension().is_some_and(|it| it == "log"));
    logs.map(|path| (path.metadata().unwrap().ino(), path)).collect()
}

/// The folder as a crash of the process leaves it now.
fn crashed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
#[cfg(unix)]
fn a_log_in_an_older_ones_file_is_read_to_its_own_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStorage::open(folder.path()).unwrap();
    let write = |key: u8, value: &[u8]| {
        let mut batch = Batch::new();
        batch.put(Table::Records, &[key], value);
        batch.put(Table::Meta, &[key], value);
        store.write(&batch, Durability::Buffered).unwrap();
    };
    let mut older = std::collections::BTreeMap::new();
    for round in 0..5 {
        (0..50).for_each(|key| write(key, &[round; 2_000]));
        older.extend(logs(folder.path()));
        store.compact().unwrap();
    }
    write(7, b"whole");
    let whole = crashed(folder.path());
    write(7, b"torn");
    let torn = crashed(folder.path());
    // Other older files may be waiting to be taken over: the one in use is the one that the last write changed.
    let taken_over = logs(folder.path()).into_iter().filter(|(inode, _)| older.contains_key(inode));
    let read = |copy: &tempfile::TempDir, log: &Path| std::fs::read(copy.path().join(log.file_name()?)).ok();
    let mut both = taken_over.filter_map(|(_, log)| Some((read(&whole, &log)?, read(&torn, &log)?, log)));
    let in_use = both.find(|(before, after, _)| before != after);
    let (before, mut after, log) = in_use.expect("a log in use that took over an older one's file");
    assert!(after.len() > 50 * 2_000, "the older log's rows lie behind the new one's");
    let changed: Vec<usize> = (0..after.len()).filter(|at| before.get(*at) != after.get(*at)).collect();

    let read = |copy: &tempfile::TempDir| {
        let store = RocksStorage::open(copy.path()).unwrap();
        let row = |table, key| store.get(table, &[key]).unwrap().unwrap();
        assert_eq!((row(Table::Records, 8), row(Table::Meta, 9)), (vec![4; 2_000], vec![4; 2_000]));
        assert_eq!(row(Table::Records, 7), row(Table::Meta, 7));
        row(Table::Meta, 7)
    };
    assert_eq!((read(&whole), read(&torn)), (b"whole".to_vec(), b"torn".to_vec()));
    let scratch = tempfile::tempdir().unwrap();
    let beside = RocksStorage::open_beside(folder.path(), scratch.path()).unwrap();
    assert_eq!(beside.get(Table::Meta, &[7]).unwrap().unwrap(), b"torn");
    for at in [changed[0], changed[changed.len() / 2], changed[changed.len() - 1]] {
        let copy = crashed(folder.path());
        after[at] ^= 1;
        std::fs::write(copy.path().join(log.file_name().unwrap()), &after).unwrap();
        after[at] ^= 1;
        assert_eq!(read(&copy), b"whole", "byte {at} of {changed:?}");
    }
}

#[test]
fn looking_transactions_and_proofs_up_leaves_the_cache_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStorage::open(folder.path()).unwrap();
    let tables = [Table::Transactions, Table::Proofs, Table::Roots, Table::References, Table::TreeNodes];
    let key = |n: u16| *blake3::hash(&n.to_le_bytes()).as_bytes();
    let mut batch = Batch::new();
    for (table, n) in tables.into_iter().flat_map(|table| (0..2_000).map(move |n| (table, n))) {
        batch.put(table, &key(n), &[7; 100]);
    }
    store.write(&batch, Durability::Buffered).unwrap();
    store.compact().unwrap();
    let used = |table| {
        let family = store.family(table).unwrap();
        store.db.property_int_value_cf(family, "rocksdb.block-cache-usage").unwrap().unwrap()
    };
    for table in tables {
        // Opens the table's file, whose top parts are pinned.
        assert!(store.get(table, &key(3_000)).unwrap().is_none());
        let before = used(table);
        for n in 0..2_000 {
            assert!(store.get(table, &key(n)).unwrap().is_some());
            let (mut rows, prefix) = (0, key(n));
            let scan = Scan { table, prefix: &prefix, from: None, order: Order::Ascending };
            store
                .scan(scan, &mut |_, _| {
                    rows += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(rows, 1);
        }
        // The table of the others shows that this test would see it.
        assert_eq!(used(table) > before + 50_000, table == Table::TreeNodes, "{table:?}");
    }
}

/// Threads of this process by that name, and how far each stands back (`nice`, proc(5)).
#[cfg(target_os = "linux")]
fn niceness(name: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let named = stats.filter(|stat| stat.contains(name));
    named
        .map(|stat| stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap())
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn merges_stand_back_and_flushes_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStorage::open(folder.path()).unwrap();
    for value in [1, 2] {
        let mut batch = Batch::new();
        batch.put(Table::Meta, &[7], &[value]);
        store.write(&batch, Durability::Buffered).unwrap();
        store.compact().unwrap();
    }
    let (merging, flushing) = (niceness("(rocksdb:low"), niceness("(rocksdb:high"));
    assert!(!flushing.is_empty() && flushing.iter().all(|nice| *nice == 0), "{flushing:?}");
    assert!(merging.contains(&19), "{merging:?}");
}
