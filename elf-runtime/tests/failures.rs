//! How tasks fail: what becomes of errors, panics and layers.
#![expect(clippy::unwrap_used, reason = "what is unexpected fails the test")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use elf_runtime::{
    ElfService, Frame, Json, Output, Payload, ResultExt, TaskCall, TaskContext, TaskError, TaskOutputs,
    TaskRequest, machine_elf, run_attempt,
};
use serde::{Deserialize, Serialize};
use tower::timeout::TimeoutLayer;

#[derive(Debug, thiserror::Error)]
#[error("the scale is broken")]
struct ScaleError {
    #[source]
    part: std::io::Error,
}

#[derive(Output, Serialize, Deserialize)]
struct Sweep {
    best: f64,
    trials: Vec<HashMap<String, Trial>>,
}

#[derive(Output, Serialize, Deserialize)]
struct Trial {
    loss: Option<f32>,
    lost: (),
}

/// The macro cannot see through it.
type Lost = Option<Option<i64>>;

struct Trouble;

#[machine_elf]
impl Trouble {
    async fn task_error(&self) -> Result<i64, TaskError> {
        let weight = broken()?; // error here
        Ok(weight)
    }

    async fn task_own_error(&self) -> Result<i64, ScaleError> {
        broken()
    }

    fn task_blocking_own_error(&self) -> Result<i64, ScaleError> {
        broken()
    }

    async fn task_handed_on(&self) -> Result<i64, TaskError> {
        broken().map_err(TaskError::from) // handed on here
    }

    async fn task_converted(&self) -> Result<i64, TaskError> {
        broken().map_err(Into::into) // converted here
    }

    #[rustfmt::skip]
    async fn task_take(
        &self,
        weight: i64,
        #[task(default = 1)]
        digits: u32,
    ) -> i64 {
        weight + i64::from(digits)
    }

    async fn task_nan(&self) -> f64 {
        f64::NAN
    }

    fn task_blocking_infinity(&self) -> Result<Sweep, TaskError> {
        let trial = Trial { loss: Some(f32::NEG_INFINITY), lost: () };
        Ok(Sweep { best: 0.5, trials: vec![HashMap::from([("a b".to_owned(), trial)])] })
    }

    async fn task_level(&self) -> Lost {
        Some(None)
    }

    async fn task_json(&self) -> Json<Vec<Trial>> {
        Json(vec![Trial { loss: Some(f32::NAN), lost: () }])
    }

    async fn task_context(&self) -> Result<i64, TaskError> {
        broken().context("cannot weigh the bee") // context here
    }

    async fn task_panic(&self, number: u32) {
        tokio::task::yield_now().await;
        if number < 1_000 {
            panic!("panicked with {number}"); // panic here
        }
    }

    fn task_blocking_panic(&self, text: String) -> usize {
        fell_over(&text)
    }

    async fn task_index(&self, list: Vec<i64>) -> i64 {
        list[7] // index here
    }

    async fn task_sleep(&self) {
        std::future::pending::<()>().await;
    }

    async fn task_large(&self) -> String {
        "x".repeat(2 * 1024 * 1024)
    }
}

fn broken() -> Result<i64, ScaleError> {
    Err(ScaleError { part: std::io::Error::other("a spring") })
}

#[inline(never)]
fn fell_over(text: &str) -> usize {
    text.parse::<usize>().expect("not a number") // expect here
}

/// The line of this file that has this mark.
fn line_of(mark: &str) -> u32 {
    let mark = format!("// {mark} here");
    let index = include_str!("failures.rs").lines().position(|line| line.ends_with(&mark)).unwrap();
    u32::try_from(index + 1).unwrap()
}

fn request(task: &str, arguments: Vec<(String, Payload)>) -> TaskRequest {
    TaskRequest { call: TaskCall::new(task, arguments), context: TaskContext::for_test() }
}

async fn run(task: &str, arguments: Vec<(String, Payload)>) -> Result<TaskOutputs, TaskError> {
    run_attempt(ElfService::new(Trouble).boxed(), request(task, arguments)).await
}

async fn fail(task: &str, arguments: Vec<(String, Payload)>) -> TaskError {
    run(task, arguments).await.unwrap_err()
}

fn argument<T: serde::Serialize>(name: &str, value: T) -> Vec<(String, Payload)> {
    vec![(name.to_owned(), Payload::json(&value).unwrap())]
}

fn is_here(frame: &Frame, mark: &str) -> bool {
    frame.file.ends_with("tests/failures.rs") && frame.line == line_of(mark)
}

/// Whether it is the first line of this file that has this text.
fn is_at(frame: &Frame, text: &str) -> bool {
    let index = include_str!("failures.rs").lines().position(|line| line.contains(text)).unwrap();
    frame.file.ends_with("tests/failures.rs") && frame.line as usize == index + 1
}

#[tokio::test]
async fn an_error_names_its_place_and_its_causes() {
    let error = fail("task_error", vec![]).await;
    assert_eq!((error.failure_type(), error.message_text()), ("ScaleError", "the scale is broken"));
    assert!(is_here(&error.frames()[0], "error"), "{error:?}");
    let causes: Vec<(&str, &str)> =
        error.causes().iter().map(|c| (c.failure_type.as_str(), c.message.as_str())).collect();
    assert_eq!(causes, [("io::Error", "a spring")]);
}

#[tokio::test]
async fn an_error_type_of_the_authors_own_is_kept() {
    let error = fail("task_own_error", vec![]).await;
    assert_eq!((error.failure_type(), error.causes().len()), ("ScaleError", 1));
}

/// Its author made it where no one was looking; the nearest place that is his own is the task that returned it.
#[tokio::test]
async fn the_place_of_an_error_of_the_authors_own_is_the_task() {
    let error = fail("task_own_error", vec![]).await;
    let [frame] = error.frames() else { panic!("one frame expected: {error:?}") };
    assert!(is_at(frame, "fn task_own_error("), "{error:?}");
    let error = fail("task_blocking_own_error", vec![]).await;
    let [frame] = error.frames() else { panic!("one frame expected: {error:?}") };
    assert!(is_at(frame, "fn task_blocking_own_error("), "{error:?}");
}

/// The standard library calls what it is handed, and its own file and line say nothing.
#[tokio::test]
async fn the_place_of_a_conversion_that_is_handed_on_is_where_that_is_done() {
    for (task, mark) in [("task_handed_on", "handed on"), ("task_converted", "converted")] {
        let error = fail(task, vec![]).await;
        assert_eq!((error.failure_type(), error.causes().len()), ("ScaleError", 1));
        assert!(is_here(&error.frames()[0], mark), "{error:?}");
    }
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_failures_of_their_own_at_their_parameter_and_quote_nothing() {
    let both = |digits: Payload| {
        vec![("weight".to_owned(), Payload::json(&7).unwrap()), ("digits".to_owned(), digits)]
    };
    let weight = fail("task_take", argument("weight", "hunter2")).await;
    let digits = fail("task_take", both(Payload::json("hunter2").unwrap())).await;
    let missing = fail("task_take", vec![]).await;
    for (error, mark, function) in [
        (&weight, "weight: i64,", "task_take(weight: i64)"),
        (&digits, "digits: u32,", "task_take(digits: u32)"),
        (&missing, "weight: i64,", "task_take(weight: i64 missing)"),
    ] {
        assert_eq!(error.failure_type(), "ArgumentTypeError");
        let [frame] = error.frames() else { panic!("one frame expected: {error:?}") };
        assert_eq!(frame.function, function);
        assert!(is_at(frame, mark), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert_eq!(
        weight.message_text(),
        "the argument for the parameter `weight` of `task_take` does not fit: it cannot be read as `i64`: expected i64, \
         found a string"
    );
}

#[tokio::test]
async fn what_json_would_make_something_else_of_fails_the_attempt_with_its_place() {
    let told = |error: &TaskError| {
        assert_eq!(error.failure_type(), "ResultTypeError");
        error.message_text().to_owned()
    };
    let nan = fail("task_nan", vec![]).await;
    assert_eq!(
        told(&nan),
        "what `task_nan` returned cannot be sent: it cannot be written as JSON: at `value`: NaN is no number that JSON \
         has"
    );
    assert!(is_at(&nan.frames()[0], "fn task_nan(") && nan.frames()[0].function == "task_nan", "{nan:?}");
    let infinity = fail("task_blocking_infinity", vec![]).await;
    assert_eq!(
        told(&infinity),
        "what `task_blocking_infinity` returned cannot be sent: it cannot be written as JSON: at `trials[0][\"a \
         b\"].loss`: -inf is no number that JSON has"
    );
    assert!(is_at(&infinity.frames()[0], "fn task_blocking_infinity("), "{infinity:?}");
    assert!(told(&fail("task_json", vec![]).await).contains("at `value[0].loss`: NaN is no number"));
    assert!(
        told(&fail("task_level", vec![]).await)
            .ends_with("at `value`: `Some` of a value that is written as null would be read back as `None`")
    );
    // What a task writes by hand, and what it reads back.
    let by_hand = Payload::json(&f64::NAN).map_err(TaskError::from).unwrap_err();
    assert_eq!(by_hand.failure_type(), "ResultTypeError");
}

#[tokio::test]
async fn context_names_the_place_where_it_is_said() {
    let error = fail("task_context", vec![]).await;
    assert_eq!(error.message_text(), "cannot weigh the bee: the scale is broken");
    assert!(is_here(&error.frames()[0], "context"), "{error:?}");
    assert_eq!(error.causes().len(), 2);
}

#[tokio::test]
async fn a_panic_is_a_failure_with_its_place() {
    let error = fail("task_panic", argument("number", 7)).await;
    assert_eq!((error.failure_type(), error.message_text()), ("Panic", "panicked with 7"));
    assert!(is_here(&error.frames()[0], "panic"), "{error:?}");
    for frame in error.frames() {
        assert!(!frame.function.starts_with("tokio::") && !frame.function.starts_with("std::"), "{error:?}");
    }
    run("task_panic", argument("number", 1_000)).await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_standard_library_names_the_users_line() {
    let error = fail("task_index", argument("list", vec![1])).await;
    assert!(error.message_text().contains("the index is 7"), "{error:?}");
    assert!(is_here(&error.frames()[0], "index"), "{error:?}");
}

#[tokio::test]
async fn a_panic_in_a_blocking_task_names_the_callers_too() {
    let error = fail("task_blocking_panic", argument("text", "bee")).await;
    assert!(error.message_text().starts_with("not a number: ParseIntError"), "{error:?}");
    assert!(is_here(&error.frames()[0], "expect"), "{error:?}");
    let functions: Vec<&str> = error.frames().iter().map(|frame| frame.function.as_str()).collect();
    assert!(functions[0].ends_with("fell_over"), "{functions:?}");
    assert!(functions.iter().any(|function| function.contains("task_blocking_panic")), "{functions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_panics_at_once_do_not_mix() {
    let tasks: Vec<_> = (0..200_u32)
        .map(|number| {
            tokio::spawn(async move { (number, fail("task_panic", argument("number", number)).await) })
        })
        .collect();
    for task in tasks {
        let (number, error) = task.await.unwrap();
        assert_eq!(error.message_text(), format!("panicked with {number}"));
        assert!(is_here(&error.frames()[0], "panic"), "{error:?}");
    }
}

/// In a test of its own process-wide hook: panics of others still reach it, and those of tasks do not.
#[test]
fn panics_of_others_reach_the_hook_that_was_there() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let seen = || SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // Whichever test comes first: a hook on top of ours sees all panics, so what counts is put below ours by a process
    // that has not called a task yet.
    let executable = std::env::current_exe().unwrap();
    if std::env::var_os("FAILURES_HOOK_CHILD").is_none() {
        let output = std::process::Command::new(executable)
            .args(["--exact", "panics_of_others_reach_the_hook_that_was_there", "--nocapture"])
            .env("FAILURES_HOOK_CHILD", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let error = runtime.block_on(fail("task_panic", argument("number", 7)));
    assert_eq!(error.message_text(), "panicked with 7");
    assert_eq!(seen(), [""; 0], "a task's panic is told as its failure only");

    let other = runtime.block_on(async { tokio::spawn(async { panic!("somebody else") }).await });
    assert!(other.unwrap_err().is_panic());
    std::thread::spawn(|| panic!("a thread")).join().unwrap_err();
    let seen = seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].contains("somebody else") && seen[1].contains("a thread"), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_layer_makes_a_failure_of_the_type_timeout() {
    let layer = TimeoutLayer::new(Duration::from_secs(5));
    let service = ElfService::new(Trouble).layer(layer);
    let error = run_attempt(service.clone(), request("task_sleep", vec![])).await.unwrap_err();
    assert_eq!(error.failure_type(), "Timeout");
    // What the task itself says comes through the layer as it was.
    let error = run_attempt(service, request("task_error", vec![])).await.unwrap_err();
    assert_eq!(error.failure_type(), "ScaleError");
    assert!(is_here(&error.frames()[0], "error"), "{error:?}");
}

#[tokio::test]
async fn errors_and_panics_of_layers_are_failures_of_the_attempt() {
    let refusing = tower::layer::layer_fn(|_inner: ElfService| {
        tower::service_fn(|_: TaskRequest| async {
            Err::<TaskOutputs, _>(std::io::Error::other("the door is shut"))
        })
    });
    let error = run_attempt(ElfService::new(Trouble).layer(refusing), request("task_error", vec![])).await;
    let error = error.unwrap_err();
    assert_eq!((error.failure_type(), error.message_text()), ("io::Error", "the door is shut"));

    let panicking = tower::layer::layer_fn(|_inner: ElfService| {
        tower::service_fn(|_: TaskRequest| async {
            if true { panic!("a layer") } else { Ok::<_, std::io::Error>(TaskOutputs::new()) }
        })
    });
    let error = run_attempt(ElfService::new(Trouble).layer(panicking), request("task_error", vec![])).await;
    assert_eq!(error.unwrap_err().message_text(), "a layer");
}

#[tokio::test]
async fn a_large_output_is_an_output_like_any_other() {
    let outputs = run("task_large", vec![]).await.unwrap();
    assert_eq!(outputs.get("value").unwrap().bytes().len(), 2 * 1024 * 1024 + 2);
}

#[tokio::test]
async fn a_task_that_is_not_wanted_any_more_notices() {
    struct Digger;
    #[machine_elf]
    impl Digger {
        async fn task_dig(&self, context: &TaskContext) -> bool {
            context.cancelled().await;
            context.is_cancelled()
        }
    }
    let context = TaskContext::for_test();
    let call = TaskCall::new("task_dig", vec![]);
    let request = TaskRequest { call, context: context.clone() };
    let running = tokio::spawn(run_attempt(ElfService::from_shared(Arc::new(Digger)).boxed(), request));
    context.cancellation().cancel();
    assert!(running.await.unwrap().unwrap().get("value").unwrap().read::<bool>().unwrap());
}
