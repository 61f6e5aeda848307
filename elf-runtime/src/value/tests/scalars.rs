use super::{flat, graphs, outputs};
use crate::{Value, any_list, text};

#[test]
fn numbers() {
    let v = outputs();
    graphs! {
        &v.i + 2 => "add(i, 2)";
        v.i.clone() + &v.j => "add(i, j)";
        &v.i - v.j.clone() => "subtract(i, j)";
        2 * &v.i => "multiply(2, i)";
        2 * v.i.clone() => "multiply(2, i)";
        10 - &v.i % 3 => "subtract(10, modulo(i, 3))";
        &v.i / &v.j + 0.5 => "add(divide(i, j), 0.5)";
        1.5 / &v.f => "divide(1.5, f)";
        -&v.i => "negate(i)";
        -v.f.clone() => "negate(f)";
        v.i.to_float() * &v.f => "multiply(to_float(i), f)";
        v.i.integer_divide(2) => "integer_divide(i, 2)";
        v.i.power(2) => "power(i, 2)";
        v.i.absolute() => "absolute(i)";
        v.f.floor() + 1 => "add(floor(f), 1)";
        v.f.ceil() => "ceil(f)";
        v.f.round() => "round(f)";
        v.f.round_to(2) => "round(f, 2)";
        v.f.to_int() => "to_int(f)";
        v.i.minimum(&v.j) => "strict.minimum(i, j)";
        v.i.maximum(3) => "strict.maximum(i, 3)";
        Value::minimum_of(&v.i, [&v.j, &v.i]) => "strict.minimum(i, j, i)";
        Value::maximum_of(&v.i, [1, 2]) => "strict.maximum(i, 1, 2)";
        v.i.to_text() => "to_string(i)";
        v.i.to_bool() => "to_bool(i)";
        v.i.type_of() => "type_of(i)";
    }
}

#[test]
fn comparisons_logic_choices_and_options() {
    let v = outputs();
    graphs! {
        v.i.equals(1) => "strict.equal(i, 1)";
        v.b.equals(&v.c) => "equal(b, c)";
        v.i.not_equals(&v.j) => "strict.not_equal(i, j)";
        v.i.less_than(&v.j) => "strict.less(i, j)";
        v.s.less_or_equal("m") => r#"strict.less_or_equal(s, "m")"#;
        v.f.greater_than(1.0) => "strict.greater(f, 1.0)";
        v.xs.greater_or_equal(&v.ys) => "strict.greater_or_equal(xs, ys)";
        v.b.and(&v.c) => "and(b, c)";
        v.b.or(true) => "or(b, true)";
        v.b.not() => "not(b)";
        !&v.b => "not(b)";
        !v.b.clone() => "not(b)";
        v.b.to_int() => "to_int(b)";
        v.b.to_float() => "to_float(b)";
        Value::select(&v.b, &v.i, 0) => "select(b, i, 0)";
        Value::select(v.i.less_than(3), "a", &v.s) => r#"select(strict.less(i, 3), "a", s)"#;
        v.o.is_null() => "is_null(o)";
        v.o.unwrap_or(3) + 1 => "add(coalesce(o, 3), 1)";
        v.o.or_else(&v.i) => "coalesce(o, i)";
        v.o.or_else(None) => "coalesce(o, null)";
        v.o.required() + 1 => "add(o, 1)";
        v.o.map(|x| x * 2) => "select(is_null(o), null, multiply(o, 2))";
        v.o.and_then(|_| v.o.clone()) => "select(is_null(o), null, o)";
    }
    assert_eq!(
        flat(&v.o.map(|_| v.o.clone())).unwrap_err(),
        "the closure of `map` gives an `Option`, and of two levels JSON keeps one: use `and_then`"
    );
}

#[test]
fn text() {
    let v = outputs();
    graphs! {
        &v.s + "!" => r#"string.concat(s, "!")"#;
        "<" + &v.s + ">" => r#"string.concat("<", s, ">")"#;
        "<" + v.s.clone() => r#"string.concat("<", s)"#;
        v.s.length() => "length(s)";
        v.s.get(-1) => "get(s, -1)";
        v.s.get_or(3, "?") => r#"get_or(s, 3, "?")"#;
        v.s.slice(1, &v.i) => "slice(s, 1, i)";
        v.s.slice_from(1) => "slice(s, 1, null)";
        v.s.slice_to(-1) => "slice(s, null, -1)";
        v.s.slice_step(None, None, -1) => "slice(s, null, null, -1)";
        v.s.contains("a") => r#"contains(s, "a")"#;
        v.s.find("a") => r#"string.find(s, "a")"#;
        v.s.starts_with("a") => r#"string.starts_with(s, "a")"#;
        v.s.ends_with("a") => r#"string.ends_with(s, "a")"#;
        v.s.upper() => "string.upper(s)";
        v.s.lower() => "string.lower(s)";
        v.s.trim() => "string.trim(s)";
        v.s.trim_of("-") => r#"string.trim(s, "-")"#;
        v.s.split(",") => r#"string.split(s, ",")"#;
        v.s.split_whitespace() => "string.split(s)";
        v.words.join(", ") => r#"string.join(words, ", ")"#;
        v.s.replace("a", "b") => r#"string.replace(s, "a", "b")"#;
        v.s.pad_start(5) => "string.pad_start(s, 5)";
        v.s.pad_start_with(5, "0") => r#"string.pad_start(s, 5, "0")"#;
        v.s.pad_end(5) => "string.pad_end(s, 5)";
        v.s.pad_end_with(5, ".") => r#"string.pad_end(s, 5, ".")"#;
        v.s.repeat(3) => "string.repeat(s, 3)";
        text!("{} {}", &v.s, 1) => r#"string.format("{} {}", s, 1)"#;
        Value::format(&v.s, [&v.i, &v.j]) => "string.format(s, i, j)";
        v.s.to_int() => "to_int(s)";
        v.s.to_float() => "to_float(s)";
        v.s.to_text() => "to_string(s)";
        v.s.encode_json() => "json.encode(s)";
        v.s.decode_json() => "json.decode(s)";
        v.s.encode_base64() => "base64.encode(s)";
        v.s.decode_base64() => "base64.decode(s)";
        v.s.sha256() => "sha256(s)";
    }
}

#[test]
fn values_of_any_type() {
    let v = outputs();
    graphs! {
        v.any.get("a").get(0) => r#"get(get(any, "a"), 0)"#;
        v.any.get(&v.s).get(&v.i) => "get(get(any, s), i)";
        v.any.get_or("a", 1) => r#"get_or(any, "a", 1)"#;
        v.any.get_path(("a", 0, "b")) => r#"get_path(any, ["a",0,"b"])"#;
        v.any.get_path(any_list!["a", &v.i]) => r#"get_path(any, ["a", i])"#;
        v.any.length() => "length(any)";
        v.any.contains("a") => r#"contains(any, "a")"#;
        v.any.slice(1, -1) => "slice(any, 1, -1)";
        v.any.slice_from(1) => "slice(any, 1, null)";
        v.any.slice_to(1) => "slice(any, null, 1)";
        v.any.slice_step(None, &v.i, 2) => "slice(any, null, i, 2)";
        v.any.is_null() => "is_null(any)";
        v.any.unwrap_or(any_list![]) => "coalesce(any, [])";
        v.any.to_int() => "to_int(any)";
        v.any.to_float() => "to_float(any)";
        v.any.to_bool() => "to_bool(any)";
        v.any.type_of() => "type_of(any)";
        v.any.less_than(Value::any(&1)) => "less(any, 1)";
        v.any.equals(v.i.untyped()) => "equal(any, i)";
        v.any.typed::<i64>() + 1 => "add(any, 1)";
        Value::operation("hypot", [&v.i, &v.j]).typed::<f64>() + 1.0 => "add(hypot(i, j), 1.0)";
    }
}

#[test]
fn assignments_rebind_the_handle_and_leave_its_clones() {
    let v = outputs();
    let mut total = v.i.clone();
    let before = total.clone();
    total += 1;
    total -= &v.j;
    total *= 2;
    graphs! {
        total => "multiply(subtract(add(i, 1), j), 2)";
        before => "i";
    }
    let mut line = v.s.clone();
    line += "a";
    let kept = line.clone();
    line += &v.s;
    graphs! {
        line => r#"string.concat(string.concat(s, "a"), s)"#;
        kept => r#"string.concat(s, "a")"#;
    }
}
