//! What the compiler says of good and of bad uses of the macros. The messages are part of the interface.

#[test]
fn good_uses_compile_and_bad_ones_say_what_to_do() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
