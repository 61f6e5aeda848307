//! The flow: what is to be done, said in ordinary calls.

use std::cell::Cell;

use anyhow::{Context as _, Result};
use elf_runtime::{FlowId, Job, Mycelium, Value};
use indicatif::{ProgressBar, ProgressStyle};

use crate::elves::{self, AnimalsCreator, AnimalsDataStore, ReportPrinter, Statistician};

/// A report is made whenever so many animals have been measured.
const ANIMALS_PER_REPORT: u32 = 5;

/// Measures animals, and returns the flow and the last report. Sets `is_submitted` as soon as it may be.
pub(crate) async fn run(
    mycelium: &Mycelium,
    animals: u32,
    is_submitted: &Cell<bool>,
) -> Result<(FlowId, String)> {
    let flow = mycelium.flow("animals");
    let creator = AnimalsCreator::tasks(&flow, elves::CREATOR);
    let store = AnimalsDataStore::tasks(&flow, elves::DATA_STORE);
    let mean = Statistician::tasks(&flow, elves::MEAN);
    let min = Statistician::tasks(&flow, elves::MIN);
    let max = Statistician::tasks(&flow, elves::MAX);
    let printer = ReportPrinter::tasks(&flow, elves::PRINTER);

    // Nothing runs in this loop; it records jobs. Their order follows from their values alone: each save takes the
    // number of rows that the one before it returns, and statistics take that number too, so they come after the
    // save. All animals can be picked at once, and the three statistics run side by side.
    let mut rows: Value<u64> = 0.into();
    let mut reports = Vec::new();
    for number in 1..=animals {
        let animal = creator.task_pick();
        rows = store.task_save(animal.species(), animal.weight(), rows).value().clone();
        if number % ANIMALS_PER_REPORT == 0 {
            let [min, mean, max] = [&min, &mean, &max].map(|elf| elf.task_by_species(&rows));
            reports.push(printer.task_print(&rows, min, mean, max));
        }
    }

    // From here on the jobs are the broker's: they would be done even if this process ended.
    is_submitted.set(true);
    let run = flow.submit().await?;
    let bar = ProgressBar::new(reports.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos} of {len} reports, {elapsed}")?);
    bar.tick();
    let mut last = None;
    for report in &reports {
        let report: &Job<String> = report;
        // An error says which job of which elf failed, and why, even if it was not the report itself.
        last = Some(run.result(report).await?);
        bar.inc(1);
    }
    // The animals after the last report are measured and saved, too.
    run.wait().await?;
    bar.finish_and_clear();
    Ok((flow.id(), last.context("no report was asked for")?))
}
