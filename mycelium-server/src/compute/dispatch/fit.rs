//! Holds arguments against what the instance declares that is to get them, where that came later than the job.
//!
//! Only what stands in the specification is judged here: what is computed from outputs is the elf's to judge.

use std::collections::HashMap;
use std::sync::Arc;

use mycelium_core::effects::Assignment;
use mycelium_core::ids::{JobId, Token};
use mycelium_proto::v1;

use super::super::operands::spec_of;
use super::super::tasks::Tasks;
use super::inputs::Decoded;
use crate::broker::{CallError, Handle};
use crate::store::isolate;

/// Takes out what does not fit. All others count as judged from now on.
pub(super) async fn judge(
    handle: &Handle,
    tasks: &Arc<Tasks>,
    mut decoded: Decoded,
) -> Result<(Decoded, Vec<Token>), CallError> {
    if decoded.readable.iter().all(|assignment| assignment.is_judged) {
        return Ok((decoded, Vec::new()));
    }
    let lists = lists_of(handle, &decoded).await?;
    let tasks = Arc::clone(tasks);
    let bytes = decoded.specs.iter().map(prost::Message::encoded_len).sum();
    handle
        .work_on(bytes, move || {
            let mut unfit = Vec::new();
            let mut fits = Vec::with_capacity(decoded.readable.len());
            for (assignment, spec) in decoded.readable.iter_mut().zip(&decoded.specs) {
                let is_fit = assignment.is_judged || fit(&tasks, assignment, spec, &lists);
                if !is_fit {
                    unfit.push(assignment.token);
                }
                assignment.is_judged = true;
                fits.push(is_fit);
            }
            let (mut specs, mut assignments) = (fits.iter(), fits.iter());
            decoded.specs.retain(|_| specs.next().is_none_or(|is_fit| *is_fit));
            decoded.readable.retain(|_| assignments.next().is_none_or(|is_fit| *is_fit));
            Ok((decoded, unfit))
        })
        .await
}

fn fit(
    tasks: &Tasks,
    assignment: &Assignment,
    spec: &v1::JobSpec,
    lists: &HashMap<JobId, v1::JobSpec>,
) -> bool {
    let Some(task) = tasks.signature(&assignment.elf, &assignment.task) else { return true };
    // What is computed of the list stands in the specification of an element as if it had been submitted: the job that has
    // the list tells what was.
    let judged = match list_of(spec) {
        None => Some(spec),
        Some(list) => lists.get(&list),
    };
    judged.is_none_or(|spec| task.misfits(spec).is_empty())
}

/// The specifications of the jobs whose lists the jobs are elements of, but for those that cannot be read.
async fn lists_of(handle: &Handle, decoded: &Decoded) -> Result<HashMap<JobId, v1::JobSpec>, CallError> {
    let unjudged = decoded.readable.iter().zip(&decoded.specs).filter(|(of, _)| !of.is_judged);
    let mut lists: Vec<JobId> = unjudged.filter_map(|(_, spec)| list_of(spec)).collect();
    lists.sort_unstable();
    lists.dedup();
    if lists.is_empty() {
        return Ok(HashMap::new());
    }
    let store = &**handle.store();
    let records = isolate(&lists, |ids| store.specs(ids)).await?;
    let read = lists.into_iter().zip(records).filter_map(|(list, record)| {
        let (_, spec) = spec_of(list, record).ok()?;
        Some((list, spec))
    });
    Ok(read.collect())
}

fn list_of(spec: &v1::JobSpec) -> Option<JobId> {
    JobId::from_slice(&spec.element_of.as_ref()?.job_id)
}
