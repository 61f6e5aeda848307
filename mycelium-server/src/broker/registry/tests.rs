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
    let restored = registry.standing("scale").newest.unwrap();
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

/// A declaration of elf `scale` whose task takes these parameters, all required.
fn takes(parameters: &[&str]) -> Arc<ElfSignature> {
    let mut elf = declaration("", "");
    let parameter = |name: &&str| v1::ParameterDeclaration {
        name: (*name).to_owned(),
        ..v1::ParameterDeclaration::default()
    };
    elf.tasks[0].parameters = parameters.iter().map(parameter).collect();
    Registry::default().read(&elf).unwrap()
}

fn job(task: &str, arguments: &[&str]) -> v1::JobSpec {
    let argument = |name: &&str| v1::Argument { parameter: (*name).to_owned(), node: 0 };
    v1::JobSpec {
        elf: "scale".to_owned(),
        task: task.to_owned(),
        arguments: arguments.iter().map(argument).collect(),
        ..v1::JobSpec::default()
    }
}

fn welcome(registry: &Registry, session: u64, signature: Arc<ElfSignature>) {
    registry.welcome(SessionId(session), Signatures::from([("scale".to_owned(), signature)]));
}

fn ruling(registry: &Registry, arguments: &[&str]) -> Ruling<Misfit> {
    let job = job("task_weigh", arguments);
    registry.standing("scale").judge(&job, mycelium_core::signature::Judged::NOT).1
}

#[test]
fn a_job_is_refused_only_if_nobody_is_there_who_takes_it() {
    let registry = Registry::default();
    assert_eq!(ruling(&registry, &["a"]), Ruling::Taken, "nothing is known of the elf");
    welcome(&registry, 1, takes(&["a"]));
    welcome(&registry, 2, takes(&["a", "b"]));
    assert_eq!(ruling(&registry, &["a"]), Ruling::Taken);
    assert_eq!(ruling(&registry, &["a", "b"]), Ruling::Taken);
    assert!(matches!(ruling(&registry, &["b"]), Ruling::Refused(Misfit::Arguments { .. })));
    let unknown = registry.standing("scale").judge(&job("task_tare", &[]), Default::default()).1;
    assert!(matches!(unknown, Ruling::Refused(Misfit::TaskNotFound { .. })), "{unknown:?}");
    // What is over takes nothing, and what was declared last only warns.
    registry.end(SessionId(1));
    assert!(matches!(ruling(&registry, &["a"]), Ruling::Refused(_)));
    registry.end(SessionId(2));
    assert!(matches!(ruling(&registry, &["a"]), Ruling::Doubtful(_)));
    assert_eq!(ruling(&registry, &["a", "b"]), Ruling::Taken);
}

#[test]
fn sessions_that_were_not_heard_since_the_broker_began_may_take_anything() {
    let registry = Registry::default();
    registry.begin([SessionId(1), SessionId(2)]);
    welcome(&registry, 1, takes(&["a"]));
    assert!(matches!(ruling(&registry, &["b"]), Ruling::Doubtful(_)));
    registry.end(SessionId(2));
    assert!(matches!(ruling(&registry, &["b"]), Ruling::Refused(_)));
    // A core that is built anew keeps those that are known, and forgets those that it does not have.
    welcome(&registry, 3, takes(&["b"]));
    registry.begin([SessionId(1), SessionId(4)]);
    assert_eq!(ruling(&registry, &["a"]), Ruling::Taken);
    assert!(matches!(ruling(&registry, &["b"]), Ruling::Doubtful(_)));
    registry.begin([SessionId(1)]);
    assert!(matches!(ruling(&registry, &["b"]), Ruling::Refused(_)));
}

#[test]
fn a_session_that_declares_something_else_is_held_to_that() {
    let registry = Registry::default();
    welcome(&registry, 1, takes(&["a"]));
    welcome(&registry, 1, takes(&["b"]));
    assert!(matches!(ruling(&registry, &["a"]), Ruling::Refused(_)));
    assert_eq!(ruling(&registry, &["b"]), Ruling::Taken);
    registry.welcome(SessionId(1), Signatures::new());
    assert_eq!(ruling(&registry, &["b"]), Ruling::Taken, "as what was declared last would");
    assert!(matches!(ruling(&registry, &["a"]), Ruling::Doubtful(_)));
}

#[test]
fn jobs_that_are_judged_alike_share_it_and_more_declarations_than_are_asked_refuse_nothing() {
    let registry = Registry::default();
    welcome(&registry, 1, takes(&["a"]));
    welcome(&registry, 2, takes(&["b"]));
    let job = job("task_weigh", &["a"]);
    let (first, _) = registry.standing("scale").judge(&job, Default::default());
    let mut judged: Vec<bool> = first.iter().map(|(_, takes)| takes).collect();
    judged.sort_unstable();
    assert_eq!(judged, [false, true]);
    let (second, _) = registry.standing("scale").judge(&job, first.clone());
    assert_eq!(second, first);
    for session in 0..=ASKED_MAX as u64 {
        welcome(&registry, session, takes(&[&format!("p{session}")]));
    }
    assert!(matches!(ruling(&registry, &["unknown"]), Ruling::Doubtful(_)));
}

#[test]
fn signatures_are_told_apart_by_all_that_is_said_of_parameters_and_nothing_else() {
    let id = |elf: &v1::ElfDeclaration| core_signature(&elf.tasks[0]).id();
    let plain = declaration("", "");
    assert_eq!(id(&plain), id(&declaration("", r#"{"type":"string"}"#)), "outputs are not taken");
    assert_ne!(id(&plain), id(&declaration(r#"{"type":"string"}"#, "")));
    let mut optional = plain.clone();
    optional.tasks[0].parameters[0].optional = true;
    assert_ne!(id(&plain), id(&optional));
}
