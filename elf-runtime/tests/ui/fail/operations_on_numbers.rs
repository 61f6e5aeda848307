use elf_runtime::Value;

fn main() {
    let weight: Value<i64> = Value::literal(&7);
    let share: Value<f64> = Value::literal(&0.5);
    let name: Value<String> = Value::literal(&"bee".to_owned());
    let _ = &weight + "bee";
    let _ = &name + 1;
    let _ = &weight * &share;
    let _ = -Value::<u64>::literal(&7);
}
