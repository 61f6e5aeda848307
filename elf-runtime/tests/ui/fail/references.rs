use elf_runtime::machine_elf;

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, species: &str, weights: &[i64]) {}
}

fn main() {}
