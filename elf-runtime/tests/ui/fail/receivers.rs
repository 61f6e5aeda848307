use elf_runtime::machine_elf;

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_used_up(self) {}
    async fn task_mutable(&mut self) {}
    async fn task_none() {}
}

fn main() {}
