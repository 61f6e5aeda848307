//! Every example says what it is and what it takes.

use std::process::Command;

fn help_of(program: &str) -> String {
    let output = Command::new(program).arg("--help").output().expect("the program starts");
    assert!(output.status.success(), "{program} --help ended with {}", output.status);
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

#[test]
fn each_example_explains_itself() {
    let programs = [
        env!("CARGO_BIN_EXE_hello"),
        env!("CARGO_BIN_EXE_animals"),
        env!("CARGO_BIN_EXE_failures"),
        env!("CARGO_BIN_EXE_branches"),
    ];
    for program in programs {
        let help = help_of(program);
        assert!(help.contains("Usage:"), "{program}: {help}");
        assert!(!help.starts_with("Usage:"), "it says first what {program} is: {help}");
    }
}

#[test]
fn an_option_that_is_not_there_is_refused() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_hello")).arg("--nonsense").output().expect("the program starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--nonsense"));
}
