//! Conditions of jobs.

use std::sync::Arc;

use mycelium_proto::{limits, v1};
use prost::Message as _;
use v1::value_node::Kind;

use super::recording::{Recording, SPEC_BYTES_MAX};
use crate::problem::{Problem, ProblemKind};
use crate::recorded::RecordedJob;
use crate::value::node::Node;
use crate::value::{Appended, append, node_count, version_of};

impl Recording {
    /// Makes a job that is still pending run only if this holds too.
    pub(super) fn add_condition(&self, number: u64, condition: &Node) {
        let mut foreign = Vec::new();
        let state = &mut *self.lock();
        let Some(spec) = state.pending_spec(number) else {
            return state.problems.push(Problem::of_flow(ProblemKind::AlreadySubmitted));
        };
        let added = append(spec, condition, |origin: &Arc<RecordedJob>| {
            if !origin.is_of(self.mark()) {
                foreign.push((number, Arc::clone(origin)));
            }
        });
        let mut large = Vec::new();
        let problem = match added {
            Ok(Appended { node: added, large: literals }) => {
                large = literals;
                spec.run_if = Some(match spec.run_if {
                    Some(said) if said != added => both(spec, said, added),
                    Some(_) | None => added,
                });
                let bytes = spec.encoded_len();
                if node_count(&spec.nodes) > limits::VALUE_NODES_MAX {
                    Some(ProblemKind::Condition(Box::new(ProblemKind::TooManyNodes)))
                } else {
                    (bytes > SPEC_BYTES_MAX).then_some(ProblemKind::ArgumentsTooLarge { bytes })
                }
            }
            // What is wrong is not that it stands outside of the closure.
            Err(_) if spec.for_each.is_some() && condition.uses_elements() => {
                Some(ProblemKind::Condition(Box::new(ProblemKind::InvalidValue(
                    "it is judged once for all elements of a `for_each`, and cannot use the element: filter the list"
                        .to_owned(),
                ))))
            }
            Err(kind) => Some(ProblemKind::Condition(Box::new(kind))),
        };
        if let Some(kind) = problem {
            let problem = Problem::new(&spec.elf, &spec.task, None, kind);
            state.problems.push(problem);
        }
        state.foreign.append(&mut foreign);
        state.add_large(number, large);
    }
}

/// Adds the node that is true if both are.
fn both(spec: &mut v1::JobSpec, said: u32, added: u32) -> u32 {
    let place = u32::try_from(spec.nodes.len()).unwrap_or(u32::MAX);
    let and = v1::Operation { name: "and".to_owned(), inputs: vec![said, added], body: None };
    spec.nodes.push(v1::ValueNode { kind: Some(Kind::Operation(and)) });
    spec.operations_version = spec.operations_version.max(version_of("and"));
    place
}
