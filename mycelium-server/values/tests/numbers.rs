//! Cases of arithmetic that are easily got wrong, beside the test vectors.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use mycelium_values::Limits;
use mycelium_values::vector::Vector;

fn gives(operation: &str, left: &str, right: &str) -> String {
    let json = format!(
        r#"{{"nodes":[{{"literal":{left}}},{{"literal":{right}}},{{"operation":"{operation}","inputs":[0,1]}}],"result":2}}"#
    );
    let vector = Vector::read(json.as_bytes()).unwrap().remove(0);
    String::from_utf8(vector.evaluate(Limits::default()).unwrap().to_json().to_vec()).unwrap()
}

#[test]
fn a_quotient_that_is_rounded_down_is_whole() {
    // What Python gives for the same.
    assert_eq!(gives("integer_divide", "-16.2", "0.2"), "-81.0");
    assert_eq!(gives("integer_divide", "-286403347467848", "-5.95284817659982"), "48111985888314.0");
    assert_eq!(gives("integer_divide", "1.0", "0.1"), "9.0");
}

#[test]
fn a_negative_zero_without_a_point_is_the_int() {
    assert_eq!(gives("add", "-0", "1"), "1");
}
