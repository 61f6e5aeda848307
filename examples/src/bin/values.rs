//! Computing with values that are not there yet: each operation once, checked against the same in plain Rust.
//!
//! ```text
//! cargo run --bin values                                # with a broker of its own, in memory
//! cargo run --bin values -- --url http://127.0.0.1:7420 # with one that runs: `mycelium serve`
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;
use elf_runtime::{Flow, Job, Mycelium, Output, Value, any_list, any_map, list, machine_elf, text, v1};
use mycelium_server::RunningBroker;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a task returns here. Each field is an output of its own, and a value that one can compute with before the task
/// has run.
#[derive(Debug, Clone, Output, Serialize, Deserialize)]
struct Sample {
    seven: i64,
    two: i64,
    half: f64,
    name: String,
    empty: Option<i64>,
    yes: bool,
    weights: Vec<i64>,
    names: Vec<String>,
    prices: BTreeMap<String, i64>,
    report: serde_json::Value,
    animals: Vec<Animal>,
}

#[derive(Debug, Clone, Output, Serialize, Deserialize)]
struct Animal {
    species: String,
    legs: i64,
}

fn sample() -> Sample {
    Sample {
        seven: 7,
        two: 2,
        half: 2.5,
        name: "  Süße Biene ".to_owned(),
        empty: None,
        yes: true,
        weights: vec![3, 1, 2, 3],
        names: ["bee", "ant", "dog"].map(str::to_owned).to_vec(),
        prices: BTreeMap::from([("honey".to_owned(), 4), ("wax".to_owned(), 9)]),
        report: json!({"rows": [{"grams": 7}, {"grams": 9}], "note": null}),
        animals: [("bee", 6), ("dog", 4), ("ant", 6)]
            .map(|(species, legs)| Animal { species: species.to_owned(), legs })
            .to_vec(),
    }
}

struct Echo;

/// Returns what it is given.
#[machine_elf]
impl Echo {
    /// Returns a few values to compute with.
    async fn task_sample(&self) -> Sample {
        sample()
    }

    /// Returns its argument. By then the broker has computed it.
    async fn task_echo(&self, value: serde_json::Value) -> serde_json::Value {
        value
    }
}

/// Computes with values that are not there yet.
#[derive(Debug, Parser)]
struct Options {
    /// The URL of a broker that runs already. Without it the example starts one, in memory.
    #[arg(long, env = "MYCELIUM_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let broker = match &options.url {
        Some(_) => None,
        None => Some(mycelium_examples::broker(None).await?),
    };
    let url = options.url.or(broker.as_ref().map(RunningBroker::url)).unwrap_or_default();
    let mycelium = Mycelium::connect(url).await?;
    let mut outcome = Ok(());
    let worker = mycelium.serve().elf("echo", Echo);
    worker.run_until(async { outcome = tour(&mycelium).await }).await?;
    if let Some(broker) = broker {
        broker.stop().await?;
    }
    outcome
}

/// One stop: a value that was recorded, and what it should come to.
struct Stop {
    operation: &'static str,
    recorded: String,
    computed: Job<serde_json::Value>,
    expected: serde_json::Value,
}

struct Tour {
    echo: EchoTasks,
    sample: Job<Sample>,
    stops: Vec<Stop>,
}

impl Tour {
    fn new(flow: &Flow) -> Self {
        let echo = Echo::tasks(flow, "echo");
        let sample = echo.task_sample();
        Self { echo, sample, stops: Vec::new() }
    }

    /// Records a job that takes the value, and what plain Rust makes of the same.
    fn stop<T: Output>(&mut self, operation: &'static str, value: &Value<T>, expected: impl Serialize) {
        let recorded = value.to_string().replace(&format!("job {}/", self.sample.id()), "");
        let computed = self.echo.task_echo(value.untyped());
        self.stops.push(Stop { operation, recorded, computed, expected: json!(expected) });
    }
}

async fn tour(mycelium: &Mycelium) -> anyhow::Result<()> {
    let flow = mycelium.flow("values");
    let mut tour = Tour::new(&flow);
    // Nothing has run yet: the fields of this are values that are not there. `plain` is the same, here and now.
    let values = tour.sample.clone();
    let plain = sample();
    numbers(&mut tour, &values, &plain);
    logic(&mut tour, &values, &plain);
    texts(&mut tour, &values, &plain);
    lists(&mut tour, &values, &plain);
    closures(&mut tour, &values, &plain);
    changes(&mut tour, &values, &plain);
    maps(&mut tour, &values, &plain);
    encodings(&mut tour, &values, &plain);

    let run = flow.submit().await?;
    for stop in &tour.stops {
        let computed = run.result(&stop.computed).await?;
        println!("{:<18} {:<60} = {computed}", stop.operation, stop.recorded);
        ensure!(computed == stop.expected, "`{}` should be {}", stop.recorded, stop.expected);
    }
    let toured: BTreeSet<&str> = tour.stops.iter().map(|stop| stop.operation).collect();
    let known = mycelium.list_operations(v1::ListOperationsRequest::default()).await?.operations;
    // Where a type says what a value is, the strict form of an operation is recorded, and shown as the plain one.
    let is_toured = |name: &str| {
        let plain = name.strip_prefix("strict.").unwrap_or(name);
        toured.contains(plain) || toured.contains(format!("list.{plain}").as_str())
    };
    let left_out: Vec<&str> =
        known.iter().map(|info| info.name.as_str()).filter(|name| !is_toured(name)).collect();
    ensure!(left_out.is_empty(), "the tour leaves out {left_out:?}");
    println!("{} values, {} operations, all as in plain Rust", tour.stops.len(), toured.len());
    Ok(())
}

fn numbers(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (seven, two, half) = (values.seven(), values.two(), values.half());
    let (x, y, z) = (plain.seven, plain.two, plain.half);
    tour.stop("add", &(&seven + 1), x + 1);
    tour.stop("subtract", &(1 - &seven), 1 - x);
    tour.stop("multiply", &((&seven + &two) * 3), (x + y) * 3);
    tour.stop("divide", &(&seven / &two), 3.5);
    tour.stop("integer_divide", &(-&seven).integer_divide(&two), (-x).div_euclid(y));
    tour.stop("modulo", &(-&seven % &two), (-x).rem_euclid(y));
    tour.stop("negate", &-&seven, -x);
    tour.stop("absolute", &(&two - &seven).absolute(), (y - x).abs());
    tour.stop("power", &seven.power(&two), x.pow(2));
    tour.stop("floor", &half.floor(), 2);
    tour.stop("ceil", &half.ceil(), 3);
    tour.stop("round", &half.round(), 2);
    tour.stop("round", &(&half / 3.0).round_to(2), 0.83);
    tour.stop("minimum", &seven.minimum(&two), x.min(y));
    tour.stop("maximum", &Value::maximum_of(&seven, [&two, &(&seven * 2)]), x.max(y).max(x * 2));
    tour.stop("to_int", &(-&half).to_int(), -2);
    tour.stop("to_float", &(seven.to_float() * &half), 7.0 * z);
    tour.stop("to_string", &half.to_text(), z.to_string());
    tour.stop("to_bool", &(&two - 2).to_bool(), false);
}

fn logic(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (seven, two, yes, empty) = (values.seven(), values.two(), values.yes(), values.empty());
    let (x, y) = (plain.seven, plain.two);
    tour.stop("equal", &seven.equals(&two + 5), x == y + 5);
    tour.stop("not_equal", &seven.not_equals(&two), x != y);
    tour.stop("less", &seven.less_than(&two), x < y);
    tour.stop("less_or_equal", &seven.less_or_equal(7), x <= 7);
    tour.stop("greater", &seven.greater_than(&two), x > y);
    tour.stop("greater_or_equal", &two.greater_or_equal(3), y >= 3);
    tour.stop("and", &yes.and(two.less_than(1)), plain.yes && y < 1);
    // What is not needed is not computed: this does not divide by zero.
    tour.stop("or", &yes.or((1 / (&two - 2)).greater_than(0.0)), true);
    tour.stop("not", &!&yes, !plain.yes);
    tour.stop("select", &Value::select(seven.less_than(10), "small", "large"), "small");
    tour.stop("is_null", &empty.is_null(), plain.empty.is_none());
    tour.stop("coalesce", &empty.unwrap_or(&seven * 2), plain.empty.unwrap_or(x * 2));
    tour.stop("select", &empty.map(|value| value + 1), plain.empty.map(|value| value + 1));
    tour.stop("type_of", &values.report().type_of(), "map");
}

fn texts(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (name, names, seven) = (values.name(), values.names(), values.seven());
    let trimmed = plain.name.trim();
    tour.stop("string.concat", &("<" + &name + ">"), format!("<{}>", plain.name));
    tour.stop("string.upper", &names.get(0).upper(), plain.names[0].to_uppercase());
    tour.stop("string.lower", &name.lower(), plain.name.to_lowercase());
    tour.stop("string.trim", &name.trim(), trimmed);
    tour.stop("string.trim", &name.trim().trim_of("Se"), "üße Bien");
    tour.stop("string.split", &name.split_whitespace(), plain.name.split_whitespace().collect::<Vec<_>>());
    tour.stop("string.split", &name.trim().split("e"), trimmed.split('e').collect::<Vec<_>>());
    tour.stop("string.join", &names.join(", "), plain.names.join(", "));
    tour.stop("string.replace", &name.replace("ie", "o"), plain.name.replace("ie", "o"));
    tour.stop("string.starts_with", &name.starts_with("  S"), plain.name.starts_with("  S"));
    tour.stop("string.ends_with", &name.ends_with("S"), plain.name.ends_with('S'));
    tour.stop("string.find", &name.trim().find("B"), trimmed.chars().position(|character| character == 'B'));
    tour.stop("string.pad_start", &seven.to_text().pad_start_with(3, "0"), format!("{:03}", plain.seven));
    tour.stop("string.pad_end", &names.get(0).pad_end(5), format!("{:<5}", plain.names[0]));
    tour.stop("string.repeat", &names.get(1).repeat(2), plain.names[1].repeat(2));
    let line = format!("{} of {}", plain.seven, plain.names[0]);
    tour.stop("string.format", &text!("{} of {}", &seven, names.get(0)), line);
    tour.stop("length", &name.length(), plain.name.chars().count());
    tour.stop("get", &name.trim().get(1), "ü");
    tour.stop("slice", &name.trim().slice(1, -1), "üße Bien");
    tour.stop("contains", &name.contains("ße"), plain.name.contains("ße"));
    tour.stop("to_int", &("4" + seven.to_text()).to_int(), 47);
}

fn lists(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (weights, names) = (values.weights(), values.names());
    let sum: i64 = plain.weights.iter().sum();
    let mut sorted = plain.weights.clone();
    sorted.sort_unstable();
    tour.stop("get", &weights.get(-1), plain.weights[3]);
    tour.stop("get_or", &weights.get_or(9, 0), plain.weights.get(9).copied().unwrap_or(0));
    tour.stop("slice", &weights.slice(1, 3), &plain.weights[1..3]);
    tour.stop("slice", &weights.slice_step(None, None, 2), [3, 2]);
    tour.stop("length", &weights.length(), plain.weights.len());
    tour.stop("contains", &weights.contains(2), plain.weights.contains(&2));
    tour.stop("list.reverse", &weights.reversed(), plain.weights.iter().rev().collect::<Vec<_>>());
    tour.stop("list.sort", &weights.sorted(), &sorted);
    tour.stop("list.unique", &weights.unique(), [3, 1, 2]);
    tour.stop("list.concat", &weights.concat(vec![8, 9]), [&plain.weights[..], &[8, 9]].concat());
    tour.stop("list.repeat", &weights.slice_to(2).repeat(2), plain.weights[..2].repeat(2));
    let nested: Value<Vec<Vec<i64>>> = list![&weights, vec![5]];
    tour.stop("list.flatten", &nested.flatten(), [3, 1, 2, 3, 5]);
    let pairs: Vec<_> = plain.names.iter().zip(&plain.weights).collect();
    tour.stop("list.zip", &names.zip(&weights), pairs);
    tour.stop("list.enumerate", &names.enumerate(), plain.names.iter().enumerate().collect::<Vec<_>>());
    tour.stop("list.range", &Value::range(0, values.two()), (0..plain.two).collect::<Vec<_>>());
    tour.stop("list.sum", &weights.sum(), sum);
    tour.stop("list.min", &names.min(), plain.names.iter().min());
    tour.stop("list.max", &weights.max(), plain.weights.iter().max());
    tour.stop("list.mean", &weights.mean(), 2.25);
    tour.stop("list.index_of", &weights.index_of(2), plain.weights.iter().position(|weight| *weight == 2));
    tour.stop("list.count", &weights.count(3), plain.weights.iter().filter(|weight| **weight == 3).count());
    tour.stop("list.any", &weights.map(|weight| weight.less_than(2)).any_true(), true);
    tour.stop("list.all", &weights.map(|weight| weight.less_than(2)).all_true(), false);
}

/// Closures are called once, while they are recorded; what they return is computed for each element.
fn closures(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (weights, animals, two) = (values.weights(), values.animals(), values.two());
    let y = plain.two;
    let doubled: Vec<i64> = plain.weights.iter().map(|weight| weight * y + 1).collect();
    tour.stop("list.map", &weights.map(|weight| weight * &two + 1), doubled);
    let heavy: Vec<_> = plain.weights.iter().filter(|weight| **weight > y).collect();
    tour.stop("list.filter", &weights.filter(|weight| weight.greater_than(&two)), heavy);
    let product: i64 = plain.weights.iter().product();
    tour.stop("list.reduce", &weights.reduce(1, |product, weight| product * weight), product);
    let by_name = animals.sorted_by(|animal| animal.species()).map(|animal| animal.legs());
    tour.stop("list.sort", &by_name, [6, 6, 4]);
    let mut by_legs = BTreeMap::<String, Vec<&Animal>>::new();
    for animal in &plain.animals {
        by_legs.entry(animal.legs.to_string()).or_default().push(animal);
    }
    tour.stop("list.group_by", &animals.group_by(|animal| animal.legs()), by_legs);
    // Closures may stand in each other.
    let table: Vec<Vec<i64>> =
        plain.weights.iter().map(|x| plain.weights.iter().map(|z| x * z).collect()).collect();
    tour.stop("list.map", &weights.map(|x| weights.map(|z| &x * z)), table);
}

/// What changes is the handle: what was recorded with it before keeps what it had.
fn changes(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (mut weights, mut list) = (values.weights(), plain.weights.clone());
    weights.push(8);
    list.push(8);
    tour.stop("list.append", &weights, &list);
    weights.extend(values.weights());
    list.extend(&plain.weights);
    tour.stop("list.extend", &weights, &list);
    weights.insert(0, values.seven());
    list.insert(0, plain.seven);
    tour.stop("list.insert", &weights, &list);
    weights.set(1, 5);
    list[1] = 5;
    tour.stop("list.set", &weights, &list);
    weights.delete(2);
    list.remove(2);
    tour.stop("list.delete", &weights, &list);
    tour.stop("list.pop", &weights.pop(), list.pop());
    tour.stop("list.delete", &weights, &list);
    weights.remove(3);
    list.retain({
        let mut is_there = true;
        move |weight| *weight != 3 || !std::mem::take(&mut is_there)
    });
    tour.stop("list.remove", &weights, &list);

    let (mut prices, mut map) = (values.prices(), plain.prices.clone());
    prices.insert("comb", 12);
    map.insert("comb".to_owned(), 12);
    tour.stop("map.set", &prices, &map);
    tour.stop("get", &prices.remove("wax"), map.remove("wax"));
    tour.stop("map.remove", &prices, &map);
    prices.merge(values.prices());
    map.extend(plain.prices.clone());
    tour.stop("map.merge", &prices, &map);
}

fn maps(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (prices, report) = (values.prices(), values.report());
    tour.stop("get", &prices.get("wax"), plain.prices["wax"]);
    tour.stop("get_or", &prices.get_or("milk", 1), 1);
    tour.stop("contains", &prices.contains_key("honey"), plain.prices.contains_key("honey"));
    tour.stop("length", &prices.length(), plain.prices.len());
    tour.stop("map.keys", &prices.keys(), plain.prices.keys().collect::<Vec<_>>());
    tour.stop("map.values", &prices.values(), plain.prices.values().collect::<Vec<_>>());
    tour.stop("map.items", &prices.items(), plain.prices.iter().collect::<Vec<_>>());
    let legs = values.animals().map(|animal| any_list![animal.species(), animal.legs()]);
    let by_species = Value::<BTreeMap<String, i64>>::from_items(legs.untyped().typed::<Vec<(String, i64)>>());
    tour.stop("map.from_items", &by_species, json!({"bee": 6, "dog": 4, "ant": 6}));
    tour.stop("map.pick", &prices.pick(["wax", "milk"]), json!({"wax": 9}));
    tour.stop("map.omit", &prices.omit(["wax"]), json!({"honey": 4}));
    // Where nothing is known of the types.
    tour.stop("get_path", &report.get_path(("rows", 1, "grams")), &plain.report["rows"][1]["grams"]);
    tour.stop("get", &report.get("rows").get(0).get("grams"), &plain.report["rows"][0]["grams"]);
    tour.stop("get_or", &report.get("note").get_or("author", "nobody"), "nobody");
    let grams = report.get("rows").length() * 8;
    let built = any_map! { "grams" => grams, "prices" => any_map! { "bee" => values.seven() } };
    tour.stop("multiply", &built, json!({"grams": 16, "prices": {"bee": 7}}));
}

fn encodings(tour: &mut Tour, values: &Job<Sample>, plain: &Sample) {
    let (name, weights) = (values.name().trim(), values.weights());
    tour.stop("json.encode", &weights.encode_json(), json!(plain.weights).to_string());
    tour.stop("json.decode", &weights.encode_json().decode_json(), &plain.weights);
    tour.stop("base64.encode", &name.encode_base64(), "U8O8w59lIEJpZW5l");
    tour.stop("base64.decode", &name.encode_base64().decode_base64(), plain.name.trim());
    let sum = "62cb81b5904a262ffaeed02abef36bfc540b09f964b8b0b636662f77ffce6714";
    tour.stop("sha256", &values.names().get(0).sha256(), sum);
}
