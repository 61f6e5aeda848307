//! A value is what the task returned, or the attempt fails: nothing becomes null, a float or a message on its way.

use std::future::Future;

use anyhow::{Context as _, ensure};
use elf_runtime::{Error, Job, Json, Mycelium, Output, Value, args, list, machine_elf};
use integration_tests::{Worker, until};
use mycelium_proto::v1::{self, JobStatus};
use mycelium_server::Broker;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Output)]
struct Trial {
    rate: f64,
    loss: f64,
}

#[derive(Debug, Serialize, Deserialize, Output)]
#[output(value)]
#[serde(rename_all = "lowercase")]
enum Size {
    Small,
    Large,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Output)]
struct Twice {
    first: serde_json::Value,
    second: serde_json::Value,
}

struct Lab;

#[machine_elf]
impl Lab {
    /// Diverges from a rate of 1 on.
    async fn task_train(&self, rate: f64) -> Trial {
        Trial { rate, loss: if rate < 1.0 { 1.0 - rate } else { f64::NAN } }
    }

    /// Knows nothing of rates from 1 on.
    async fn task_estimate(&self, rate: f64) -> Option<f64> {
        (rate < 1.0).then_some(1.0 - rate)
    }

    fn task_count(&self, most: bool) -> u128 {
        if most { u128::MAX } else { 7 }
    }

    async fn task_echo(&self, value: serde_json::Value) -> serde_json::Value {
        value
    }

    async fn task_truth(&self, value: bool) -> bool {
        value
    }

    async fn task_number(&self, value: f64) -> f64 {
        value
    }

    async fn task_size(&self, value: Size) -> Size {
        value
    }

    async fn task_twice(&self, value: serde_json::Value) -> Twice {
        Twice { first: value.clone(), second: value }
    }
}

/// A list of literals.
fn rates(rates: &[f64]) -> Value<Vec<f64>> {
    rates.iter().copied().collect()
}

fn list_of(rate: &Value<f64>) -> Value<Vec<f64>> {
    list![rate]
}

/// Runs with a broker and an elf.
async fn in_the_lab<F: Future<Output = anyhow::Result<()>>>(
    test: impl FnOnce(Mycelium) -> F,
) -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = mycelium.serve().elf("lab", Lab).run_until(async {
        let _ = stopped.await;
    });
    let worker = tokio::spawn(worker);
    Box::pin(test(mycelium)).await?;
    let _ = stop.send(());
    worker.await??;
    Ok(broker.stop().await?)
}

/// The failure that a job ended with.
async fn failure<T: Output>(run: &elf_runtime::Run, job: &Job<T>) -> anyhow::Result<v1::Failure> {
    match run.result(job).await {
        Err(Error::JobFailed(failure)) => {
            ensure!(failure.job.status == JobStatus::Failed, "{failure}");
            failure.failure.context("a failure")
        }
        Err(other) => Err(other.into()),
        Ok(_) => anyhow::bail!("it ended well"),
    }
}

#[tokio::test]
async fn a_number_that_json_does_not_have_fails_the_attempt_or_the_submission() -> anyhow::Result<()> {
    in_the_lab(|mycelium| async move {
        let flow = mycelium.flow("sweep");
        let lab = Lab::tasks(&flow, "lab");
        let good = lab.task_train(0.75);
        let diverged = lab.task_train(1.5);
        let run = flow.submit().await?;
        ensure!(run.result(&good).await? == Trial { rate: 0.75, loss: 0.25 });
        let failed = failure(&run, &diverged).await?;
        ensure!(failed.r#type == "ResultTypeError", "{failed:?}");
        ensure!(failed.message.contains("at `loss`: NaN"), "{failed:?}");
        ensure!(!failed.message.contains("1.5"), "{failed:?}");

        for (literal, told) in [
            (Value::literal(&Some(f64::INFINITY)).untyped(), "inf is no number"),
            (rates(&[1.0, f64::NAN]).untyped(), "NaN is no number"),
            (Value::literal(&vec![(1, f64::NEG_INFINITY)]).untyped(), "at `[0][1]`: -inf is no number"),
            (Value::literal(&vec![1.0]).map(|x| x + f64::NAN).untyped(), "NaN is no number"),
        ] {
            let flow = mycelium.flow("literals");
            flow.call("lab", "task_echo", args! { value: literal });
            let error = flow.submit().await.err().context("it is refused")?.to_string();
            ensure!(error.contains("parameter `value`") && error.contains(told), "{error}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn null_is_no_number_to_compare() -> anyhow::Result<()> {
    in_the_lab(|mycelium| async move {
        let flow = mycelium.flow("sweep");
        let lab = Lab::tasks(&flow, "lab");
        let known = lab.task_estimate(0.75).value().required();
        let unknown = lab.task_estimate(1.5).value().required();
        let both: Value<Vec<f64>> = list![&known, &unknown];
        let wrong: Vec<Job<serde_json::Value>> = [
            unknown.less_than(10.0).untyped(),
            unknown.less_or_equal(10.0).untyped(),
            known.greater_than(&unknown).untyped(),
            known.greater_or_equal(&unknown).untyped(),
            unknown.equals(1.0).untyped(),
            unknown.not_equals(1.0).untyped(),
            known.minimum(&unknown).untyped(),
            Value::maximum_of(&known, [&unknown]).untyped(),
            both.sorted().untyped(),
            both.sorted_descending().untyped(),
            both.min().untyped(),
            both.max().untyped(),
            both.map(|x| list_of(&x)).sorted_by(|list| list.get(0)).first().untyped(),
            list_of(&unknown).sorted().untyped(),
        ]
        .into_iter()
        .map(|value| flow.call("lab", "task_echo", args! { value: value }))
        .collect();
        let fine = lab.task_truth(known.less_than(10.0));
        // The order of all values is there for those who ask for it.
        let any = lab.task_truth(unknown.untyped().less_than(Value::any(&0)));
        let least = lab.task_number(both.filter(|x| !x.untyped().is_null()).min());
        let run = flow.submit().await?;
        for (index, job) in wrong.iter().enumerate() {
            let failed = failure(&run, job).await?;
            ensure!(failed.r#type == "ValueDerivationError", "{index}: {failed:?}");
            ensure!(failed.message.ends_with("(wrong_type)"), "{index}: {failed:?}");
            ensure!(failed.message.contains("null"), "{index}: {failed:?}");
        }
        ensure!(run.result(&fine).await?);
        ensure!(run.result(&any).await?);
        ensure!(run.result(&least).await? == 0.25);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn digits_are_kept_or_the_value_is_refused() -> anyhow::Result<()> {
    in_the_lab(|mycelium| async move {
        let flow = mycelium.flow("digits");
        let count = flow.call("lab", "task_count", args! { most: true });
        let few = flow.call("lab", "task_count", args! { most: false });
        let echo = flow.call("lab", "task_echo", args! { value: &count });
        let run = flow.submit().await?;
        ensure!(run.result(&count.typed::<u128>()).await? == u128::MAX);
        let text = run.result(&count.typed::<Json<Box<RawValue>>>()).await?;
        ensure!(text.0.get() == u128::MAX.to_string());
        ensure!(run.result(&few).await? == 7);
        let error = run.result(&count).await.err().context("it is refused")?;
        let told = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        ensure!(told.contains("an integer beyond 64 bits") && told.contains("u128"), "{told}");
        let failed = failure(&run, &echo).await?;
        ensure!(failed.r#type == "ArgumentTypeError", "{failed:?}");
        ensure!(failed.message.contains("an integer beyond 64 bits"), "{failed:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_value_is_never_quoted_and_failures_of_different_arguments_are_told_apart() -> anyhow::Result<()> {
    const SECRET: &str = "hunter2";
    in_the_lab(|mycelium| async move {
        let flow = mycelium.flow("secrets");
        let secret: Value<serde_json::Value> =
            flow.call("lab", "task_echo", args! { value: SECRET }).output("value");
        let text: Value<String> = secret.typed();
        let jobs = [
            flow.call("lab", "task_number", args! { value: &secret }),
            flow.call("lab", "task_truth", args! { value: &secret }),
            flow.call("lab", "task_size", args! { value: &secret }),
        ];
        let derived = [
            text.to_int().untyped(),
            text.to_float().untyped(),
            text.decode_json(),
            Value::operation("list.remove", [Value::any(&[1]), secret.clone()]),
            Value::operation("get", [Value::any(&serde_json::json!({})), secret.clone()]),
            Value::operation("map.remove", [Value::any(&serde_json::json!({})), secret.clone()]),
            Value::operation("base64.decode", [secret.clone()]),
            Value::operation("string.format", [text.clone() + "{"]),
            Value::operation("string.pad_start", [Value::any("x"), Value::any(&9), secret.clone()]),
            Value::operation("strict.less", [secret.clone(), Value::any(&1)]),
        ]
        .map(|value| flow.call("lab", "task_echo", args! { value: value }));
        let elsewhere = flow.call("lab", "task_number", args! { value: text.to_int() });
        let run = flow.submit().await?;
        let mut ids = std::collections::BTreeSet::new();
        for job in &jobs {
            let failed = failure(&run, job).await?;
            ensure!(failed.r#type == "ArgumentTypeError", "{failed:?}");
            ensure!(!format!("{failed:?}").contains(SECRET), "{failed:?}");
            ids.insert(mycelium.job(job.id()).await?.failure_id);
        }
        ensure!(ids.len() == jobs.len(), "each is a failure of its own");
        let mut ids = std::collections::BTreeSet::new();
        for (index, job) in derived.iter().enumerate() {
            let failed = failure(&run, job).await.with_context(|| index.to_string())?;
            ensure!(failed.r#type == "ValueDerivationError", "{failed:?}");
            ensure!(!format!("{failed:?}").contains(SECRET), "{failed:?}");
            ids.insert(mycelium.job(job.id()).await?.failure_id);
        }
        ensure!(ids.len() == derived.len(), "each operation fails in its own way");
        let of_another = failure(&run, &elsewhere).await?;
        ensure!(of_another.r#type == "ValueDerivationError", "{of_another:?}");
        let ids =
            [mycelium.job(elsewhere.id()).await?.failure_id, mycelium.job(derived[0].id()).await?.failure_id];
        ensure!(ids[0] != ids[1], "of another task it is another failure");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn arguments_that_nobody_takes_wait_and_computed_ones_that_do_not_fit_are_failures()
-> anyhow::Result<()> {
    in_the_lab(|mycelium| async move {
        let flow = mycelium.flow("computed");
        let [text, other] =
            ["x", "y"].map(|text| Lab::tasks(&flow, "lab").task_echo(serde_json::json!(text)));
        let jobs = [
            flow.call("lab", "task_number", args! { value: text.value() }),
            flow.call("lab", "task_truth", args! { value: text.value() }),
        ];
        let same = [
            flow.call("lab", "task_number", args! { value: other.value() }),
            flow.call("lab", "task_truth", args! { value: other.value() }),
        ];
        let run = flow.submit().await?;
        let mut ids = std::collections::BTreeSet::new();
        for (job, same) in jobs.iter().zip(&same) {
            for job in [job, same] {
                let failed = failure(&run, job).await?;
                ensure!(failed.r#type == "ArgumentTypeError", "{failed:?}");
            }
            let id = mycelium.job(job.id()).await?.failure_id;
            ensure!(id == mycelium.job(same.id()).await?.failure_id, "the same mistake is the same failure");
            ids.insert(id);
        }
        ensure!(ids.len() == jobs.len(), "each is a failure of its own");
        Ok(())
    })
    .await?;

    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    // Nobody knows what the elf takes when they are submitted.
    let flow = mycelium.flow("early");
    let jobs = [
        flow.call("lab", "task_number", args! {}),
        flow.call("lab", "task_number", args! { value: "x" }),
        flow.call("lab", "task_number", args! { value: 1.5, more: 1 }),
    ];
    let taken = flow.call("lab", "task_number", args! { value: 1.5 });
    let run = flow.submit().await?;
    let worker = Worker::start(mycelium.serve().elf("lab", Lab)).await?;
    run.result(&taken).await?;
    for job in &jobs {
        let request = v1::ExplainJobRequest {
            job_id: job.id().as_bytes().to_vec().into(),
            ..v1::ExplainJobRequest::default()
        };
        until("it to be known that nobody takes it", || async {
            let reason = mycelium.explain_job(request.clone()).await?.reason.and_then(|reason| reason.kind);
            Ok(matches!(reason, Some(v1::wait_reason::Kind::NoFittingInstance(_))).then_some(()))
        })
        .await?;
    }
    worker.stop().await?;
    Ok(broker.stop().await?)
}

/// Lists in each other, so many, around a text.
fn nested(levels: usize, text: &str) -> serde_json::Value {
    (0..levels).fold(serde_json::Value::from(text), |inner, _| serde_json::Value::Array(vec![inner]))
}

#[tokio::test]
async fn a_value_nests_as_deep_for_the_runtime_as_for_the_broker() -> anyhow::Result<()> {
    // Beside the one that travels inline, one that travels as a blob.
    let long = "x".repeat(100_000);
    in_the_lab(|mycelium| async move {
        let flow = mycelium.flow("deep");
        let lab = Lab::tasks(&flow, "lab");
        let mut jobs = Vec::new();
        for text in ["x", &long] {
            for levels in 126..=128 {
                let value = nested(levels, text);
                jobs.push((
                    value.clone(),
                    flow.call("lab", "task_echo", args! { value: &value }),
                    lab.task_twice(value),
                ));
            }
        }
        let too_deep = flow.call("lab", "task_echo", args! { value: nested(129, &long) });
        let run = flow.submit().await?;
        for (value, echoed, twice) in jobs {
            ensure!(run.result(&echoed).await? == value);
            let both = run.result(&twice).await?;
            ensure!(both.first == value && both.second == value);
        }
        let failed = failure(&run, &too_deep).await?;
        ensure!(failed.r#type == "ArgumentTypeError", "{failed:?}");
        ensure!(failed.message.contains("at `[0][0]"), "{}", failed.message);
        let told = "it nests 129 lists and maps in each other, and 128 can be read";
        ensure!(failed.message.ends_with(told), "{}", failed.message);

        let flow = mycelium.flow("too deep");
        flow.call("lab", "task_echo", args! { value: nested(129, "x") });
        let refused = flow.submit().await.err().context("it is taken")?;
        ensure!(format!("{refused}").contains("nests more than 128 deep"), "{refused}");
        Ok(())
    })
    .await
}
