use elf_runtime::Value;

fn main() {
    let yes: Value<bool> = Value::literal(&true);
    let weight: Value<i64> = Value::literal(&7);
    let _ = yes.less_than(false);
    let _ = weight.and(true);
    let _ = weight.unwrap_or(1);
    let _ = &yes + 1;
}
