use std::collections::BTreeMap;

use elf_runtime::Value;

fn main() {
    let mut prices: Value<BTreeMap<String, i64>> = Value::literal(&BTreeMap::new());
    prices.insert("honey", "four");
    prices.insert(1, 4);
    let _ = prices.get(0);
}
