//! Places in the source code, and the frames of a stack that are worth showing.

use std::backtrace::Backtrace;
use std::panic::Location;

use mycelium_proto::limits;

/// A place in the source code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The function's path; empty if not known.
    pub function: String,
    /// The source file as the compiler named it; empty if not known.
    pub file: String,
    /// The line, from 1; 0 if not known.
    pub line: u32,
}

/// The place of a call, as the compiler told it. If that is one in the standard library, which calls what it is handed
/// (`map_err(TaskError::from)`, `into()`), the frames of the stack are looked through for those that people wrote.
pub(crate) fn frames_at(location: &Location<'_>) -> Vec<Frame> {
    if is_of_standard_library(location.file()) {
        return frames_here(None);
    }
    // The compiler tells the place of a caller, not the name of its function.
    vec![Frame { function: String::new(), file: location.file().to_owned(), line: location.line() }]
}

/// Whether a file is one of the standard library, where it was built or where its sources are installed.
fn is_of_standard_library(file: &str) -> bool {
    file.starts_with("/rustc/") || file.contains("/lib/rustlib/src/rust/library/")
}

/// The frames of this stack that people wrote, from `location` outwards if that is known.
pub(crate) fn frames_here(location: Option<Frame>) -> Vec<Frame> {
    let backtrace = format!("{:#}", Backtrace::force_capture());
    useful_frames(parse_backtrace(&backtrace), location)
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
}
