use super::*;

fn declaration(parameter: &str, output: &str) -> v1::ElfDeclaration {
    v1::ElfDeclaration {
        name: "scale".to_owned(),
        tasks: vec![v1::TaskDeclaration {
            name: "task_weigh".to_owned(),
            parameters: vec![v1::ParameterDeclaration {
                name: "animal".to_owned(),
                schema: parameter.to_owned(),
                optional: false,
            }],
            outputs: vec![v1::OutputDeclaration { name: "value".to_owned(), schema: output.to_owned() }],
            ..v1::TaskDeclaration::default()
        }],
        ..v1::ElfDeclaration::default()
    }
}

#[test]
fn schemas_are_compiled_once_for_all_who_declare_the_same() {
    let registry = Registry::default();
    let (a, b) = (declaration("", r#"{"type":"integer"}"#), declaration("", r#"{"type":"string"}"#));
    assert!(registry.shared(&a).is_none());
    let first = registry.read(&a).unwrap();
    let other = registry.read(&b).unwrap();
    let documented = v1::ElfDeclaration { docs: "the same".to_owned(), ..a.clone() };
    assert!(Arc::ptr_eq(&first, &registry.read(&documented).unwrap()));
    assert!(!Arc::ptr_eq(&first, &other));
    // What nobody uses any more is not kept.
    drop((first, other));
    assert!(registry.shared(&a).is_none());
    let _third = registry.read(&a).unwrap();
    assert_eq!(registry.shared.lock().unwrap().len(), 1);
}

#[test]
fn what_is_no_schema_is_refused_but_restored_as_one_that_judges_nothing() {
    let registry = Registry::default();
    let bad = declaration("", r#"{"type":"int"}"#);
    let error = registry.read(&bad).unwrap_err();
    assert_eq!(error.field, "tasks[0].outputs[0].schema");
    assert_eq!(
        error.problem,
        "output `value` of task `task_weigh` of elf `scale` has no valid schema: at `/type`: `int` is no type"
    );
    assert_eq!(registry.read(&declaration("[]", "")).unwrap_err().field, "tasks[0].parameters[0].schema");
    registry.restore(&bad);
    let restored = registry.elf("scale").unwrap();
    assert!(restored.task("task_weigh").unwrap().outputs[0].schema.is_none());
}

#[test]
fn the_schemas_of_an_elf_are_bounded_together() {
    let large = format!("{{\"anyOf\":[{}]}}", vec![r#"{"type":"null"}"#; 9_990].join(","));
    let mut elf = declaration("", "");
    let task = elf.tasks[0].clone();
    elf.tasks = (0..60)
        .map(|n| v1::TaskDeclaration {
            name: format!("task_{n}"),
            outputs: vec![v1::OutputDeclaration { name: "value".to_owned(), schema: large.clone() }],
            ..task.clone()
        })
        .collect();
    let error = Registry::default().read(&elf).unwrap_err();
    assert!(error.problem.ends_with("the schemas of the elf take more memory than they may"), "{error}");
}

#[test]
fn outputs_that_a_task_does_not_declare_are_told() {
    let signature = Registry::default().read(&declaration("", "")).unwrap();
    assert_eq!(signature.refuse_output("task_weigh", "value"), None);
    assert_eq!(signature.refuse_output("task_other", "x"), None, "a task that is not known may have any");
    assert_eq!(
        signature.refuse_output("task_weigh", "weight").as_deref(),
        Some("task `task_weigh` has no output `weight`; it declares value")
    );
}
