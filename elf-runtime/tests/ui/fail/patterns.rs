use elf_runtime::machine_elf;

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, (_low, _high): (i64, i64), _: i64) {}
}

fn main() {}
