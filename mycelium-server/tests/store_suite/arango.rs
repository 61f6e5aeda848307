//! Stores in ArangoDB: against the double, or against a server that the environment names.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arangodb_double::{Double, ROOT};
use mycelium_server::store::arango::{self, Address, ArangoOptions, ArangoStore};
use mycelium_server::store::{Error, Storage};
use tokio::runtime::Runtime;

use super::Kind;

/// A lease that another need not wait for long.
const LEASE: Duration = Duration::from_millis(600);

/// A server, and a mycelium on it.
pub(crate) struct Arango {
    address: Address,
    mycelium: String,
    blobs: tempfile::TempDir,
    double: Option<Double>,
    runtime: Runtime,
}

impl Default for Arango {
    fn default() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (address, double) = match named() {
            Some(address) => (address, None),
            None => {
                let double = runtime.block_on(Double::start("secret")).unwrap();
                (Address::parse(&double.url()).unwrap().with_credentials(ROOT, "secret"), Some(double))
            }
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mycelium = format!("test-{}-{number}", std::process::id());
        runtime.block_on(arango::init(&address, &mycelium)).unwrap();
        Self { address, mycelium, blobs: tempfile::tempdir().unwrap(), double, runtime }
    }
}

/// The server that the environment names, if it does.
fn named() -> Option<Address> {
    let url = env::var("MYCELIUM_TEST_ARANGODB_URL").ok()?;
    let given = |name: &str| env::var(name).unwrap_or_default();
    let (user, password) = (given("MYCELIUM_TEST_ARANGODB_USER"), given("MYCELIUM_TEST_ARANGODB_PASSWORD"));
    let address = Address::parse(&url).unwrap();
    Some(if user.is_empty() { address } else { address.with_credentials(user, password) })
}

impl Arango {
    fn try_open(&self) -> Result<Arc<dyn Storage>, Error> {
        let options = ArangoOptions { blobs: self.blobs.path().to_owned(), lease: LEASE };
        let opening = ArangoStore::open_at(&self.address, &self.mycelium, options);
        Ok(Arc::new(self.runtime.block_on(opening)?))
    }
}

impl Drop for Arango {
    fn drop(&mut self) {
        match &self.double {
            // Nothing was trusted that a server may answer otherwise.
            Some(double) if !std::thread::panicking() => double.assert_known(),
            Some(_) => {}
            None => self.runtime.block_on(arango::remove(&self.address, &self.mycelium)).unwrap(),
        }
    }
}

impl fmt::Debug for Arango {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arango").field("mycelium", &self.mycelium).finish_non_exhaustive()
    }
}

impl Kind for Arango {
    fn open(&mut self) -> Arc<dyn Storage> {
        self.try_open().unwrap()
    }

    fn open_beside(&self) -> Option<Result<Arc<dyn Storage>, Error>> {
        Some(self.try_open())
    }
}
