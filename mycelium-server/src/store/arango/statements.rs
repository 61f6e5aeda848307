//! The statements of ArangoDB's query language that this store runs: each of always the same text, in a file of its own.

use serde_json::{Value, json};

/// A statement.
#[derive(Debug)]
pub(super) struct Statement {
    /// The name of its file, without the ending.
    pub(super) name: &'static str,
    /// Its text.
    pub(super) text: &'static str,
    /// Whether it changes what is stored. The answer of one that does is taken in one piece.
    pub(super) writes: bool,
    /// Variables with which it can be planned: one for each that its text names, of the kind it is run with, so that the
    /// plan is the one that it is run by.
    pub(super) example: fn() -> Value,
}

/// Declares statements by the names of their files, each with an example of its variables, and lists them.
macro_rules! statements {
    ($($(#[$meta:meta])* $name:ident = $file:literal, writes $writes:literal, $example:expr;)*) => {
        $($(#[$meta])* pub(super) static $name: Statement = Statement {
            name: $file,
            text: include_str!(concat!("statements/", $file, ".aql")),
            writes: $writes,
            example: $example,
        };)*

        /// All of them.
        pub(super) static ALL: &[&Statement] = &[$(&$name),*];
    };
}

statements! {
    /// Writes the first documents of a mycelium.
    BOOTSTRAP = "bootstrap", writes true, super::schema::first_documents;
    /// Writes nothing, to see whether it may.
    PROBE = "probe", writes true, || json!({"@collection": "Jobs", "none": []});
    /// Tells the time.
    CLOCK = "clock", writes false, || json!({});
    /// Reads lease and fence.
    LEASE = "lease", writes false, || json!({});
    /// Gives the lease up.
    RELEASE = "release", writes true, || json!({"epoch": 1});
    /// Stores a batch.
    COMMIT = "commit", writes true, || json!({
        // One of each: of lists that are empty, a server may leave out what is done for their elements.
        "epoch": 1, "commit": 1, "jobs": [{"_key": "a"}], "jobToJob": [{"_key": "a.b"}], "parameters": [{"_key": "a"}],
        "jobParameters": [{"_key": "a"}], "parameterOrigins": [{"_key": "a"}], "results": [{"_key": "a"}],
        "jobResults": [{"_key": "a"}], "failures": [{"_key": "a", "occurrences": 1, "first_seen_ms": 1}],
        "jobFailures": [{"document": {"failure": "a"}, "back": 0}], "elves": [{"_key": "a"}],
        "revisions": [{"_key": "a"}], "flows": [{"_key": "a"}], "records": [{"_key": "a"}],
    });
    /// Removes what is marked.
    SWEEP = "sweep", writes true, || json!({"epoch": 1, "jobs": ["a"], "records": ["a"]});
    /// Removes jobs and flows that are deleted.
    ERASE = "erase", writes true, || json!({"epoch": 1, "jobs": ["a"], "flows": ["a"], "records": ["a"],
        "occurrences": ["a.1"], "failures": [{"key": "a", "n": 1}], "elves": [{"key": "a", "seen": "a", "whole": true}],
        "revisions": [{"key": "a", "elf": "a"}]});
    /// Takes the values out of jobs of which a stub stays.
    STUB = "stub", writes true, || json!({"epoch": 1, "stubs": [{"_key": "a", "body": "", "body_bytes": 0}]});
    /// Reads what is marked.
    GONE = "gone", writes false, || json!({"n": 1_000});
    /// Reads a page of unfinished jobs.
    LOAD_JOBS = "load_jobs", writes false, || json!({"after": "", "n": 1_000});
    /// Reads what a broker starts with beside jobs.
    LOAD_RECORDS = "load_records", writes false, || json!({});
    /// Reads the numbers that only rise.
    COUNTERS = "counters", writes false, || json!({});
    /// Acquires the lease.
    ACQUIRE = "acquire", writes true, || json!({"me": "a", "holder": "a broker", "ttlMs": 15_000});
    /// Renews the lease.
    RENEW = "renew", writes true, || json!({"epoch": 1, "ttlMs": 15_000});
    /// Reads specifications of jobs.
    SPECS = "specs", writes false, || json!({"keys": ["a"]});
    /// Reads specifications of jobs without their bodies.
    OUTLINES = "outlines", writes false, || json!({"keys": ["a"]});
    /// Reads unfinished jobs.
    UNFINISHED = "unfinished", writes false, || json!({"keys": ["a"]});
    /// Reads finished jobs.
    FINISHED = "finished", writes false, || json!({"keys": ["a"]});
    /// Reads what jobs returned.
    OUTPUTS = "outputs", writes false, || json!({"keys": ["a"]});
    /// Reads a page of all finished jobs.
    FINISHED_LISTED = "finished_listed", writes false, || json!({"before": "g", "limit": 100});
    /// Reads a page of the finished jobs of a flow.
    FINISHED_OF_FLOW = "finished_of_flow", writes false, || json!({"flow": "a", "before": "g", "limit": 100});
    /// Reads a page of the finished jobs of an elf.
    FINISHED_OF_ELF = "finished_of_elf", writes false, || json!({"elf": "a", "before": "g", "limit": 100});
    /// Reads a page of the finished jobs of each of some statuses.
    FINISHED_WITH_STATUS = "finished_with_status", writes false,
        || json!({"statuses": ["FAILED"], "before": "g", "limit": 100});
    /// Reads a page of the finished jobs of a flow of each of some statuses.
    FINISHED_OF_FLOW_WITH_STATUS = "finished_of_flow_with_status", writes false,
        || json!({"flow": "a", "statuses": ["FAILED"], "before": "g", "limit": 100});
    /// Reads a page of the finished jobs of an elf of each of some statuses.
    FINISHED_OF_ELF_WITH_STATUS = "finished_of_elf_with_status", writes false,
        || json!({"elf": "a", "statuses": ["FAILED"], "before": "g", "limit": 100});
    /// Reads edges between jobs.
    DEPENDENTS = "dependents", writes false, || json!({"ranges": [{"after": "a.", "end": "a.g"}], "limit": 100});
    /// Reads flows.
    FLOWS = "flows", writes false, || json!({"keys": ["a"]});
    /// Reads a page of all flows.
    FLOWS_LISTED = "flows_listed", writes false, || json!({"before": "g", "limit": 100});
    /// Reads a page of the flows of a name.
    FLOWS_NAMED = "flows_named", writes false, || json!({"name": "a", "before": "g", "limit": 100});
    /// Reads a page of the flows with a label.
    FLOWS_LABELLED = "flows_labelled", writes false,
        || json!({"from": "label.a.", "before": "label.a.g", "limit": 100});
    /// Reads submissions.
    SUBMISSIONS = "submissions", writes false, || json!({"keys": ["submission.a"]});
    /// Reads a page of all submissions.
    SUBMISSIONS_LISTED = "submissions_listed", writes false,
        || json!({"after": "submission.", "end": "submission.g", "limit": 100});
    /// Reads elves.
    ELVES = "elves", writes false, || json!({"keys": ["a"]});
    /// Reads a page of all elves.
    ELVES_LISTED = "elves_listed", writes false, || json!({"after": "", "limit": 100});
    /// Reads revisions.
    REVISIONS = "revisions", writes false, || json!({"keys": ["a"]});
    /// Reads a page of the revisions of an elf.
    REVISIONS_LISTED = "revisions_listed", writes false, || json!({"elf": "61", "after": "", "limit": 100});
    /// Reads failures.
    FAILURES = "failures", writes false, || json!({"keys": ["a"]});
    /// Reads a page of all failures.
    FAILURES_LISTED = "failures_listed", writes false, || json!({"after": "", "limit": 100});
    /// Reads the latest occurrences of failures in jobs.
    OCCURRENCES_OF = "occurrences_of", writes false, || json!({"pairs": [{"job": "Jobs/a", "failure": "a"}]});
    /// Reads which occurrences of failures there are in jobs.
    OCCURRENCES_IN = "occurrences_in", writes false,
        || json!({"pairs": [{"job": "Jobs/a", "failure": "a"}], "limit": 100});
    /// Reads a page of the occurrences of a failure.
    OCCURRENCES_LISTED = "occurrences_listed", writes false,
        || json!({"failure": "Failures/a", "before": 100, "limit": 100});
    /// Reads checkpoints of jobs.
    CHECKPOINTS = "checkpoints", writes false, || json!({"keys": ["a"]});
    /// Reads the keys of a page of all checkpoints.
    CHECKPOINTS_LISTED = "checkpoints_listed", writes false,
        || json!({"after": "checkpoint.", "end": "checkpoint.g", "limit": 100});
    /// Reads uses of blobs.
    BLOB_USES = "blob_uses", writes false, || json!({"ranges": [{"after": "use.", "end": "use.g"}], "limit": 100});
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The variables that a statement names outside of comments and texts, as a request names them: `@@c` as `@c`.
    fn variables(text: &str) -> BTreeSet<String> {
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let code: String = lines.flat_map(|line| [line, "\n"]).collect();
        let outside_of_texts = code.split('"').step_by(2).flat_map(|part| part.split('@').skip(1));
        let mut variables = BTreeSet::new();
        let mut is_of_collection = false;
        for part in outside_of_texts {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if name.is_empty() {
                is_of_collection = true;
                continue;
            }
            variables.insert(if is_of_collection { format!("@{name}") } else { name });
            is_of_collection = false;
        }
        variables
    }

    #[test]
    fn variables_are_found_where_they_are_meant() {
        let text = "// of @nobody\nFOR d IN @rows FILTER d.x != \"@y\" AND d.n > @n1 INSERT d INTO @@c";
        assert_eq!(variables(text).into_iter().collect::<Vec<_>>(), ["@c", "n1", "rows"]);
    }

    #[test]
    fn the_example_of_a_statement_has_the_variables_that_its_text_names() {
        for statement in ALL {
            let example = (statement.example)();
            let given = example.as_object().unwrap().keys().cloned().collect();
            assert_eq!(variables(statement.text), given, "{}", statement.name);
        }
    }

    /// The names of the nodes of a plan of the double.
    fn nodes(plan: &Value) -> Vec<&str> {
        let nodes = plan["plan"]["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["type"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_page_is_read_from_an_index_in_its_order() {
        let double = arangodb_double::Double::start("secret").await.unwrap();
        let address = super::super::Address::parse(&double.url()).unwrap();
        let address = address.with_credentials(arangodb_double::ROOT, "secret");
        super::super::init(&address, "default").await.unwrap();
        let server = super::super::client::Server::new(&address).unwrap();
        let database = server.database("BLUMYC_default");
        let mut pages = 0;
        for statement in ALL.iter().filter(|statement| statement.text.contains("SORT")) {
            let asked = json!({"query": statement.text, "bindVars": (statement.example)()});
            let call = super::super::client::Call::post("_api/explain", &asked);
            let plan: Value = database.call(call).await.unwrap();
            // The occurrences of a failure in one job are few.
            let sorts = statement.name == "occurrences_of";
            assert_eq!(nodes(&plan).contains(&"SortNode"), sorts, "{}", statement.name);
            assert!(nodes(&plan).contains(&"IndexNode"), "{}", statement.name);
            pages += 1;
        }
        assert!(pages > 15, "only {pages} statements read pages");
        double.assert_known();
    }
}
