//! Elves as their authors write them: what `#[machine_elf]` declares, runs and records.
#![expect(clippy::unwrap_used, reason = "what is unexpected fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use elf_runtime::{
    Elf, ElfService, Flow, Job, Output, Payload, TaskCall, TaskContext, TaskDeclaration, TaskError,
    TaskOutputs, TaskRequest, UseDefault, Value, args, list, machine_elf, map, revision_of, run_attempt,
    text,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
struct Measurement {
    /// What it is.
    species: String,
    #[serde(rename = "grams")]
    weight: i64,
}

/// Fields whose names our own methods have too.
#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
struct Clashing {
    id: String,
    after: i64,
    output: bool,
    fields: i64,
    clone: i64,
    r#type: i64,
}

/// Fields whose names are those of operations.
#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
struct Worded {
    equals: i64,
    length: i64,
    map: String,
    to_text: bool,
    untyped: i64,
}

#[derive(Debug, Clone, PartialEq, Output, Serialize, Deserialize)]
enum Size {
    Small,
    Large { meters: f64 },
}

#[derive(Default)]
struct Scale {
    calls: AtomicU32,
}

// Why it is here: comments above belong to the source.
/// Weighs animals.
///
/// Gently.
#[machine_elf]
impl Scale {
    // Weighing takes a while.
    /// Picks an animal and weighs it.
    async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError> {
        self.calls.fetch_add(1, Ordering::Relaxed); // counts
        Ok(Measurement { weight: self.weight_of(&species)?, species })
    }

    fn task_sum(
        &self,
        context: &TaskContext,
        weights: Vec<i64>,
        #[task(default = 2 * 5)] factor: i64,
    ) -> i64 {
        assert_eq!(context.attempt(), 1);
        weights.iter().sum::<i64>() * factor
    }

    async fn task_nothing(&self, _context: TaskContext) {}

    async fn task_collect(
        &self,
        measurements: Vec<Measurement>,
        by_name: BTreeMap<String, i64>,
        largest: Option<Measurement>,
    ) -> (usize, usize, bool) {
        (measurements.len(), by_name.len(), largest.is_some())
    }

    async fn task_clash(&self, arguments: i64, call: i64, context: i64, r#type: i64) -> Clashing {
        Clashing { id: "x".to_owned(), after: arguments, output: true, fields: call, clone: context, r#type }
    }

    async fn task_size(&self, size: Size) -> std::result::Result<Size, std::num::ParseIntError> {
        Ok(size)
    }

    #[cfg(any())]
    async fn task_never(&self, missing: NoSuchType) {}

    /// Not a task.
    fn weight_of(&self, species: &str) -> Result<i64, std::num::ParseIntError> {
        if species == "bee" { "7".parse() } else { species.parse() }
    }
}

struct Secretive;

#[machine_elf(source = false)]
impl Secretive {
    async fn task_hide(&self) {}
}

fn json<T: Serialize>(value: T) -> Payload {
    Payload::json(&value).unwrap()
}

async fn run(task: &str, arguments: Vec<(&str, Payload)>) -> Result<TaskOutputs, TaskError> {
    let arguments = arguments.into_iter().map(|(name, payload)| (name.to_owned(), payload)).collect();
    let request = TaskRequest { call: TaskCall::new(task, arguments), context: TaskContext::for_test() };
    run_attempt(ElfService::new(Scale::default()).boxed(), request).await
}

fn task(name: &str) -> TaskDeclaration {
    let declaration = Scale::default().declaration();
    declaration.tasks().iter().find(|task| task.name() == name).unwrap().clone()
}

#[test]
fn the_declaration_has_the_tasks_and_nothing_else() {
    let declaration = Scale::default().declaration();
    declaration.check().unwrap();
    let names: Vec<&str> = declaration.tasks().iter().map(TaskDeclaration::name).collect();
    assert_eq!(names, ["task_weigh", "task_sum", "task_nothing", "task_collect", "task_clash", "task_size"]);
    assert_eq!(declaration.documentation(), "Weighs animals.\n\nGently.");
}

#[test]
fn sources_are_as_written_with_their_comments() {
    let weigh = task("task_weigh");
    assert_eq!(
        weigh.source(),
        "// Weighing takes a while.\n\
         /// Picks an animal and weighs it.\n\
         async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError> {\n    \
             self.calls.fetch_add(1, Ordering::Relaxed); // counts\n    \
             Ok(Measurement { weight: self.weight_of(&species)?, species })\n\
         }"
    );
    assert_eq!(weigh.revision(), revision_of(weigh.source()));

    let declaration = Scale::default().declaration();
    let source = declaration.source();
    assert!(
        source.starts_with("// Why it is here: comments above belong to the source.\n/// Weighs animals."),
        "{source}"
    );
    assert!(source.contains("\n#[machine_elf]\nimpl Scale {\n"), "{source}");
    assert!(source.contains("    // Weighing takes a while.\n"), "{source}");
    assert!(source.contains("#[task(default = 2 * 5)] factor: i64"), "{source}");
    assert!(source.ends_with("species.parse() }\n    }\n}"), "{source}");
}

#[test]
fn an_elf_can_keep_its_source_and_still_has_revisions() {
    let declaration = Secretive.declaration();
    assert_eq!((declaration.source(), declaration.tasks()[0].source()), ("", ""));
    assert_eq!(declaration.tasks()[0].revision(), revision_of("async fn task_hide(&self) {}"));
    assert_ne!(declaration.revision(), declaration.tasks()[0].revision());
}

#[test]
fn docs_signatures_and_schemas_are_declared() {
    let weigh = task("task_weigh");
    assert_eq!(weigh.documentation(), "Picks an animal and weighs it.");
    assert_eq!(
        weigh.signature_text(),
        "async fn task_weigh(&self, species: String) -> Result<Measurement, TaskError>"
    );
    let outputs: Vec<(&str, bool)> = weigh
        .output_declarations()
        .iter()
        .map(|output| (output.name.as_ref(), output.schema.contains("integer")))
        .collect();
    assert_eq!(outputs, [("species", false), ("grams", true)]);

    let sum = task("task_sum");
    let parameters: Vec<(&str, bool)> =
        sum.parameters().iter().map(|parameter| (parameter.name.as_str(), parameter.optional)).collect();
    assert_eq!(parameters, [("weights", false), ("factor", true)], "the context is no parameter");
    assert_eq!(sum.output_declarations()[0].name, "value");
    assert!(task("task_nothing").output_declarations().is_empty());
    let collect = task("task_collect");
    let measurements = &collect.parameters()[0].schema;
    assert!(measurements.contains("What it is.") && measurements.contains("grams"), "{measurements}");
}

#[tokio::test]
async fn tasks_run_with_their_arguments() {
    let outputs = run("task_weigh", vec![("species", json("bee"))]).await.unwrap();
    assert_eq!(outputs, TaskOutputs::new().with("species", json("bee")).with("grams", json(7)));
    assert_eq!(
        Measurement::from_outputs(outputs).unwrap(),
        Measurement { species: "bee".to_owned(), weight: 7 }
    );
    assert!(run("task_nothing", vec![]).await.unwrap().is_empty());
    let size = Size::Large { meters: 2.5 };
    let outputs = run("task_size", vec![("size", json(&size))]).await.unwrap();
    assert_eq!(Size::from_outputs(outputs).unwrap(), size);
    run("task_size", vec![("size", json(Size::Small))]).await.unwrap();
}

#[tokio::test]
async fn a_default_stands_in_where_the_argument_is_left_out() {
    let sum = |arguments| async { i64::from_outputs(run("task_sum", arguments).await.unwrap()).unwrap() };
    assert_eq!(sum(vec![("weights", json([1, 2]))]).await, 30);
    assert_eq!(sum(vec![("weights", json([1, 2])), ("factor", json(2))]).await, 6);
}

#[tokio::test]
async fn wrong_calls_are_failures_that_say_what_is_wrong() {
    let failure = |error: TaskError| (error.failure_type().to_owned(), error.message_text().to_owned());
    let (kind, message) = failure(run("task_weigh", vec![]).await.unwrap_err());
    assert_eq!(kind, "ArgumentTypeError");
    assert_eq!(
        message,
        "the argument for the parameter `species` of `task_weigh` is missing; a parameter may be left out if it is an \
         `Option`, or has `#[task(default = …)]`"
    );
    let extra = vec![("species", json("bee")), ("size", json(1))];
    assert_eq!(
        failure(run("task_weigh", extra).await.unwrap_err()).1,
        "`task_weigh` has no parameter `size`"
    );
    let (kind, message) = failure(run("task_weigh", vec![("species", json(1))]).await.unwrap_err());
    assert_eq!(kind, "ArgumentTypeError");
    assert!(message.contains("parameter `species`"), "{message}");
    assert_eq!(run("task_fly", vec![]).await.unwrap_err().failure_type(), "TaskNotFoundError");
}

#[test]
fn orchestrations_read_like_ordinary_calls() {
    let flow = Flow::detached("daily report");
    let scale = Scale::tasks(&flow, "scale");
    let m = scale.task_weigh("bee");
    let text: String = "dog".to_owned();
    let other: Job<Measurement> = scale.task_weigh(&text).after(&m).priority(3);
    let weight: Value<i64> = m.weight();
    let sum = scale.task_sum(list![m.weight(), 3, other.weight()], UseDefault);
    scale.task_sum(vec![1, 2], &weight);
    scale.task_sum([m.weight(), other.weight()], sum.clone());
    scale.task_collect(
        list![m.clone(), Measurement { species: "dog".into(), weight: 7 }, &other],
        map! { "bee" => weight, "sum" => &sum, "dog" => 7 },
        &m,
    );
    scale.task_collect(vec![m.clone(), other], BTreeMap::from([("a".to_owned(), m.weight())]), None);
    scale.task_collect(vec![m.value().clone()], BTreeMap::from([("a".to_owned(), 1)]), m.clone());
    scale.task_weigh(m.species());
    scale.task_collect(
        list![MeasurementValues::build(m.species(), 8)],
        map! {},
        Some(Measurement { species: "ant".into(), weight: 1 }),
    );
    let ant = flow.call("scale", "task_weigh", args! { species: "ant" });
    scale.task_sum(list![ant.output("grams").typed(), 1], 2);
    assert_eq!(flow.pending(), 12);
}

#[test]
fn fields_whose_names_are_taken_are_reached_all_the_same() {
    let flow = Flow::detached("clash");
    let job = Scale::tasks(&flow, "scale").task_clash(1, 2, 3, 4);
    assert_eq!(job.fields().id().to_string(), format!("job {}/id", job.id()));
    let after: Value<i64> = job.fields().after();
    assert_eq!(after.to_string(), format!("job {}/after", job.id()));
    let _: Value<bool> = job.fields().output();
    let _: Value<i64> = job.fields().fields();
    assert_eq!(job.r#type().to_string(), format!("job {}/type", job.id()));
    // `clone` of the companion is a field, the trait's method stays reachable.
    let field: Value<i64> = job.fields().clone();
    assert_eq!(field.to_string(), format!("job {}/clone", job.id()));
    assert_eq!(job.value().fields().r#type().to_string(), job.r#type().to_string());
}

#[test]
fn operations_do_not_hide_the_fields_of_structs() {
    let literal =
        Value::literal(&Worded { equals: 1, length: 2, map: "m".to_owned(), to_text: true, untyped: 3 });
    let equals: Value<i64> = literal.equals();
    let length: Value<i64> = literal.length();
    let map: Value<String> = literal.map();
    let to_text: Value<bool> = literal.to_text();
    let untyped: Value<i64> = literal.fields().untyped();
    let shown =
        [equals.to_string(), length.to_string(), map.to_string(), to_text.to_string(), untyped.to_string()];
    assert_eq!(shown, ["1", "2", "\"m\"", "true", "3"]);
    let whole: Value<bool> = literal.untyped().equals(Value::any(&1));
    assert!(whole.to_string().ends_with(" == 1"), "{whole}");
}

#[test]
fn orchestrations_compute_with_what_is_not_there_yet() {
    let flow = Flow::detached("daily report");
    let scale = Scale::tasks(&flow, "scale");
    let (bee, dog) = (scale.task_weigh("bee"), scale.task_weigh("dog"));
    let mut weights: Value<Vec<i64>> = list![bee.weight(), dog.weight()];
    weights.push(3);
    let mean = weights.mean();
    let heavy = weights.filter(|weight| weight.to_float().greater_than(&mean));
    let name = Value::select(bee.weight().less_than(dog.weight()), dog.species(), bee.species());
    let sum = scale.task_sum(heavy.map(|weight| weight * 2 + bee.weight()), 2 * dog.weight() - 1);
    scale.task_weigh(text!("{}, of {}", name.upper(), weights.length()));
    scale.task_sum(list![sum.value() + 1, -bee.weight(), weights.get(-1)], sum.value() % 2);
    assert_eq!(flow.pending(), 5);
    let (bee, dog) = (bee.id(), dog.id());
    assert_eq!(
        heavy.to_string(),
        format!(
            "[job {bee}/grams, job {dog}/grams, 3].filter(x -> to_float(x) > [job {bee}/grams, job {dog}/grams, \
             3].mean())"
        )
    );
}

#[test]
fn fields_of_values_are_found_in_literals_and_in_structs_of_values() {
    let flow = Flow::detached("fields");
    let job = Scale::tasks(&flow, "scale").task_weigh("bee");
    let built = MeasurementValues::build("dog", job.weight());
    assert_eq!(built.weight().to_string(), format!("job {}/grams", job.id()));
    assert_eq!(built.species().to_string(), r#""dog""#);
    let literal = Value::literal(&Measurement { species: "ant".to_owned(), weight: i64::MAX });
    assert_eq!(literal.weight().to_string(), i64::MAX.to_string());
    assert_eq!(format!("{:?}", literal.weight()), format!("Value<i64>({})", i64::MAX));
}

#[tokio::test]
async fn an_elf_written_by_hand_serves_like_one_of_the_macro() {
    struct ByHand;
    impl Elf for ByHand {
        fn declaration(&self) -> elf_runtime::ElfDeclaration {
            elf_runtime::ElfDeclaration::new("by hand")
                .task(TaskDeclaration::new("task_echo", "1").outputs::<i64>())
        }
        fn call(
            self: Arc<Self>,
            mut call: TaskCall,
            _context: TaskContext,
        ) -> futures::future::BoxFuture<'static, Result<TaskOutputs, TaskError>> {
            Box::pin(async move { Ok(call.argument::<i64>("x")?.into_outputs()?) })
        }
    }
    let elf: Arc<dyn Elf> = Arc::new(ByHand);
    elf.declaration().check().unwrap();
    let call = TaskCall::new("task_echo", vec![("x".to_owned(), json(3))]);
    let request = TaskRequest { call, context: TaskContext::for_test() };
    let outputs = run_attempt(ElfService::from_shared(elf).boxed(), request).await.unwrap();
    assert_eq!(i64::from_outputs(outputs).unwrap(), 3);
}
