use elf_runtime::machine_elf;

struct Scale;

#[machine_elf]
impl Scale {
    async fn weigh(&self) {}
}

fn main() {}
