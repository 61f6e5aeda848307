//! What a mycelium is made of in its database: collections, the indexes of each, and the graphs over them. One table, by
//! which they are created, looked over and probed.

mod create;
mod found;

pub use self::create::init;
pub(super) use self::create::{ensure, first_documents};
pub(super) use self::found::{Difference, Found, Marker};

/// The version of the format, which the database is marked with. Another one is not read.
pub(super) const FORMAT_VERSION: u64 = 1;

/// The collection with the documents that only the broker needs, the mark of the format among them.
pub(super) const RECORDS: &str = "BrokerRecords";
/// The collection of the lease, which is the only one that is read without an index: it has two documents.
pub(super) const LEASES: &str = "BrokerLeases";

/// A collection.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) name: &'static str,
    pub(super) is_of_edges: bool,
    /// Beside those that every collection has: over `_key`, and over `_from` and `_to`.
    pub(super) indexes: &'static [Index],
}

/// A persistent index.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) name: &'static str,
    pub(super) fields: &'static [&'static str],
    /// Whether documents without one of the fields are not in it.
    pub(super) is_sparse: bool,
}

/// A named graph.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) name: &'static str,
    pub(super) edges: &'static [&'static Edges],
}

/// Between which collections the edges of one go. A collection of edges has the same definition in all graphs.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) collection: &'static str,
    pub(super) from: &'static [&'static str],
    pub(super) to: &'static [&'static str],
}

const fn documents(name: &'static str, indexes: &'static [Index]) -> Collection {
    Collection { name, is_of_edges: false, indexes }
}

const fn edges(name: &'static str, indexes: &'static [Index]) -> Collection {
    Collection { name, is_of_edges: true, indexes }
}

const fn all(name: &'static str, fields: &'static [&'static str]) -> Index {
    Index { name, fields, is_sparse: false }
}

const fn sparse(name: &'static str, fields: &'static [&'static str]) -> Index {
    Index { name, fields, is_sparse: true }
}

/// All collections, in the order in which they are created.
pub(super) static COLLECTIONS: &[Collection] = &[
    documents(
        "Jobs",
        &[
            sparse("open_ord", &["open", "ord"]),
            sparse("fin", &["fin"]),
            all("status_fin", &["status", "fin"]),
            all("flow_fin", &["flow", "fin"]),
            all("flow_status_fin", &["flow", "status", "fin"]),
            all("elf_fin", &["machine_elf", "fin"]),
            all("elf_status_fin", &["machine_elf", "status", "fin"]),
            sparse("gone", &["gone"]),
        ],
    ),
    documents("Parameters", &[all("by_job", &["job"])]),
    documents("Results", &[all("by_job", &["job"])]),
    documents("Failures", &[all("place", &["place"]), all("type", &["type"])]),
    documents("MachineElves", &[all("ord", &["ord"])]),
    documents("MachineElvesRevisions", &[all("elf_place", &["elf_ord", "place"])]),
    documents("Flows", &[all("ord", &["ord"]), all("name_ord", &["name", "ord"])]),
    edges("JobToJob", &[]),
    edges("JobParameters", &[]),
    edges("JobResults", &[]),
    edges("ParameterOrigins", &[]),
    edges("JobFailures", &[all("to_number", &["_to", "number"])]),
    documents(RECORDS, &[sparse("load", &["load"]), sparse("gone", &["gone"])]),
    documents("BrokerLogs", &[]),
    documents(LEASES, &[]),
];

static JOB_TO_JOB: Edges = Edges { collection: "JobToJob", from: &["Jobs"], to: &["Jobs"] };
static JOB_PARAMETERS: Edges = Edges { collection: "JobParameters", from: &["Jobs"], to: &["Parameters"] };
static JOB_RESULTS: Edges = Edges { collection: "JobResults", from: &["Jobs"], to: &["Results"] };
static JOB_FAILURES: Edges = Edges { collection: "JobFailures", from: &["Jobs"], to: &["Failures"] };
static PARAMETER_ORIGINS: Edges =
    Edges { collection: "ParameterOrigins", from: &["Parameters"], to: &["Jobs", "Results"] };

/// All graphs.
pub(super) static GRAPHS: &[Graph] = &[
    Graph { name: "Jobs_graph", edges: &[&JOB_TO_JOB] },
    Graph { name: "JobParameters_graph", edges: &[&JOB_PARAMETERS] },
    Graph { name: "JobFailures_graph", edges: &[&JOB_FAILURES] },
    Graph { name: "Lineage_graph", edges: &[&JOB_PARAMETERS, &JOB_RESULTS, &PARAMETER_ORIGINS] },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn collection(name: &str) -> &'static Collection {
        COLLECTIONS.iter().find(|collection| collection.name == name).unwrap()
    }

    #[test]
    fn no_name_is_there_twice() {
        let names: BTreeSet<_> = COLLECTIONS.iter().map(|collection| collection.name).collect();
        assert_eq!(names.len(), COLLECTIONS.len());
        for Collection { name, indexes, .. } in COLLECTIONS {
            let names: BTreeSet<_> = indexes.iter().map(|index| index.name).collect();
            // What indexes are told apart by on the server.
            let fields: BTreeSet<_> = indexes.iter().map(|index| (index.fields, index.is_sparse)).collect();
            assert_eq!((names.len(), fields.len()), (indexes.len(), indexes.len()), "{name}");
        }
    }

    #[test]
    fn graphs_go_over_collections_that_there_are_and_edges_over_documents() {
        for edges in GRAPHS.iter().flat_map(|graph| graph.edges) {
            assert!(collection(edges.collection).is_of_edges, "{edges:?}");
            for name in edges.from.iter().chain(edges.to) {
                assert!(!collection(name).is_of_edges, "{edges:?}");
            }
        }
        let in_graphs: BTreeSet<_> =
            GRAPHS.iter().flat_map(|graph| graph.edges).map(|edges| edges.collection).collect();
        let of_edges = COLLECTIONS.iter().filter(|collection| collection.is_of_edges);
        assert_eq!(of_edges.map(|collection| collection.name).collect::<BTreeSet<_>>(), in_graphs);
    }
}
