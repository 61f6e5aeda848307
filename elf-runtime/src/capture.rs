//! Panics of tasks become failures, with message and place.
//!
//! The language tells the place of a panic only to the process-wide panic hook. So the runtime chains a hook of its
//! own before the one it finds: a panic on a thread that is polling a task right then is kept for that task, and
//! every other panic goes on to the hook that was there before.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

use mycelium_proto::limits;

use crate::task_error::{Frame, TaskError, failure_type};

thread_local! {
    /// Whether this thread is running a task's code right now.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
    /// What the hook kept of the last panic of that code. The hook writes it, `guarded` takes it, on one thread.
    static CAPTURED: RefCell<Option<Captured>> = const { RefCell::new(None) };
}

/// What the hook keeps of a panic.
struct Captured {
    message: String,
    frames: Vec<Frame>,
}

/// Runs a future to its end; a panic in it, or in its being dropped, becomes a [`TaskError`] of the type `Panic`.
///
/// Tasks that the future spawns are on their own, as ever: their panics reach whoever joins them.
pub(crate) fn catch_panic<F: Future>(future: F) -> CatchPanic<F> {
    CatchPanic { future: Some(Box::pin(future)) }
}

/// The future of [`catch_panic`].
pub(crate) struct CatchPanic<F> {
    /// `None` once it has ended.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(future) = &mut this.future else {
            panic!("a future was polled after it had ended");
        };
        let polled = guarded(|| future.as_mut().poll(context));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                // Dropping runs the task's code too.
                let dropped = guarded(|| this.future = None);
                Poll::Ready(dropped.map(|()| output))
            }
            Err(failure) => {
                // The first panic tells what went wrong; one more while cleaning up after it would only hide it.
                let _later_panic = guarded(|| this.future = None);
                Poll::Ready(Err(failure))
            }
        }
    }
}

impl<F> Drop for CatchPanic<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            // The attempt is not wanted any more, so nobody is left to hear of a panic while it is dropped.
            let _unheard_panic = guarded(|| self.future = None);
        }
    }
}

/// Runs a blocking function off the async threads. A panic in it becomes a [`TaskError`] of the type `Panic`.
pub(crate) async fn run_blocking<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskError> {
    match tokio::task::spawn_blocking(move || guarded(function)).await {
        Ok(result) => result,
        Err(error) => Err(TaskError::of_runtime(
            failure_type::PANIC,
            format!("the blocking task did not run to its end: {error}"),
        )),
    }
}

/// Runs a task's code; a panic in it comes back as a failure.
fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, TaskError> {
    install_hook();
    let outer = CAPTURING.replace(true);
    CAPTURED.with_borrow_mut(|captured| *captured = None);
    // Nothing of ours is touched by `code`, and what it owns is dropped after a panic: no broken state is seen.
    let result = panic::catch_unwind(AssertUnwindSafe(code));
    let result = result.map_err(|payload| {
        let captured = CAPTURED.with_borrow_mut(Option::take);
        // Without the hook's word (a panic resumed from elsewhere) the payload still has the message.
        let captured = captured
            .unwrap_or_else(|| Captured { message: message_of(payload.as_ref()), frames: Vec::new() });
        discard(payload);
        TaskError::from_parts(failure_type::PANIC.to_owned(), captured.message, captured.frames, Vec::new())
    });
    CAPTURING.set(outer);
    result
}

/// Drops the payload of a panic, which is a value of the task's own and may panic in its turn.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // A payload whose payload panics too is left where it is: leaking it is the end of the chain.
        std::mem::forget(second);
    }
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // `try_with`: a thread may panic while its thread-locals are being destroyed.
            if CAPTURING.try_with(Cell::get).unwrap_or(false) {
                keep(info);
            } else {
                previous(info);
            }
        }));
    });
}

/// Keeps what is known of a panic for the task that runs on this thread.
fn keep(info: &PanicHookInfo<'_>) {
    let location = info.location().map(|location| Frame {
        function: String::new(),
        file: location.file().to_owned(),
        line: location.line(),
    });
    let backtrace = format!("{:#}", Backtrace::force_capture());
    let captured = Captured {
        message: message_of(info.payload()),
        frames: useful_frames(parse_backtrace(&backtrace), location),
    };
    CAPTURED.with_borrow_mut(|slot| *slot = Some(captured));
}

/// The place of a call, as the compiler told it. If that is one in the standard library, which calls what it is handed
/// (`map_err(TaskError::from)`, `into()`), the frames of the stack are looked through for those that people wrote.
pub(crate) fn frames_at(location: &Location<'_>) -> Vec<Frame> {
    if is_of_standard_library(location.file()) {
        let backtrace = format!("{:#}", Backtrace::force_capture());
        return useful_frames(parse_backtrace(&backtrace), None);
    }
    // The compiler tells the place of a caller, not the name of its function.
    vec![Frame { function: String::new(), file: location.file().to_owned(), line: location.line() }]
}

/// Whether a file is one of the standard library, where it was built or where its sources are installed.
fn is_of_standard_library(file: &str) -> bool {
    file.starts_with("/rustc/") || file.contains("/lib/rustlib/src/rust/library/")
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not a text".to_owned()
    }
}

/// Reads the text of a backtrace in its full form. The language offers no other way to its frames; a line that does
/// not look as expected gives a frame that knows less.
fn parse_backtrace(text: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(place) = line.strip_prefix("at ") {
            let Some(frame) = frames.last_mut() else { continue };
            let mut parts = place.rsplitn(3, ':');
            let (column, line, file) = (parts.next(), parts.next(), parts.next());
            if let (Some(_), Some(Ok(line)), Some(file)) = (column, line.map(str::parse), file) {
                frame.line = line;
                file.clone_into(&mut frame.file);
            }
        } else if !line.is_empty() {
            frames.push(Frame { function: function_name(line).to_owned(), file: String::new(), line: 0 });
        }
    }
    frames
}

/// The function of a frame's first line: `  12:     0x55d0c0a8 - animals::weigh::h0123456789abcdef`. Inlined
/// functions have no number and no address.
fn function_name(line: &str) -> &str {
    let unnumbered = match line.split_once(": ") {
        Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest.trim_start(),
        Some(_) | None => line,
    };
    let unaddressed = match unnumbered.split_once(" - ") {
        Some((address, rest)) if address.starts_with("0x") => rest,
        Some(_) | None => unnumbered,
    };
    const HASH_DIGITS: usize = 16;
    match unaddressed.rsplit_once("::h") {
        Some((function, hash))
            if hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            function
        }
        Some(_) | None => unaddressed,
    }
}

/// The frames that tell people something: from the place of the panic outwards, without those of the standard
/// library, of the async runtime and of ours, with files as the compiler names them.
fn useful_frames(frames: Vec<Frame>, location: Option<Frame>) -> Vec<Frame> {
    let is_location = |frame: &Frame| {
        location.as_ref().is_some_and(|place| place.line == frame.line && frame.file.ends_with(&place.file))
    };
    let first = frames.iter().position(is_location);
    // Debug information has absolute paths and the compiler's word at the place of the panic is relative to the
    // workspace: their difference is where it was built, which says nothing and differs between machines.
    let build_directory = match (first, &location) {
        (Some(index), Some(place)) => frames[index].file.strip_suffix(&place.file).unwrap_or_default(),
        (Some(_) | None, _) => "",
    }
    .to_owned();
    let place_is_framed = first.is_some_and(|index| is_useful(&frames[index]));

    let useful = frames.into_iter().skip(first.unwrap_or(0)).filter(is_useful).map(|mut frame| {
        if let Some(relative) = frame.file.strip_prefix(&build_directory) {
            frame.file = relative.to_owned();
        }
        frame
    });
    let place = if place_is_framed { None } else { location };
    place.into_iter().chain(useful).take(limits::FAILURE_FRAMES_MAX).collect()
}

fn is_useful(frame: &Frame) -> bool {
    const RUNTIME_CRATES: [&str; 14] = [
        "std",
        "core",
        "alloc",
        "test",
        "tokio",
        "tokio_util",
        "tower",
        "tower_service",
        "futures",
        "futures_core",
        "futures_util",
        "futures_executor",
        "elf_runtime",
        "tracing",
    ];
    // Inlined functions may have their last name only, and are known by their file. Functions without a Rust file are
    // those that start a process or a thread.
    let of_file = crate_of_file(&frame.file);
    let named = frame.function.trim_start_matches(['<', '&', '*', '(']);
    let of_function = named.split_once("::").map(|(crate_name, _)| crate_name);
    let is_known = of_function.is_some() || frame.file.ends_with(".rs");
    let is_runtime =
        [of_function, of_file.as_deref()].into_iter().flatten().any(|name| RUNTIME_CRATES.contains(&name));
    is_known
        && !is_runtime
        && !frame.function.contains(" as elf_runtime::")
        // Inlined, the block that the macro puts around a task has no more name than this.
        && !frame.function.starts_with("{async_block")
        && !is_of_standard_library(&frame.file)
}

/// The crate that a file belongs to, if it comes from a registry: `…/registry/src/index…/tokio-1.50.0/src/…`, or if it
/// is this one.
fn crate_of_file(file: &str) -> Option<String> {
    if file.contains("elf-runtime/src/") {
        return Some("elf_runtime".to_owned());
    }
    let (_, in_registry) = file.split_once("/registry/src/")?;
    let directory = in_registry.split('/').nth(1)?;
    let (name, _version) = directory.rsplit_once('-')?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
   0:     0x55d0c0a8e1f2 - std::backtrace_rs::backtrace::libunwind::trace::h0123456789abcdef
                               at /rustc/59807616e/library/std/src/../../backtrace/src/backtrace/libunwind.rs:117:9
   9:     0x55d0c0a8e1f3 - core::panicking::panic_fmt::h0123456789abcdef
                               at /rustc/59807616e/library/core/src/panicking.rs:80:14
  10:     0x55d0c0a8e1f4 - animals::scale::weigh::h0123456789abcdef
                               at /home/bee/animals/src/scale.rs:12:9
                         - animals::Scale::task_weigh::{{closure}}::h0123456789abcdef
                               at /home/bee/animals/src/main.rs:30:5
  11:     0x55d0c0a8e1f5 - <animals::Scale as elf_runtime::elf::Elf>::call::{{closure}}::h0123456789abcdef
                               at /home/bee/animals/src/main.rs:20:1
                         - poll<animals::Scale>
                               at /home/bee/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-util-0.7.20/src/x.rs:1:1
                         - shake
                               at /home/bee/animals/src/main.rs:33:1
  12:     0x55d0c0a8e1f6 - <core::pin::Pin<P> as core::future::future::Future>::poll::h0123456789abcdef
                               at /rustc/59807616e/library/core/src/future/future.rs:133:9
  13:     0x55d0c0a8e1f7 - tokio::runtime::task::raw::poll::h0123456789abcdef
  14:     0x55d0c0a8e1f8 - start_thread
  15:                0x0 - <unknown>
";

    fn frame(function: &str, file: &str, line: u32) -> Frame {
        Frame { function: function.to_owned(), file: file.to_owned(), line }
    }

    #[test]
    fn a_backtrace_is_cut_to_what_people_wrote() {
        let text = TEXT.replace("                         - ", "                           ");
        let frames = useful_frames(parse_backtrace(&text), Some(frame("", "src/scale.rs", 12)));
        assert_eq!(
            frames,
            [
                frame("animals::scale::weigh", "src/scale.rs", 12),
                frame("animals::Scale::task_weigh::{{closure}}", "src/main.rs", 30),
                frame("shake", "src/main.rs", 33)
            ]
        );
    }

    #[test]
    fn the_place_of_the_panic_is_told_even_without_debug_information() {
        let place = frame("", "src/scale.rs", 12);
        assert_eq!(useful_frames(Vec::new(), Some(place.clone())), [place]);
        assert_eq!(useful_frames(parse_backtrace("disabled backtrace"), None), []);
    }

    #[tokio::test]
    async fn a_panic_while_the_task_is_dropped_is_a_failure_too() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    panic!("dropped");
                }
            }
        }
        let failure = catch_panic(async {
            let _bomb = Bomb;
        })
        .await
        .unwrap_err();
        assert_eq!(failure.message_text(), "dropped");
        // A future that is dropped before its end, with the bomb inside: the panic stays inside as well.
        let bomb = Bomb;
        drop(catch_panic(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        }));
    }

    #[tokio::test]
    async fn payloads_of_any_kind_are_a_failure() {
        let number = catch_panic(async { panic::panic_any(7) }).await.unwrap_err();
        assert_eq!(number.message_text(), "a panic whose payload is not a text");
        let resumed = catch_panic(async { panic::resume_unwind(Box::new("resumed")) }).await.unwrap_err();
        assert_eq!((resumed.message_text(), resumed.frames()), ("resumed", &[][..]));
    }

    #[tokio::test]
    async fn a_blocking_panic_is_a_failure() {
        let failure = run_blocking(|| panic!("blocked {}", 1)).await.unwrap_err();
        assert_eq!((failure.failure_type(), failure.message_text()), ("Panic", "blocked 1"));
        assert!(failure.frames()[0].file.ends_with("capture.rs"), "{failure:?}");
        assert_eq!(run_blocking(|| 7).await.unwrap(), 7);
    }
}
