//! What is moved is the same, whatever is killed on the way, and nothing else is served.

mod arango;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use self::world::{blob, everything, fill, write_blobs};
use super::export::{NOTE_BYTES, export_noting};
use super::*;
use crate::Config;
use crate::store::faulty::{Fault, ReadFault};
use crate::store::{self, EmbeddedStore, FaultyStore, Log as _, MemoryStore, Storage};

const SMALL: Bounds = Bounds { lines: 5, bytes: 2_000 };

/// A folder with a store in it, with something of everything.
struct Filled {
    temp: TempDir,
    store: EmbeddedStore,
}

impl Filled {
    fn new() -> Self {
        let filled = Self::empty();
        fill(&filled.store);
        write_blobs(&filled.store.blobs_folder().unwrap());
        filled
    }

    fn empty() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&temp.path().join("store")).unwrap();
        Self { temp, store }
    }

    /// A folder that is not there yet.
    fn new_folder(&self) -> PathBuf {
        self.temp.path().join("export")
    }

    fn exported(&self) -> PathBuf {
        export(&self.store, "north", &self.new_folder()).unwrap();
        self.new_folder()
    }

    fn blobs(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = files_in(&self.store.blobs_folder().unwrap());
        files.retain(|path, _| !path.starts_with("staging"));
        files
    }
}

/// Every file in a folder, and what is in it.
fn files_in(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Makes sure that all that can be read of a store is the same.
#[track_caller]
fn assert_same(store: &dyn Storage, before: &[String]) {
    let found = everything(store);
    assert_eq!(found.len(), before.len());
    for (place, (found, before)) in found.iter().zip(before).enumerate() {
        assert!(found == before, "read {place}: {found:.2000}\n\nand not\n\n{before:.2000}");
    }
}

fn import(folder: &Path, store: &dyn Storage) -> Result<Moved, Error> {
    Export::open(folder)?.import_in(store, SMALL)
}

#[test]
fn a_mycelium_that_was_moved_is_the_same_by_everything_that_can_be_read() {
    let source = Filled::new();
    world::add_contradictory(&source.store);
    let before = everything(&source.store);
    let exported = export(&source.store, "north", &source.new_folder()).unwrap();
    assert_eq!((exported.mycelium.as_str(), exported.went_on), ("north", false));
    assert_eq!(exported.left_out, [""; 0]);
    let lines: BTreeMap<_, _> = exported.lines.iter().map(|(name, lines)| (name.as_str(), *lines)).collect();
    assert_eq!((lines["finished_jobs.jsonl"], lines["unfinished_jobs.jsonl"]), (world::FINISHED, 21));
    assert_eq!((lines["failures.jsonl"], lines["submissions.jsonl"], lines["blobs.jsonl"]), (3 + 7, 9, 6));
    assert_same(&source.store, &before);

    let target = Filled::empty();
    let imported = import(&source.new_folder(), &target.store).unwrap();
    assert_eq!(imported, exported);
    assert_same(&target.store, &before);
    assert_eq!(target.blobs(), source.blobs());
    // And once more, from the one into which it was imported.
    assert_eq!(files_in(&target.exported().join("blobs")), files_in(&source.new_folder().join("blobs")));
    for name in lines.keys() {
        let read = |filled: &Filled| fs::read(filled.new_folder().join(name)).unwrap();
        assert_eq!(read(&source), read(&target), "{name}");
    }
}

#[test]
fn numbers_go_on_after_those_that_were_imported() {
    let source = Filled::new();
    let target = Filled::empty();
    import(&source.exported(), &target.store).unwrap();
    let numbers = |store: &EmbeddedStore| store.load(&mut |_| {}).wait().unwrap().counters;
    let (before, after) = (numbers(&source.store), numbers(&target.store));
    assert_eq!((after.job, after.flow, after.finish, after.session), {
        (before.job, before.flow, before.finish, before.session)
    });
    assert!(after.commit.0 > 10, "commits are the store's own: {}", after.commit);
}

#[test]
fn lines_say_what_people_want_to_know() {
    let exported = Filled::new();
    let folder = exported.exported();
    let jobs = fs::read_to_string(folder.join("finished_jobs.jsonl")).unwrap();
    assert!(
        jobs.contains(r#""end":{"DONE":{"values":[{"name":"output 0","json":{"grams": 12.50}}]}}"#),
        "{jobs}"
    );
    assert!(
        jobs.contains(r#""submitted":{"at":"2025-12-31T23:59:59.999008Z","us":1767225599999008}"#),
        "{jobs}"
    );
    for line in jobs.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["job"]["id"].is_string() && line["finish"].is_u64(), "{line}");
    }
    let failures = fs::read_to_string(folder.join("failures.jsonl")).unwrap();
    assert!(failures.contains(r#""type":"ScaleError""#), "{failures}");
}

#[test]
fn an_export_that_is_cut_off_anywhere_goes_on_where_it_was() {
    let source = Filled::new();
    let whole = files_in(&source.exported());
    let faulty = || FaultyStore::new(Arc::new(source.store.clone()));
    let counted = faulty();
    // Everything is noted at once.
    export_noting(&counted, "north", &source.temp.path().join("counted"), 1).unwrap();
    let reads = counted.reads();
    assert!(reads > 50, "{reads} reads");
    for passing in (0..reads).step_by(3) {
        let folder = source.temp.path().join("cut off");
        let store = faulty();
        store.fail_read_after(passing, ReadFault::Unavailable);
        let error = export_noting(&store, "north", &folder, 1).unwrap_err();
        assert!(!error.is_misuse(), "{error}");
        let before = store.reads();
        let is_begun = folder.join("unfinished.json").exists();
        assert_eq!(export_noting(&store, "north", &folder, NOTE_BYTES).unwrap().went_on, is_begun);
        assert_eq!(files_in(&folder), whole, "after {passing} reads");
        // Beside what was left: what opens the source, and the page in which it was cut off.
        let again = store.reads() - before + passing - reads;
        assert!(again <= 6, "after {passing} of {reads} reads, {again} were made again");
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn what_an_export_wrote_after_it_was_noted_is_written_anew() {
    let source = Filled::new();
    let whole = files_in(&source.exported());
    let folder = source.temp.path().join("cut");
    let faulty = FaultyStore::new(Arc::new(source.store.clone()));
    faulty.fail_read_after(45, ReadFault::Unavailable);
    export_noting(&faulty, "north", &folder, 1).unwrap_err();
    let lines = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let newest = lines
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .unwrap();
    let text = fs::read(&newest).unwrap();
    fs::write(&newest, [text, vec![b'x'; 1_000_000]].concat()).unwrap();
    export(&source.store, "north", &folder).unwrap();
    assert_eq!(files_in(&folder), whole);
}

/// A store in memory, which has no blobs, and fails when it is told to.
fn faulty_memory() -> (Arc<MemoryStore>, FaultyStore) {
    let memory = Arc::new(MemoryStore::new());
    (Arc::clone(&memory), FaultyStore::new(memory))
}

/// Exports what is in a store in memory.
fn exported_from_memory(folder: &Path) -> Vec<String> {
    let store = MemoryStore::new();
    fill(&store);
    export(&store, "default", folder).unwrap();
    everything(&store)
}

fn commits(store: &dyn Storage) -> u64 {
    store.load(&mut |_| {}).wait().unwrap().counters.commit.0
}

#[test]
fn an_import_that_is_cut_off_anywhere_goes_on_where_it_was_and_is_not_served_before() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("export");
    let before = exported_from_memory(&folder);
    let mut points = 0;
    for (passing, fault) in (0..).flat_map(|passing| {
        [Fault::NotApplied, Fault::UncertainNotApplied, Fault::UncertainApplied].map(|fault| (passing, fault))
    }) {
        let (memory, store) = faulty_memory();
        store.fail_commit_after(passing, fault);
        if import(&folder, &store).is_ok() {
            break;
        }
        points += 1;
        let image = memory.load(&mut |_| {}).wait().unwrap();
        let (begun, is_marked) = (image.counters.commit.0, marker::is_in(&image));
        let start = || crate::Broker::with_store(Config::default(), memory.clone());
        if is_marked {
            let refused = start().unwrap_err();
            assert!(
                matches!(refused, crate::Error::Start(crate::StartError::Importing)),
                "after {begun} commits: {refused:?}"
            );
        }
        let asked = store.asked().commits;
        match import(&folder, &store) {
            Ok(moved) => assert_eq!(moved.went_on, begun > 0),
            // The last commit was stored, and nobody knew.
            Err(Error::NotEmpty(_)) => assert!(!is_marked),
            Err(error) => panic!("{error}"),
        }
        assert_same(&*memory, &before);
        let (again, left) = (store.asked().commits - asked, commits(&*memory) - begun);
        assert_eq!(again as u64, left, "what is stored is not stored again");
        start().unwrap();
    }
    assert!(points > 60, "{points} points");
}

#[test]
fn an_import_goes_on_with_the_batches_that_it_began_with() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("export");
    let before = exported_from_memory(&folder);
    let (memory, store) = faulty_memory();
    store.fail_commit_after(9, Fault::NotApplied);
    import(&folder, &store).unwrap_err();
    Export::open(&folder).unwrap().import(&store).unwrap();
    assert_same(&*memory, &before);
}

#[test]
fn an_import_that_cannot_read_what_it_stored_goes_on_too() {
    let source = Filled::new();
    let (folder, before) = (source.exported(), everything(&source.store));
    for passing in [0, 3, 20, 40] {
        let target = Filled::empty();
        let store = FaultyStore::new(Arc::new(target.store.clone()));
        store.fail_read_after(passing, ReadFault::Unavailable);
        import(&folder, &store).unwrap_err();
        assert!(marker::is_in(&target.store.load(&mut |_| {}).wait().unwrap()));
        import(&folder, &store).unwrap();
        assert_same(&target.store, &before);
        assert_eq!(target.blobs(), source.blobs());
    }
}

#[test]
fn a_store_that_holds_something_else_than_its_export_is_not_made_valid() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("export");
    exported_from_memory(&folder);
    let (memory, counted) = faulty_memory();
    import(&folder, &counted).unwrap();
    let last = commits(&*memory) as usize - 1;

    let (memory, store) = faulty_memory();
    store.fail_commit_after(last, Fault::NotApplied);
    import(&folder, &store).unwrap_err();
    // Somebody writes to it meanwhile.
    let counters = memory.load(&mut |_| {}).wait().unwrap().counters;
    let elf = store::ElfRecord {
        name: "crow".into(),
        body: Default::default(),
        first_seen: Default::default(),
        last_seen: Default::default(),
    };
    let mut batch = store::Batch { counters, elves: vec![elf], ..Default::default() };
    batch.counters.commit.0 += 1;
    memory.commit(&batch).wait().unwrap();
    let error = import(&folder, &store).unwrap_err();
    let Error::Damaged { file, line: Some(3), what } = &error else { panic!("{error:?}") };
    assert!(file.ends_with("elves.jsonl") && what == "what is stored of it is something else", "{error}");
    assert!(marker::is_in(&memory.load(&mut |_| {}).wait().unwrap()));
}

#[test]
fn a_byte_that_is_flipped_is_found_with_its_file_and_line() {
    let source = Filled::new();
    let folder = source.exported();
    let files = files_in(&folder);
    for (name, bytes) in files.iter().filter(|(name, bytes)| !name.starts_with("blobs") && !bytes.is_empty())
    {
        let path = folder.join(name);
        let places = [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2, bytes.len() - 1];
        for at in places {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x04;
            fs::write(&path, &damaged).unwrap();
            let error = Export::open(&folder).unwrap_err();
            let Error::Damaged { file, line, .. } = &error else { panic!("{name:?} at {at}: {error:?}") };
            if name.extension().is_some_and(|end| end == "jsonl") {
                let expected = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
                assert_eq!((file, *line), (&path, Some(expected)), "at {at}: {error}");
            } else {
                assert!(file.ends_with("manifest.json"), "{error}");
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    Export::open(&folder).unwrap();
}

#[test]
fn lines_that_are_missing_doubled_or_elsewhere_are_found() {
    let source = Filled::new();
    let folder = source.exported();
    let path = folder.join("finished_jobs.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (missing, doubled) = (lines[1..].concat(), [&lines[..1], &lines[..]].concat().concat());
    let swapped = [&lines[1..2], &lines[..1], &lines[2..]].concat().concat();
    for (changed, expected) in [
        (missing, "it has 39 lines, and had 40 when it was written"),
        (doubled, "it has 41 lines, and had 40 when it was written"),
        (swapped, "its lines are not those that its digest says"),
    ] {
        fs::write(&path, changed).unwrap();
        let error = Export::open(&folder).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", path.display()));
    }
    fs::remove_file(&path).unwrap();
    let error = Export::open(&folder).unwrap_err().to_string();
    assert_eq!(error, format!("cannot read {}", path.display()));
}

#[test]
fn blobs_that_are_damaged_are_left_out_of_an_export_and_refused_by_an_import() {
    let source = Filled::new();
    let folder = source.exported();
    let damaged = blob_files::path_of(&folder.join("blobs"), blob(3));
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[0] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let target = Filled::empty();
    let error = import(&folder, &target.store).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: it is not what its name says", damaged.display()));
    fs::write(&damaged, &bytes[1..]).unwrap();
    let error = import(&folder, &target.store).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: it has 299 bytes", damaged.display())), "{error}");
    bytes[0] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    assert!(import(&folder, &target.store).unwrap().went_on);
    assert_eq!(target.blobs(), source.blobs());

    let stored = blob_files::path_of(&source.store.blobs_folder().unwrap(), blob(3));
    fs::write(stored, "another").unwrap();
    let other = source.temp.path().join("other");
    let exported = export(&source.store, "north", &other).unwrap();
    assert_eq!(exported.left_out, [format!("blob {} is not what its name says", blob(3))]);
    let target = Filled::empty();
    import(&other, &target.store).unwrap();
    assert_eq!(target.blobs().len(), 5);
    // That it is used is not forgotten.
    assert_same(&target.store, &everything(&source.store));
}

#[test]
fn what_an_export_must_not_leave_out_refuses_it() {
    let temp = tempfile::tempdir().unwrap();
    for record in [store::faulty::JobRecord::Spec, store::faulty::JobRecord::Outputs] {
        let (memory, store) = faulty_memory();
        fill(&*memory);
        store.damage(*world::job(5).as_bytes(), record);
        let error = export(&store, "default", &temp.path().join(format!("{record:?}"))).unwrap_err();
        assert!(matches!(&error, Error::Store(error) if error.is_damage()), "{error}");
    }
}

#[test]
fn what_cannot_be_right_is_refused_in_a_line_that_says_why() {
    let source = Filled::new();
    let folder = source.exported();
    let again = export(&source.store, "north", &folder).unwrap_err();
    assert!(matches!(again, Error::Exists(_)) && again.is_misuse(), "{again}");
    assert!(again.to_string().ends_with("an export is written into a new folder"), "{again}");
    let file = source.temp.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(export(&source.store, "north", &file), Err(Error::Exists(_))));

    let empty = source.temp.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let why = |error: Error| {
        assert!(error.is_misuse(), "{error:?}");
        error.to_string()
    };
    assert!(why(Export::open(&empty).unwrap_err()).ends_with("it holds no manifest.json"));
    let not_empty = import(&folder, &source.store).unwrap_err();
    assert_eq!(
        why(not_empty),
        "the mycelium is not empty (its newest commit is 2): an import makes a new one"
    );
    let (memory, _) = faulty_memory();
    assert_eq!(
        why(import(&folder, &*memory).unwrap_err()),
        "a store of this kind has no place for large values"
    );
    // It was begun.
    let of_unfinished = export(&*memory, "default", &source.temp.path().join("of unfinished"));
    assert!(matches!(of_unfinished, Err(Error::Unfinished)));
    let other = source.temp.path().join("other");
    exported_from_memory(&other);
    assert!(matches!(import(&other, &*memory), Err(Error::OtherImport)));

    let cut_off = source.temp.path().join("cut off");
    let faulty = FaultyStore::new(Arc::new(source.store.clone()));
    faulty.fail_read_after(20, ReadFault::Unavailable);
    export_noting(&faulty, "north", &cut_off, NOTE_BYTES).unwrap_err();
    assert!(why(Export::open(&cut_off).unwrap_err()).contains("run `mycelium export` again"));
    let south = export(&source.store, "south", &cut_off).unwrap_err();
    assert!(why(south).contains("that was of the mycelium `north`"));
    let mut batch = store::Batch::default();
    batch.counters.commit.0 = 3;
    source.store.commit(&batch).wait().unwrap();
    let changed = export(&source.store, "north", &cut_off).unwrap_err();
    assert!(why(changed).contains("its newest commit was 2, and is 3 now"));
}

#[test]
fn an_export_of_another_version_is_refused() {
    let source = Filled::new();
    let folder = source.exported();
    let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest = manifest.replace("\"version\": 1", "\"version\": 2");
    fs::write(folder.join("manifest.json"), &manifest).unwrap();
    assert!(matches!(Export::open(&folder), Err(Error::Damaged { .. })));
    use sha2::Digest as _;
    let digest = text::hex(&sha2::Sha256::digest(&manifest));
    fs::write(folder.join("manifest.sha256"), format!("{digest}  manifest.json\n")).unwrap();
    let error = Export::open(&folder).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("its format is mycelium export 2, and this program reads mycelium export 1")
    );
}

#[test]
fn an_empty_mycelium_is_moved_and_no_other_user_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (source, target) = (Filled::empty(), Filled::empty());
    fs::create_dir(source.new_folder()).unwrap();
    fs::set_permissions(source.new_folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = source.exported();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(import(&folder, &target.store).unwrap().blob_bytes, 0);
    assert_same(&target.store, &everything(&source.store));
}
