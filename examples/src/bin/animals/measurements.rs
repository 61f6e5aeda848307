//! The JSON file with the measurements.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use elf_runtime::{JobId, ResultExt as _, TaskError};
use serde::{Deserialize, Serialize};

/// The file: a JSON array with one object per row.
pub(crate) struct Measurements {
    path: PathBuf,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The job that saved it.
    pub(crate) job: JobId,
    pub(crate) species: String,
    /// In grams.
    pub(crate) weight: u32,
}

impl Measurements {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Adds a row, unless its job has added it already, and returns the number of rows up to it.
    ///
    /// Mycelium runs each job *at least* once and accepts exactly one outcome: if an elf dies between its work and the
    /// broker's word that the outcome is stored, the job runs again. What a task does to the world besides returning
    /// outputs should therefore be the same done once or twice. Here the id of the job, which is the same in every
    /// attempt, makes it so.
    ///
    /// The rows are on the disk when this returns, and readers see the file as it was before or as it is after, because
    /// it is written beside its place and moved there as a whole.
    pub(crate) fn append(&self, row: Row, rows_before: u64) -> Result<u64, TaskError> {
        let mut rows = self.read()?;
        if let Some(index) = rows.iter().position(|saved| saved.job == row.job) {
            return Ok(index as u64 + 1);
        }
        self.check_has(&rows, rows_before)?;
        rows.push(row);
        self.write(&rows).with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(rows.len() as u64)
    }

    /// The first `count` rows.
    pub(crate) fn first(&self, count: u64) -> Result<Vec<Row>, TaskError> {
        let mut rows = self.read()?;
        self.check_has(&rows, count)?;
        rows.truncate(usize::try_from(count)?);
        Ok(rows)
    }

    fn check_has(&self, rows: &[Row], count: u64) -> Result<(), TaskError> {
        if rows.len() as u64 >= count {
            return Ok(());
        }
        let (path, has) = (self.path.display(), rows.len());
        Err(TaskError::new("MissingRowsError", format!("{path} has {has} rows and should have {count}")))
    }

    fn read(&self) -> Result<Vec<Row>, TaskError> {
        let reading = || format!("cannot read {}", self.path.display());
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).with_context(reading),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(reading),
        }
    }

    fn write(&self, rows: &[Row]) -> io::Result<()> {
        let beside = self.path.with_extension("json.new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(rows)?)?;
        file.sync_all()?;
        fs::rename(beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that meets an error should fail at once")]

    use super::*;

    fn row(job: JobId) -> Row {
        Row { job, species: "fox".to_owned(), weight: 5_000 }
    }

    #[test]
    fn a_repeated_save_writes_nothing_and_returns_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = Measurements::at(folder.path().join("animals.json"));
        let jobs: Vec<JobId> = (0..3).map(|_| JobId::generate()).collect();
        for (before, &job) in (0..).zip(&jobs) {
            assert_eq!(file.append(row(job), before).unwrap(), before + 1);
        }
        let written = fs::read(folder.path().join("animals.json")).unwrap();
        assert_eq!(file.append(row(jobs[1]), 1).unwrap(), 2, "the place it has, not the end of the file");
        assert_eq!(fs::read(folder.path().join("animals.json")).unwrap(), written);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn the_first_rows_stay_the_same_whatever_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let file = Measurements::at(folder.path().join("animals.json"));
        let first = JobId::generate();
        file.append(row(first), 0).unwrap();
        file.append(row(JobId::generate()), 1).unwrap();
        let rows: Vec<JobId> = file.first(1).unwrap().into_iter().map(|row| row.job).collect();
        assert_eq!(rows, [first]);
    }

    #[test]
    fn rows_that_should_be_there_and_are_not_are_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let file = Measurements::at(folder.path().join("animals.json"));
        let error = file.first(1).unwrap_err();
        assert_eq!(error.failure_type(), "MissingRowsError");
        assert_eq!(file.append(row(JobId::generate()), 1).unwrap_err().failure_type(), "MissingRowsError");
        fs::write(folder.path().join("animals.json"), "no JSON").unwrap();
        assert!(file.first(0).unwrap_err().to_string().starts_with("cannot read "));
    }
}
