//! Operations on text.

use super::any::IntoAnyValue;
use super::handle::Value;
use super::into::IntoValue;
use super::node::Node;
use super::operation::{operand, record};

/// Operations on text, beside `+`. It is counted in Unicode code points; negative positions count from the end.
impl Value<String> {
    /// How many code points it has.
    #[must_use]
    pub fn length(&self) -> Value<i64> {
        record("length", vec![self.node().clone()])
    }

    /// The code point at a position. The job that takes it fails with `bad_index` if there is none.
    #[must_use]
    pub fn get(&self, index: impl IntoValue<i64>) -> Self {
        record("get", vec![self.node().clone(), operand(index)])
    }

    /// The code point at a position, or another text if it is not as long. The other text is computed only then.
    #[must_use]
    pub fn get_or(&self, index: impl IntoValue<i64>, otherwise: impl IntoValue<String>) -> Self {
        record("get_or", vec![self.node().clone(), operand(index), operand(otherwise)])
    }

    /// The text from one position up to, and without, another. What is beyond the ends is left out.
    #[must_use]
    pub fn slice(&self, start: impl IntoValue<i64>, stop: impl IntoValue<i64>) -> Self {
        record("slice", vec![self.node().clone(), operand(start), operand(stop)])
    }

    /// The text from a position on.
    #[must_use]
    pub fn slice_from(&self, start: impl IntoValue<i64>) -> Self {
        record("slice", vec![self.node().clone(), operand(start), Node::literal(&())])
    }

    /// The text up to, and without, a position.
    #[must_use]
    pub fn slice_to(&self, stop: impl IntoValue<i64>) -> Self {
        record("slice", vec![self.node().clone(), Node::literal(&()), operand(stop)])
    }

    /// Every so many-th code point from one position up to another, as Python's `[start:stop:step]`: `None` is where
    /// the text begins or ends, a negative step goes backwards. The job that takes it fails with `invalid_value` if
    /// the step is 0.
    #[must_use]
    pub fn slice_step(
        &self,
        start: impl IntoValue<Option<i64>>,
        stop: impl IntoValue<Option<i64>>,
        step: impl IntoValue<i64>,
    ) -> Self {
        record("slice", vec![self.node().clone(), operand(start), operand(stop), operand(step)])
    }

    /// Whether this stands in it.
    #[must_use]
    pub fn contains(&self, part: impl IntoValue<String>) -> Value<bool> {
        record("contains", vec![self.node().clone(), operand(part)])
    }

    /// The position where this first stands in it; none if it does not.
    #[must_use]
    pub fn find(&self, part: impl IntoValue<String>) -> Value<Option<i64>> {
        record("string.find", vec![self.node().clone(), operand(part)])
    }

    /// Whether it begins with this.
    #[must_use]
    pub fn starts_with(&self, prefix: impl IntoValue<String>) -> Value<bool> {
        record("string.starts_with", vec![self.node().clone(), operand(prefix)])
    }

    /// Whether it ends with this.
    #[must_use]
    pub fn ends_with(&self, suffix: impl IntoValue<String>) -> Value<bool> {
        record("string.ends_with", vec![self.node().clone(), operand(suffix)])
    }

    /// The text in capitals.
    #[must_use]
    pub fn upper(&self) -> Self {
        record("string.upper", vec![self.node().clone()])
    }

    /// The text in small letters.
    #[must_use]
    pub fn lower(&self) -> Self {
        record("string.lower", vec![self.node().clone()])
    }

    /// The text without the whitespace at both ends.
    #[must_use]
    pub fn trim(&self) -> Self {
        record("string.trim", vec![self.node().clone()])
    }

    /// The text without any of these characters at both ends.
    #[must_use]
    pub fn trim_of(&self, characters: impl IntoValue<String>) -> Self {
        record("string.trim", vec![self.node().clone(), operand(characters)])
    }

    /// The parts between separators. The job that takes them fails with `invalid_value` if the separator is empty.
    #[must_use]
    pub fn split(&self, separator: impl IntoValue<String>) -> Value<Vec<String>> {
        record("string.split", vec![self.node().clone(), operand(separator)])
    }

    /// The words: the parts between whitespace.
    #[must_use]
    pub fn split_whitespace(&self) -> Value<Vec<String>> {
        record("string.split", vec![self.node().clone()])
    }

    /// The text with one part of it, wherever it stands, replaced. The job that takes it fails with `invalid_value`
    /// if the part is empty.
    #[must_use]
    pub fn replace(&self, old: impl IntoValue<String>, new: impl IntoValue<String>) -> Self {
        record("string.replace", vec![self.node().clone(), operand(old), operand(new)])
    }

    /// The text, made so many code points long with blanks in front.
    #[must_use]
    pub fn pad_start(&self, width: impl IntoValue<i64>) -> Self {
        record("string.pad_start", vec![self.node().clone(), operand(width)])
    }

    /// The text, made so many code points long with a code point of one's own in front.
    #[must_use]
    pub fn pad_start_with(&self, width: impl IntoValue<i64>, fill: impl IntoValue<String>) -> Self {
        record("string.pad_start", vec![self.node().clone(), operand(width), operand(fill)])
    }

    /// The text, made so many code points long with blanks behind.
    #[must_use]
    pub fn pad_end(&self, width: impl IntoValue<i64>) -> Self {
        record("string.pad_end", vec![self.node().clone(), operand(width)])
    }

    /// The text, made so many code points long with a code point of one's own behind.
    #[must_use]
    pub fn pad_end_with(&self, width: impl IntoValue<i64>, fill: impl IntoValue<String>) -> Self {
        record("string.pad_end", vec![self.node().clone(), operand(width), operand(fill)])
    }

    /// The text so many times, one after the other; an empty one for numbers below 1.
    #[must_use]
    pub fn repeat(&self, count: impl IntoValue<i64>) -> Self {
        record("string.repeat", vec![self.node().clone(), operand(count)])
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

    /// The integer that it is the decimal text of. The job that takes it fails with `invalid_value` if it is none.
    #[must_use]
    pub fn to_int(&self) -> Value<i64> {
        record("to_int", vec![self.node().clone()])
    }

    /// The number that it is the decimal text of. The job that takes it fails with `invalid_value` if it is none.
    #[must_use]
    pub fn to_float(&self) -> Value<f64> {
        record("to_float", vec![self.node().clone()])
    }

    /// The value that it is the JSON of. The job that takes it fails with `invalid_value` if it is none.
    #[must_use]
    pub fn decode_json(&self) -> Value<serde_json::Value> {
        record("json.decode", vec![self.node().clone()])
    }

    /// Base64 of its UTF-8 bytes, with the standard alphabet and padding.
    #[must_use]
    pub fn encode_base64(&self) -> Self {
        record("base64.encode", vec![self.node().clone()])
    }

    /// The text whose UTF-8 bytes it is the Base64 of. The job that takes it fails with `invalid_value` if it is
    /// none.
    #[must_use]
    pub fn decode_base64(&self) -> Self {
        record("base64.decode", vec![self.node().clone()])
    }

    /// SHA-256 of its UTF-8 bytes, in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> Self {
        record("sha256", vec![self.node().clone()])
    }
}
