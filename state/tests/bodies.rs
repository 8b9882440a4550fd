//! Bodies of large blocks: in files of their own, gone with a power cut, and brought back.

mod support;

use std::path::Path;
use std::sync::Arc;

use cairn_state::{
    BLOCK_CACHE_MIB, Durability, RocksStorage, State, StateError, Storage, StorageError, Table, Unsynced,
};
use cairn_types::*;
use support::*;

/// A transaction whose block has its body in a file.
fn large(n: u64, time_ms: u64) -> Verified<AuthenticatedTx> {
    let list = (0..50).map(|at| Proof { metadata: vec![7; 1_024], ..proof(n * 100 + at) }).collect();
    verified(inline(n, time_ms + 5_000, proofs(list)), vec![key(n)])
}

fn storage(folder: &Path, unsynced: Unsynced) -> Arc<RocksStorage> {
    Arc::new(RocksStorage::open_with(folder, BLOCK_CACHE_MIB << 20, unsynced).unwrap())
}

fn state(folder: &Path, unsynced: Unsynced) -> State {
    State::open(storage(folder, unsynced), &genesis()).unwrap()
}

/// Builds a block on the tip and makes it final as a validator does that voted for it.
fn grow_backed(state: &State, n: u64, tx: impl Fn(u64, u64) -> Verified<AuthenticatedTx>) -> Arc<Block> {
    let time_ms = START_MS + 1_000 * n;
    let built = state.build(slot_on(&state.tip().header, 0), time_ms, vec![tx(n, time_ms)]).unwrap();
    assert_eq!(built.refused, vec![]);
    state.commit_backed(&[certified(&built.block)]).unwrap();
    built.block
}

/// Lengths of the files of bodies, oldest first.
fn files(folder: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(folder.join("bodies")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| path.metadata().unwrap().len()).collect()
}

/// The folder as it is now, before the process can tidy up.
fn crashed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("bodies")).unwrap();
    for from in [folder.to_path_buf(), folder.join("bodies")] {
        let to = copy.path().join(from.strip_prefix(folder).unwrap());
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    copy
}

#[test]
fn only_large_bodies_that_someone_else_has_are_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut blocks = Vec::new();
    {
        let state = state(folder.path(), Unsynced::Stays);
        blocks.push(grow(&state, START_MS + 1_000, vec![large(1, START_MS + 1_000)]));
        blocks.push(grow_backed(&state, 2, |n, time_ms| anchor(n, n, time_ms)));
        assert_eq!(files(folder.path()), []);
        blocks.push(grow_backed(&state, 3, large));
        let lengths = files(folder.path());
        assert!(lengths.len() == 1 && lengths[0] > 50 << 10, "{lengths:?}");
        blocks.push(grow_backed(&state, 4, large));
    }
    let lengths = files(folder.path());
    assert!(lengths.len() == 1 && lengths[0] > 100 << 10, "{lengths:?}");
    let state = state(folder.path(), Unsynced::Stays);
    let scratch = tempfile::tempdir().unwrap();
    let beside = RocksStorage::open_beside(folder.path(), scratch.path()).unwrap();
    let beside = State::open(Arc::new(beside), &genesis()).unwrap();
    for block in &blocks {
        let height = block.header().height;
        assert_eq!(state.block(height).unwrap().as_ref(), Some(block.as_ref()));
        assert_eq!(beside.block(height).unwrap().as_ref(), Some(block.as_ref()));
    }
    assert!(state.mend_bodies(&blocks).is_ok_and(|mended| mended == 0));
}

#[test]
fn a_body_that_a_power_cut_took_is_told_and_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, lost, other, open);
    {
        let state = state(folder.path(), Unsynced::BodiesGo);
        kept = grow_backed(&state, 1, large);
        assert_eq!(state.sync().unwrap(), Height::new(1));
        // A sibling of the block that becomes final: a validator may have voted for both.
        let time_ms = START_MS + 2_500;
        let sibling = vec![large(20, time_ms)];
        other = state.build(slot_on(&state.tip().header, 3), time_ms, sibling).unwrap().block;
        lost = grow_backed(&state, 2, large);
        let time_ms = START_MS + 3_000;
        open = state.build(slot_on(&state.tip().header, 0), time_ms, vec![large(3, time_ms)]).unwrap().block;
        assert_eq!(
            state.block(Height::new(2)).unwrap().as_ref(),
            Some(lost.as_ref()),
            "the process still has it"
        );
    }
    // What is mended is on disk: another power cut takes nothing.
    for round in 0..2 {
        let state = state(folder.path(), Unsynced::BodiesGo);
        assert_eq!(state.tip().id, lost.id());
        let read = state.block(lost.header().height);
        if round == 0 {
            assert!(matches!(read, Err(StateError::Storage(StorageError::Damaged { .. }))), "{read:?}");
        } else {
            assert_eq!(read.unwrap().as_ref(), Some(lost.as_ref()));
        }
        let logged = [&kept, &other, &lost, &open].map(Arc::clone);
        assert_eq!(state.mend_bodies(&logged).unwrap(), usize::from(round == 0));
        assert_eq!(state.block(kept.header().height).unwrap().as_ref(), Some(kept.as_ref()));
        assert_eq!(state.block(lost.header().height).unwrap().as_ref(), Some(lost.as_ref()));
    }
}

#[test]
fn a_file_that_a_power_cut_took_whole_is_missed_until_its_bodies_are_back() {
    let folder = tempfile::tempdir().unwrap();
    let lost = grow_backed(&state(folder.path(), Unsynced::BodiesGo), 1, large);
    std::fs::remove_dir_all(folder.path().join("bodies")).unwrap();
    let state = state(folder.path(), Unsynced::Stays);
    assert!(state.check_storage().unwrap_err().to_string().contains("file 1 is missing"));
    assert_eq!(state.mend_bodies(std::slice::from_ref(&lost)).unwrap(), 1);
    assert_eq!(state.check_storage(), Ok(()));
    let next = grow_backed(&state, 2, large);
    for block in [&lost, &next] {
        assert_eq!(state.block(block.header().height).unwrap().as_ref(), Some(block.as_ref()));
    }
}

#[test]
fn a_synced_write_syncs_the_bodies_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = {
        let state = state(folder.path(), Unsynced::BodiesGo);
        let backed = grow_backed(&state, 1, large);
        [backed, grow(&state, START_MS + 2_000, vec![anchor(2, 2, START_MS + 2_000)])]
    };
    let state = state(folder.path(), Unsynced::Stays);
    for block in &blocks {
        assert_eq!(state.block(block.header().height).unwrap().as_ref(), Some(block.as_ref()));
    }
}

#[test]
fn blocks_that_a_power_cut_took_take_their_files_with_them() {
    let folder = tempfile::tempdir().unwrap();
    {
        let state = state(folder.path(), Unsynced::Goes);
        grow_backed(&state, 1, large);
        state.sync().unwrap();
    }
    let folder = {
        let state = state(folder.path(), Unsynced::Goes);
        grow_backed(&state, 2, large);
        assert_eq!(files(folder.path()).len(), 2);
        crashed(folder.path())
    };
    assert_eq!(files(folder.path()).len(), 2);
    let state = state(folder.path(), Unsynced::Stays);
    assert_eq!(state.tip().header.height, Height::new(1));
    assert_eq!(files(folder.path()).len(), 1);
    let again = grow_backed(&state, 2, large);
    assert_eq!(state.block(Height::new(2)).unwrap().as_ref(), Some(again.as_ref()));
}

#[test]
fn files_of_deleted_bodies_go_once_that_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let body = vec![1; 40 << 10];
    let write = |store: &RocksStorage, put: &[u64], delete: &[u64]| {
        let mut batch = cairn_state::Batch::new();
        put.iter().for_each(|height| batch.put(Table::Bodies, &height.to_be_bytes(), &body));
        delete.iter().for_each(|height| batch.delete(Table::Bodies, &height.to_be_bytes()));
        store.write(&batch, Durability::Backed).unwrap();
    };
    // Each process has a file of its own.
    for heights in [[1, 2], [3, 4], [5, 6]] {
        write(&storage(folder.path(), Unsynced::Stays), &heights, &[]);
    }
    let store = storage(folder.path(), Unsynced::Stays);
    for (delete, files_left) in [(1..2, 3), (2..3, 2), (3..4, 2), (4..5, 1), (5..7, 1)] {
        let before = files(folder.path()).len();
        write(&store, &[], &delete.collect::<Vec<_>>());
        assert_eq!(files(folder.path()).len(), before, "not before it is synced");
        store.sync().unwrap();
        assert_eq!(files(folder.path()).len(), files_left);
    }
    drop(store);
    drop(storage(folder.path(), Unsynced::Stays));
    assert_eq!(files(folder.path()), [], "nothing is named any more");
}

#[test]
fn a_missing_file_of_bodies_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for n in 1..=4 {
        grow_backed(&state(folder.path(), Unsynced::Stays), n, large);
    }
    // Blocks whose bodies are in their rows do not hide it.
    grow_backed(&state(folder.path(), Unsynced::Stays), 5, |n, time_ms| anchor(n, n, time_ms));
    let check = || state(folder.path(), Unsynced::Stays).check_storage();
    assert_eq!(check(), Ok(()));
    let bodies = folder.path().join("bodies");
    for (number, said) in [(2, "file 2 is missing"), (4, "of file 4 is missing")] {
        let entries = std::fs::read_dir(&bodies).unwrap().map(|entry| entry.unwrap().path());
        let file = entries
            .into_iter()
            .find(|path| path.to_string_lossy().contains(&format!("{number:08}-")))
            .unwrap();
        let content = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let error = check().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        std::fs::write(&file, content).unwrap();
    }
    std::fs::remove_dir_all(&bodies).unwrap();
    assert!(check().unwrap_err().to_string().contains("of file 4 is missing"));
}

#[test]
fn a_folder_of_the_layout_before_is_taken_as_it_is_and_no_longer_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let schema = |store: &dyn Storage| store.get(Table::Meta, b"schema").unwrap();
    let block = {
        let state = state(folder.path(), Unsynced::Stays);
        grow(&state, START_MS + 1_000, vec![large(1, START_MS + 1_000)])
    };
    {
        let store = storage(folder.path(), Unsynced::Stays);
        let mut batch = cairn_state::Batch::new();
        batch.put(Table::Meta, b"schema", &3u32.to_le_bytes());
        store.write(&batch, Durability::Synced).unwrap();
    }
    let store = storage(folder.path(), Unsynced::Stays);
    let state = State::open(store.clone(), &genesis()).unwrap();
    assert_eq!(state.block(Height::new(1)).unwrap().as_ref(), Some(block.as_ref()));
    assert_eq!(schema(store.as_ref()), Some(4u32.to_le_bytes().to_vec()));
}
