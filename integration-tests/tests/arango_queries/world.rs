//! A broker over ArangoDB, with jobs of every kind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arangodb_double::{Double, ROOT};
use elf_runtime::{JobId, Mycelium, Output, TaskError, list, machine_elf};
use integration_tests::{Worker, wire};
use mycelium_proto::v1;
use mycelium_server::store::arango::{self, Address, ArangoOptions, ArangoStore};
use mycelium_server::{Broker, Config, RunningBroker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const PASSWORD: &str = "secret";

#[derive(Debug, Clone, Serialize, Deserialize, Output)]
struct Measurement {
    species: String,
    weight: i64,
}

/// Tasks that hold wait for this.
struct Scale(Arc<Semaphore>);

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError> {
        let weight = 10 * i64::try_from(species.len())?;
        Ok(Measurement { species, weight })
    }

    async fn task_sum(&self, weights: Vec<i64>) -> Result<i64, TaskError> {
        Ok(weights.iter().sum())
    }

    async fn task_break(&self, what: i64) -> Result<i64, TaskError> {
        Err(TaskError::new("Broken", format!("{what} is too much")))
    }

    async fn task_hold(&self, number: i64) -> Result<i64, TaskError> {
        self.0.acquire().await.map_err(TaskError::from_boxed)?.forget();
        Ok(number)
    }
}

/// Where a mycelium is: at the double, or at a server that the environment names.
pub(crate) struct Place {
    double: Option<Double>,
    url: String,
    user: String,
    password: String,
    mycelium: String,
}

impl Place {
    pub(crate) async fn new(test: &str) -> Self {
        let mycelium = format!("test-{test}-{}", std::process::id());
        let given = |name: &str| std::env::var(format!("MYCELIUM_TEST_ARANGODB_{name}"));
        if let Ok(url) = given("URL") {
            let (user, password) = (given("USER").unwrap_or_default(), given("PASSWORD").unwrap_or_default());
            return Self { double: None, url, user, password, mycelium };
        }
        let double = Double::start(PASSWORD).await.unwrap();
        let (user, password) = (ROOT.to_owned(), PASSWORD.to_owned());
        Self { url: double.url(), double: Some(double), user, password, mycelium }
    }

    fn address(&self) -> Address {
        Address::parse(&self.url).unwrap().with_credentials(&self.user, &self.password)
    }

    /// What the server answers to a request about the database of the mycelium.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let database = arango::database_of(&self.mycelium).unwrap();
        let url = format!("{}/_db/{database}/_api/{path}", self.url.trim_end_matches('/'));
        let request = reqwest::Client::new().request(method.parse().unwrap(), url);
        let request = request.basic_auth(&self.user, Some(&self.password));
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// All documents of a collection.
    pub(crate) async fn documents(&self, collection: &str) -> Vec<Value> {
        let query = "FOR d IN @@collection SORT d._key RETURN d";
        let body = json!({"query": query, "bindVars": {"@collection": collection}});
        self.ask("POST", "cursor", body).await["result"].as_array().unwrap().clone()
    }

    async fn remove(self) {
        match &self.double {
            Some(double) => double.assert_known(),
            None => arango::remove(&self.address(), &self.mycelium).await.unwrap(),
        }
    }
}

/// A broker with jobs of every kind.
pub(crate) struct World {
    pub(crate) place: Place,
    broker: RunningBroker,
    worker: Worker,
    gate: Arc<Semaphore>,
    _blobs: tempfile::TempDir,
    pub(crate) flow: String,
    jobs: BTreeMap<&'static str, JobId>,
}

impl World {
    pub(crate) async fn new(test: &str) -> Self {
        let place = Place::new(test).await;
        arango::init(&place.address(), &place.mycelium).await.unwrap();
        let blobs = tempfile::tempdir().unwrap();
        let options = ArangoOptions { blobs: blobs.path().to_owned(), lease: Duration::from_secs(15) };
        let store = ArangoStore::open_at(&place.address(), &place.mycelium, options).await.unwrap();
        let broker = Broker::with_store(Config::default(), Arc::new(store)).unwrap();
        let broker = broker.bind("127.0.0.1:0").await.unwrap();
        let mycelium = Mycelium::connect(&broker.url()).await.unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let elf = mycelium.serve().elf("scale", Scale(Arc::clone(&gate))).concurrency(4).window(4);
        let worker = Worker::start(elf).await.unwrap();
        let mut world =
            Self { place, broker, worker, gate, _blobs: blobs, flow: String::new(), jobs: BTreeMap::new() };
        world.run(&mycelium).await;
        world.leave_unfinished(&mycelium).await;
        world
    }

    /// A flow that ends, not all of it well.
    async fn run(&mut self, mycelium: &Mycelium) {
        let flow = mycelium.flow("weights").with_label("team", "apiary");
        let scale = Scale::tasks(&flow, "scale");
        let bee = scale.task_weigh("bee").with_label("site", "north");
        let ant = scale.task_weigh("ant");
        // Nobody waits for this way as long as for the other.
        let elephant = scale.task_weigh("elephant").after(&ant);
        let hold = scale.task_hold(7);
        let sum = scale.task_sum(list![bee.weight(), elephant.weight(), hold.value()]);
        let broken = scale.task_break(sum.value());
        let behind = scale.task_sum(list![broken.value()]);
        let each = flow.for_each(vec![1, 2], |number| scale.task_sum(list![number, bee.weight()]));
        self.flow = flow.id().to_string();
        flow.submit().await.unwrap();
        for (name, id) in [
            ("bee", bee.id()),
            ("ant", ant.id()),
            ("elephant", elephant.id()),
            ("hold", hold.id()),
            ("sum", sum.id()),
            ("broken", broken.id()),
            ("behind", behind.id()),
            ("each", each.id()),
        ] {
            self.jobs.insert(name, id);
        }
        for name in ["bee", "elephant", "each"] {
            self.ended(name).await;
        }
        // It ends last of those that the sum waits for.
        self.gate.add_permits(1);
        self.ended("behind").await;
        // Another fails the same way, twice.
        let flow = mycelium.flow("again");
        let also = Scale::tasks(&flow, "scale").task_break(1);
        flow.submit().await.unwrap();
        self.jobs.insert("also", also.id());
        self.ended("also").await;
        let jobs = v1::JobIds { job_ids: vec![also.id().as_bytes().to_vec().into()] };
        let scope = Some(v1::retry_jobs_request::Scope::Jobs(jobs));
        let retry = v1::RetryJobsRequest { scope, ..v1::RetryJobsRequest::default() };
        wire::client(&self.broker.url()).await.unwrap().retry_jobs(retry).await.unwrap();
        self.becomes("also", |job| job["attempt"] == 2 && !job["fin"].is_null()).await;
    }

    /// Jobs that wait, each for something else.
    async fn leave_unfinished(&mut self, mycelium: &Mycelium) {
        let flow = mycelium.flow("open");
        let scale = Scale::tasks(&flow, "scale");
        let nobody = Scale::tasks(&flow, "nobody");
        let running = scale.task_hold(1);
        let ready = nobody.task_hold(2).priority(5);
        let waits = nobody.task_hold(running.value());
        let evaluated = nobody.task_hold(3).run_if(true);
        flow.submit().await.unwrap();
        integration_tests::until("the job to be started", || async {
            let job = mycelium.job(running.id()).await?;
            Ok((job.status() == v1::JobStatus::Running).then_some(()))
        })
        .await
        .unwrap();
        // The commit of this one stores it.
        let unsealed = wire::job("nobody", &[], Vec::new());
        let part = v1::SubmitJobsRequest {
            submission_id: wire::id(),
            seal: false,
            ..wire::submission(vec![unsealed.clone()])
        };
        wire::client(&self.broker.url()).await.unwrap().submit_jobs(part).await.unwrap();
        let unsealed = JobId::try_from(&*unsealed.job_id).unwrap();
        for (name, id) in [
            ("running", running.id()),
            ("ready", ready.id()),
            ("waits", waits.id()),
            ("evaluated", evaluated.id()),
            ("unsealed", unsealed),
        ] {
            self.jobs.insert(name, id);
        }
        self.becomes("running", |job| !job["start_ms"].is_null()).await;
    }

    async fn ended(&self, name: &str) {
        self.becomes(name, |job| !job["fin"].is_null()).await;
    }

    async fn becomes(&self, name: &str, is: impl Fn(&Value) -> bool) {
        let id = self.id(name);
        integration_tests::until(&format!("job `{name}` to get there"), || async {
            Ok(self.documents("Jobs").await.into_iter().find(|job| job["_key"] == id && is(job)).map(drop))
        })
        .await
        .unwrap();
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.jobs[name].to_string()
    }

    /// The name of the job with this id.
    pub(crate) fn name(&self, id: &Value) -> &'static str {
        let id = id.as_str().unwrap();
        let id = id.strip_prefix("Jobs/").unwrap_or(id);
        self.jobs.iter().find(|(_, job)| job.to_string() == id).map_or("another", |(name, _)| name)
    }

    pub(crate) async fn documents(&self, collection: &str) -> Vec<Value> {
        self.place.documents(collection).await
    }

    pub(crate) async fn job(&self, id: &Value) -> Value {
        self.documents("Jobs").await.into_iter().find(|job| job["_key"] == *id).unwrap()
    }

    pub(crate) async fn stop(self) {
        self.gate.add_permits(1);
        self.worker.stop().await.unwrap();
        self.broker.stop().await.unwrap();
        self.place.remove().await;
    }
}
