//! Lists, maps and arguments, as one writes them.

/// Makes a list of values and literals that mix freely: a `Value<Vec<T>>`.
///
/// ```
/// # use elf_runtime::{list, Value};
/// let heavy: Value<i64> = Value::literal(&9);
/// let weights: Value<Vec<i64>> = list![1, heavy, 2];
/// assert_eq!(weights.to_string(), "[1, 9, 2]");
/// ```
#[macro_export]
macro_rules! list {
    ($($item:expr),* $(,)?) => {
        $crate::__private::list(::std::vec![$($crate::__private::item($item)),*])
    };
}

/// Makes a map of values and literals that mix freely: a `Value<HashMap<String, T>>`. A task that takes a `BTreeMap`
/// takes it as well.
///
/// ```
/// # use elf_runtime::{map, Value};
/// # use std::collections::HashMap;
/// let heavy: Value<i64> = Value::literal(&9);
/// let weights: Value<HashMap<String, i64>> = map! { "bee" => 1, "dog" => heavy };
/// assert_eq!(weights.to_string(), r#"{"bee": 1, "dog": 9}"#);
/// ```
#[macro_export]
macro_rules! map {
    ($($key:expr => $item:expr),* $(,)?) => {
        $crate::__private::map(::std::vec![
            $((::std::borrow::Cow::<'static, str>::from($key), $crate::__private::item($item))),*
        ])
    };
}

/// Makes a list whose items may be of any types: a `Value<serde_json::Value>`.
///
/// ```
/// # use elf_runtime::{any_list, Value};
/// let heavy: Value<i64> = Value::literal(&9);
/// assert_eq!(any_list![1, "bee", heavy, any_list![]].to_string(), r#"[1, "bee", 9, []]"#);
/// ```
#[macro_export]
macro_rules! any_list {
    ($($item:expr),* $(,)?) => {
        $crate::__private::any_list(::std::vec![$($crate::IntoAnyValue::into_any_node($item)),*])
    };
}

/// Makes a map whose values may be of any types: a `Value<serde_json::Value>`.
///
/// ```
/// # use elf_runtime::{any_map, Value};
/// let heavy: Value<i64> = Value::literal(&9);
/// assert_eq!(any_map! { "name" => "bee", "weight" => heavy }.to_string(), r#"{"name": "bee", "weight": 9}"#);
/// ```
#[macro_export]
macro_rules! any_map {
    ($($key:expr => $item:expr),* $(,)?) => {
        $crate::__private::any_map(::std::vec![
            $((
                ::std::borrow::Cow::<'static, str>::from($key),
                $crate::IntoAnyValue::into_any_node($item),
            )),*
        ])
    };
}

/// Makes a text of a template and values of any types: a `Value<String>`. `{}` stands for the values in turn, `{0}`
/// for one by its number, `{{` and `}}` for braces.
///
/// ```
/// # use elf_runtime::{text, Value};
/// let heavy: Value<i64> = Value::literal(&9);
/// let line: Value<String> = text!("{} weighs {} g", "bee", &heavy);
/// assert_eq!(line.to_string(), r#""{} weighs {} g".format("bee", 9)"#);
/// ```
#[macro_export]
macro_rules! text {
    ($template:expr $(, $value:expr)* $(,)?) => {
        $crate::Value::<::std::string::String>::format_nodes(
            $template,
            ::std::vec![$($crate::IntoAnyValue::into_any_node($value)),*],
        )
    };
}

/// Makes the [`Arguments`](crate::Arguments) of [`Flow::call`](crate::Flow::call).
///
/// ```
/// # use elf_runtime::{args, any_list, Flow, Value};
/// # let flow = Flow::detached("docs");
/// let ant = flow.call("scale", "task_weigh", args! { species: "ant" });
/// flow.call("store", "task_save", args! { rows: any_list![&ant, "bee"], weight: ant.output("weight") });
/// ```
#[macro_export]
macro_rules! args {
    ($($parameter:ident : $value:expr),* $(,)?) => {
        $crate::Arguments::new()$(.with($crate::__private::identifier(stringify!($parameter)), $value))*
    };
}
