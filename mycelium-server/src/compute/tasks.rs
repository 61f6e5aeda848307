//! Which task each attempt is of that was assigned on a stream, so that its outputs can be held against what the task
//! declares where they are read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mycelium_core::effects::Assignment;
use mycelium_core::ids::{Attempt, JobId, SessionId, Token};

use crate::broker::{CallError, Handle, Signatures, TaskSignature};
use crate::trace;

/// So many attempts are remembered at most. Honest elves report what they are given, and hold no more than their
/// windows; what is forgotten is asked for.
const REMEMBERED_MAX: usize = 65_536;

/// The tasks of the attempts of a stream.
#[derive(Debug)]
pub(crate) struct Tasks {
    signatures: Signatures,
    assigned: Mutex<HashMap<JobId, (Attempt, Arc<TaskSignature>)>>,
    spans: Arc<trace::Attempts>,
}

impl Tasks {
    pub(crate) fn new(signatures: Signatures, spans: Arc<trace::Attempts>) -> Self {
        Self { signatures, assigned: Mutex::default(), spans }
    }

    /// The spans of those that are traced.
    pub(crate) fn spans(&self) -> &trace::Attempts {
        &self.spans
    }

    pub(super) fn signature(&self, elf: &str, task: &str) -> Option<Arc<TaskSignature>> {
        self.signatures.get(elf)?.task(task).cloned()
    }

    /// Remembers attempts before they are sent.
    pub(crate) fn assigned(&self, assignments: &[Assignment]) {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        if assigned.len() + assignments.len() > REMEMBERED_MAX {
            assigned.clear();
        }
        for Assignment { token, elf, task, .. } in assignments {
            if let Some(signature) = self.signature(elf, task) {
                assigned.insert(token.job, (token.attempt, signature));
            }
        }
    }

    /// Forgets an attempt that will not be reported, and gives its task if it was remembered.
    pub(crate) fn forget(&self, token: Token) -> Option<Arc<TaskSignature>> {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        match assigned.get(&token.job) {
            Some((attempt, _)) if *attempt == token.attempt => {
                assigned.remove(&token.job).map(|(_, signature)| signature)
            }
            Some(_) | None => None,
        }
    }

    /// The tasks of attempts whose outcomes have come. What was assigned on a stream before this one is asked of the
    /// owner of the core; `None` for what the session does not hold, whose outcome changes nothing.
    pub(crate) async fn take(
        &self,
        handle: &Handle,
        session: SessionId,
        tokens: &[Token],
    ) -> Result<Vec<Option<Arc<TaskSignature>>>, CallError> {
        let mut tasks: Vec<_> = tokens.iter().map(|token| self.forget(*token)).collect();
        let unknown: Vec<(usize, Token)> = tokens
            .iter()
            .enumerate()
            .filter(|(index, _)| tasks.get(*index).is_some_and(Option::is_none))
            .map(|(index, token)| (index, *token))
            .collect();
        if unknown.is_empty() {
            return Ok(tasks);
        }
        let asked = unknown.clone();
        let named = handle
            .query_in_turn(move |core, _| {
                let task = |(_, token): &(usize, Token)| {
                    core.token_task(session, *token).map(|(elf, task)| (elf.to_owned(), task.to_owned()))
                };
                asked.iter().map(task).collect::<Vec<_>>()
            })
            .await?;
        for ((index, _), named) in unknown.into_iter().zip(named) {
            if let (Some((elf, task)), Some(place)) = (named, tasks.get_mut(index)) {
                *place = self.signature(&elf, &task);
            }
        }
        Ok(tasks)
    }
}

#[cfg(test)]
mod tests {
    use mycelium_core::ids::FlowId;
    use mycelium_proto::v1;

    use super::*;

    fn tasks() -> Tasks {
        let declaration = v1::ElfDeclaration {
            name: "e".to_owned(),
            tasks: vec![v1::TaskDeclaration { name: "task_t".to_owned(), ..v1::TaskDeclaration::default() }],
            ..v1::ElfDeclaration::default()
        };
        let signature = crate::broker::testing::signature(&declaration);
        Tasks::new(Signatures::from([("e".to_owned(), signature)]), Arc::default())
    }

    fn assignment(n: u32, attempt: u32, task: &str) -> Assignment {
        let mut job = [0; 16];
        job[..4].copy_from_slice(&n.to_le_bytes());
        Assignment {
            priority: 0,
            token: Token { job: JobId::new(job), attempt: Attempt(attempt) },
            flow: FlowId::new([0; 16]),
            elf: Arc::from("e"),
            task: Arc::from(task),
            is_judged: false,
            run_timeout: None,
            progress_timeout: None,
        }
    }

    #[test]
    fn an_attempt_is_remembered_until_it_is_reported_and_no_longer() {
        let tasks = tasks();
        let (first, other) = (assignment(1, 1, "task_t"), assignment(2, 1, "task_unknown"));
        tasks.assigned(&[first.clone(), other.clone()]);
        assert!(tasks.forget(assignment(1, 2, "task_t").token).is_none(), "another attempt");
        assert!(tasks.forget(first.token).is_some());
        assert!(tasks.forget(first.token).is_none(), "once");
        assert!(tasks.forget(other.token).is_none(), "a task that was not declared");
        tasks.assigned(&[assignment(1, 2, "task_t"), assignment(1, 3, "task_t")]);
        assert!(tasks.forget(assignment(1, 2, "task_t").token).is_none(), "the newest attempt counts");
    }

    #[test]
    fn an_elf_that_never_reports_makes_nothing_grow_without_bound() {
        let tasks = tasks();
        for n in 0..200_000 {
            tasks.assigned(&[assignment(n, 1, "task_t")]);
        }
        assert!(tasks.assigned.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
