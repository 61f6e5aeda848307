use mycelium_core::ids::Commit;
use mycelium_core::image::Counters;

use super::*;

fn item(table: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![ITEM, 0, 0];
    bytes.extend(table.to_le_bytes());
    bytes.extend((key.len() as u16).to_le_bytes());
    bytes.extend([(value.len() as u32).to_le_bytes(), (value.len() as u32).to_le_bytes()].concat());
    bytes.extend([key, value].concat());
    bytes
}

/// A batch that is a commit, with a value of `size` bytes.
fn batch(commit: u64, sequence: u64, size: usize) -> Vec<u8> {
    let mut head = Vec::new();
    let counters = Counters { commit: Commit(commit), ..Counters::default() };
    codec::encode(&Head { counters, ..Head::default() }, &mut head, None);
    let items = [item(1, b"some key", &vec![START; size]), item(CATALOG, catalog::COUNTERS, &head)].concat();
    let mut hasher = Xxh3Default::new();
    hasher.update(&items);
    let mut bytes = vec![START];
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(items);
    bytes.push(END);
    bytes.extend(hasher.digest().to_le_bytes());
    bytes.extend(TRAILER);
    bytes
}

/// Commits from `first` to `last`, with sequence numbers that are ten times theirs.
fn commits(first: u64, last: u64) -> Vec<Vec<u8>> {
    (first..=last).map(|commit| batch(commit, commit * 10, 100)).collect()
}

fn look_at(journals: &[Vec<Vec<u8>>]) -> Journals {
    let folder = tempfile::tempdir().unwrap();
    for (number, batches) in journals.iter().enumerate() {
        // Read in the order of the numbers, and not of their digits.
        fs::write(folder.path().join(format!("{}.jnl", number + 9)), batches.concat()).unwrap();
    }
    look(folder.path()).unwrap()
}

fn damage(journals: &Journals) -> Vec<String> {
    journals.damage(journals.commits().newest(), Some(9))
}

#[test]
fn whole_journals_are_read_to_their_end_whatever_is_reserved_behind_it() {
    let found = look_at(&[commits(1, 5), [commits(6, 9), vec![vec![0; 3 * WINDOW_BYTES]]].concat()]);
    assert_eq!(found.commits(), Commits(vec![(1, 9)]));
    assert_eq!(damage(&found), Vec::<String>::new());
    assert!(found.files.iter().all(|journal| journal.whole.len() == 1 && journal.tail.is_none()));
}

#[test]
fn an_unreadable_end_is_damage_where_a_later_journal_goes_on() {
    let mut first = commits(1, 5);
    first.last_mut().unwrap().truncate(50);
    let torn = look_at(&[first.clone()]);
    assert_eq!(torn.damage(Some(4), Some(4)), Vec::<String>::new());
    assert!(torn.files[0].damaged.is_empty() && torn.files[0].tail.is_some());
    let found = look_at(&[first, commits(6, 9)]);
    assert!(found.files[0].tail.is_none());
    assert_eq!(found.files[0].damaged.len(), 1);
    assert_eq!(found.missing(0, 9, Some(9)), 1);
    let told = damage(&found);
    assert!(told.len() == 1 && told[0].contains("commits 1 to 4 and 6 to 9 can be read"), "{told:?}");
}

#[test]
fn a_journal_that_is_missing_between_others_is_told() {
    let found = look_at(&[commits(1, 3), commits(6, 9)]);
    let told = damage(&found);
    assert!(told.len() == 1 && told[0].starts_with("a journal is missing before "), "{told:?}");
    assert_eq!(found.missing(0, 9, Some(9)), 2);
}

#[test]
fn the_next_whole_batch_is_found_however_far_it_is() {
    for size in [40, WINDOW_BYTES - 20, 3 * WINDOW_BYTES] {
        let mut journal = [commits(1, 2), vec![batch(3, 30, size)], commits(4, 9)].concat();
        *journal[2].last_mut().unwrap() ^= 1;
        let (start, end) = (journal[..2].concat().len() as u64, journal[..3].concat().len() as u64);
        let found = look_at(&[journal]);
        assert_eq!(found.files[0].damaged, [Range { start, end }], "{size}");
        assert_eq!(found.commits(), Commits(vec![(1, 2), (4, 9)]));
        assert_eq!(found.unreadable(true), (1, end - start));
    }
}

#[test]
fn a_wrong_sequence_number_is_the_one_that_fits_to_neither_side() {
    let wrong = |journals: &[Vec<Vec<u8>>]| {
        let found = look_at(journals);
        assert_eq!(found.commits(), Commits(vec![(1, 9)]));
        found.sequences.iter().map(|wrong| (wrong.journal, wrong.place, wrong.right)).collect::<Vec<_>>()
    };
    let at = |batches: u64| batches * batch(1, 1, 100).len() as u64 + SEQUENCE_AT;
    // Too high in the middle, and at the end of a journal; too low; beyond all.
    let mut journals = [commits(1, 5), commits(6, 9)];
    journals[0][2] = batch(3, 3_000, 100);
    assert_eq!(wrong(&journals), [(0, at(2), 21)]);
    let mut journals = [commits(1, 5), commits(6, 9)];
    journals[0][4] = batch(5, 1 << 40, 100);
    assert_eq!(wrong(&journals), [(0, at(4), 41)]);
    let mut journals = [commits(1, 5), commits(6, 9)];
    journals[1][1] = batch(7, 2, 100);
    assert_eq!(wrong(&journals), [(1, at(1), 61)]);
    let mut journals = [commits(1, 5), commits(6, 9)];
    journals[1][3] = batch(9, 90 | 1 << 63, 100);
    assert_eq!(wrong(&journals), [(1, at(3), 81)]);
}

#[test]
fn what_goes_before_the_first_commit_counts_as_far_as_it_can_have_been_one() {
    let mut journal = commits(3, 9);
    journal[0][20] ^= 1;
    let found = look_at(&[journal.clone()]);
    // 3 is missing if the tables have 2, and 1 to 3 could be missing in as many bytes if they have none.
    assert_eq!(found.missing(2, 9, Some(9)), 1);
    assert_eq!(found.missing(0, 9, Some(9)), 3);
    // In a copy the first commit may be any, and entries that are none go before it.
    let found = look_at(&[[vec![vec![7; 60]], commits(900, 901)].concat()]);
    assert_eq!(found.missing(0, 901, Some(901)), 1);
    let found = look_at(&[commits(900, 901)]);
    assert_eq!(found.missing(0, 901, Some(901)), 0);
}
