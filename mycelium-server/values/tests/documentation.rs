//! The page for people says what the table says.

use std::path::PathBuf;

#[test]
fn each_operation_tells_the_version_that_added_it() {
    let since = |name| mycelium_values::Operation::find(name).map(mycelium_values::Operation::since);
    assert_eq!((since("less"), since("strict.less"), since("strict.sort")), (Some(1), Some(2), Some(2)));
    let newest = mycelium_values::Operation::all().map(mycelium_values::Operation::since).max();
    assert_eq!(newest, Some(mycelium_values::VERSION));
    assert_eq!(mycelium_values::VERSION, mycelium_proto::limits::OPERATIONS_VERSION);
}

#[test]
fn the_page_is_made_from_the_table() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/value-graphs.md");
    let page = mycelium_values::documentation();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/value-graphs.md is not what the table says: run this test with UPDATE_DOCS=1"
    );
}
