//! What people write with lists and maps that do not exist yet gives what the same lines give in plain Python. The
//! expected values were written down by hand from it.

use std::collections::BTreeMap;

use elf_runtime::{Mycelium, Value, list, machine_elf};
use integration_tests::Worker;
use mycelium_server::Broker;

struct Shelf;

/// Keeps numbers, and gives back what it is given.
#[machine_elf]
impl Shelf {
    /// A number that is not known before.
    async fn task_number(&self, number: i64) -> i64 {
        number
    }

    /// `[1, 2, 3, 4, 5]`.
    async fn task_numbers(&self) -> Vec<i64> {
        vec![1, 2, 3, 4, 5]
    }

    /// `{"wax": 3, "honey": 9}`.
    async fn task_prices(&self) -> BTreeMap<String, i64> {
        BTreeMap::from([("wax".to_owned(), 3), ("honey".to_owned(), 9)])
    }

    /// What it is given.
    async fn task_list(&self, list: Vec<i64>) -> Vec<i64> {
        list
    }

    /// What it is given.
    async fn task_lists(&self, lists: Vec<Vec<i64>>) -> Vec<Vec<i64>> {
        lists
    }

    /// What it is given.
    async fn task_map(&self, map: BTreeMap<String, i64>) -> BTreeMap<String, i64> {
        map
    }
}

fn map(entries: &[(&str, i64)]) -> BTreeMap<String, i64> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

#[tokio::test]
async fn lists_and_maps_of_values_are_what_they_are_in_python() -> anyhow::Result<()> {
    let broker = Broker::in_memory()?.bind("127.0.0.1:0").await?;
    let mycelium = Mycelium::connect(broker.url()).await?;
    let worker = Worker::start(mycelium.serve().elf("shelf", Shelf)).await?;
    let flow = mycelium.flow("equivalents");
    let shelf = Shelf::tasks(&flow, "shelf");

    // squares = []; for n in range(5): squares.append(number(n) * n)
    let mut squares: Value<Vec<i64>> = list![];
    for n in 0..5 {
        squares.push(shelf.task_number(n).value() * n);
    }
    let appended = shelf.task_list(squares);

    // numbers()[1:-1]
    let numbers = shelf.task_numbers();
    let sliced = shelf.task_list(numbers.value().slice(1, -1));

    // l = numbers(); l[0] = l[-1] + 1; [l[0], l[1]]
    let mut changed = numbers.value().clone();
    changed.set(0, changed.get(-1) + 1);
    let got = shelf.task_list(list![changed.get(0), changed.get(1)]);

    // p = prices(); p["wax"] = p["honey"] * 2
    let prices = shelf.task_prices();
    let mut dearer = prices.value().clone();
    dearer.insert("wax", dearer.get("honey") * 2);
    let set = shelf.task_map(dearer);

    // l = numbers(); l.extend(numbers()); l.append(7); l.append(8); last = l.pop(); l, [last]
    let mut extended = numbers.value().clone();
    extended.extend(shelf.task_numbers());
    extended.push(7);
    extended.push(8);
    let last = extended.pop();
    let popped = shelf.task_list(extended);
    let last = shelf.task_list(list![last]);

    // p = prices(); p.update({"comb": 1, "wax": 4}); del p["honey"]
    let mut updated = prices.value().clone();
    updated.merge(map(&[("comb", 1), ("wax", 4)]));
    updated.remove("honey");
    let updated = shelf.task_map(updated);

    // inner = [number(1)]; inner.append(number(2)); outer = [inner]; outer.append(numbers()); outer[0].append(9)
    let mut inner: Value<Vec<i64>> = list![shelf.task_number(1)];
    inner.push(shelf.task_number(2));
    let mut outer: Value<Vec<Vec<i64>>> = list![inner];
    outer.push(numbers.value());
    let mut first = outer.get(0);
    first.push(9);
    outer.set(0, first);
    let nested = shelf.task_lists(outer);
    // What was given away before keeps what it was.
    let untouched = shelf.task_list(numbers.value());

    let run = flow.submit().await?;
    assert_eq!(run.result(&appended).await?, [0, 1, 4, 9, 16]);
    assert_eq!(run.result(&sliced).await?, [2, 3, 4]);
    assert_eq!(run.result(&got).await?, [6, 2]);
    assert_eq!(run.result(&set).await?, map(&[("wax", 18), ("honey", 9)]));
    assert_eq!(run.result(&popped).await?, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 7]);
    assert_eq!(run.result(&last).await?, [8]);
    assert_eq!(run.result(&updated).await?, map(&[("wax", 4), ("comb", 1)]));
    assert_eq!(run.result(&nested).await?, [vec![1, 2, 9], vec![1, 2, 3, 4, 5]]);
    assert_eq!(run.result(&untouched).await?, [1, 2, 3, 4, 5]);
    worker.stop().await?;
    Ok(broker.stop().await?)
}
