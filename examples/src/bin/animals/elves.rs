//! The elves. Their tasks know nothing of each other: what flows between them is said in `orchestration.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use comfy_table::{CellAlignment, Table, presets};
use elf_runtime::{Mycelium, Output, TaskContext, TaskError, machine_elf};
use serde::{Deserialize, Serialize};

use crate::measurements::{Measurements, Row};
use crate::processes;

pub(crate) const CREATOR: &str = "animals creator";
pub(crate) const DATA_STORE: &str = "animals data store";
pub(crate) const MEAN: &str = "mean";
pub(crate) const MIN: &str = "min";
pub(crate) const MAX: &str = "max";
pub(crate) const PRINTER: &str = "report printer";
/// All elves, each of which is served by a process of its own.
pub(crate) const NAMES: [&str; 6] = [CREATOR, DATA_STORE, MEAN, MIN, MAX, PRINTER];

/// How long an elf that is to stop waits for a broker that may be gone.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Serves one of the elves until the orchestrator closes our standard input.
pub(crate) async fn serve(name: &str, url: String, file: PathBuf) -> anyhow::Result<()> {
    let stop = processes::parent_is_gone()?;
    let worker = Mycelium::connect(url).await?.serve();
    let file = Measurements::at(file);
    let worker = match name {
        CREATOR => worker.elf(name, AnimalsCreator),
        DATA_STORE => worker.elf(name, AnimalsDataStore { file: Mutex::new(file) }),
        // One type may be several elves: the name is the elf, the type says what it can do.
        MEAN => worker.elf(name, Statistician { file, of: mean }),
        MIN => worker.elf(name, Statistician { file, of: min }),
        MAX => worker.elf(name, Statistician { file, of: max }),
        PRINTER => worker.elf(name, ReportPrinter),
        other => bail!("there is no such elf as `{other}`"),
    };
    worker.drain_grace(DRAIN_GRACE).run_until(stop).await?;
    Ok(())
}

/// A struct that derives `Output` is one named output per field, so that each can go its own way.
#[derive(Debug, Output, Serialize, Deserialize)]
pub(crate) struct Animal {
    species: String,
    /// In grams.
    weight: u32,
}

/// Species, with the weights between which they are found, in grams.
const SPECIES: [(&str, u32, u32); 5] = [
    ("mouse", 15, 35),
    ("hedgehog", 500, 1_200),
    ("hare", 2_500, 6_500),
    ("fox", 4_000, 14_000),
    ("beaver", 11_000, 30_000),
];

pub(crate) struct AnimalsCreator;

/// Finds animals.
#[machine_elf]
impl AnimalsCreator {
    /// Picks a species and a weight.
    async fn task_pick(&self, context: &TaskContext) -> Animal {
        // A job can run twice: its elf may be lost after the work and before the broker knows of it. The choice comes
        // from the id of the job, which ends in random bytes, so the second attempt picks the same animal.
        let [.., species, high, low] = *context.job_id().as_bytes();
        let (species, lightest, heaviest) = SPECIES[usize::from(species) % SPECIES.len()];
        let weight = lightest + u32::from(u16::from_be_bytes([high, low])) % (heaviest - lightest + 1);
        Animal { species: species.to_owned(), weight }
    }
}

pub(crate) struct AnimalsDataStore {
    /// Jobs may run at once; they write one after the other.
    file: Mutex<Measurements>,
}

/// Keeps animals in a JSON file.
///
/// Of this elf one process runs at a time, because nothing but its own lock guards the file.
#[machine_elf]
impl AnimalsDataStore {
    /// Appends an animal to the file, and returns the number of rows up to it.
    ///
    /// `rows_before` is the number of rows that must be there already: given what the save before this one returned,
    /// saves happen one after the other.
    fn task_save(
        &self,
        context: &TaskContext,
        species: String,
        weight: u32,
        rows_before: u64,
    ) -> Result<u64, TaskError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.append(Row { job: context.job_id(), species, weight }, rows_before)
    }
}

/// Computes one number per species.
pub(crate) struct Statistician {
    file: Measurements,
    of: fn(&[u32]) -> f64,
}

/// Computes a statistic of the weights, the one that the elf is named after.
#[machine_elf]
impl Statistician {
    /// Computes it by species, over the first `rows` rows of the file: however many have been added since, the same
    /// job has the same result.
    fn task_by_species(&self, rows: u64) -> Result<BTreeMap<String, f64>, TaskError> {
        let mut weights: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for Row { species, weight, .. } in self.file.first(rows)? {
            weights.entry(species).or_default().push(weight);
        }
        Ok(weights.into_iter().map(|(species, weights)| (species, (self.of)(&weights))).collect())
    }
}

fn mean(weights: &[u32]) -> f64 {
    weights.iter().copied().map(f64::from).sum::<f64>() / weights.len() as f64
}

fn min(weights: &[u32]) -> f64 {
    weights.iter().copied().min().map_or(f64::NAN, f64::from)
}

fn max(weights: &[u32]) -> f64 {
    weights.iter().copied().max().map_or(f64::NAN, f64::from)
}

pub(crate) struct ReportPrinter;

/// Prints reports.
#[machine_elf]
impl ReportPrinter {
    /// Sets a report as a table, and returns the text. (What it wrote to its own standard output would be seen by
    /// nobody if it ran on another host; what it returns, everybody can ask the broker for.)
    async fn task_print(
        &self,
        rows: u64,
        min: BTreeMap<String, f64>,
        mean: BTreeMap<String, f64>,
        max: BTreeMap<String, f64>,
    ) -> Result<String, TaskError> {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header(["species", "min", "mean", "max"]);
        for (species, mean) in &mean {
            let of = |statistic: &BTreeMap<String, f64>| {
                statistic.get(species).copied().ok_or_else(|| {
                    TaskError::new("MissingSpeciesError", format!("a statistic has no {species}"))
                })
            };
            let cells = [of(&min)?, *mean, of(&max)?].map(|grams| format!("{grams:.1}"));
            let [min, mean, max] = cells;
            table.add_row([species, &min, &mean, &max]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Ok(format!("The weights of {rows} animals, in grams\n\n{table}"))
    }
}
