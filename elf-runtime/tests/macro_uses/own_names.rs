//! Names of the user's own that are like ours do not get in the way.

#[expect(dead_code, reason = "their names are what matters")]
struct Result;
#[expect(dead_code, reason = "their names are what matters")]
struct Box;
#[expect(dead_code, reason = "their names are what matters")]
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

#[test]
fn names_of_the_users_own_do_not_get_in_the_way() {
    let flow = elf_runtime::Flow::detached("names");
    let weight = Elf::tasks(&flow, "elf").task_weigh(1, 2, 3);
    Elf::tasks(&flow, "elf").task_weigh(weight.node(), weight.node(), weight.node());
}
