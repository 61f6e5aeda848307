//! Databases, collections and graphs, made with `arangors` over our own connections.
//!
//! It understands servers before 4, and is not asked where another version answers. Whether something was made is told
//! by the server's answer to the request for it, not by what `arangors` makes of that. If nothing was, the endpoint is
//! called as all others are: nothing is made twice. What `arangors` cannot say is said that way from the start: whom a
//! database is for, and that one of a cluster is to be on one server.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arangors::client::ClientExt;
use arangors::collection::CollectionType;
use arangors::collection::options::{CreateOptions, CreateParameters};
use arangors::graph::Graph;
use arangors::{ClientError, GenericConnection};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::SERVER;
use http::{HeaderMap, Method, Request, Response};
use reqwest::Url;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ANSWER_BYTES_MAX, CREATION_TIMEOUT, Call, Database, Failure, Kind, Server, Shared, transport};

/// The type of a collection of documents.
const TYPE_DOCUMENTS: u8 = 2;
/// The type of one of edges.
pub(crate) const TYPE_EDGES: u8 = 3;
/// The user that a database is given to if nobody is named.
const ROOT: &str = "root";

/// Whether something had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was not there.
    New,
    /// Something of that name was.
    WasThere,
}

/// How many copies of a database a cluster keeps, all of which are led by one server.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Copies {
    /// In all.
    pub(crate) replication_factor: u32,
    /// As many have a change before it counts.
    pub(crate) write_concern: u32,
}

impl Server {
    /// Makes a database that is administrated by whoever logs in; in a cluster with so many `copies`, all of it led by one
    /// server.
    ///
    /// # Errors
    /// A [`Failure`].
    pub(crate) async fn create_database(&self, name: &str, copies: Option<Copies>) -> Result<Made, Failure> {
        let user = self.user().unwrap_or(ROOT);
        if copies.is_none() && user == ROOT {
            let (system, name) = (self.system(), name.to_owned());
            let made = system.drive(move |connection| {
                Box::pin(async move { connection.create_database(&name).await.map(drop) })
            });
            if let Some(made) = made.await {
                return Ok(made);
            }
        }
        let mut body = json!({"name": name, "users": [{"username": user}]});
        if let Some(Copies { replication_factor, write_concern }) = copies {
            body["options"] = json!({
                "sharding": "single",
                "replicationFactor": replication_factor,
                "writeConcern": write_concern,
            });
        }
        self.system().create("_api/database", &body).await
    }
}

impl Database {
    /// Makes something with `arangors`. `None` if it was not made, and was not there.
    async fn drive<W>(&self, work: W) -> Option<Made>
    where
        W: FnOnce(GenericConnection<Session>) -> BoxFuture<'static, Result<(), ClientError>> + Send + 'static,
    {
        let scope = Scope { database: self.clone(), answered: Arc::default() };
        let (url, answered) = (self.server().shown().to_owned(), Arc::clone(&scope.answered));
        let driven = SCOPE
            .scope(scope, async move { work(GenericConnection::establish_without_auth(url).await?).await });
        let ended = self.server().spawn("arangors", driven).await;
        let made = answered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if made.is_none() {
            tracing::debug!(?ended, "arangors has not made something in ArangoDB");
        }
        made
    }

    /// Makes a collection, of edges or of documents.
    ///
    /// # Errors
    /// A [`Failure`].
    pub(crate) async fn create_collection(&self, name: &str, is_of_edges: bool) -> Result<Made, Failure> {
        let (database, collection) = (self.name().to_owned(), name.to_owned());
        let made = self.drive(move |connection| {
            Box::pin(async move {
                let kind = if is_of_edges { CollectionType::Edge } else { CollectionType::Document };
                let options = CreateOptions::builder().name(&collection).collection_type(kind).build();
                let database = connection.db(&database).await?;
                database.create_collection_with_options(options, CreateParameters::default()).await.map(drop)
            })
        });
        if let Some(made) = made.await {
            return Ok(made);
        }
        let kind = if is_of_edges { TYPE_EDGES } else { TYPE_DOCUMENTS };
        self.create("_api/collection", &json!({"name": name, "type": kind})).await
    }

    /// Makes a named graph over collections that are there.
    ///
    /// # Errors
    /// A [`Failure`].
    pub(crate) async fn create_graph(&self, graph: &Graph) -> Result<Made, Failure> {
        let (database, driven) = (self.name().to_owned(), graph.clone());
        let made = self.drive(move |connection| {
            Box::pin(
                async move { connection.db(&database).await?.create_graph(driven, true).await.map(drop) },
            )
        });
        if let Some(made) = made.await {
            return Ok(made);
        }
        self.create("_api/gharial", graph).await
    }

    /// Calls an endpoint that makes something. It may be called again: what is there is not made twice.
    async fn create(&self, path: &str, body: &impl Serialize) -> Result<Made, Failure> {
        match self.call::<IgnoredAny>(Call::post(path, body).creates().repeatable()).await {
            Ok(_) => Ok(Made::New),
            Err(failure) if failure.kind() == Kind::AlreadyThere => Ok(Made::WasThere),
            Err(failure) => Err(failure),
        }
    }
}

tokio::task_local! {
    /// For whom `arangors` works: it makes its clients itself, and takes nothing for them but headers.
    static SCOPE: Scope;
}

#[derive(Debug, Clone)]
struct Scope {
    database: Database,
    /// What the server has made of the request to make something, if it is known.
    answered: Arc<Mutex<Option<Made>>>,
}

/// What `arangors` sends its requests with: our connections and tokens.
#[derive(Debug, Clone)]
struct Session {
    scope: Scope,
    headers: HeaderMap,
}

impl ClientExt for Session {
    fn new<U: Into<Option<HeaderMap>>>(headers: U) -> Result<Self, ClientError> {
        let scope = SCOPE
            .try_with(Clone::clone)
            .map_err(|_| ClientError::HttpClient("outside of a scope".to_owned()))?;
        Ok(Self { scope, headers: headers.into().unwrap_or_default() })
    }

    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Written out, as the trait's macro would write an async function.
    fn request<'s, 'f>(
        &'s self,
        request: Request<String>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<String>, ClientError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            self.scope.send(request).await.map_err(|failure| ClientError::HttpClient(failure.to_string()))
        })
    }
}

impl Scope {
    async fn send(&self, request: Request<String>) -> Result<Response<String>, Failure> {
        let Shared { transport, session, .. } = &*self.database.server().0;
        let unusable =
            |error: &dyn std::error::Error| Failure::new(Kind::Refused, format!("arangors: {error}"));
        let (parts, body) = request.into_parts();
        let asked = transport::Request {
            url: Url::parse(&parts.uri.to_string()).map_err(|error| unusable(&error))?,
            method: parts.method,
            body: (!body.is_empty()).then(|| Bytes::from(body)),
            timeout: CREATION_TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
            authorization: None,
        };
        // It asks there who the server is, by a header that may be left out, of an interface that may be too.
        if parts.uri.path() == "/" {
            let response = Response::builder().header(SERVER, self.name_of_server().await?);
            return response.body(String::new()).map_err(|error| unusable(&error));
        }
        let makes = asked.method == Method::POST;
        let answer = session.send(transport, &asked, "arangors").await;
        let made = match &answer {
            Ok(_) => Some(Made::New),
            Err(failure) if failure.kind() == Kind::AlreadyThere => Some(Made::WasThere),
            Err(_) => None,
        };
        if makes {
            *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = made;
        }
        let text = String::from_utf8(answer?.into()).map_err(|error| unusable(&error))?;
        Response::builder().body(text).map_err(|error| unusable(&error))
    }

    /// Who the server is: itself where it is one that `arangors` understands, and nobody otherwise.
    async fn name_of_server(&self) -> Result<&'static str, Failure> {
        #[derive(Deserialize)]
        struct Version {
            server: String,
            version: Option<String>,
        }
        let database = self.database.with_patience(Duration::ZERO);
        let Version { server, version } = database.call(Call::get("_api/version")).await?;
        let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        Ok(match (server.as_str(), major) {
            ("arango", Some(..4)) => "ArangoDB",
            _ => "",
        })
    }
}
