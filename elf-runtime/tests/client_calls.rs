//! What the client promises, against a broker that answers as it is told.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use elf_runtime::{Error, Flow, FlowId, Job, JobId, Mycelium, TaskOutputs, args};
use futures::StreamExt as _;
use mycelium_proto::v1::{self, JobStatus};
use mycelium_proto::{limits, reason};
use mycelium_testing::fake::{FakeBroker, Handler, Script, refusal};
use mycelium_testing::{DEADLINE, within};
use tonic::{Code, Status};

fn wire(id: JobId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(id.as_bytes())
}

fn output(json: &str) -> v1::NamedOutput {
    let content = Some(v1::payload::Content::Inline(json.to_owned().into()));
    v1::NamedOutput {
        name: "value".to_owned(),
        payload: Some(v1::Payload { encoding: String::new(), content }),
    }
}

fn done(job_id: JobId, json: &str) -> v1::JobChange {
    v1::JobChange {
        job_id: wire(job_id),
        status: JobStatus::Done.into(),
        outputs: vec![output(json)],
        ..v1::JobChange::default()
    }
}

fn ended(job_id: JobId, status: JobStatus) -> v1::JobChange {
    v1::JobChange { job_id: wire(job_id), status: status.into(), ..v1::JobChange::default() }
}

fn message(commit: u64, changes: Vec<v1::JobChange>) -> Result<v1::WatchJobsResponse, Status> {
    Ok(v1::WatchJobsResponse { commit, changes, ..v1::WatchJobsResponse::default() })
}

/// Counts what it is called with.
fn recorder<T: Send + 'static>() -> (Arc<Mutex<Vec<T>>>, impl Fn(T) + Send + 'static) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&all);
    (all, move |item| into.lock().unwrap().push(item))
}

/// Takes every submission, and records it.
fn take_submissions(broker: &FakeBroker) -> Arc<Mutex<Vec<v1::SubmitJobsRequest>>> {
    let (all, record) = recorder();
    broker.script(|script| {
        script.submit_jobs = Some(Box::new(move |request| {
            record(request);
            Ok(v1::SubmitJobsResponse::default())
        }));
    });
    all
}

fn record_one(flow: &Flow) -> Job<serde_json::Value> {
    flow.call("scale", "task_weigh", args! { species: "bee" })
}

/// A broker that takes submissions, and a flow for it with one job.
async fn one_job() -> (FakeBroker, Flow, Job<serde_json::Value>) {
    let broker = FakeBroker::start().await;
    take_submissions(&broker);
    let flow = broker.client().flow("daily");
    let job = record_one(&flow);
    (broker, flow, job)
}

#[tokio::test]
async fn connecting_to_nobody_says_how_to_start_a_broker() {
    let error = within("the error", Mycelium::connect("http://127.0.0.1:1")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("http://127.0.0.1:1") && text.contains("mycelium serve"), "{text}");

    let error = Mycelium::connect("not a url").await.unwrap_err();
    assert!(matches!(error, Error::InvalidUrl { .. }), "{error:?}");
}

#[tokio::test]
async fn connecting_to_something_else_is_refused() {
    let broker = FakeBroker::start().await;
    // Its GetStatus is not implemented.
    let error = within("the error", Mycelium::connect(broker.url())).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: Code::Unimplemented, .. }), "{error:?}");

    broker.script(|script| script.get_status = Some(Box::new(|_| Ok(v1::GetStatusResponse::default()))));
    let client = within("the connection", Mycelium::connect(broker.url())).await.unwrap();
    assert_eq!((client.name(), client.url()), ("default", broker.url().as_str()));
}

#[tokio::test]
async fn connect_can_wait_for_a_broker() {
    let address = FakeBroker::start().await.stop().await;
    let waiting =
        tokio::spawn(Mycelium::builder(format!("http://{address}")).wait_for_broker(DEADLINE).connect());
    let broker = FakeBroker::start_at(address).await;
    broker.script(|script| script.get_status = Some(Box::new(|_| Ok(v1::GetStatusResponse::default()))));
    within("the connection", waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_name_the_mycelium_of_the_handle() {
    let broker = FakeBroker::start().await;
    let (names, record) = recorder();
    broker.script(|script| {
        script.list_elves = Some(Box::new(move |request| {
            record(request.mycelium);
            Ok(v1::ListElvesResponse::default())
        }));
    });
    let client = Mycelium::builder(broker.url()).mycelium("forest").connect_lazy().unwrap();
    client.list_elves(v1::ListElvesRequest::default()).await.unwrap();
    let other = v1::ListElvesRequest { mycelium: "meadow".to_owned(), ..v1::ListElvesRequest::default() };
    client.list_elves(other).await.unwrap();
    assert_eq!(*names.lock().unwrap(), ["forest", "meadow"]);
}

#[tokio::test]
async fn a_call_is_repeated_while_that_may_help() {
    let broker = FakeBroker::start().await;
    let mut answers = vec![
        Err(refusal(Code::ResourceExhausted, reason::BROKER_BUSY, Some(Duration::from_millis(1)))),
        Err(refusal(Code::Unavailable, reason::STORE_UNAVAILABLE, None)),
        Ok(v1::GetStatusResponse { commit: 7, ..v1::GetStatusResponse::default() }),
    ]
    .into_iter();
    broker.script(|script| script.get_status = Some(Box::new(move |_| answers.next().unwrap())));
    let status =
        within("the answer", broker.client().get_status(v1::GetStatusRequest::default())).await.unwrap();
    assert_eq!(status.commit, 7);
}

#[tokio::test]
async fn a_refused_call_is_made_once() {
    let broker = FakeBroker::start().await;
    let (calls, record) = recorder();
    broker.script(|script| {
        script.get_job = Some(Box::new(move |_| {
            record(());
            Err(refusal(Code::NotFound, reason::JOB_NOT_FOUND, None))
        }));
    });
    let error = broker.client().job(JobId::generate()).await.unwrap_err();
    assert_eq!(error.reason(), Some(reason::JOB_NOT_FOUND));
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn patience_has_an_end() {
    let broker = FakeBroker::start().await;
    broker.script(|script| {
        script.get_status =
            Some(Box::new(|_| Err(refusal(Code::Unavailable, reason::BROKER_STOPPING, None))));
    });
    let client = Mycelium::builder(broker.url()).patience(Duration::from_millis(50)).connect_lazy().unwrap();
    let error = within("the error", client.get_status(v1::GetStatusRequest::default())).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    assert_eq!(error.reason(), Some(reason::BROKER_STOPPING));
}

#[tokio::test]
async fn a_call_survives_a_restart_of_the_broker() {
    let broker = FakeBroker::start().await;
    let client = broker.client();
    let submissions = take_submissions(&broker);
    let flow = client.flow("daily");
    record_one(&flow);
    flow.submit().await.unwrap();
    assert_eq!(submissions.lock().unwrap().len(), 1);
    let address = broker.stop().await;
    record_one(&flow);
    let submitting = tokio::spawn(async move { flow.submit().await.map(|run| run.flow_id()) });
    let (submissions, record) = recorder();
    let submit_jobs: Handler<_, _> = Box::new(move |request| {
        record(request);
        Ok(v1::SubmitJobsResponse::default())
    });
    let script = Script { submit_jobs: Some(submit_jobs), ..Script::default() };
    let _broker = FakeBroker::start_scripted(address, script).await;
    let flow_id = within("the submission", submitting).await.unwrap().unwrap();
    let submissions = submissions.lock().unwrap();
    assert_eq!(submissions[0].flow_id.as_ref(), flow_id.as_bytes());
    assert_eq!(submissions[0].jobs.len(), 1);
}

#[tokio::test]
async fn a_small_flow_is_one_call_and_grows_by_further_ones() {
    let broker = FakeBroker::start().await;
    let submissions = take_submissions(&broker);
    let flow = broker.client().flow("daily");
    let first = record_one(&flow);
    flow.call("store", "task_save", args! { what: &first });
    let run = flow.submit().await.unwrap();
    flow.submit().await.unwrap();
    record_one(&flow);
    flow.submit().await.unwrap();
    let submissions = submissions.lock().unwrap();
    assert_eq!(submissions.len(), 2, "nothing new is no call");
    let seen = &submissions[0];
    assert_eq!(
        (seen.flow_id.as_ref(), seen.flow_name.as_str()),
        (run.flow_id().as_bytes().as_slice(), "daily")
    );
    assert!(seen.seal && seen.submission_id.is_empty() && seen.part == 0);
    assert_eq!(seen.jobs.len(), 2);
    assert_eq!(seen.jobs[0].job_id, wire(first.id()));
    assert_eq!(submissions[1].jobs.len(), 1);
}

#[tokio::test]
async fn a_large_flow_goes_in_parts_and_begins_again_when_the_broker_lost_some() {
    let broker = FakeBroker::start().await;
    let (parts, record) = recorder();
    let mut n_calls = 0;
    broker.script(|script| {
        script.submit_jobs = Some(Box::new(move |request: v1::SubmitJobsRequest| {
            n_calls += 1;
            record((request.submission_id.clone(), request.part, request.seal, request.jobs.len()));
            if n_calls == 2 {
                return Err(refusal(Code::FailedPrecondition, reason::SUBMISSION_OUT_OF_ORDER, None));
            }
            Ok(v1::SubmitJobsResponse::default())
        }));
    });
    let flow = broker.client().flow("large");
    let n_jobs = limits::SUBMIT_JOBS_MAX * 2 + 1;
    for _ in 0..n_jobs {
        record_one(&flow);
    }
    within("the submission", flow.submit()).await.unwrap();
    assert_eq!(flow.pending(), 0);

    let parts = parts.lock().unwrap();
    let first_try = parts[0].0.clone();
    assert_eq!(first_try.len(), 16);
    assert!(parts[..2].iter().all(|part| part.0 == first_try && !part.2));
    let second_try = &parts[2..];
    assert!(second_try.iter().all(|part| part.0 == second_try[0].0 && part.0 != first_try));
    let numbers: Vec<u32> = second_try.iter().map(|part| part.1).collect();
    assert_eq!(numbers, (0..).take(numbers.len()).collect::<Vec<u32>>());
    assert!(
        second_try.iter().rev().skip(1).all(|part| !part.2) && second_try.last().unwrap().2,
        "the last one seals"
    );
    assert_eq!(second_try.iter().map(|part| part.3).sum::<usize>(), n_jobs);
}

#[tokio::test]
async fn a_refused_submission_can_be_submitted_again() {
    let broker = FakeBroker::start().await;
    broker.script(|script| {
        script.submit_jobs =
            Some(Box::new(|_| Err(refusal(Code::FailedPrecondition, reason::TASK_NOT_FOUND, None))));
    });
    let flow = broker.client().flow("daily");
    let job = record_one(&flow);
    assert_eq!(flow.submit().await.unwrap_err().reason(), Some(reason::TASK_NOT_FOUND));
    let submissions = take_submissions(&broker);
    flow.submit().await.unwrap();
    assert_eq!(submissions.lock().unwrap()[0].jobs[0].job_id, wire(job.id()));
    assert!(matches!(Flow::detached("alone").submit().await, Err(Error::NoBroker)));
}

#[tokio::test]
async fn results_arrive_on_one_watch() {
    let broker = FakeBroker::start().await;
    take_submissions(&broker);
    let flow = broker.client().flow("daily");
    let jobs: Vec<_> = (0..3).map(|_| record_one(&flow)).collect();
    let [a, b, c] = [jobs[0].id(), jobs[1].id(), jobs[2].id()];
    let (watches, record) = recorder();
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |request| {
            record(request);
            let omitted = v1::JobChange { outputs_omitted: true, outputs: Vec::new(), ..done(b, "0") };
            let messages = vec![
                message(1, vec![done(a, "1")]),
                message(2, vec![omitted]),
                message(3, vec![done(c, "3")]),
            ];
            Ok(futures::stream::iter(messages).chain(futures::stream::pending()).boxed())
        }));
        script.get_outputs = Some(Box::new(move |request| {
            assert_eq!(request.job_ids, [wire(b)], "only what was left out is fetched");
            let outputs = vec![output("2")];
            let job = v1::JobOutputs { job_id: wire(b), status: JobStatus::Done.into(), outputs };
            Ok(v1::GetOutputsResponse { jobs: vec![job] })
        }));
    });
    let run = flow.submit().await.unwrap();
    for (job, expected) in jobs.iter().zip([1, 2, 3]).rev() {
        assert_eq!(within("a result", run.result(job)).await.unwrap(), serde_json::json!(expected));
    }
    let watches = watches.lock().unwrap();
    assert_eq!(watches.len(), 1);
    assert!(watches[0].include_outputs && watches[0].final_only && !watches[0].until_final);
}

#[tokio::test]
async fn a_result_of_another_type_is_an_error_that_names_the_job() {
    let (broker, flow, job) = one_job().await;
    let id = job.id();
    let outputs = v1::NamedOutput { payload: Some(v1::Payload::default()), ..output("") };
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |_| {
            let change = v1::JobChange { outputs: vec![outputs.clone()], ..done(id, "") };
            Ok(futures::stream::iter([message(1, vec![change])]).chain(futures::stream::pending()).boxed())
        }));
    });
    let error = within("the error", flow.submit().await.unwrap().result(&job)).await.unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
}

#[tokio::test]
async fn a_failed_job_tells_its_failure_and_its_dependents_name_it() {
    let broker = FakeBroker::start().await;
    take_submissions(&broker);
    let flow = broker.client().flow("daily");
    let weigh = record_one(&flow);
    let save = flow.call("store", "task_save", args! { what: &weigh });
    let [weigh_id, save_id] = [weigh.id(), save.id()];
    let failure_id = bytes::Bytes::from_static(&[5; 16]);
    let failure_of_group = failure_id.clone();
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |_| {
            let changes = vec![ended(weigh_id, JobStatus::Failed), ended(save_id, JobStatus::UpstreamFailed)];
            Ok(futures::stream::iter([message(1, changes)]).chain(futures::stream::pending()).boxed())
        }));
        script.get_job = Some(Box::new(move |request| {
            let mut job = v1::Job { job_id: request.job_id.clone(), ..v1::Job::default() };
            if request.job_id == wire(weigh_id) {
                (job.elf, job.task) = ("scale".to_owned(), "task_weigh".to_owned());
                job.set_status(JobStatus::Failed);
                job.failure_id = failure_id.clone();
            } else {
                (job.elf, job.task) = ("store".to_owned(), "task_save".to_owned());
                job.set_status(JobStatus::UpstreamFailed);
                job.cause_job_id = wire(weigh_id);
            }
            Ok(v1::GetJobResponse { job: Some(job), ..v1::GetJobResponse::default() })
        }));
        script.get_failure = Some(Box::new(move |request| {
            assert_eq!(request.failure_id, failure_of_group);
            let failure = v1::Failure {
                r#type: "Broken".to_owned(),
                message: "of another job".to_owned(),
                ..v1::Failure::default()
            };
            // A broker that does not answer with the job's own failure, and has others on its first page.
            let is_first = request.page_token.is_empty();
            let (job, message) = if is_first { (save_id, "of another") } else { (weigh_id, "it snapped") };
            let occurrence = v1::FailureOccurrence {
                job_id: wire(job),
                message: message.to_owned(),
                ..v1::FailureOccurrence::default()
            };
            Ok(v1::GetFailureResponse {
                failure: Some(v1::FailureGroup { failure: Some(failure), ..v1::FailureGroup::default() }),
                occurrences: vec![occurrence],
                next_page_token: if is_first { "more".to_owned() } else { String::new() },
            })
        }));
    });
    let run = flow.submit().await.unwrap();
    let Error::JobFailed(failed) = within("the error", run.result(&weigh)).await.unwrap_err() else {
        panic!()
    };
    assert_eq!((failed.job.job_id, failed.job.status, &failed.cause), (weigh_id, JobStatus::Failed, &None));
    let failure = failed.failure.unwrap();
    assert_eq!((failure.r#type.as_str(), failure.message.as_str()), ("Broken", "it snapped"));

    let error = within("the error", run.result(&save)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("task_save") && text.contains("`task_weigh` of elf `scale`"), "{text}");
    assert!(text.ends_with("Broken: it snapped"), "{text}");
    let Error::JobFailed(failed) = error else { panic!() };
    assert_eq!(failed.job.status, JobStatus::UpstreamFailed);
    assert_eq!(failed.cause.unwrap().job_id, weigh_id);
}

#[tokio::test]
async fn a_skipped_job_is_told_from_a_failed_one() {
    let broker = FakeBroker::start().await;
    take_submissions(&broker);
    let flow = broker.client().flow("daily");
    let [weigh, other] = [(); 2].map(|()| record_one(&flow));
    let lift = flow.call("crane", "task_lift", args! { what: &weigh }).run_if(false);
    let [weigh_id, other_id, lift_id] = [weigh.id(), other.id(), lift.id()];
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |_| {
            let changes = vec![
                done(weigh_id, "7"),
                ended(other_id, JobStatus::Cancelled),
                ended(lift_id, JobStatus::Skipped),
            ];
            Ok(futures::stream::iter([message(1, changes)]).chain(futures::stream::pending()).boxed())
        }));
        script.get_job = Some(Box::new(move |request| {
            let mut job = v1::Job { job_id: request.job_id.clone(), ..v1::Job::default() };
            if request.job_id == wire(lift_id) {
                (job.elf, job.task) = ("crane".to_owned(), "task_lift".to_owned());
                job.set_status(JobStatus::Skipped);
            } else {
                job.set_status(JobStatus::Cancelled);
            }
            Ok(v1::GetJobResponse { job: Some(job), ..v1::GetJobResponse::default() })
        }));
    });
    let run = flow.submit().await.unwrap();
    let error = within("the error", run.result(&lift)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("job {lift_id} (`task_lift` of elf `crane`) was skipped, and has no result")
    );
    assert!(!error.is_retryable() && error.reason().is_none());
    let Error::JobSkipped { job_id, .. } = error else { panic!("{error:?}") };
    assert_eq!(job_id, lift_id);

    assert_eq!(within("no result", run.maybe(&lift)).await.unwrap(), None);
    assert_eq!(within("a result", run.maybe(&weigh)).await.unwrap(), Some(serde_json::json!(7)));
    let error = within("the error", run.maybe(&other)).await.unwrap_err();
    assert!(matches!(error, Error::JobFailed(_)), "{error:?}");
}

#[tokio::test]
async fn a_job_whose_cause_came_back_without_it_is_not_waited_for() {
    // A broker that tells which job was to blame, and one of an earlier version.
    for tells_root in [true, false] {
        let broker = FakeBroker::start().await;
        take_submissions(&broker);
        let flow = broker.client().flow("daily");
        let weigh = record_one(&flow);
        let save = flow.call("store", "task_save", args! { what: &weigh });
        let [weigh_id, save_id] = [weigh.id(), save.id()];
        broker.script(|script| {
            script.watch_jobs = Some(Box::new(move |_| {
                let changes = vec![ended(save_id, JobStatus::UpstreamFailed), done(weigh_id, "7")];
                Ok(futures::stream::iter([message(1, changes)]).chain(futures::stream::pending()).boxed())
            }));
            script.get_job = Some(Box::new(move |request| {
                let mut root = v1::Job { job_id: wire(weigh_id), ..v1::Job::default() };
                root.set_status(JobStatus::Done);
                if request.job_id == wire(weigh_id) {
                    return Ok(v1::GetJobResponse { job: Some(root), ..v1::GetJobResponse::default() });
                }
                let cause_job_id = wire(weigh_id);
                let mut job = v1::Job { job_id: request.job_id, cause_job_id, ..v1::Job::default() };
                job.set_status(JobStatus::UpstreamFailed);
                let root_cause = tells_root.then_some(root);
                Ok(v1::GetJobResponse { job: Some(job), root_cause, ..v1::GetJobResponse::default() })
            }));
        });
        let run = flow.submit().await.unwrap();
        let error = within("the error", run.result(&save)).await.unwrap_err();
        assert!(error.to_string().ends_with("because another job did not end well"), "{error}");
        let Error::JobFailed(failed) = error else { panic!("{error:?}") };
        assert_eq!((failed.job.job_id, failed.job.status), (save_id, JobStatus::UpstreamFailed));
        assert_eq!((failed.cause, failed.failure), (None, None));
    }
}

#[tokio::test]
async fn a_job_that_was_brought_back_is_waited_for_again() {
    let (broker, flow, job) = one_job().await;
    let id = job.id();
    let (more, changes) = tokio::sync::mpsc::unbounded_channel();
    let mut changes = Some(changes);
    let asked = more.clone();
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |_| {
            let changes = tokio_stream::wrappers::UnboundedReceiverStream::new(changes.take().unwrap());
            Ok(changes.boxed())
        }));
        script.get_job = Some(Box::new(move |request| {
            // It runs again when the program asks, and is done soon after.
            asked.send(message(2, vec![done(id, "8")])).unwrap();
            let mut job = v1::Job { job_id: request.job_id, ..v1::Job::default() };
            job.set_status(JobStatus::Running);
            Ok(v1::GetJobResponse { job: Some(job), ..v1::GetJobResponse::default() })
        }));
    });
    more.send(message(1, vec![ended(id, JobStatus::Failed)])).unwrap();
    let run = flow.submit().await.unwrap();
    assert_eq!(within("the result", run.result(&job)).await.unwrap(), serde_json::json!(8));
}

#[tokio::test]
async fn a_watch_goes_on_from_its_last_commit_or_begins_again() {
    let broker = FakeBroker::start().await;
    let job_id = JobId::generate();
    let (froms, record) = recorder();
    let mut n_calls = 0;
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |request| {
            record(request.from_commit);
            n_calls += 1;
            match n_calls {
                1 => {
                    let cut = Err(Status::unavailable("cut by the test"));
                    Ok(futures::stream::iter([message(0, vec![]), message(4, vec![]), cut]).boxed())
                }
                2 => Err(refusal(Code::OutOfRange, reason::COMMIT_UNKNOWN, None)),
                _ => Ok(futures::stream::iter([message(9, vec![done(job_id, "1")])]).boxed()),
            }
        }));
    });
    let scope = Some(v1::watch_jobs_request::Scope::Jobs(v1::JobIds { job_ids: vec![wire(job_id)] }));
    let request = v1::WatchJobsRequest { scope, until_final: true, ..v1::WatchJobsRequest::default() };
    let mut watch = broker.client().watch_jobs(request);
    let mut commits = Vec::new();
    while let Some(message) = within("the next message", watch.next()).await.unwrap() {
        commits.push(message.commit);
    }
    assert_eq!(commits, [0, 4, 9]);
    assert_eq!(*froms.lock().unwrap(), [0, 4, 0]);
    assert!(watch.next().await.unwrap().is_none(), "over is over");
}

#[tokio::test]
async fn who_waits_hears_when_the_watch_cannot_go_on() {
    let broker = FakeBroker::start().await;
    let flow_id = FlowId::generate();
    broker.knows_jobs_of(flow_id);
    let run = broker.client().run(flow_id);
    // Whoever has asked for its job after the first was told begins a watch of its own.
    broker.script(|script| {
        script.watch_jobs =
            Some(Box::new(|_| Err(refusal(Code::NotFound, reason::MYCELIUM_NOT_FOUND, None))));
    });
    let (one, two) = (JobId::generate(), JobId::generate());
    let both = async { tokio::join!(run.outputs(one), run.outputs(two)) };
    let (one, two) = within("the errors", Box::pin(both)).await;
    assert_eq!(one.unwrap_err().reason(), Some(reason::MYCELIUM_NOT_FOUND));
    assert_eq!(two.unwrap_err().reason(), Some(reason::MYCELIUM_NOT_FOUND));
}

#[tokio::test]
async fn dropping_a_run_ends_its_watch() {
    let broker = FakeBroker::start().await;
    let job_id = JobId::generate();
    let (dropped, is_dropped) = tokio::sync::oneshot::channel::<()>();
    let mut dropped = Some(dropped);
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |_| {
            let dropped = dropped.take().unwrap();
            let rest = futures::stream::once(async move {
                let _dropped = dropped;
                std::future::pending().await
            });
            Ok(futures::stream::iter([message(1, vec![done(job_id, "1")])]).chain(rest).boxed())
        }));
    });
    let flow_id = FlowId::generate();
    broker.knows_jobs_of(flow_id);
    let run = broker.client().run(flow_id);
    let outputs: TaskOutputs = within("the outputs", run.outputs(job_id)).await.unwrap();
    assert_eq!(outputs.get("value").unwrap().read::<i64>().unwrap(), 1);
    drop(run);
    within("the end of the watch", is_dropped).await.unwrap_err();
}

#[tokio::test]
async fn waiting_for_a_flow_counts_how_its_jobs_ended() {
    let broker = FakeBroker::start().await;
    let counts = v1::JobCounts { done: 3, failed: 1, ..v1::JobCounts::default() };
    let mut answers =
        vec![v1::JobCounts { ready: 4, ..v1::JobCounts::default() }, counts, counts].into_iter();
    let (watches, record) = recorder();
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |request| {
            assert!(request.until_final && request.final_only && !request.include_outputs);
            record(());
            Ok(futures::stream::iter([message(1, vec![])]).boxed())
        }));
        script.get_flow = Some(Box::new(move |_| {
            let counts = answers.next();
            Ok(v1::GetFlowResponse { flow: Some(v1::Flow { counts, ..v1::Flow::default() }) })
        }));
        script.cancel_jobs = Some(Box::new(|request| {
            assert!(matches!(request.scope, Some(v1::cancel_jobs_request::Scope::FlowId(_))));
            Ok(v1::CancelJobsResponse {
                jobs_cancelled: 2,
                jobs_final: 4,
                ..v1::CancelJobsResponse::default()
            })
        }));
    });
    let run = broker.client().run(FlowId::generate());
    assert_eq!(within("the end of the flow", run.wait()).await.unwrap(), counts);
    assert_eq!(run.cancel().await.unwrap(), 2);
    assert_eq!(within("the end of the flow", run.wait()).await.unwrap(), counts, "it has ended already");
    assert_eq!(watches.lock().unwrap().len(), 1, "what has ended is not watched");
}

#[tokio::test]
async fn results_that_can_never_come_are_errors_at_once() {
    let broker = FakeBroker::start().await;
    take_submissions(&broker);
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(|_| Ok(futures::stream::pending().boxed())));
    });
    let client = broker.client();
    let [flow, other] = ["daily", "other"].map(|name| client.flow(name));
    let (job, foreign) = (record_one(&flow), record_one(&other));
    let run = flow.submit().await.unwrap();
    other.submit().await.unwrap();

    let error = within("the error", run.result(&foreign)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, Error::JobOfAnotherFlow { job_id, flow_id, asked }
            if (job_id, flow_id, asked) == (foreign.id(), other.id(), flow.id())),
        "{error:?}"
    );
    assert!(
        text.ends_with("ask the run of its own flow") && text.contains(&other.id().to_string()),
        "{text}"
    );
    assert!(matches!(run.maybe(&foreign).await, Err(Error::JobOfAnotherFlow { .. })));
    broker.knows_jobs_of(other.id());
    let error = within("the error", run.outputs(foreign.id())).await.unwrap_err();
    assert!(matches!(error, Error::JobOfAnotherFlow { .. }), "found out by asking: {error:?}");

    let late = record_one(&flow);
    let error = within("the error", run.result(&late)).await.unwrap_err();
    assert!(matches!(error, Error::JobNotSubmitted { job_id } if job_id == late.id()), "{error:?}");
    assert!(error.to_string().contains("submit its flow (again)"), "{error}");
    assert!(!error.is_retryable() && error.reason().is_none());
    flow.submit().await.unwrap();
    assert!(futures::poll!(Box::pin(run.result(&late))).is_pending(), "now it is waited for");

    // Of flows and jobs that the broker does not know it says so itself.
    let unknown = client.run(FlowId::generate());
    assert!(matches!(unknown.result(&job).await, Err(Error::JobOfAnotherFlow { .. })));
    broker.script(|script| {
        script.get_job = Some(Box::new(|_| Err(refusal(Code::NotFound, reason::JOB_NOT_FOUND, None))));
        script.get_flow = Some(Box::new(|_| Err(refusal(Code::NotFound, reason::FLOW_NOT_FOUND, None))));
        script.watch_jobs = Some(Box::new(|_| Err(refusal(Code::NotFound, reason::FLOW_NOT_FOUND, None))));
    });
    let error = within("the error", unknown.outputs(JobId::generate())).await.unwrap_err();
    assert_eq!(error.reason(), Some(reason::JOB_NOT_FOUND));
    let error = within("the error", unknown.wait()).await.unwrap_err();
    assert_eq!(error.reason(), Some(reason::FLOW_NOT_FOUND));
    // A broker that has lost the flow since.
    let error = within("the error", client.run(flow.id()).result(&job)).await.unwrap_err();
    assert_eq!(error.reason(), Some(reason::FLOW_NOT_FOUND));
}

#[tokio::test]
async fn a_flow_without_jobs_has_ended() {
    let broker = FakeBroker::start().await;
    broker.script(|script| {
        script.get_flow = Some(Box::new(|_| Err(refusal(Code::NotFound, reason::FLOW_NOT_FOUND, None))));
        script.cancel_jobs = Some(Box::new(|_| Err(refusal(Code::NotFound, reason::FLOW_NOT_FOUND, None))));
    });
    let flow = broker.client().flow("nothing to do");
    let run = flow.submit().await.unwrap();
    assert_eq!(within("the end of the flow", run.wait()).await.unwrap(), v1::JobCounts::default());
    assert_eq!(run.cancel().await.unwrap(), 0);
    // One that has jobs and is not there is a mistake.
    take_submissions(&broker);
    record_one(&flow);
    flow.submit().await.unwrap();
    assert_eq!(within("the error", run.wait()).await.unwrap_err().reason(), Some(reason::FLOW_NOT_FOUND));
}

struct Idle;

#[elf_runtime::machine_elf]
impl Idle {
    async fn task_idle(&self) {}
}

#[tokio::test]
async fn every_call_names_the_mycelium_of_its_handle() {
    let mut broker = FakeBroker::start().await;
    let named = Arc::new(Mutex::new(Vec::new()));
    macro_rules! note {
        ($($call:ident)*) => {
            broker.script(|script| {$(
                let note = Arc::clone(&named);
                script.$call = Some(Box::new(move |request| {
                    note.lock().unwrap().push((stringify!($call), request.mycelium));
                    Ok(Default::default())
                }));
            )*});
        };
    }
    note!(submit_jobs get_job list_jobs get_flow cancel_jobs explain_job list_elves);
    let watched = Arc::clone(&named);
    broker.script(|script| {
        script.watch_jobs = Some(Box::new(move |request: v1::WatchJobsRequest| {
            watched.lock().unwrap().push(("watch_jobs", request.mycelium));
            Ok(futures::stream::empty().boxed())
        }));
    });
    let builder = Mycelium::builder(broker.url()).mycelium("meadow").patience(Duration::ZERO);
    let mycelium = builder.connect_lazy().unwrap();
    let flow = mycelium.flow("daily");
    let job = record_one(&flow);
    let run = flow.submit().await.unwrap();
    mycelium.get_job(v1::GetJobRequest::default()).await.unwrap();
    mycelium.list_jobs(v1::ListJobsRequest::default()).await.unwrap();
    mycelium.list_elves(v1::ListElvesRequest::default()).await.unwrap();
    run.counts().await.unwrap();
    run.cancel().await.unwrap();
    mycelium.why(job.id()).await.unwrap();
    within("the end of the watch", run.result(&job)).await.unwrap_err();
    let worker = mycelium_testing::Worker::spawn(mycelium.serve().elf("scale", Idle));
    let mut stream = broker.accept().await;
    assert_eq!(stream.hello().await.mycelium, "meadow");
    stream.welcome(1).await;
    worker.stop_on(stream).await.unwrap();
    let named = named.lock().unwrap();
    assert!(named.iter().all(|(_, mycelium)| mycelium == "meadow"), "{named:?}");
    let calls: std::collections::BTreeSet<&str> = named.iter().map(|(call, _)| *call).collect();
    assert_eq!(calls.len(), 8, "{calls:?}");
}
