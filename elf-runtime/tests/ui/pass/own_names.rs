//! Names of the user's own that are like ours do not get in the way.

#[allow(dead_code)]
struct Result;
#[allow(dead_code)]
struct Box;
#[allow(dead_code)]
struct Output;

#[derive(elf_runtime::Output, serde::Serialize, serde::Deserialize)]
struct Weight {
    node: i64,
}

struct Elf;

#[elf_runtime::machine_elf]
impl Elf {
    async fn task_weigh(&self, flow: i64, tasks: i64, arguments: i64) -> Weight {
        Weight { node: flow + tasks + arguments }
    }
}

fn main() {
    let flow = elf_runtime::Flow::detached("names");
    let weight = Elf::tasks(&flow, "elf").task_weigh(1, 2, 3);
    Elf::tasks(&flow, "elf").task_weigh(weight.node(), weight.node(), weight.node());
}
