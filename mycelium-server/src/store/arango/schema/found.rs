//! What of a mycelium is in a database already, and how that differs from what should be.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::check::{Finding, FindingKind, init, shown};
use super::super::client::driver::TYPE_EDGES;
use super::super::client::{Call, Database, Failure, Kind};
use super::{COLLECTIONS, Collection, Edges, FORMAT_VERSION, GRAPHS, Graph, Index, RECORDS};

/// The structure that is in a database.
#[derive(Debug)]
pub(in super::super) struct Found {
    /// The type of each collection that the user can see.
    collections: BTreeMap<String, u8>,
    indexes: BTreeMap<&'static str, Indexes>,
    graphs: BTreeMap<&'static str, Vec<Definition>>,
}

/// The indexes of a collection.
#[derive(Debug)]
enum Indexes {
    Seen(Vec<FoundIndex>),
    /// The user may not even see them.
    Hidden,
}

#[derive(Debug, Deserialize)]
struct FoundIndex {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    sparse: bool,
    #[serde(default)]
    unique: bool,
}

#[derive(Debug, Deserialize)]
struct Definition {
    collection: String,
    from: BTreeSet<String>,
    to: BTreeSet<String>,
}

/// How a database differs from what the table says.
#[derive(Debug)]
pub(in super::super) enum Difference {
    /// A collection is not there, and so are none of its indexes.
    Collection(&'static Collection),
    /// An index of a collection that is there is not.
    Index(&'static Collection, &'static Index),
    /// A graph is not there.
    Graph(&'static Graph),
    /// Something is there and not as it should be, or not to be seen: nothing that can be mended by creating.
    Other(Finding),
}

/// What marks a database as a mycelium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Marker {
    /// Nothing: it is none, or not yet.
    Missing,
    /// It is one of the format of this version.
    Ours,
}

#[derive(Deserialize)]
struct Listed<T> {
    result: Vec<T>,
}

#[derive(Deserialize)]
struct ListedCollection {
    name: String,
    #[serde(rename = "type")]
    kind: u8,
}

#[derive(Deserialize)]
struct ListedIndexes {
    indexes: Vec<FoundIndex>,
}

#[derive(Deserialize)]
struct ToldGraph {
    graph: Definitions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definitions {
    edge_definitions: Vec<Definition>,
}

/// What an answer holds, or nothing if what was asked for is not there.
pub(super) fn if_there<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.kind() == Kind::NotThere => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Found {
    /// Reads what is there: the names of all collections, and of those that are ours the indexes; and our graphs.
    pub(in super::super) async fn read(database: &Database) -> Result<Self, Failure> {
        let mut found =
            Self { collections: BTreeMap::new(), indexes: BTreeMap::new(), graphs: BTreeMap::new() };
        for &Collection { name, .. } in COLLECTIONS {
            let query = [("collection", name)];
            match if_there(database.call::<ListedIndexes>(Call::get("_api/index").query(&query)).await) {
                Ok(Some(told)) => drop(found.indexes.insert(name, Indexes::Seen(told.indexes))),
                Ok(None) => {}
                Err(failure) if failure.kind() == Kind::NotAllowed => {
                    found.indexes.insert(name, Indexes::Hidden);
                }
                Err(failure) => return Err(failure),
            }
        }
        // After the indexes: of what another one makes meanwhile, no index is known whose collection is not.
        let list = Call::get("_api/collection").query(&[("excludeSystem", "true")]);
        let listed: Listed<ListedCollection> = database.call(list).await?;
        let collections = listed.result.into_iter().filter(|one| !one.name.starts_with('_'));
        found.collections = collections.map(|one| (one.name, one.kind)).collect();
        for &Graph { name, .. } in GRAPHS {
            let told = database.call::<ToldGraph>(Call::get(format!("_api/gharial/{name}"))).await;
            if let Some(told) = if_there(told)? {
                found.graphs.insert(name, told.graph.edge_definitions);
            }
        }
        Ok(found)
    }

    /// How what is there differs from the table, in the order in which it can be created.
    pub(in super::super) fn differences(&self, database: &Database) -> Vec<Difference> {
        let collections =
            COLLECTIONS.iter().filter_map(|collection| self.of_collection(collection, database));
        let indexes = COLLECTIONS.iter().flat_map(|collection| {
            collection.indexes.iter().filter_map(|index| self.of_index(collection, index, database))
        });
        let graphs = GRAPHS.iter().filter_map(|graph| self.of_graph(graph, database));
        collections.chain(indexes).chain(graphs).collect()
    }

    fn of_collection(&self, collection: &'static Collection, database: &Database) -> Option<Difference> {
        let name = collection.name;
        let (kind, line) = match (self.indexes.get(name), self.collections.get(name)) {
            (None, _) => return Some(Difference::Collection(collection)),
            (Some(Indexes::Seen(_)), Some(kind)) if (*kind == TYPE_EDGES) == collection.is_of_edges => {
                return None;
            }
            (Some(Indexes::Seen(_)), Some(_)) => {
                let wanted = if collection.is_of_edges { "edges" } else { "documents" };
                let line =
                    format!("is not one of {wanted}, as mycelium makes it; use a mycelium of another name");
                (FindingKind::Collection, line)
            }
            (Some(Indexes::Seen(_)), None) | (Some(Indexes::Hidden), _) => {
                (FindingKind::Rights, "is not to be seen by this user; grant `rw` on it".to_owned())
            }
        };
        Some(other(kind, format!("collection `{name}` of {} {line}", shown(database))))
    }

    fn of_index(
        &self,
        collection: &'static Collection,
        index: &'static Index,
        database: &Database,
    ) -> Option<Difference> {
        let Some(Indexes::Seen(indexes)) = self.indexes.get(collection.name) else { return None };
        let is_named = |found: &&FoundIndex| found.name == index.name;
        // The server makes no second index of the same definition.
        let found =
            indexes.iter().find(is_named).or_else(|| indexes.iter().find(|found| found.is_like(index)));
        match found {
            None => Some(Difference::Index(collection, index)),
            Some(found) if is_named(&found) && found.is_like(index) => None,
            Some(found) => Some(other(
                FindingKind::Index,
                format!(
                    "index `{}` ({}) of collection `{}` of {} should be `{}` ({}); drop it, then run: {}",
                    found.name,
                    found.shown(),
                    collection.name,
                    shown(database),
                    index.name,
                    index.shown(),
                    init(database)
                ),
            )),
        }
    }

    fn of_graph(&self, graph: &'static Graph, database: &Database) -> Option<Difference> {
        let Some(found) = self.graphs.get(graph.name) else { return Some(Difference::Graph(graph)) };
        let is_there = |edges: &Edges| found.iter().any(|definition| definition.is(edges));
        let is_same = found.len() == graph.edges.len() && graph.edges.iter().all(|edges| is_there(edges));
        (!is_same).then(|| {
            other(
                FindingKind::Graph,
                format!(
                    "graph `{}` of {} goes over other edges than it should; drop it without its collections, then run: {}",
                    graph.name,
                    shown(database),
                    init(database)
                ),
            )
        })
    }

    /// What marks the database. One that holds something and is not marked is not ours.
    ///
    /// # Errors
    /// A finding of a foreign database, or of another format.
    pub(in super::super) async fn marker(&self, database: &Database) -> Result<Marker, Finding> {
        if let Some(marker) = self.marker_alone(database).await? {
            return Ok(marker);
        }
        let Some(holder) = self.holder(database).await? else { return Ok(Marker::Missing) };
        // What is written first is the mark. Whoever sees anything that another one has just written sees that too.
        if let Some(marker) = Self::read_marker(database).await? {
            return Ok(marker);
        }
        Err(Finding::new(
            FindingKind::Foreign,
            format!(
                "{} holds something else than a mycelium: there are documents in `{holder}`, and no mark of mycelium; it \
                 is left alone, use a mycelium of another name",
                shown(database)
            ),
        ))
    }

    async fn marker_alone(&self, database: &Database) -> Result<Option<Marker>, Finding> {
        if self.collections.contains_key(RECORDS) { Self::read_marker(database).await } else { Ok(None) }
    }

    async fn read_marker(database: &Database) -> Result<Option<Marker>, Finding> {
        #[derive(Deserialize)]
        struct Format {
            version: Option<u64>,
        }
        let path = format!("_api/document/{RECORDS}/format");
        let told = if_there(database.call::<Format>(Call::get(path)).await)?;
        let Some(Format { version }) = told else { return Ok(None) };
        if version == Some(FORMAT_VERSION) {
            return Ok(Some(Marker::Ours));
        }
        let version = version.map_or_else(|| "that does not say".to_owned(), |version| version.to_string());
        Err(Finding::new(
            FindingKind::Format,
            format!(
                "{} is of format {version}, and this program reads format {FORMAT_VERSION}; use the version of \
                 mycelium that wrote it",
                shown(database)
            ),
        ))
    }

    /// A collection that holds documents.
    async fn holder(&self, database: &Database) -> Result<Option<&str>, Failure> {
        #[derive(Deserialize)]
        struct Counted {
            count: u64,
        }
        for name in self.collections.keys() {
            let counted = database.call::<Counted>(Call::get(format!("_api/collection/{name}/count"))).await;
            if if_there(counted)?.is_some_and(|counted| counted.count > 0) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

fn other(kind: FindingKind, line: String) -> Difference {
    Difference::Other(Finding::new(kind, line))
}

impl FoundIndex {
    fn is_like(&self, index: &Index) -> bool {
        self.kind == "persistent"
            && self.fields.iter().eq(index.fields)
            && self.sparse == index.is_sparse
            && !self.unique
    }

    fn shown(&self) -> String {
        let unique = if self.unique { "unique " } else { "" };
        let sparse = if self.sparse { "sparse " } else { "" };
        format!("{unique}{sparse}{} over {}", self.kind, self.fields.join(", "))
    }
}

impl Index {
    pub(in super::super) fn shown(&self) -> String {
        let sparse = if self.is_sparse { "sparse " } else { "" };
        format!("{sparse}persistent over {}", self.fields.join(", "))
    }
}

impl Definition {
    fn is(&self, edges: &Edges) -> bool {
        let are = |found: &BTreeSet<String>, wanted: &[&str]| {
            found.len() == wanted.len() && wanted.iter().all(|name| found.contains(*name))
        };
        self.collection == edges.collection && are(&self.from, edges.from) && are(&self.to, edges.to)
    }
}

impl Difference {
    /// What is to be said of it.
    pub(in super::super) fn finding(&self, database: &Database) -> Finding {
        let (kind, what) = match self {
            Self::Collection(collection) => {
                (FindingKind::Collection, format!("collection `{}`", collection.name))
            }
            Self::Index(collection, index) => {
                let of = collection.name;
                (
                    FindingKind::Index,
                    format!("index `{}` ({}) of collection `{of}`", index.name, index.shown()),
                )
            }
            Self::Graph(graph) => (FindingKind::Graph, format!("graph `{}`", graph.name)),
            Self::Other(finding) => return finding.clone(),
        };
        let line = format!("{what} of {} is not there; create it with: {}", shown(database), init(database));
        Finding::new(kind, line)
    }
}
