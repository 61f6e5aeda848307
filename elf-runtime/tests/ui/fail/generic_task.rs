use elf_runtime::machine_elf;

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh<T: Send>(&self, _item: T) {}
}

fn main() {}
