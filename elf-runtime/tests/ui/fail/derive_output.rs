use elf_runtime::Output;
use serde::{Deserialize, Serialize};

#[derive(Output, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip)]
    weight: i64,
}

#[derive(Output, Serialize, Deserialize)]
struct Generic<T> {
    weight: T,
}

fn main() {}
