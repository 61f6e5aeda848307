//! Mistakes made while a flow was recorded.

use std::fmt;

use mycelium_proto::limits;

use crate::ids::JobId;

/// The mistakes that were made while a flow was recorded. Calls of tasks return no errors, so that orchestrations read
/// like ordinary code; `submit` reports all of them, and nothing is submitted.
///
/// They stay: a flow with a mistake cannot be submitted later. (But for [`ProblemKind::NotSubmitted`], which is
/// looked at anew each time.)
#[derive(Debug, Clone, Default)]
pub struct FlowError {
    problems: Vec<Problem>,
    /// How many more there were than are kept.
    more: usize,
}

/// The most mistakes that are kept; further ones are counted.
const PROBLEMS_MAX: usize = 32;

impl FlowError {
    /// The first of them, at most 32.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(crate) fn push(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index > 0 { "; " } else { "" })?;
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for FlowError {}

/// One mistake, and where it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The elf and the task that were called, if the mistake belongs to one call.
    pub call: Option<(String, String)>,
    /// The parameter, if it belongs to one.
    pub parameter: Option<String>,
    /// The mistake.
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A value cannot be sent: it has no JSON form, is too large, has no such field, or is the element that a closure
    /// was given, outside of that closure.
    #[error("{0}")]
    InvalidValue(String),
    /// The arguments take more together than what travels. Large values do not count: each is sent by itself.
    #[error("the arguments take {bytes} bytes together, and at most {} travel", limits::SPEC_BYTES_MAX)]
    ArgumentsTooLarge {
        /// What they take, as far as it was counted.
        bytes: usize,
    },
    /// There are more arguments than a task may have parameters.
    #[error("there are {count} arguments, and at most {} are allowed", limits::PARAMETERS_MAX)]
    TooManyArguments {
        /// How many there are.
        count: usize,
    },
    /// A parameter is given more than once.
    #[error("it is given twice")]
    GivenTwice,
    /// Lists and maps are nested too deep.
    #[error("lists and maps are nested {depth} deep, and at most {} is allowed", limits::VALUE_DEPTH_MAX)]
    TooDeep {
        /// How many do.
        depth: u32,
    },
    /// The value graph has too many nodes.
    #[error("the value has more than {} nodes", limits::VALUE_NODES_MAX)]
    TooManyNodes,
    /// A name is too long, or the name of an elf or a task is empty; that of a flow may be.
    #[error("the name of the {what} has {} bytes, and {} to {} are allowed",
        name.len(), u8::from(*what != "flow"), limits::NAME_BYTES_MAX)]
    InvalidName {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A value, or an `after`, comes from a job of another flow that has not been submitted.
    #[error("it needs the job {job} of another flow, which has to be submitted first")]
    NotSubmitted {
        /// That job.
        job: JobId,
    },
    /// A job, or the flow's labels, were changed after they were submitted.
    #[error("the settings of a job or the labels of the flow were changed after they were submitted")]
    AlreadySubmitted,
    /// The labels of a job or the flow are none that can be sent.
    #[error("its labels: {0}")]
    Labels(String),
    /// The condition of a job is none that can be sent.
    #[error("its condition: {0}")]
    Condition(Box<ProblemKind>),
    /// The list of a `for_each` is none that can be sent.
    #[error("the list of its `for_each`: {0}")]
    ForEachList(Box<ProblemKind>),
    /// The closure of a `for_each` records no job, or several.
    #[error("the closure of a `for_each` records {count} jobs, and has to record exactly one")]
    ForEachJobs {
        /// How many it records.
        count: usize,
    },
    /// The closure of a `for_each` returns another job than the one that it records.
    #[error(
        "the closure of a `for_each` returns the job {job}, and has to return the job that it records in its flow"
    )]
    ForEachReturns {
        /// The job that it returns.
        job: JobId,
    },
    /// A `for_each` stands in the closure of another one.
    #[error(
        "a `for_each` stands in the closure of another one: run the inner one over a list that the outer one's tasks \
         return, or over a list of pairs"
    )]
    ForEachNested,
}

impl Problem {
    pub(crate) fn new(elf: &str, task: &str, parameter: Option<String>, kind: ProblemKind) -> Self {
        Self { call: Some((elf.to_owned(), task.to_owned())), parameter, kind }
    }

    pub(crate) fn of_flow(kind: ProblemKind) -> Self {
        Self { call: None, parameter: None, kind }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((elf, task)) = &self.call {
            write!(f, "call of `{task}` of the elf `{elf}`: ")?;
        }
        if let Some(parameter) = &self.parameter {
            write!(f, "parameter `{parameter}`: ")?;
        }
        self.kind.fmt(f)
    }
}
