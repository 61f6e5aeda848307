//! The rules that CONTRIBUTING writes down and that a machine can hold. Each list of exceptions says why one is one, and
//! an exception that is no longer needed is a problem as well.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

/// Files that are longer, up to how many lines, and why they are not split.
const LONG_FILES: &[(&str, usize, &str)] = &[
    ("elf-runtime/tests/blobs.rs", 540, "one promise a test"),
    ("elf-runtime/tests/client_calls.rs", 740, "one promise a test"),
    ("elf-runtime/tests/worker_protocol.rs", 725, "one promise a test"),
    ("integration-tests/tests/promises/answer_sizes.rs", 580, "one promise a test"),
    ("integration-tests/tests/promises/store_folders.rs", 525, "one promise a test"),
    ("mycelium-server/core/tests/model.rs", 575, "one model: an operation a method"),
    ("mycelium-server/src/broker/driver/tests.rs", 520, "one promise a test"),
    ("mycelium-server/src/store/embedded/message.rs", 520, "one message a record"),
    ("mycelium-server/src/store/faulty.rs", 570, "one wrapper: a method for each call of a store"),
];

/// Product code that may know of tonic, and for what.
const TONIC: &[(&str, &str)] = &[
    ("elf-runtime/src/transport/", "calls and streams of clients and elves"),
    ("mycelium-server/cli/src/commands/store/backup.rs", "a call with a stream of its own"),
    ("mycelium-server/cli/src/errors.rs", "statuses in its tests"),
    ("mycelium-server/src/grpc/", "the services"),
    ("mycelium-server/src/server.rs", "binds the services to a listener"),
    ("proto/src/lib.rs", "generated code"),
];

/// Which of our crates each of them may depend on, but for tests.
const CRATES: &[(&str, &[&str])] = &[
    ("elf-runtime", &["elf-macros", "mycelium-proto"]),
    ("elf-runtime/macros", &[]),
    ("examples", &["elf-runtime", "mycelium-server"]),
    ("integration-tests", &["elf-runtime", "mycelium-proto", "mycelium-server", "mycelium-testing"]),
    ("integration-tests/arangodb", &[]),
    ("integration-tests/testing", &["elf-runtime", "mycelium-proto", "mycelium-server"]),
    ("mycelium-server", &["mycelium-core", "mycelium-proto", "mycelium-values"]),
    ("mycelium-server/bench", &["mycelium-core", "mycelium-server"]),
    ("mycelium-server/cli", &["elf-runtime", "mycelium-proto", "mycelium-server", "mycelium-values"]),
    ("mycelium-server/core", &[]),
    ("mycelium-server/values", &["mycelium-proto"]),
    ("proto", &[]),
];

/// All that the scheduler may depend on: nothing that waits, reads a clock, writes or logs.
const CRATES_OF_THE_CORE: &[&str] = &["foldhash", "hashbrown", "thiserror", "uuid"];

/// Markdown in which sentences share lines, and why.
const FREE_MARKDOWN: &[(&str, &str)] = &[
    ("docs/design/connections.md", "decisions are paragraphs that begin with their name"),
    ("docs/design/large-values.md", "decisions are paragraphs that begin with their name"),
    ("docs/design/store.md", "decisions are paragraphs that begin with their name"),
    ("docs/measurements.md", "measurements are paragraphs, a run each"),
    ("proto/testdata/value-graphs/README.md", "published with the vectors as it is"),
];

/// What stands in no source: notes to oneself, and what a debugger was asked.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "TODO", "FIXME", "XXX", "HACK"];

/// Folders and endings that are not text of ours.
const NOT_OURS: &[&str] = &["target", ".git", "fixtures", "google", "mycelium-data", "corpus", "artifacts"];
const TEXTS: &[&str] = &["md", "proto", "py", "rs", "toml", "yaml", "yml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text of ours: its path from the root, and what it says.
fn texts() -> Vec<(String, String)> {
    let (root, mut folders, mut texts) = (root(), vec![root()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if NOT_OURS.contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| TEXTS.contains(&end.to_str().unwrap())) {
                let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                texts.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(texts.len() > 300, "only {} texts were found", texts.len());
    texts.sort();
    texts
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Whether a file is built into what users run or depend on.
fn is_product(path: &str) -> bool {
    is_rust(path)
        && path.contains("src/")
        && !path.starts_with("integration-tests/")
        && !path.contains("/tests/")
        && !path.ends_with("/tests.rs")
}

/// Whether `word` stands in a line by itself, before any comment.
fn names(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap();
    let mut words = code.split(|character: char| !character.is_alphanumeric() && character != '_');
    words.any(|found| found == word)
}

fn assert_none(rule: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{rule}:\n  {}", problems.join("\n  "));
}

#[test]
fn files_are_short_or_say_why_not() {
    let mut problems = Vec::new();
    let mut needed = BTreeSet::new();
    for (path, text) in texts() {
        let lines = text.lines().count();
        if !is_rust(&path) || lines <= LINES_MAX {
            continue;
        }
        needed.insert(path.clone());
        match LONG_FILES.iter().find(|(long, ..)| *long == path) {
            Some((_, most, _)) if lines <= *most => {}
            Some((_, most, _)) => {
                problems.push(format!("{path} has {lines} lines, and its exception allows {most}"))
            }
            None => problems.push(format!("{path} has {lines} lines")),
        }
    }
    let idle = LONG_FILES.iter().filter(|(path, ..)| !needed.contains(*path));
    problems.extend(idle.map(|(path, ..)| format!("{path} needs no exception any more")));
    assert_none("a file has at most 500 lines", &problems);
}

#[test]
fn tonic_stays_in_the_transport() {
    let mut problems = Vec::new();
    let mut needed = BTreeSet::new();
    for (path, text) in texts().into_iter().filter(|(path, _)| is_product(path)) {
        if !text.lines().any(|line| names(line, "tonic")) {
            continue;
        }
        match TONIC.iter().find(|(allowed, _)| path.starts_with(allowed)) {
            Some((allowed, _)) => drop(needed.insert(*allowed)),
            None => problems.push(path),
        }
    }
    let idle = TONIC.iter().filter(|(allowed, _)| !needed.contains(allowed));
    problems.extend(idle.map(|(allowed, _)| format!("{allowed} needs no exception any more")));
    assert_none("tonic is known to transport and services alone", &problems);
}

#[test]
fn queries_know_no_messages() {
    const QUERIES: &str = "mycelium-server/src/queries/";
    const UNKNOWN: [&str; 4] = ["grpc", "prost", "tonic", "v1"];
    // Limits are numbers that hold whatever is spoken.
    let is_of_the_contract =
        |line: &str| names(line, "mycelium_proto") && !line.contains("mycelium_proto::limits");
    let queries: Vec<_> = texts().into_iter().filter(|(path, _)| path.starts_with(QUERIES)).collect();
    assert!(queries.len() > 10, "queries are somewhere else");
    let problems = queries.iter().flat_map(|(path, text)| {
        let knows = |line: &str| UNKNOWN.iter().any(|word| names(line, word)) || is_of_the_contract(line);
        let lines = text.lines().zip(1..).filter(move |(line, _)| knows(line));
        lines.map(move |(_, number)| format!("{path}:{number}"))
    });
    let problems: Vec<String> = problems.collect();
    assert_none("queries answer in types of their own, whatever protocol is spoken", &problems);
}

#[test]
fn what_is_stored_is_decoded_in_one_place() {
    const DOCUMENTS: &str = "mycelium-server/src/documents/";
    let is_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let decodes = |line: &str| {
        let before = line.match_indices("::decode(").map(|(at, _)| &line[..at]);
        before.into_iter().any(|before| {
            before.rsplit(|character| !is_path(character)).next().is_some_and(|path| path.starts_with("v1::"))
        })
    };
    let broker = texts().into_iter().filter(|(path, _)| path.starts_with("mycelium-server/src/"));
    let problems = broker.filter(|(path, _)| !path.starts_with(DOCUMENTS)).flat_map(|(path, text)| {
        let lines = text.lines().zip(1..).filter(|(line, _)| decodes(line));
        lines.map(|(_, number)| format!("{path}:{number}")).collect::<Vec<_>>()
    });
    let problems: Vec<String> = problems.collect();
    assert_none("what clients and elves have sent is decoded by `documents`", &problems);
}

#[test]
fn tasks_have_a_name_and_somebody_who_waits_for_them() {
    let detached = |line: &str| line.contains("tokio::spawn(") || line.contains("task::spawn(");
    let product = texts().into_iter().filter(|(path, _)| is_product(path));
    let problems: Vec<String> = product
        .flat_map(|(path, text)| {
            let lines = text.lines().zip(1..).filter(|(line, _)| detached(line));
            lines.map(|(_, number)| format!("{path}:{number}")).collect::<Vec<_>>()
        })
        .collect();
    assert_none("tasks are started by `mycelium-server/src/spawn.rs`, or joined by a `JoinSet`", &problems);
}

#[test]
fn crates_depend_on_those_that_they_may() {
    let mut problems = Vec::new();
    let ours: BTreeSet<String> = CRATES.iter().map(|(folder, _)| manifest(folder).0).collect();
    let mut folders = BTreeSet::new();
    for (path, _) in texts() {
        if let Some(folder) = path.strip_suffix("/Cargo.toml") {
            folders.insert(folder.to_owned());
        }
    }
    folders.remove("mycelium-server/values/fuzz");
    let listed: BTreeSet<String> = CRATES.iter().map(|(folder, _)| (*folder).to_owned()).collect();
    assert_eq!(folders, listed, "every crate says what it may depend on");
    for (folder, allowed) in CRATES {
        let (_, dependencies) = manifest(folder);
        let found = dependencies.iter().filter(|dependency| ours.contains(*dependency));
        let found: BTreeSet<&str> = found.map(String::as_str).collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        if found != allowed {
            problems.push(format!("{folder} depends on {found:?}, and may on {allowed:?}"));
        }
    }
    let (_, core) = manifest("mycelium-server/core");
    let core: Vec<&str> = core.iter().map(String::as_str).collect();
    assert_eq!(core, CRATES_OF_THE_CORE, "the scheduler does no I/O");
    assert_none("dependencies between crates are decisions", &problems);
}

/// The name of a crate, and what it depends on, but for tests.
fn manifest(folder: &str) -> (String, Vec<String>) {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let (mut section, mut name, mut dependencies) = ("", None, Vec::new());
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[package]" {
            name = name.or_else(|| line.strip_prefix("name = \"")?.strip_suffix('"'));
        } else if section == "[dependencies]" && !line.starts_with('#') {
            dependencies
                .extend(line.split(['.', ' ']).next().filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    dependencies.sort();
    (name.unwrap().to_owned(), dependencies)
}

#[test]
fn text_has_no_loose_ends() {
    let mut problems = Vec::new();
    for (path, text) in texts() {
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            problems.push(format!("{path} does not end with one line break"));
        }
        for (number, line) in text.lines().enumerate() {
            let mut problem = |what: &str| problems.push(format!("{path}:{} {what}", number + 1));
            if line.ends_with([' ', '\r']) {
                problem("ends with space");
            }
            if line.contains('\t') {
                problem("has a tab");
            }
            let is_code = is_rust(&path) && path != "integration-tests/tests/tidy.rs";
            if is_code && UNFINISHED.iter().any(|unfinished| line.contains(unfinished)) {
                problem("is unfinished");
            }
        }
    }
    assert_none("text is whole", &problems);
}

#[test]
fn the_map_of_the_house_is_read_in_one_sitting() {
    const WORDS_MAX: usize = 2_500;
    let words = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap().split_whitespace().count();
    assert!(words <= WORDS_MAX, "ARCHITECTURE.md has {words} words: reasons at length go into docs/design");
}

#[test]
fn sentences_have_lines_of_their_own() {
    let mut problems = Vec::new();
    let is_held = |path: &str| path.ends_with(".md") && path != "CHANGELOG.md";
    for (path, text) in texts().into_iter().filter(|(path, _)| is_held(path)) {
        let found = lines_of_several_sentences(&text);
        match FREE_MARKDOWN.iter().any(|(free, _)| *free == path) {
            true if found.is_empty() => problems.push(format!("{path} needs no exception any more")),
            true => {}
            false => problems.extend(found.into_iter().map(|line| format!("{path}:{line}"))),
        }
    }
    assert_none("in Markdown each sentence has a line of its own", &problems);
}

/// The numbers of the lines, but for lists, tables, headings and code.
fn lines_of_several_sentences(text: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_code = !is_code;
        }
        let is_free = is_code || line.starts_with(['|', '#', ' ', '-', '*', '<']);
        let ends = line.match_indices(". ").any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + 2..].chars().next();
            before.is_some_and(|last| last.is_alphanumeric() || "`)\"".contains(last))
                && after.is_some_and(char::is_uppercase)
        });
        if ends && !is_free && !line.starts_with(char::is_numeric) {
            found.push(number + 1);
        }
    }
    found
}

#[test]
fn every_example_is_in_the_list_of_examples() {
    let readme = fs::read_to_string(root().join("examples/README.md")).unwrap();
    let listed: BTreeSet<&str> =
        readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let files = fs::read_dir(root().join("examples/src/bin")).unwrap();
    let files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    let examples: BTreeSet<&str> =
        files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(listed, examples, "examples/README.md and examples/src/bin");
}
