//! Conditions, and jobs that are run for each element of a list.

use super::*;
use crate::Job;

struct Scale;

#[machine_elf]
impl Scale {
    async fn task_list(&self) -> Vec<Measurement> {
        Vec::new()
    }
    async fn task_is_open(&self) -> bool {
        true
    }
    async fn task_weigh(&self, _species: String, #[task(default = 0)] _index: i64) -> i64 {
        0
    }
    async fn task_report(&self, _sum: i64) {}
}

fn scale() -> (Flow, ScaleTasks) {
    let flow = Flow::detached("branches");
    let tasks = Scale::tasks(&flow, "scale");
    (flow, tasks)
}

fn operation(node: &v1::ValueNode) -> (&str, &[u32]) {
    match &node.kind {
        Some(Kind::Operation(operation)) => (&operation.name, &operation.inputs),
        _ => panic!("an operation expected: {node:?}"),
    }
}

#[tokio::test]
async fn a_condition_stands_in_the_table_of_its_job_and_shares_its_nodes() {
    let (flow, scale) = scale();
    let weight = scale.task_weigh("bee", 0);
    let heavy = weight.value().greater_than(7);
    scale.task_report(weight.value() * 2).run_if(&heavy);
    let specs = specs(&flow).await;
    let spec = &specs[1];
    // The output, the 2 and the product; then the 7 and the comparison, of the output that stands there already.
    assert_eq!(spec.nodes.len(), 5, "{:#?}", spec.nodes);
    let (name, inputs) = operation(&spec.nodes[spec.run_if.unwrap() as usize]);
    assert_eq!((name, spec.run_if), ("strict.greater", Some(4)));
    assert_eq!(output(&spec.nodes[inputs[0] as usize]), Some((&weight.id().to_wire(), "")));
    assert_eq!(literal(&spec.nodes[inputs[1] as usize]), Some("7"));
    let (name, factors) = operation(&spec.nodes[spec.arguments[0].node as usize]);
    assert_eq!((name, factors[0]), ("multiply", inputs[0]));
    assert_eq!(spec.operations_version, limits::OPERATIONS_VERSION);
    assert_eq!((specs[0].run_if, specs[0].for_each), (None, None));
}

#[tokio::test]
async fn a_condition_may_be_a_job_or_known_and_several_have_to_hold_together() {
    let (flow, scale) = scale();
    let open = scale.task_is_open();
    scale.task_weigh("bee", 0).run_if(&open);
    scale.task_weigh("bee", 0).run_if(false);
    scale.task_weigh("bee", 0).run_if(&open).run_if(true).run_if(true);
    scale.task_weigh("bee", 0).run_if(&open).run_if(open.value());
    let specs = specs(&flow).await;
    let condition = |spec: &v1::JobSpec| spec.nodes[spec.run_if.unwrap() as usize].clone();
    assert_eq!(output(&condition(&specs[1])), Some((&open.id().to_wire(), "")));
    assert_eq!((specs[1].operations_version, specs[1].after.len()), (0, 0));
    assert_eq!(literal(&condition(&specs[2])), Some("false"));
    // The second `true` is the node of the first.
    let and = condition(&specs[3]);
    let (name, inputs) = operation(&and);
    assert_eq!((name, specs[3].operations_version), ("and", 1));
    assert_eq!(operation(&specs[3].nodes[inputs[0] as usize]).0, "and");
    assert_eq!(literal(&specs[3].nodes[inputs[1] as usize]), Some("true"));
    assert_eq!(output(&condition(&specs[4])), Some((&open.id().to_wire(), "")), "said twice is said once");
}

#[tokio::test]
async fn a_condition_of_another_flow_needs_that_submitted() {
    let (first, first_scale) = scale();
    let (second, second_scale) = scale();
    let open = first_scale.task_is_open();
    second_scale.task_weigh("bee", 0).run_if(&open);
    let told = problems(&second).await;
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(&format!("it needs the job {} of another flow", open.id())), "{told:?}");
    specs(&first).await;
    assert_eq!(specs(&second).await.len(), 1);
}

#[tokio::test]
async fn a_condition_that_comes_too_late_or_cannot_be_sent_is_told() {
    let (flow, scale) = scale();
    let job = scale.task_weigh("bee", 0);
    let list: Value<Vec<i64>> = list![1];
    let mut escaped = None;
    let _mapped = list.map(|element| {
        escaped = Some(element.clone());
        element
    });
    let _job = job.clone().run_if(escaped.unwrap().greater_than(0));
    let told = problems(&flow).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with(
            "call of `task_weigh` of the elf `scale`: its condition: it uses what a closure was given"
        ),
        "{told:?}"
    );

    let (flow, scale) = self::scale();
    let job = scale.task_weigh("bee", 0);
    specs(&flow).await;
    let _job = job.run_if(true);
    assert_eq!(
        problems(&flow).await,
        ["the settings of a job or the labels of the flow were changed after they were submitted"]
    );
}

#[test]
fn a_condition_that_makes_the_table_too_large_leaves_it_as_it_was() {
    let (_flow, scale) = scale();
    let literal = v1::ValueNode { kind: Some(Kind::Literal(v1::Payload::default())) };
    let nodes = vec![literal; limits::VALUE_NODES_MAX - 1];
    let mut spec = v1::JobSpec { nodes, ..v1::JobSpec::default() };
    let two_nodes = !scale.task_is_open().value();
    let refused = crate::value::append(&mut spec, two_nodes.node(), |_| {});
    assert!(matches!(refused, Err(ProblemKind::TooManyNodes)), "{refused:?}");
    assert_eq!((spec.nodes.len(), spec.operations_version), (limits::VALUE_NODES_MAX - 1, 0));
    let one_node = scale.task_is_open();
    let last = u32::try_from(spec.nodes.len()).unwrap();
    let taken = crate::value::append(&mut spec, one_node.value().node(), |_| {}).unwrap();
    assert_eq!((taken.node, taken.large.len()), (last, 0));
}

#[tokio::test]
async fn a_job_for_each_element_carries_the_list_and_stands_for_the_list_of_results() {
    let (flow, scale) = scale();
    let animals = scale.task_list();
    let weights: Job<Vec<i64>> = flow.for_each_indexed(&animals, |animal, index| {
        scale
            .task_weigh(animal.species(), index + 1)
            .priority(3)
            .run_if(animals.value().length().greater_than(2))
    });
    scale.task_report(weights.value().sum());
    let specs = specs(&flow).await;
    assert_eq!(specs.len(), 3);
    let each = &specs[1];
    assert_eq!((each.job_id.clone(), each.priority), (weights.id().to_wire(), 3));
    let list = each.for_each.as_ref().unwrap().list;
    assert_eq!(output(&each.nodes[list as usize]), Some((&animals.id().to_wire(), "")));
    let (name, inputs) = operation(&each.nodes[each.arguments[0].node as usize]);
    assert_eq!((name, &each.nodes[inputs[0] as usize].kind), ("get", &Some(Kind::BodyInput(0))));
    let (name, inputs) = operation(&each.nodes[each.arguments[1].node as usize]);
    assert_eq!((name, &each.nodes[inputs[0] as usize].kind), ("add", &Some(Kind::BodyInput(1))));
    let (name, inputs) = operation(&each.nodes[each.run_if.unwrap() as usize]);
    assert_eq!(name, "strict.greater");
    let (name, inputs) = operation(&each.nodes[inputs[0] as usize]);
    assert_eq!((name, inputs), ("length", &[list][..]), "the list stands in the table once");
    let (name, inputs) = operation(&specs[2].nodes[specs[2].arguments[0].node as usize]);
    assert_eq!(name, "list.sum");
    assert_eq!(output(&specs[2].nodes[inputs[0] as usize]), Some((&weights.id().to_wire(), "")));
}

#[tokio::test]
async fn elements_may_be_captured_by_closures_and_left_unused() {
    let (flow, scale) = scale();
    let others: Value<Vec<i64>> = list![1, 2];
    flow.for_each(vec![3, 4], |n| {
        flow.call("scale", "task_sum", args! { numbers: others.map(|other| other + &n) })
    });
    flow.for_each(vec![3, 4], |_| scale.task_is_open());
    // What is recorded afterwards is no part of it.
    scale.task_report(1);
    let specs = specs(&flow).await;
    let (name, inputs) = operation(&specs[0].nodes[specs[0].arguments[0].node as usize]);
    assert_eq!((name, inputs.len()), ("list.map", 2));
    assert_eq!(specs[0].nodes[inputs[1] as usize].kind, Some(Kind::BodyInput(0)));
    assert_eq!(literal(&specs[1].nodes[specs[1].for_each.unwrap().list as usize]), Some("[3,4]"));
    assert_eq!(specs[2].for_each, None);
}

#[tokio::test]
async fn a_closure_has_to_record_the_one_job_that_it_returns() {
    let (flow, scale) = scale();
    let outside = scale.task_is_open();
    flow.for_each(vec![1], |_| outside.clone());
    flow.for_each(vec![1], |n| {
        scale.task_report(n);
        scale.task_is_open()
    });
    flow.for_each(vec![1], |n| {
        scale.task_report(n);
        outside.clone()
    });
    let (_other, other_scale) = self::scale();
    let foreign = other_scale.task_is_open();
    flow.for_each(vec![1], |n| {
        scale.task_report(n);
        foreign.clone()
    });
    let returns = |job: &Job<bool>| {
        format!(
            "the closure of a `for_each` returns the job {}, and has to return the job that it records in its flow",
            job.id()
        )
    };
    assert_eq!(
        problems(&flow).await,
        [
            "the closure of a `for_each` records 0 jobs, and has to record exactly one".to_owned(),
            "the closure of a `for_each` records 2 jobs, and has to record exactly one".to_owned(),
            returns(&outside),
            returns(&foreign),
        ]
    );
}

#[tokio::test]
async fn an_element_or_its_job_used_elsewhere_is_told() {
    let (flow, scale) = scale();
    let mut element = None;
    let mut own = None;
    flow.for_each(vec!["bee".to_owned()], |species| {
        element = Some(species.clone());
        let job = scale.task_weigh(species, 0);
        own = Some(job.clone());
        job
    });
    let (element, own) = (element.unwrap(), own.unwrap());
    scale.task_weigh(&element, 0);
    scale.task_report(&own);
    flow.for_each(Value::<Vec<String>>::from_iter([&element]), |species| scale.task_weigh(species, 0));
    flow.for_each(vec![1], |n| scale.task_report(&n).run_if(n.greater_than(0)));
    let (other, other_scale) = self::scale();
    flow.for_each(vec![1], |n| {
        other_scale.task_report(&n);
        scale.task_report(n)
    });
    let told = problems(&flow).await;
    assert_eq!(told.len(), 4, "{told:#?}");
    for (told, expected) in told.iter().zip([
        "`task_weigh` of the elf `scale`: parameter `_species`: it uses what a closure was given",
        "`task_report` of the elf `scale`: parameter `_sum`: it uses what the job of a `for_each` returns for one",
        "`task_weigh` of the elf `scale`: the list of its `for_each`: it uses what a closure was given",
        "`task_report` of the elf `scale`: its condition: it is judged once for all elements of a `for_each`",
    ]) {
        assert!(told.contains(expected), "{told}");
    }
    let told = problems(&other).await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("parameter `_sum`: it uses what a closure was given"), "{told:?}");
}

#[tokio::test]
async fn a_for_each_does_not_stand_in_the_closure_of_another() {
    let (flow, scale) = scale();
    flow.for_each(vec![vec![1]], |inner| flow.for_each(inner, |n| scale.task_report(n)));
    let told = problems(&flow).await;
    assert!(told[0].starts_with("a `for_each` stands in the closure of another one"), "{told:#?}");
}

#[tokio::test]
async fn other_threads_record_beside_a_closure_and_one_that_panics_is_closed() {
    let (flow, scale) = scale();
    flow.for_each(vec![1], |n| {
        std::thread::scope(|threads| {
            threads.spawn(|| scale.task_is_open());
        });
        scale.task_report(n)
    });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        flow.for_each(vec![1], |_| -> Job<bool> { panic!("planned by the test") })
    }));
    assert!(panicked.is_err());
    scale.task_is_open();
    let specs = specs(&flow).await;
    let is_each: Vec<bool> = specs.iter().map(|spec| spec.for_each.is_some()).collect();
    assert_eq!(is_each, [false, true, false]);
}
