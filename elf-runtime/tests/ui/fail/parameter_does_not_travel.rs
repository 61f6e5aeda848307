use elf_runtime::machine_elf;

struct Scale;

struct Weight;

#[machine_elf]
impl Scale {
    async fn task_weigh(&self, weight: Weight) {
        let _ = weight;
    }
}

fn main() {}
