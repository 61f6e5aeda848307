//! What the compiler says of bad uses of the macros. The messages are part of the interface.

#[test]
fn bad_uses_say_what_to_do() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/fail/*.rs");
}
