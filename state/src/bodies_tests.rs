use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn bodies(folder: &tempfile::TempDir) -> Bodies {
    Bodies::open(folder.path().join("bodies"), false).unwrap()
}

/// A body of that many bytes, unlike those of other heights.
fn body(height: u64, bytes: usize) -> Vec<u8> {
    let mut body = vec![0; bytes];
    blake3::Hasher::new().update(&height.to_le_bytes()).finalize_xof().fill(&mut body);
    body
}

#[test]
fn bodies_of_any_length_come_back_from_where_they_were_put() {
    for direct in [false, true] {
        let folder = folder();
        let bodies = Bodies::open(folder.path().join("bodies"), direct).unwrap();
        let lengths = [0, 1, 4_095, 4_096, 4_097, 40_000, 1 << 20];
        let places: Vec<_> = (1..)
            .zip(lengths)
            .map(|(height, bytes)| bodies.append(height, &body(height, bytes)).unwrap())
            .collect();
        bodies.sync().unwrap();
        let again = Bodies::open(folder.path().join("bodies"), direct).unwrap();
        for ((height, bytes), place) in (1..).zip(lengths).zip(&places) {
            assert_eq!(place.at % ALIGNMENT as u64, 0);
            assert_eq!(Place::of_row(&place.row()), Ok(Some(*place)));
            for reader in [&bodies, &again] {
                assert_eq!(reader.read(place).unwrap(), body(height, bytes), "{bytes} bytes");
            }
        }
    }
}

#[test]
fn a_row_that_is_a_body_names_no_place() {
    assert_eq!(Place::of_row(&[]), Ok(None));
    assert_eq!(Place::of_row(&[1, 0, 0, 0, 7]), Ok(None));
    Place::of_row(&TAG).unwrap_err();
    let mut long = Place { file: 1, at: 0, bytes: 1, checksum: 1 }.row();
    long.push(0);
    Place::of_row(&long).unwrap_err();
}

#[test]
fn any_changed_bit_is_told() {
    let folder = folder();
    let place = bodies(&folder).append(3, &body(3, 5_000)).unwrap();
    let path = folder.path().join("bodies/00000001-000000000003.bodies");
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 1, 4_095, 4_096, 4_999] {
        let mut changed = whole.clone();
        changed[at] ^= 16;
        std::fs::write(&path, &changed).unwrap();
        assert!(bodies(&folder).read(&place).unwrap_err().to_string().contains("checksum"), "byte {at}");
    }
    std::fs::write(&path, &whole[..4_999]).unwrap();
    assert_eq!(bodies(&folder).read(&place).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bodies(&folder).read(&place).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_process_begins_a_file_of_its_own_and_a_long_one_is_ended() {
    let folder = folder();
    let large = body(7, 40 << 20);
    {
        let bodies = bodies(&folder);
        for height in 10..13 {
            bodies.append(height, &large).unwrap();
        }
        assert_eq!(bodies.files(), [(1, 10), (2, 12)]);
    }
    let bodies = bodies(&folder);
    bodies.append(13, b"of another process").unwrap();
    assert_eq!(bodies.files(), [(1, 10), (2, 12), (3, 13)]);
}

#[test]
fn files_go_when_their_last_body_may_and_not_before() {
    let folder = folder();
    for first in [10, 20, 30] {
        bodies(&folder).append(first, b"body").unwrap();
    }
    let bodies = bodies(&folder);
    let left = |below| {
        bodies.forget_below(below).unwrap();
        bodies.files().iter().map(|(number, _)| *number).collect::<Vec<_>>()
    };
    assert_eq!(left(10), [1, 2, 3]);
    assert_eq!(left(19), [1, 2, 3]);
    assert_eq!(left(20), [2, 3]);
    assert_eq!(left(29), [2, 3]);
    assert_eq!(left(1_000), [3]);
    assert_eq!(std::fs::read_dir(folder.path().join("bodies")).unwrap().count(), 1);
}

#[test]
fn what_a_power_cut_took_the_blocks_of_is_removed() {
    let folder = folder();
    for first in [10, 20, 30] {
        bodies(&folder).append(first, b"body").unwrap();
    }
    let left = |last| {
        let bodies = bodies(&folder);
        bodies.forget_above(last).unwrap();
        bodies.files().iter().map(|(number, _)| *number).collect::<Vec<_>>()
    };
    assert_eq!(left(Some(30)), [1, 2, 3]);
    assert_eq!(left(Some(29)), [1, 2]);
    assert_eq!(left(Some(10)), [1]);
    assert_eq!(left(None), [0; 0]);
}

#[test]
fn after_a_failed_sync_none_succeeds() {
    let folder = folder();
    let bodies = bodies(&folder);
    bodies.append(1, b"body").unwrap();
    // The folder can no longer be synced by its name.
    let (there, away) = (folder.path().join("bodies"), folder.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    bodies.sync().unwrap_err();
    std::fs::rename(&away, &there).unwrap();
    assert!(bodies.sync().unwrap_err().to_string().contains("an earlier sync failed"));
}

#[test]
fn a_reader_beside_the_writer_finds_what_was_written_since() {
    let folder = folder();
    let (writer, reader) = (bodies(&folder), bodies(&folder));
    let first = writer.append(1, b"first").unwrap();
    assert_eq!(reader.read(&first).unwrap(), b"first");
    let second = writer.append(2, b"second").unwrap();
    assert_eq!(reader.read(&second).unwrap(), b"second");
}

#[test]
fn other_names_in_the_folder_are_left_alone() {
    let folder = folder();
    let names = ["notes.txt", "1.bodies", "x-1.bodies", "1-x.bodies"];
    std::fs::create_dir(folder.path().join("bodies")).unwrap();
    for name in names {
        std::fs::write(folder.path().join("bodies").join(name), b"").unwrap();
    }
    let bodies = bodies(&folder);
    assert!(bodies.files().is_empty());
    bodies.append(1, b"body").unwrap();
    bodies.forget_above(None).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("bodies")).unwrap().count(), names.len());
}
