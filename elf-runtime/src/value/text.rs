//! Operations on text.

use super::any::IntoAnyValue;
use super::handle::Value;
use super::into::IntoValue;
use super::node::Node;
use super::operation::{operand, operations, record};

operations! {
    /// Operations on text, beside `+`. It is counted in Unicode code points; negative positions count from the end.
    [] Value<String>:

    /// How many code points it has.
    length() -> Value<i64> = "length";

    /// The code point at a position. The job that takes it fails with `bad_index` if there is none.
    get(index: i64) -> Self = "get";

    /// The code point at a position, or another text if it is not as long. The other text is computed only then.
    get_or(index: i64, otherwise: String) -> Self = "get_or";

    /// The text from one position up to, and without, another. What is beyond the ends is left out.
    slice(start: i64, stop: i64) -> Self = "slice";

    /// The text from a position on.
    slice_from(start: i64) -> Self = "slice", ();

    /// Every so many-th code point from one position up to another, as Python's `[start:stop:step]`: `None` is where
    /// the text begins or ends, a negative step goes backwards. The job that takes it fails with `invalid_value` if
    /// the step is 0.
    slice_step(start: Option<i64>, stop: Option<i64>, step: i64) -> Self = "slice";

    /// Whether this stands in it.
    contains(part: String) -> Value<bool> = "contains";

    /// The position where this first stands in it; none if it does not.
    find(part: String) -> Value<Option<i64>> = "string.find";

    /// Whether it begins with this.
    starts_with(prefix: String) -> Value<bool> = "string.starts_with";

    /// Whether it ends with this.
    ends_with(suffix: String) -> Value<bool> = "string.ends_with";

    /// The text in capitals.
    upper() -> Self = "string.upper";

    /// The text in small letters.
    lower() -> Self = "string.lower";

    /// The text without the whitespace at both ends.
    trim() -> Self = "string.trim";

    /// The text without any of these characters at both ends.
    trim_of(characters: String) -> Self = "string.trim";

    /// The parts between separators. The job that takes them fails with `invalid_value` if the separator is empty.
    split(separator: String) -> Value<Vec<String>> = "string.split";

    /// The words: the parts between whitespace.
    split_whitespace() -> Value<Vec<String>> = "string.split";

    /// The text with one part of it, wherever it stands, replaced. The job that takes it fails with `invalid_value`
    /// if the part is empty.
    replace(old: String, new: String) -> Self = "string.replace";

    /// The text, made so many code points long with blanks in front.
    pad_start(width: i64) -> Self = "string.pad_start";

    /// The text, made so many code points long with a code point of one's own in front.
    pad_start_with(width: i64, fill: String) -> Self = "string.pad_start";

    /// The text, made so many code points long with blanks behind.
    pad_end(width: i64) -> Self = "string.pad_end";

    /// The text, made so many code points long with a code point of one's own behind.
    pad_end_with(width: i64, fill: String) -> Self = "string.pad_end";

    /// The text so many times, one after the other; an empty one for numbers below 1.
    repeat(count: i64) -> Self = "string.repeat";

    /// The integer that it is the decimal text of. The job that takes it fails with `invalid_value` if it is none.
    to_int() -> Value<i64> = "to_int";

    /// The number that it is the decimal text of. The job that takes it fails with `invalid_value` if it is none.
    to_float() -> Value<f64> = "to_float";

    /// The value that it is the JSON of. The job that takes it fails with `invalid_value` if it is none.
    decode_json() -> Value<serde_json::Value> = "json.decode";

    /// Base64 of its UTF-8 bytes, with the standard alphabet and padding.
    encode_base64() -> Self = "base64.encode";

    /// The text whose UTF-8 bytes it is the Base64 of. The job that takes it fails with `invalid_value` if it is
    /// none.
    decode_base64() -> Self = "base64.decode";

    /// SHA-256 of its UTF-8 bytes, in hexadecimal digits.
    sha256() -> Self = "sha256";
}

impl Value<String> {
    /// The text up to, and without, a position.
    #[must_use]
    pub fn slice_to(&self, stop: impl IntoValue<i64>) -> Self {
        record("slice", vec![self.node().clone(), Node::literal(&()), operand(stop)])
    }

    /// A template with values put in: `{}` in turn, `{0}` by number, `{{` and `}}` for braces. The job that takes it
    /// fails with `invalid_value` if the template does not fit the values. [`text!`](crate::text) takes values of any
    /// types.
    ///
    /// ```
    /// # use elf_runtime::{text, Value};
    /// let weight: Value<i64> = Value::literal(&7);
    /// let line: Value<String> = text!("{} weighs {} g", "bee", weight);
    /// assert_eq!(line.to_string(), r#""{} weighs {} g".format("bee", 7)"#);
    /// ```
    #[must_use]
    pub fn format<V: IntoAnyValue>(
        template: impl IntoValue<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self::format_nodes(template, values.into_iter().map(IntoAnyValue::into_any_node))
    }

    #[doc(hidden)]
    #[must_use]
    pub fn format_nodes(template: impl IntoValue<String>, values: impl IntoIterator<Item = Node>) -> Self {
        let mut inputs = vec![operand(template)];
        inputs.extend(values);
        record("string.format", inputs)
    }
}
