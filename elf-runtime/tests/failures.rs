//! How tasks fail: what becomes of errors, panics and layers.
#![expect(clippy::unwrap_used, reason = "what is unexpected fails the test")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use elf_runtime::{
    ElfService, Frame, Payload, ResultExt, TaskCall, TaskContext, TaskError, TaskOutputs, TaskRequest,
    machine_elf, run_attempt,
};
use tower::timeout::TimeoutLayer;

#[derive(Debug, thiserror::Error)]
#[error("the scale is broken")]
struct ScaleError {
    #[source]
    part: std::io::Error,
}

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
