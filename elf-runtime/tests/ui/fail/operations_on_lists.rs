use elf_runtime::Value;

fn main() {
    let mut weights: Value<Vec<i64>> = Value::literal(&vec![7]);
    let names: Value<Vec<String>> = Value::literal(&vec!["bee".to_owned()]);
    weights.push("bee");
    weights.extend(&names);
    let _ = weights.get("bee");
    let _ = weights.filter(|weight| weight + 1);
    let _ = names.sum();
    let _ = weights.join(", ");
}
