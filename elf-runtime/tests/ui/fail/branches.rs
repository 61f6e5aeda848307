//! A condition is a bool, and what is run over is a list.

use elf_runtime::{Flow, Value, machine_elf};

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, species: String) -> i64 {
        let _ = species;
        7
    }
}

fn main() {
    let flow = Flow::detached("tests");
    let scale = Scale::tasks(&flow, "scale");
    let weight = scale.task_weigh("bee");
    let _job = scale.task_weigh("dog").run_if(weight.value());
    let _job = scale.task_weigh("dog").run_if(1);
    let species: Value<String> = Value::literal(&"bee".to_owned());
    flow.for_each(&species, |species| scale.task_weigh(species));
    let lengths: Value<Vec<i64>> = (0..3).collect();
    flow.for_each(&lengths, |length| scale.task_weigh(length));
    flow.for_each(&lengths, |length| length + 1);
}
