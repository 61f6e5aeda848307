//! One call of a task: the arguments that it takes, the outputs that it returns.

use mycelium_proto::v1;
use serde::de::DeserializeOwned;

use crate::task_error::{TaskError, failure_type};
use crate::type_name;
use crate::value::payload::{Payload, PayloadError};

/// One call of a task: its name and its arguments.
#[derive(Debug, Clone)]
pub struct TaskCall {
    task: String,
    arguments: Vec<(String, Payload)>,
}

impl TaskCall {
    /// A call with arguments by the names of the parameters.
    #[must_use]
    pub fn new(task: impl Into<String>, arguments: Vec<(String, Payload)>) -> Self {
        Self { task: task.into(), arguments }
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The arguments that were not taken yet.
    #[must_use]
    pub fn arguments(&self) -> &[(String, Payload)] {
        &self.arguments
    }

    /// Takes the argument for a parameter that every job gives.
    ///
    /// # Errors
    /// A failure of the type `ArgumentTypeError` that names the parameter, if the argument is missing or is no `T`.
    #[track_caller]
    pub fn argument<T: DeserializeOwned>(&mut self, parameter: &str) -> Result<T, TaskError> {
        match self.take(parameter) {
            Some(payload) => self.read(parameter, &payload),
            None => Err(self.argument_error::<T>(
                parameter,
                " missing",
                format!(
                    "the argument for the parameter `{parameter}` of `{}` is missing; a parameter may be left out if it is an \
                     `Option`, or has `#[task(default = …)]`",
                    self.task
                ),
            )),
        }
    }

    /// Takes the argument for a parameter that a job may leave out.
    ///
    /// # Errors
    /// A failure of the type `ArgumentTypeError` that names the parameter, if the argument is given and is no `T`.
    #[track_caller]
    pub fn argument_or_else<T: DeserializeOwned>(
        &mut self,
        parameter: &str,
        default: impl FnOnce() -> T,
    ) -> Result<T, TaskError> {
        match self.take(parameter) {
            Some(payload) => self.read(parameter, &payload),
            None => Ok(default()),
        }
    }

    /// Takes the payload for a parameter as it travelled, whatever its encoding.
    pub fn take(&mut self, parameter: &str) -> Option<Payload> {
        let index = self.arguments.iter().position(|(name, _)| name == parameter)?;
        Some(self.arguments.swap_remove(index).1)
    }

    /// Checks that every argument was taken.
    ///
    /// # Errors
    /// A failure of the type `ArgumentTypeError` that names an argument the task has no parameter for.
    #[track_caller]
    pub fn finish(&self) -> Result<(), TaskError> {
        match self.arguments.first() {
            None => Ok(()),
            Some((name, _)) => Err(TaskError::of_task(
                failure_type::ARGUMENT,
                format!("`{}` has no parameter `{name}`", self.task),
                format!("{}({name} unknown)", self.task),
            )),
        }
    }

    /// The failure to answer with when the elf has no such task: `TaskNotFoundError`.
    #[must_use]
    pub fn unknown_task(&self) -> TaskError {
        let message = format!("this elf has no task `{}`", self.task);
        TaskError::of_runtime(failure_type::TASK_NOT_FOUND, message)
    }

    #[track_caller]
    fn read<T: DeserializeOwned>(&self, parameter: &str, payload: &Payload) -> Result<T, TaskError> {
        match payload.read() {
            Ok(value) => Ok(value),
            Err(error) => Err(self.argument_error::<T>(
                parameter,
                "",
                format!(
                    "the argument for the parameter `{parameter}` of `{}` does not fit: {error}",
                    self.task
                ),
            )),
        }
    }

    /// Failures are told apart by their frames and not by their messages, so the frame names the parameter and its type,
    /// and what is wrong unless it is that an argument is of another type.
    #[track_caller]
    fn argument_error<T>(&self, parameter: &str, wrong: &str, message: String) -> TaskError {
        let expected = type_name::short(std::any::type_name::<T>());
        let function = format!("{}({parameter}: {expected}{wrong})", self.task);
        TaskError::of_task(failure_type::ARGUMENT, message, function)
    }
}

/// What a task returned: named values, in the order that the task declares them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskOutputs {
    outputs: Vec<(String, Payload)>,
}

impl TaskOutputs {
    /// No outputs.
    #[must_use]
    pub const fn new() -> Self {
        Self { outputs: Vec::new() }
    }

    /// Adds an output.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, payload: Payload) -> Self {
        self.outputs.push((name.into(), payload));
        self
    }

    /// The output of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Payload> {
        self.outputs.iter().find(|(output, _)| output == name).map(|(_, payload)| payload)
    }

    /// The outputs, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Payload)> {
        self.outputs.iter().map(|(name, payload)| (name.as_str(), payload))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Checks what a broker would refuse.
    ///
    /// # Errors
    /// A failure of the type `ResultTypeError` that names the output.
    pub(crate) fn check_limits(&self) -> Result<(), TaskError> {
        for (name, payload) in &self.outputs {
            payload.check_size().map_err(|error| {
                let message = format!("the output `{name}` cannot be sent: {error}");
                TaskError::of_runtime(failure_type::RESULT, message)
            })?;
        }
        Ok(())
    }

    /// The outputs as they travel inline, whatever their size.
    pub(crate) fn into_inline(self) -> v1::Outputs {
        let output = |(name, payload): (String, Payload)| v1::NamedOutput {
            name,
            payload: Some(payload.into_inline()),
        };
        v1::Outputs { outputs: self.outputs.into_iter().map(output).collect() }
    }

    #[track_caller]
    pub(crate) fn result_error(task: &str, error: &PayloadError) -> TaskError {
        let message = format!("what `{task}` returned cannot be sent: {error}");
        TaskError::of_task(failure_type::RESULT, message, task.to_owned())
    }
}

impl FromIterator<(String, Payload)> for TaskOutputs {
    fn from_iter<I: IntoIterator<Item = (String, Payload)>>(outputs: I) -> Self {
        Self { outputs: outputs.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> TaskCall {
        TaskCall::new(
            "task_weigh",
            vec![
                ("species".to_owned(), Payload::json("bee").unwrap()),
                ("weight".to_owned(), Payload::json(&7).unwrap()),
            ],
        )
    }

    #[test]
    fn arguments_are_read_by_name_in_any_order() {
        let mut call = call();
        assert_eq!(call.argument::<i64>("weight").unwrap(), 7);
        assert_eq!(call.argument::<String>("species").unwrap(), "bee");
        assert_eq!(call.argument_or_else("factor", || 3).unwrap(), 3);
        call.finish().unwrap();
    }

    #[test]
    fn missing_unknown_and_wrong_arguments_are_named() {
        let mut call = call();
        let wrong = call.argument::<i64>("species").unwrap_err();
        assert_eq!(wrong.failure_type(), "ArgumentTypeError");
        assert_eq!(
            wrong.to_string(),
            "the argument for the parameter `species` of `task_weigh` does not fit: it cannot be read as `i64`: expected \
             i64, found a string"
        );
        let missing = call.argument::<i64>("size").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "the argument for the parameter `size` of `task_weigh` is missing; a parameter may be left out if it is an \
             `Option`, or has `#[task(default = …)]`"
        );
        let unknown = call.finish().unwrap_err();
        assert_eq!(unknown.failure_type(), "ArgumentTypeError");
        assert_eq!(unknown.to_string(), "`task_weigh` has no parameter `weight`");
        assert_eq!(call.unknown_task().failure_type(), "TaskNotFoundError");
    }

    #[test]
    fn failures_of_different_arguments_are_different_failures() {
        // What the contract tells failures apart by, and the place of the call, which is one here.
        let of = |task: &str, parameter: &str, read: fn(&mut TaskCall, &str) -> TaskError| {
            let arguments =
                ["bee", "dog"].map(|name| (name.to_owned(), Payload::json(&[1.5]).unwrap())).into();
            let error = read(&mut TaskCall::new(task, arguments), parameter);
            let [frame] = error.frames() else { panic!("one frame expected") };
            assert!(frame.file.ends_with("call.rs") && frame.line > 0, "{frame:?}");
            frame.function.clone()
        };
        let int = |call: &mut TaskCall, parameter: &str| call.argument::<i64>(parameter).unwrap_err();
        let text = |call: &mut TaskCall, parameter: &str| {
            call.argument_or_else(parameter, || unreachable!("it is given")).map(|_: String| ()).unwrap_err()
        };
        let finish = |call: &mut TaskCall, _: &str| call.finish().unwrap_err();
        assert_eq!(of("task_weigh", "bee", int), "task_weigh(bee: i64)");
        assert_eq!(of("task_weigh", "bee", text), "task_weigh(bee: String)");
        assert_eq!(of("task_weigh", "dog", int), "task_weigh(dog: i64)");
        assert_eq!(of("task_feed", "bee", int), "task_feed(bee: i64)");
        assert_eq!(of("task_weigh", "ant", int), "task_weigh(ant: i64 missing)");
        assert_eq!(of("task_feed", "bee", finish), "task_feed(bee unknown)");
    }
}
