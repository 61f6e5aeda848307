use elf_runtime::{Flow, UseDefault, Value, machine_elf};

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, species: String, #[task(default = 1)] count: i64) -> i64 {
        let _ = species;
        count
    }
}

fn main() {
    let flow = Flow::detached("wrong");
    let scale = Scale::tasks(&flow, "scale");
    let weight: Value<i64> = scale.task_weigh("bee", 1).value().clone();
    scale.task_weigh(7, 1);
    scale.task_weigh(weight, 1);
    scale.task_weigh("bee", "many");
    scale.task_weigh(UseDefault, UseDefault);
}
