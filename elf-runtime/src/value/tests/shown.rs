use std::collections::HashMap;

use crate::{Value, any_list, list, map, text};

/// Compares how values are shown: `value => "text"`. They are made of literals, which are shown as they are.
macro_rules! shown {
    ($($value:expr => $text:expr;)*) => {
        $(assert_eq!($value.to_string(), $text, "{}", stringify!($value));)*
    };
}

#[test]
fn operations_are_shown_as_people_write_them() {
    let i: Value<i64> = Value::literal(&7);
    let f: Value<f64> = Value::literal(&1.5);
    let s: Value<String> = Value::literal(&"bee".to_owned());
    let b: Value<bool> = Value::literal(&true);
    let o: Value<Option<i64>> = Value::literal(&None);
    let xs: Value<Vec<i64>> = Value::literal(&vec![1, 2]);
    let m: Value<HashMap<String, i64>> = map! { "k" => &i };
    let mut more = xs.clone();
    more.push(7);
    shown! {
        &i * 2 + 1 => "7 * 2 + 1";
        (&i + 1) * 2 => "(7 + 1) * 2";
        2 * (&i + 1) => "2 * (7 + 1)";
        &i - (&i - 1) => "7 - (7 - 1)";
        &i - 1 - 2 => "7 - 1 - 2";
        &i / 2 * 1.5 => "7 / 2 * 1.5";
        &f * (&i / 2) => "1.5 * (7 / 2)";
        i.integer_divide(2) % 3 => "7 // 2 % 3";
        i.power(2).power(3) => "(7 ** 2) ** 3";
        i.power(i.power(2)) => "7 ** 7 ** 2";
        (-&i).power(2) => "(-7) ** 2";
        -i.power(2) => "-7 ** 2";
        -(&i + 1) => "-(7 + 1)";
        &i - -3 => "7 - -3";
        Value::<i64>::literal(&-3).power(2) => "(-3) ** 2";
        i.less_than(3).and(i.equals(&i)).or(&b) => "7 < 3 and 7 == 7 or true";
        b.and(b.or(&b)) => "true and (true or true)";
        !(i.greater_or_equal(3)) => "not 7 >= 3";
        b.not().and(&b) => "not true and true";
        b.and(&b).not() => "not (true and true)";
        b.equals(i.less_than(3)) => "true == (7 < 3)";
        Value::select(&b, &i + 1, 3) => "7 + 1 if true else 3";
        Value::select(&b, &i, Value::select(&b, &i, 3)) => "7 if true else 7 if true else 3";
        Value::select(&b, Value::select(&b, &i, 3), 3) + 1 => "((7 if true else 3) if true else 3) + 1";
        "<" + &s + ">" => r#""<" + "bee" + ">""#;
        (&s + "s").upper() => r#"("bee" + "s").upper()"#;
        s.upper().get(0) => r#""bee".upper()[0]"#;
        s.pad_start_with(5, "0") => r#""bee".pad_start(5, "0")"#;
        text!("{}", &i + 1) => r#""{}".format(7 + 1)"#;
        xs.get(0) => "[1,2][0]";
        m.get("k") => r#"{"k": 7}["k"]"#;
        xs.slice(1, -1) => "[1,2][1:-1]";
        xs.slice_from(1) => "[1,2][1:]";
        xs.slice_to(-1) => "[1,2][:-1]";
        xs.slice_step(None, None, -1) => "[1,2][::-1]";
        more => "[1,2].append(7)";
        m.keys() => r#"{"k": 7}.keys()"#;
        xs.concat(&xs).get(&i + 1) => "[1,2].concat([1,2])[7 + 1]";
        Value::range(0, 3) => "range(0, 3)";
        i.absolute() => "absolute(7)";
        f.round_to(2) => "round(1.5, 2)";
        o.unwrap_or(1) => "coalesce(null, 1)";
        xs.encode_json() => "json.encode([1,2])";
        any_list![1].get_path(("a", 0)) => r#"get_path([1], ["a",0])"#;
        i.minimum(&i + 1) => "minimum(7, 7 + 1)";
        Value::operation("a.b", [1]) => "a.b(1)";
        Value::operation("add", [1]) => "add(1)";
        Value::operation("add", [0_i64; 0]) => "add()";
        Value::operation("list.x", [0_i64; 0]) => "x()";
    }
}

#[test]
fn bodies_are_shown_with_names() {
    let xs: Value<Vec<i64>> = Value::literal(&vec![1, 2]);
    let i: Value<i64> = Value::literal(&7);
    let rows: Value<Vec<Vec<i64>>> = list![&xs];
    shown! {
        xs.map(|x| x * 2) => "[1,2].map(x -> x * 2)";
        xs.map(|x| x + (&i + 1)) => "[1,2].map(x -> x + (7 + 1))";
        xs.reduce(0, |sum, x| sum + x) => "[1,2].reduce(0, (x, y) -> x + y)";
        rows.map(|row| row.map(|x| x * row.sum())) => "[[1,2]].map(x -> x.map(y -> y * x.sum()))";
        rows.map(|row| row.reduce(0, |a, b| row.reduce(a, |c, d| c + d + &b)))
            => "[[1,2]].map(x -> x.reduce(0, (y, z) -> x.reduce(y, (x1, y1) -> x1 + y1 + z)))";
        xs.sorted_by(|x| -x) => "[1,2].sort(false, x -> -x)";
        xs.map(|x| x).sum() + 1 => "[1,2].map(x -> x).sum() + 1";
    }
}

#[test]
fn long_ones_are_cut() {
    let i: Value<i64> = Value::literal(&7);
    let mut line: Value<String> = Value::literal(&String::new()) + "a";
    for _ in 0..20 {
        line += "b";
    }
    shown! {
        line => r#""" + "a" + "b" + "b" + "b" + "b" + "b" + "b" + …"#;
        Value::minimum_of(&i, vec![1; 20]) => "minimum(7, 1, 1, 1, 1, 1, 1, 1, …)";
        (0..20).fold(i.clone(), |sum, _| sum + 1) => format!("…{}", " + 1".repeat(12));
    }
}
