//! Recording a flow: calls of tasks become jobs, and nothing runs before `submit`.

mod condition;
mod for_each;
mod job;
mod recorder;
mod recording;
mod submission;
#[cfg(test)]
mod tests;
mod timeouts;
mod tries;

pub use job::Job;
pub use recorder::Flow;
pub(crate) use recording::Recording;
pub(crate) use submission::Submission;
