use elf_runtime::machine_elf;

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self) {}
    async fn task_weigh(&self, _again: i64) {}
}

fn main() {}
