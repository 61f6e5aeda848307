//! Short names: of outputs in expressions, and of jobs.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mycelium_proto::v1::{Job, OutputRef};

use crate::output::format;

/// As few digits of an id are shown, if they tell the jobs apart.
const DIGITS_MIN: usize = 8;
/// How many digits an id has.
const DIGITS_MAX: usize = 32;

/// Gives outputs short names, each another, as they are met: their own name if it is free, and else with a number.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_output: HashMap<OutputRef, String>,
    taken: HashSet<String>,
    /// What was met since the last [`take_met`](Self::take_met), each once.
    met: Vec<OutputRef>,
}

impl Names {
    /// The name of an output.
    pub(super) fn name(&mut self, output: &OutputRef) -> &str {
        if !self.met.contains(output) {
            self.met.push(output.clone());
        }
        let taken = &mut self.taken;
        self.by_output.entry(output.clone()).or_insert_with(|| {
            let own =
                if output.name.is_empty() { "value".to_owned() } else { format::one_line(&output.name) };
            let mut name = own.clone();
            let mut number = 1;
            while !taken.insert(name.clone()) {
                number += 1;
                name = format!("{own}{number}");
            }
            name
        })
    }

    /// The outputs that were named since this was called last, with their names, in the order they were met.
    pub(super) fn take_met(&mut self) -> Vec<(String, OutputRef)> {
        let met = std::mem::take(&mut self.met);
        met.into_iter().filter_map(|output| Some((self.by_output.get(&output)?.clone(), output))).collect()
    }
}

/// Jobs as they are named in short: `scale.task_weigh#1a2b3c4d`, where the digits are the last of the id, as many as
/// tell them apart. (The first are a time.)
#[derive(Debug)]
pub(crate) struct Outline<'a> {
    jobs: HashMap<&'a Bytes, &'a Job>,
    digits: usize,
}

impl<'a> Outline<'a> {
    /// Of these jobs.
    pub(crate) fn of(jobs: impl IntoIterator<Item = &'a Job>) -> Self {
        let jobs: HashMap<&Bytes, &Job> = jobs.into_iter().map(|job| (&job.job_id, job)).collect();
        let ids: Vec<String> = jobs.keys().map(|id| format::hex(id)).collect();
        let are_told_apart = |digits: usize| {
            let mut seen = HashSet::new();
            ids.iter().all(|id| seen.insert(last(id, digits)))
        };
        let digits = (DIGITS_MIN..DIGITS_MAX).find(|digits| are_told_apart(*digits)).unwrap_or(DIGITS_MAX);
        Self { jobs, digits }
    }

    /// A job in short; of one that is not among them, its whole id.
    pub(crate) fn name(&self, job_id: &Bytes) -> String {
        match self.jobs.get(job_id) {
            Some(job) => {
                let id = format::hex(job_id);
                format::one_line(&format!("{}.{}#{}", job.elf, job.task, last(&id, self.digits)))
            }
            None => format!("#{}", format::id(job_id)),
        }
    }
}

/// The last digits.
fn last(digits: &str, count: usize) -> &str {
    digits.get(digits.len().saturating_sub(count)..).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_keep_their_names_where_they_are_free() {
        let output = |job: u8, name: &str| OutputRef { job_id: vec![job; 16].into(), name: name.to_owned() };
        let mut names = Names::default();
        assert_eq!(names.name(&output(1, "weight")), "weight");
        assert_eq!(names.name(&output(2, "weight2")), "weight2");
        assert_eq!(names.name(&output(2, "weight")), "weight3");
        assert_eq!(names.name(&output(1, "weight")), "weight");
        assert_eq!(names.name(&output(1, "")), "value");
        let met: Vec<String> = names.take_met().into_iter().map(|(name, _)| name).collect();
        assert_eq!(met, ["weight", "weight2", "weight3", "value"], "each once");
        names.name(&output(1, ""));
        assert_eq!(names.take_met().len(), 1, "those met since");
    }

    #[test]
    fn ids_are_as_short_as_they_can_be_told_apart() {
        let job = |first: u8, last: u8| Job {
            job_id: [vec![first; 11], vec![last; 5]].concat().into(),
            elf: "scale".to_owned(),
            task: "task_weigh".to_owned(),
            ..Job::default()
        };
        let [a, b, c] = [job(1, 0xaa), job(2, 0xaa), job(1, 0xbb)];
        assert_eq!(Outline::of([&a, &c]).name(&a.job_id), "scale.task_weigh#aaaaaaaa");
        assert_eq!(Outline::of([&a, &b]).name(&a.job_id), "scale.task_weigh#1aaaaaaaaaa");
        assert_eq!(Outline::of([&a, &a]).name(&c.job_id), "#01010101-0101-0101-0101-01bbbbbbbbbb");
    }
}
