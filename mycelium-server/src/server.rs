//! The broker as a whole: a store, the task that owns the core, and the services on a port.

mod running;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use mycelium_proto::limits::{BLOB_CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX};
use mycelium_proto::v1::blob_service_server::BlobServiceServer;
use mycelium_proto::v1::elf_service_server::ElfServiceServer;
use mycelium_proto::v1::mycelium_service_server::MyceliumServiceServer;
use mycelium_proto::v1::store_service_server::StoreServiceServer;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

pub use self::running::RunningBroker;
use crate::access::Access;
use crate::admin::{Admin, Readiness};
use crate::audit::{self, Audit};
use crate::blobs::Blobs;
use crate::broker::{self, EndedReceiver, Progress, StartError};
use crate::config::{Config, InvalidConfig};
use crate::grpc::{
    self, BlobServer, Door, ElfServer, MyceliumServer, StoreServer, set_health, set_stopping, tell_health,
    with_reason,
};
use crate::home::{Home, open_blobs};
use crate::metrics::Sources;
use crate::mycelia::Mycelia;
use crate::name::DEFAULT;
use crate::report::Report;
use crate::spawn::TaskGroup;
use crate::store::arango::{Address, Databases};
use crate::store::{self, MemoryStore, Storage};
use crate::tls::Tls;
use crate::transport::Transport;

/// The largest message of `BlobService`: a chunk, or 10,000 digests.
const BLOB_MESSAGE_BYTES_MAX: usize = BLOB_CHUNK_BYTES_MAX + 64 * 1024;
/// How long connections that are cut may take to close.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// How long writing out what is left may take, if calls have used up the drain grace.
const WRITTEN_OUT_WITHIN: Duration = Duration::from_secs(5);

/// Why a broker could not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings do not go together.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The store cannot be opened or read, or failed for good.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The broker cannot be rebuilt from its store.
    #[error("cannot start from the store")]
    Start(#[from] StartError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The port failed.
    #[error("the broker's port failed")]
    Serve(#[from] tonic::transport::Error),
    /// The broker ended by itself.
    #[error("the broker stopped: {why}")]
    Stopped {
        /// Why.
        why: String,
    },
    /// The clocks cannot be moved so far: they would show what cannot be told. They stand where they did.
    #[error(
        "the broker's clocks cannot be moved by {by:?}: they may be 100 years ahead of the machine's in all"
    )]
    ClocksTooFar {
        /// By how much they were to be moved.
        by: Duration,
    },
    /// The clocks were moved, and what came due by that could not be done.
    #[error("the broker's clocks were moved, and it cannot do what came due: {why}")]
    Unsettled {
        /// Why.
        why: String,
    },
}

/// A broker that has been started and does not listen yet. The mycelium `default` is there, and others of the data folder
/// or the database server are opened once it serves, or when they are used; it can be served, or embedded in a program for its
/// tests.
///
/// ```
/// # async fn example() -> Result<(), mycelium_server::Error> {
/// let broker = mycelium_server::Broker::in_memory()?.bind("127.0.0.1:0").await?;
/// println!("the broker answers at {}", broker.url());
/// broker.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Broker {
    config: Config,
    tls: Option<Tls>,
    access: Access,
    audit: (Audit, audit::Waiting),
    home: Home,
    /// The mycelia that were there when it started.
    names: Vec<String>,
    default: broker::Running,
    admin: Option<Admin>,
}

impl Broker {
    /// A broker that keeps everything in memory, and loses it with the process: for tests.
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub fn in_memory() -> Result<Self, Error> {
        let config = Config::default();
        let blobs = Blobs::in_memory(config.blob_grace);
        Self::with_stores(config, Home::Memory, Arc::new(MemoryStore::new()), blobs)
    }

    /// A broker on the embedded store in `dir`, which is made if it is not there. Blocks while the store is read.
    ///
    /// # Errors
    /// [`Error::Store`] if the folder is in use by another broker, holds something else, or cannot be read or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(Config::default(), dir)
    }

    /// As [`open`](Self::open), with settings.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::Config`].
    pub fn open_with(config: Config, dir: impl AsRef<Path>) -> Result<Self, Error> {
        config.validate()?;
        let home = Home::Folder(dir.as_ref().to_owned());
        let (store, blobs) = home.open(DEFAULT, &config)?;
        Self::with_stores(config, home, store, blobs)
    }

    /// A broker that keeps its mycelia in ArangoDB, each in a database of its own that is created if it is not there and the
    /// user may, and values too large to travel inline in folders within `dir`, which is made if it is not there. Blocks
    /// while the server is asked, and for up to [`Config::store_lease`] if the last broker on `default` was killed.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use mycelium_server::store::arango::Address;
    /// use mycelium_server::{Broker, Config};
    ///
    /// let server = Address::parse("http://localhost:8529")?.with_credentials("mycelium", "a password");
    /// let broker = Broker::open_database(Config::default(), &server, "mycelium-data")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Store`] if the server cannot be reached or used, another broker has the mycelium, or
    /// the folder belongs to another one; [`Error::Start`].
    pub fn open_database(config: Config, server: &Address, dir: impl AsRef<Path>) -> Result<Self, Error> {
        config.validate()?;
        let databases = Databases::new(server, config.store_lease)?;
        let home = Home::Databases { databases, folder: dir.as_ref().to_owned() };
        let (store, blobs) = home.open(DEFAULT, &config)?;
        Self::with_stores(config, home, store, blobs)
    }

    /// A broker on a store of the caller's. Values too large to travel inline are kept where the store says
    /// ([`Storage::blobs_folder`]): a durable store takes its blobs with it.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Start`]; [`Error::Store`] if the store is durable and has no folder for blobs, or that
    /// cannot be used.
    pub fn with_store(config: Config, store: Arc<dyn Storage>) -> Result<Self, Error> {
        config.validate()?;
        let (store, blobs) = open_blobs(store, &config)?;
        Self::with_stores(config, Home::Given, store, blobs)
    }

    fn with_stores(config: Config, home: Home, store: Arc<dyn Storage>, blobs: Blobs) -> Result<Self, Error> {
        let names = home.names()?;
        let default = broker::start(store, blobs, config.clone())?;
        let audit = Audit::open(home.folder()).map_err(|source| store::Error::Unavailable {
            what: "the audit cannot be kept in the data folder".to_owned(),
            certainly_not_applied: true,
            source: Some(Box::new(source)),
        })?;
        Ok(Self {
            config,
            tls: None,
            access: Access::unrestricted(),
            audit,
            home,
            names,
            default,
            admin: None,
        })
    }

    /// With TLS on its port. Default: none, and whoever sees the network sees everything.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// With who may do what. Default: everybody who reaches it everything; but on a loopback address it is called by names of
    /// this machine only, and those of [`Access::with_allowed_hosts`], and never from a web page of another origin.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// With a listener for those who look after it: whether it takes jobs, and what it counts. It answers until the broker has
    /// stopped. Without one, nothing is counted.
    #[must_use]
    pub fn with_admin(self, admin: Admin) -> Self {
        admin.counts(self.default.handle.limits());
        Self { admin: Some(admin), ..self }
    }

    /// With clocks that are so far ahead of the machine's, for tests: as were those of a broker before it on the same store,
    /// which was [advanced](RunningBroker::advance).
    ///
    /// # Errors
    /// [`Error::ClocksTooFar`].
    pub fn ahead(self, by: Duration) -> Result<Self, Error> {
        match self.default.handle.clock().ahead().add(by) {
            true => Ok(self),
            false => Err(Error::ClocksTooFar { by }),
        }
    }

    /// Listens on `address` (port 0: any that is free) and serves from tasks of the current runtime.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn bind(self, address: impl ToSocketAddrs + std::fmt::Debug) -> Result<RunningBroker, Error> {
        let listen = |source| Error::Listen { address: format!("{address:?}").replace('"', ""), source };
        let listener = TcpListener::bind(&address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(RunningBroker::start(self, listener, address))
    }

    /// Serves on `listener` until `shutdown` completes, then stops: elves are told and keep what runs for the next
    /// broker, calls under way are given [`Config::drain_grace`] to end, and the store is written out. It is at work from the
    /// call on, and answers while the future is polled. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Serve`], [`Error::Stopped`] if the store failed for good.
    pub fn serve<'a>(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'a,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'a {
        self.begin().serve(listener, Box::pin(shutdown))
    }

    fn begin(self) -> Begun {
        let Self { config, tls, access, audit, home, names, default, admin } = self;
        let limits = default.handle.limits().clone();
        let progress = default.handle.store_state();
        let drain = CancellationToken::new();
        let (mycelia, ended) = Mycelia::start(home, &names, config.clone(), default, drain.clone());
        let transport = Transport::new(&config);
        // Before anybody is told that the broker is there.
        if let Some(admin) = &admin {
            let alarm = config.store_size_alarm;
            let sources = Sources::new(mycelia.clone(), limits.clone(), transport.clone(), alarm);
            admin.serves(sources, Readiness::Serves(progress.clone()));
        }
        Begun { config, tls, access, audit, limits, transport, mycelia, progress, drain, ended, admin }
    }
}

/// A broker whose mycelia are at work.
struct Begun {
    config: Config,
    tls: Option<Tls>,
    access: Access,
    audit: (Audit, audit::Waiting),
    limits: broker::Limits,
    transport: Transport,
    mycelia: Mycelia,
    progress: watch::Receiver<Progress>,
    drain: CancellationToken,
    /// How `default` ended.
    ended: EndedReceiver,
    admin: Option<Admin>,
}

impl Begun {
    /// Boxed, and of one type: all that serves is compiled here then, and not once more in each program that calls it.
    fn serve(self, listener: TcpListener, shutdown: BoxFuture<'_, ()>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.served(listener, shutdown))
    }

    async fn served(self, listener: TcpListener, shutdown: BoxFuture<'_, ()>) -> Result<(), Error> {
        let Self { config, tls, access, audit, limits, transport, .. } = self;
        let Self { mycelia, progress, drain, mut ended, admin, .. } = self;
        let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let door = Door::new(access.clone(), audit.0.clone(), is_loopback, config.access_grace);
        let (audit, audit_waiting) = audit;
        let audit_tasks = TaskGroup::default();
        let _audit_cut = audit_tasks.cut_on_drop();
        audit_tasks.spawn("the audit", audit_waiting.write());
        let (health, health_service) = tonic_health::server::health_reporter();
        set_health(&health, true).await;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(mycelium_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let unreadable =
            |error| Error::Stopped { why: format!("its descriptor set cannot be read: {error}") };
        let reflection_v1 = reflection().build_v1().map_err(unreadable)?;
        // What programs of a certain age ask for.
        let reflection_v1alpha = reflection().build_v1alpha().map_err(unreadable)?;
        let mycelium_service =
            MyceliumServiceServer::new(MyceliumServer::new(mycelia.clone(), audit, drain.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let blob_service = BlobServiceServer::new(BlobServer::new(mycelia.clone(), drain.clone()))
            .max_decoding_message_size(BLOB_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(BLOB_MESSAGE_BYTES_MAX);
        let store_service = StoreServiceServer::new(StoreServer::new(mycelia.clone(), drain.clone()))
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let elf_service = ElfServiceServer::new(ElfServer::new(mycelia.clone(), drain.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let router = grpc::server(&transport, limits.counted())
            .layer(MapResponseLayer::new(with_reason))
            .layer(door)
            .add_service(health_service)
            .add_service(reflection_v1)
            .add_service(reflection_v1alpha)
            .add_service(mycelium_service)
            .add_service(elf_service)
            .add_service(blob_service)
            .add_service(store_service);
        // It ends when no more connections come.
        let incoming = transport.connections(listener, tls.clone(), drain.clone());
        let server = router.serve_with_incoming_shutdown(incoming, std::future::pending());
        let mut server = Box::pin(server);

        let (health_tasks, tasks) = (TaskGroup::default(), TaskGroup::default());
        let _cut = (health_tasks.cut_on_drop(), tasks.cut_on_drop());
        health_tasks.spawn("the health service", tell_health(progress, health.clone()));
        tasks.spawn("the watch over connections", transport.clone().watch(drain.clone()));
        tasks.spawn("the sweep of mycelia", mycelia.clone().sweep());
        tasks.spawn("what is left in mycelia", mycelia.clone().resume());
        tasks.spawn("the watch over identities", access.clone().watch(config.reload_interval));
        if let Some(tls) = tls {
            let judge_again = move || access.judge_again();
            tasks.spawn("the watch over certificates", tls.watch(config.reload_interval, judge_again));
        }

        let result = tokio::select! {
            served = &mut server => served.map_err(Error::from),
            ended = &mut ended => Err(stopped(ended)),
            () = shutdown => Ok(()),
        };
        if let Some(admin) = &admin {
            admin.drains();
        }
        health_tasks.cut().await;
        set_stopping(&health).await;
        drain.cancel();
        let grace_ends = Instant::now() + config.drain_grace;
        if result.is_ok() && tokio::time::timeout(config.drain_grace, &mut server).await.is_err() {
            tracing::warn!("calls were still under way after the drain grace and are cut");
            transport.cut_all();
            let _closed_or_not = tokio::time::timeout(CLOSED_WITHIN, &mut server).await;
        }
        transport.cut_all();
        drop(server);
        tasks.cut().await;
        let written_out = async {
            mycelia.stop().await;
            // Its end was seen before where it ended by itself.
            if result.is_ok() { ended.await } else { Ok(Ok(())) }
        };
        let until = grace_ends.max(Instant::now() + WRITTEN_OUT_WITHIN);
        let written_out = tokio::time::timeout_at(until, written_out).await;
        // Its last makers are gone with the server.
        audit_tasks.end(CLOSED_WITHIN).await;
        if let Some(admin) = admin {
            admin.end().await;
        }
        match written_out {
            Ok(Ok(Ok(()))) => result,
            Ok(other) => Err(stopped(other)),
            Err(_) => {
                tracing::warn!(
                    "the store does not answer, and is left as it is; nothing acknowledged is lost"
                );
                result
            }
        }
    }
}

fn stopped(ended: Result<Result<(), broker::DriverError>, oneshot::error::RecvError>) -> Error {
    let why = match ended {
        Ok(Ok(())) => "it was told to".to_owned(),
        Ok(Err(error)) => Report(&error).to_string(),
        Err(_) => "its thread panicked".to_owned(),
    };
    Error::Stopped { why }
}
