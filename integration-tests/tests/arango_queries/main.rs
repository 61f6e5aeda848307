//! The queries of `docs/arangodb` answer what they say, over what a broker has written; and its page names what is there.

#![expect(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::world::World;

/// The page.
const PAGE: &str = "arangodb.md";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// A file of `docs/arangodb`.
struct Query {
    name: String,
    text: String,
}

impl Query {
    fn all() -> BTreeMap<String, Self> {
        let files = fs::read_dir(docs().join("arangodb")).unwrap().map(|file| file.unwrap().path());
        let queries = files.map(|file| {
            let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
            (name.clone(), Self { name, text: fs::read_to_string(&file).unwrap() })
        });
        queries.collect()
    }

    /// The example of its variables, which stands in its comment.
    fn example(&self) -> Value {
        let mut lines = self.text.lines().filter_map(|line| line.strip_prefix("// {"));
        let example = lines.next().unwrap_or_else(|| panic!("{} has no example", self.name));
        serde_json::from_str(&format!("{{{example}")).unwrap()
    }

    /// The variables that it names.
    fn variables(&self) -> BTreeSet<String> {
        let code = self.text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let name = |part: &str| part.chars().take_while(char::is_ascii_alphanumeric).collect();
        code.flat_map(|line| line.split('@').skip(1)).map(name).collect()
    }
}

/// These attributes of each row.
fn picked(rows: &[Value], names: &[&str]) -> Vec<Value> {
    rows.iter().map(|row| names.iter().map(|name| row[*name].clone()).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_answer_what_they_say() {
    let world = World::new("queries").await;
    let queries = Query::all();
    let mut asked = BTreeSet::new();
    for (name, variables) in world.variables() {
        let query = &queries[name];
        let given = variables.as_object().unwrap().keys().cloned().collect();
        let example = query.example().as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!((&query.variables(), &query.variables()), (&example, &given), "{name}");
        let rows = world.rows(query, variables).await;
        world.judge(name, &rows).await;
        asked.insert(name.to_owned());
    }
    assert_eq!(asked, queries.into_keys().collect(), "each is asked");
    world.stop().await;
}

impl World {
    /// The rows of a query, which must read by indexes, and write nothing.
    async fn rows(&self, query: &Query, variables: Value) -> Vec<Value> {
        let body = json!({"query": query.text, "bindVars": variables});
        let plan = self.place.ask("POST", "explain", body.clone()).await;
        assert_eq!(plan["warnings"], json!([]), "{}", query.name);
        let nodes = plan["plan"]["nodes"].as_array().unwrap();
        let kinds: BTreeSet<&str> = nodes.iter().map(|node| node["type"].as_str().unwrap()).collect();
        assert!(!kinds.contains("EnumerateCollectionNode"), "{} reads a whole collection", query.name);
        assert!(kinds.contains("LimitNode"), "{} is bounded", query.name);
        let answer = self.place.ask("POST", "cursor", body).await;
        assert_eq!((&answer["hasMore"], &answer["extra"]["warnings"]), (&json!(false), &json!([])));
        assert_eq!(answer["extra"]["stats"]["writesExecuted"], 0, "{}", query.name);
        answer["result"].as_array().unwrap().clone()
    }

    fn result(&self, name: &str, output: &str) -> String {
        format!("Results/{}.{output}", self.id(name))
    }

    /// What each query is asked.
    fn variables(&self) -> [(&'static str, Value); 8] {
        [
            ("came-from", json!({"result": self.result("each", "value"), "n": 100})),
            ("depends-on", json!({"job": format!("Jobs/{}", self.id("hold")), "n": 100})),
            ("used-by", json!({"result": self.result("elephant", "weight"), "n": 100})),
            ("failures-by-revision", json!({"type": "Broken", "n": 100})),
            ("slowest-path", json!({"flow": self.flow, "n": 100})),
            ("values-over", json!({"elf": "scale", "output": "weight", "threshold": 50, "n": 100})),
            ("waited-longest", json!({"n": 100, "shown": 100})),
            ("ready", json!({"after": "", "n": 100})),
        ]
    }

    async fn judge(&self, query: &str, rows: &[Value]) {
        match query {
            "came-from" => self.judge_came_from(rows).await,
            "waited-longest" => self.judge_waited_longest(rows).await,
            "failures-by-revision" => self.judge_failures(rows).await,
            "depends-on" => {
                let expected = [
                    json!([1, self.id("sum"), "depends", "DONE"]),
                    json!([2, self.id("broken"), "depends", "FAILED"]),
                    json!([3, self.id("behind"), "depends", "UPSTREAM_FAILED"]),
                ];
                assert_eq!(picked(rows, &["steps", "job", "kind", "status"]), expected);
            }
            "used-by" => {
                let row = json!([self.id("sum"), "weights", "argument", "computed", "[1]"]);
                assert_eq!(picked(rows, &["job", "parameter", "role", "kind", "at"]), [row]);
            }
            "slowest-path" => {
                let path: Vec<_> = rows.iter().map(|row| self.name(&row["job"])).collect();
                assert_eq!(path, ["hold", "sum", "broken", "behind"]);
                for (place, row) in rows.iter().enumerate().take(3) {
                    let job = self.job(&row["job"]).await;
                    let ms = |name: &str| job[name].as_i64().unwrap();
                    assert_eq!(row["ran_ms"], ms("end_ms") - ms("start_ms"), "{row}");
                    let before = match place.checked_sub(1) {
                        Some(before) => self.job(&rows[before]["job"]).await["end_ms"].as_i64().unwrap(),
                        None => 0,
                    };
                    assert_eq!(row["waited_ms"], ms("start_ms") - before.max(ms("submit_ms")), "{row}");
                }
            }
            "values-over" => {
                let highest = json!({"job": self.id("elephant"), "value": 80});
                let row = json!({"task": "task_weigh", "number": 1, "highest": 80, "jobs": [highest]});
                assert_eq!(rows, [row]);
            }
            "ready" => {
                let states: Vec<_> = rows
                    .iter()
                    .map(|row| (self.name(&row["job"]), row["state"].as_str().unwrap(), &row["waits_for"]))
                    .collect();
                let running = json!(self.id("running"));
                let expected = [
                    ("running", "RUNNING", &Value::Null),
                    ("ready", "READY", &Value::Null),
                    ("waits", "PENDING", &running),
                    ("evaluated", "EVALUATING", &Value::Null),
                    ("unsealed", "UNSEALED", &Value::Null),
                ];
                assert_eq!(states, expected);
            }
            other => panic!("nobody knows what {other} has to answer"),
        }
    }

    async fn judge_came_from(&self, rows: &[Value]) {
        let steps: BTreeMap<&str, u64> =
            rows.iter().map(|row| (row["_id"].as_str().unwrap(), row["steps"].as_u64().unwrap())).collect();
        let (each, bee) = (self.id("each"), self.id("bee"));
        let expected = [
            (self.result("each", "value"), 0),
            (format!("Jobs/{each}"), 1),
            (format!("Parameters/{each}!list"), 2),
            (format!("Parameters/{each}.weights"), 2),
            (self.result("bee", "weight"), 3),
            (format!("Jobs/{bee}"), 4),
            (format!("Parameters/{bee}.species"), 5),
        ];
        assert_eq!(steps, expected.iter().map(|(id, steps)| (&**id, *steps)).collect());
        assert_eq!(rows.len(), expected.len(), "each once");
        let row = |id: &str| rows.iter().find(|row| row["_id"] == id).unwrap();
        let elements = row(&format!("Jobs/{each}"))["elements"].as_array().unwrap();
        for element in elements {
            let key = json!(element.as_str().unwrap().strip_prefix("Jobs/").unwrap());
            assert_eq!(self.job(&key).await["gathered_by"], each);
        }
        assert_eq!(elements.len(), 2);
        assert_eq!(row(&format!("Parameters/{bee}.species"))["value"], "bee");
        assert_eq!(row(&self.result("bee", "weight"))["value"], 30);
    }

    async fn judge_failures(&self, rows: &[Value]) {
        let [row] = rows else { panic!("one revision: {rows:?}") };
        assert_eq!((&row["machine_elf"], &row["task"]), (&json!("scale"), &json!("task_break")));
        assert_eq!(row["occurrences"], 3, "one of them an attempt that is over");
        let failure = &self.documents("Failures").await[0]["_key"];
        assert_eq!(row["failures"], json!([failure]));
        let revisions = self.documents("MachineElvesRevisions").await;
        let revision = revisions.iter().find(|revision| revision["task"] == "task_break").unwrap();
        assert_eq!(row["revision"], revision["revision"]);
        assert_eq!(row["first_seen"], revision["creation_date"]);
        let edges = self.documents("JobFailures").await;
        let at = || edges.iter().map(|edge| edge["at_date"].as_str().unwrap());
        assert_eq!((&row["first"], &row["last"]), (&json!(at().min()), &json!(at().max())));
    }

    async fn judge_waited_longest(&self, rows: &[Value]) {
        let waited: Vec<i64> = rows.iter().map(|row| row["waited_ms"].as_i64().unwrap()).collect();
        assert!(waited.is_sorted_by(|one, next| one >= next), "{waited:?}");
        let met: BTreeSet<_> = rows.iter().map(|row| self.name(&row["job"])).collect();
        let expected = [
            "also",
            "another",
            "ant",
            "bee",
            "broken",
            "elephant",
            "evaluated",
            "hold",
            "ready",
            "sum",
            "unsealed",
            "waits",
        ];
        assert_eq!(met, expected.into(), "all that began or may begin, and none that runs or never ran");
        let row = |name: &str| rows.iter().find(|row| self.name(&row["job"]) == name).unwrap();
        let (job_of_sum, hold) =
            (self.job(&json!(self.id("sum"))).await, self.job(&json!(self.id("hold"))).await);
        let ms = |job: &Value, name: &str| job[name].as_i64().unwrap();
        let sum = row("sum");
        assert_eq!(sum["waited_ms"], ms(&job_of_sum, "start_ms") - ms(&job_of_sum, "submit_ms"));
        let others = ms(&hold, "end_ms") - ms(&job_of_sum, "submit_ms");
        assert_eq!(sum["for_others_ms"], others.min(sum["waited_ms"].as_i64().unwrap()));
        assert_eq!(row("ready")["for_others_ms"], 0);
        assert_eq!(row("waits")["for_others_ms"], row("waits")["waited_ms"], "until now");
    }
}

/// What is named in a table of the page must be there, in the database or in `docs/arangodb`.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_names_what_is_there() {
    let world = World::new("page").await;
    let page = fs::read_to_string(docs().join(PAGE)).unwrap();
    let named =
        |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut collections = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let of_row: Vec<String> =
            named(cells[1]).into_iter().filter(|name| name.starts_with(char::is_uppercase)).collect();
        for collection in &of_row {
            let documents = world.documents(collection).await;
            for attribute in named(cells[3]) {
                let is_name = attribute.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let is_there = documents.iter().any(|document| !document[&attribute].is_null());
                let is_value = documents.iter().any(|document| document["kind"] == attribute);
                assert!(!is_name || is_there || is_value, "{collection} has no {attribute}");
            }
            collections.insert(collection.clone());
        }
    }
    let all = world.place.ask("GET", "collection?excludeSystem=true", Value::Null).await;
    let all = all["result"].as_array().unwrap().iter();
    assert_eq!(collections, all.map(|one| one["name"].as_str().unwrap().to_owned()).collect());
    for collection in &collections {
        assert!(page.matches(&**collection).count() > 1, "the rights on {collection} are left out");
    }
    let graphs = world.place.ask("GET", "gharial", Value::Null).await;
    for graph in graphs["graphs"].as_array().unwrap() {
        assert!(page.contains(graph["_key"].as_str().unwrap()), "{graph}");
    }
    let links = page.split("(arangodb/").skip(1).filter_map(|rest| rest.split_once(".aql)"));
    let linked: BTreeSet<String> = links.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(linked, Query::all().into_keys().collect(), "links of the page, and files");
    world.stop().await;
}
