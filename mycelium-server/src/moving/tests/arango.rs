//! To ArangoDB, as the double has it, and back.

use std::time::Duration;

use arangodb_double::{Double, ROOT};

use super::*;
use crate::store::arango::{self, Address, ArangoOptions, ArangoStore};

#[test]
fn a_mycelium_goes_to_arangodb_and_back() {
    let source = Filled::new();
    let (folder, before) = (source.exported(), everything(&source.store));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let double = runtime.block_on(Double::start("secret")).unwrap();
    let address = Address::parse(&double.url()).unwrap().with_credentials(ROOT, "secret");
    runtime.block_on(arango::init(&address, "north")).unwrap();
    // What was moved is closed, and another opens it.
    let open = || {
        let (blobs, lease) = (source.temp.path().join("blobs"), Duration::from_secs(15));
        let opened = ArangoStore::open_at(&address, "north", ArangoOptions { blobs, lease });
        Arc::new(runtime.block_on(opened).unwrap())
    };
    let database = open();
    let faulty = FaultyStore::new(Arc::clone(&database) as Arc<dyn Storage>);
    faulty.fail_commit_after(20, Fault::UncertainApplied);
    import(&folder, &faulty).unwrap_err();
    assert!(import(&folder, &*database).unwrap().went_on);
    let database = open();
    assert_same(&*database, &before);
    let again = source.temp.path().join("again");
    export(&*database, "north", &again).unwrap();
    let lines = |folder: &Path| {
        let mut files = files_in(folder);
        files.retain(|path, _| !path.starts_with("manifest.json") && !path.starts_with("manifest.sha256"));
        files
    };
    assert!(lines(&again) == lines(&folder), "equal stores give equal files");
    let back = Filled::empty();
    import(&again, &back.store).unwrap();
    assert_same(&back.store, &before);
    assert_eq!(back.blobs(), source.blobs());
    double.assert_known();
}
