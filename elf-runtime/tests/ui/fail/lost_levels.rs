use elf_runtime::{Output, TaskError, machine_elf};
use serde::{Deserialize, Serialize};

#[derive(Output, Serialize, Deserialize)]
struct Sighting {
    weight: Option<Option<i64>>,
    seen: Vec<Option<()>>,
}

#[derive(Output, Serialize, Deserialize)]
enum Change {
    Set(Option<Box<Option<i64>>>),
}

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, weight: Option<Option<i64>>) -> Option<()> {
        weight.map(drop)
    }

    fn task_find(&self) -> Result<Option<Option<i64>>, TaskError> {
        Ok(None)
    }
}

fn main() {}
