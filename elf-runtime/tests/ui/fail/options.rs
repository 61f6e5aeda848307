use elf_runtime::machine_elf;

struct Scale;

#[machine_elf(sauce = false)]
impl Scale {
    async fn task_weigh(&self, #[task(standard = 1)] _n: i64) {}
}

fn main() {}
