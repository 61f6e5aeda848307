//! Private types, other modules, raw names, lints at their strictest.
#![deny(warnings, missing_docs, unreachable_pub, missing_debug_implementations)]

mod animals {
    use elf_runtime::{Output, machine_elf};
    use serde::{Deserialize, Serialize};

    #[derive(Output, Serialize, Deserialize)]
    pub(crate) struct Animal {
        pub(crate) r#type: String,
        legs: u8,
    }

    pub(crate) struct Creator;

    #[machine_elf]
    impl Creator {
        pub(crate) async fn task_create(&self, r#type: String, legs: u8) -> Animal {
            Animal { r#type, legs }
        }
        fn task_count(&self, animals: Vec<Animal>) -> usize {
            animals.iter().map(|animal| usize::from(animal.legs)).sum()
        }
    }
}

#[test]
fn private_types_and_raw_names_work_under_strict_lints() {
    let flow = elf_runtime::Flow::detached("zoo");
    let creator = animals::Creator::tasks(&flow, "creator");
    let bee = creator.task_create("bee", 6);
    creator.task_create(bee.r#type(), bee.legs());
    creator.task_count(vec![bee]);
}
