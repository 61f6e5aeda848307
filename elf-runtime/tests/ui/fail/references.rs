use elf_runtime::machine_elf;

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, _species: &str, _weights: &[i64]) {}
}

fn main() {}
