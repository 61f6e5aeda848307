//! The values of a job: how they are computed, from what, and what they come to.

use std::fmt::Write as _;

use mycelium_proto::v1::{self, JobEdgeKind, ValueNode, job_value};

use super::payload::JSON;
use super::{Names, Outline, expression, text_if_any, view};
use crate::output::{Json, format};

/// One value of a job.
#[derive(Debug)]
pub(crate) struct ValueView<'a> {
    of: &'a v1::JobValue,
    /// How it is computed, as people would write it, cut if it is long.
    expression: String,
    /// What the names in `expression` stand for.
    outputs: Vec<(String, v1::OutputRef)>,
}

/// What stands for the value graph where it was too large to be sent.
const TOO_LARGE: &str = "…";

/// The values of a job. `nodes` is its value graph if that is known from elsewhere.
pub(crate) fn values_of<'a>(values: &'a v1::JobValues, nodes: Option<&[ValueNode]>) -> Vec<ValueView<'a>> {
    let nodes = nodes.unwrap_or(&values.nodes);
    let mut names = Names::default();
    values.values.iter().map(|value| ValueView::new(value, nodes, &mut names)).collect()
}

/// As [`values_of`], as programs read them.
pub(crate) fn values_json(values: &v1::JobValues, nodes: Option<&[ValueNode]>) -> Json {
    Json::List(values_of(values, nodes).iter().map(ValueView::to_json).collect())
}

/// The beginning of a value: null where that is no text, and all of it where it is JSON and not cut.
pub(super) fn preview(preview: &v1::ValuePreview) -> Json {
    let encoding = encoding(preview);
    let is_whole = encoding == JSON && preview.begin.len() as u64 == preview.size;
    let value = is_whole.then(|| serde_json::from_slice(&preview.begin).ok()).flatten();
    Json::object([
        ("encoding", encoding.into()),
        ("bytes", preview.size.into()),
        ("begin", std::str::from_utf8(&preview.begin).ok().into()),
        ("value", value.map_or(Json::Null, Json::Raw)),
    ])
}

fn encoding(preview: &v1::ValuePreview) -> &str {
    if preview.encoding.is_empty() { JSON } else { &preview.encoding }
}

impl<'a> ValueView<'a> {
    fn new(of: &'a v1::JobValue, nodes: &[ValueNode], names: &mut Names) -> Self {
        let expression =
            if nodes.is_empty() { TOO_LARGE.to_owned() } else { expression(nodes, of.node, names) };
        Self { of, expression, outputs: names.take_met() }
    }

    /// The value, how it is computed, and what the names in that stand for.
    fn to_json(&self) -> Json {
        let output = |(name, output): &(String, v1::OutputRef)| view(output).with("name", name.as_str());
        view(self.of)
            .with("expression", self.expression.as_str())
            .with("outputs", self.outputs.iter().map(output).collect::<Vec<_>>())
    }

    /// What it is given for: a parameter, `run_if`, `for_each`.
    pub(crate) fn name(&self) -> &str {
        match text_if_any(&self.of.parameter) {
            Some(parameter) => parameter,
            None if self.of.kind() == JobEdgeKind::Condition => "run_if",
            None => "for_each",
        }
    }

    /// `weights = [weight * 2]`.
    pub(crate) fn assignment(&self, chars_max: usize) -> String {
        let expression = format::shorten(&self.expression, chars_max);
        format!("{} = {expression}", format::one_line(self.name()))
    }

    /// As people would write it: `weights = [weight * 2]   where weight = scale.task_weigh#1a2b3c4d.weight`.
    pub(crate) fn definition(&self, jobs: &Outline<'_>, chars_max: usize) -> String {
        let mut text = self.assignment(chars_max);
        let mut chars = 0;
        for (place, (name, of)) in self.outputs.iter().enumerate() {
            let mut source = jobs.name(&of.job_id);
            if !of.name.is_empty() {
                let _infallible = write!(source, ".{}", format::one_line(&of.name));
            }
            let before = if place == 0 { "   where " } else { ", " };
            chars += source.len();
            if chars > chars_max {
                let _infallible = write!(text, "{before}…");
                break;
            }
            let _infallible = write!(text, "{before}{name} = {source}");
        }
        text
    }

    /// What it comes to, `= 85`, or why it comes to nothing; `None` if that is not known or has been said already.
    pub(crate) fn result(&self, chars_max: usize) -> Option<String> {
        let preview = match self.of.known.as_ref()? {
            job_value::Known::Error(error) => {
                return Some(format!("cannot be computed: {}", format::shorten(error, chars_max)));
            }
            job_value::Known::Value(preview) => preview,
        };
        let bytes = preview.size;
        let count = format::count(bytes, "byte");
        let begin = std::str::from_utf8(&preview.begin).ok().filter(|_| encoding(preview) == JSON);
        let text = match begin.filter(|begin| bytes == 0 || !begin.is_empty()) {
            Some(begin) if begin == self.expression => return None,
            Some(begin) if begin.len() as u64 == bytes && begin.chars().count() <= chars_max => {
                format::one_line(begin)
            }
            Some(begin) => {
                let begin = format::shorten(&format!("{begin}…"), chars_max);
                // Where the value ends is not seen: its size is.
                format!("{}… ({count})", begin.trim_end_matches('…'))
            }
            None => format!("<{count} of {}>", format::one_line(encoding(preview))),
        };
        Some(format!("= {text}"))
    }
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{JobValue, JobValues, OutputRef, Payload, payload, value_node};

    use super::*;

    fn known(begin: &str, size: u64) -> Option<job_value::Known> {
        let begin = begin.to_owned().into();
        Some(job_value::Known::Value(v1::ValuePreview { encoding: String::new(), begin, size }))
    }

    fn values(known: Option<job_value::Known>) -> JobValues {
        let job_id = vec![0x11; 16];
        let output = OutputRef { job_id: job_id.clone().into(), name: "weight".to_owned() };
        let content = Some(payload::Content::Inline("2".into()));
        let kinds = [
            value_node::Kind::Output(output),
            value_node::Kind::Literal(Payload { content, ..Payload::default() }),
            value_node::Kind::Operation(v1::Operation {
                name: "multiply".to_owned(),
                inputs: vec![0, 1],
                body: None,
            }),
        ];
        let value = JobValue {
            kind: JobEdgeKind::Value.into(),
            parameter: "heavy".to_owned(),
            node: 2,
            known,
            origin_job_ids: vec![job_id.into()],
        };
        JobValues {
            nodes: kinds.map(|kind| ValueNode { kind: Some(kind) }).to_vec(),
            values: vec![value],
            ..JobValues::default()
        }
    }

    #[test]
    fn a_value_is_written_with_what_its_names_stand_for() {
        let weigh = v1::Job {
            job_id: vec![0x11; 16].into(),
            elf: "scale".to_owned(),
            task: "task_weigh".to_owned(),
            ..v1::Job::default()
        };
        let values = values(known("84", 2));
        let view = &values_of(&values, None)[0];
        let definition = "heavy = weight * 2   where weight = scale.task_weigh#11111111.weight";
        assert_eq!(view.definition(&Outline::of([&weigh]), 100), definition);
        assert_eq!(view.result(100).as_deref(), Some("= 84"));
        assert_eq!(view.definition(&Outline::of([&weigh]), 10), "heavy = weight * 2   where …");
        let unknown = "heavy = weight * 2   where weight = #11111111-1111-1111-1111-111111111111.weight";
        assert_eq!(view.definition(&Outline::of([]), 100), unknown);
    }

    #[test]
    fn what_a_value_comes_to_is_told_as_far_as_it_is_known() {
        let result = |known: Option<job_value::Known>, chars_max: usize| {
            let values = values(known);
            values_of(&values, None)[0].result(chars_max)
        };
        assert_eq!(result(None, 100), None);
        assert_eq!(result(known("[1,2,3]", 7), 7).as_deref(), Some("= [1,2,3]"));
        assert_eq!(result(known("[1,2,3]", 7), 5).as_deref(), Some("= [1,2… (7 bytes)"));
        assert_eq!(result(known("[1,2", 4_000), 100).as_deref(), Some("= [1,2… (4000 bytes)"));
        assert_eq!(result(known("", 70_000), 100).as_deref(), Some("= <70000 bytes of application/json>"));
        let error = job_value::Known::Error("division by zero".to_owned());
        assert_eq!(result(Some(error), 100).as_deref(), Some("cannot be computed: division by zero"));
    }
}
