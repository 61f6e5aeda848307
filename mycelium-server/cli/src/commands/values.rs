//! The values of jobs, as commands show them.

use std::collections::HashMap;

use bytes::Bytes;
use elf_runtime::{Error, Mycelium};
use mycelium_proto::v1::{GetJobRequest, Job, JobValues};

use crate::output::{Json, format};
use crate::views::{Outline, ValueView, values_json, values_of};

/// The most characters of an expression, or of a value, where many are shown.
const CHARS_MAX: usize = 200;

/// The values of some jobs, by job.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_job: HashMap<Bytes, JobValues>,
}

impl Values {
    /// Takes in what a page brought.
    pub(super) fn extend(&mut self, values: Vec<JobValues>) {
        self.by_job.extend(values.into_iter().map(|values| (values.job_id.clone(), values)));
    }

    /// Asks for those of jobs that no page had room for.
    pub(super) async fn complete<'a>(
        &mut self,
        mycelium: &Mycelium,
        jobs: impl Iterator<Item = &'a Job>,
    ) -> Result<(), Error> {
        for job in jobs {
            if !self.by_job.contains_key(&job.job_id) {
                let request = GetJobRequest {
                    job_id: job.job_id.clone(),
                    include_values: true,
                    ..GetJobRequest::default()
                };
                if let Some(values) = mycelium.get_job(request).await?.values {
                    self.by_job.insert(job.job_id.clone(), values);
                }
            }
        }
        Ok(())
    }

    /// Those of one job.
    fn of(&self, job_id: &Bytes) -> Option<&JobValues> {
        self.by_job.get(job_id)
    }

    /// Those of one job as programs read them.
    pub(super) fn json(&self, job_id: &Bytes) -> Json {
        self.of(job_id).map_or_else(|| Json::List(Vec::new()), |values| values_json(values, None))
    }

    /// The short names of these jobs, and of those that their values come from.
    pub(super) fn outline<'a>(&'a self, jobs: impl Iterator<Item = &'a Job>) -> Outline<'a> {
        let origins = self.by_job.values().flat_map(|values| &values.origins);
        Outline::of(origins.chain(jobs))
    }

    /// What a job was given: for each value how it is computed, and what it comes to if that is known.
    pub(super) fn lines(&self, job_id: &Bytes, jobs: &Outline<'_>) -> Vec<(String, Option<String>)> {
        let Some(values) = self.of(job_id) else { return Vec::new() };
        let views = values_of(values, None);
        views.iter().map(|view| (view.definition(jobs, CHARS_MAX), view.result(CHARS_MAX))).collect()
    }

    /// The same in short, a line for each value, without what the names in it stand for.
    pub(super) fn short_lines(&self, job_id: &Bytes, chars_max: usize) -> Vec<String> {
        let Some(values) = self.of(job_id) else { return Vec::new() };
        let line = |view: &ValueView<'_>| {
            let result = view.result(chars_max).unwrap_or_default();
            format::shorten(format!("{} {result}", view.assignment(chars_max)).trim_end(), chars_max)
        };
        values_of(values, None).iter().map(line).collect()
    }
}
