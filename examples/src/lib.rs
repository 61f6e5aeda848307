//! What the examples share.

/// How people start the command line: the one that was built beside the example, or one that has to be built first.
#[must_use]
pub fn mycelium_command() -> String {
    let built = std::env::current_exe().ok().and_then(|program| {
        let beside = program.with_file_name(format!("mycelium{}", std::env::consts::EXE_SUFFIX));
        beside.is_file().then_some(beside)
    });
    match built {
        Some(mycelium) => mycelium.display().to_string(),
        None => "cargo run --release --bin mycelium --".to_owned(),
    }
}
