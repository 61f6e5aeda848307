use elf_runtime::machine_elf;

#[machine_elf]
struct Scale;

fn main() {}
