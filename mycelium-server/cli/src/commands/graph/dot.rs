//! A graph in the language of Graphviz.

use std::fmt::Write as _;

use mycelium_proto::v1::{JobEdgeKind, JobStatus};

use super::{Graph, parts};
use crate::output::format;
use crate::views::status_name;

/// The most characters of a value in the label of a job.
const LINE_CHARS_MAX: usize = 60;

/// The graph as DOT.
pub(super) fn render(graph: &Graph) -> String {
    let mut text = format!("digraph {} {{\n", quote(&graph.title));
    text.push_str("  rankdir=LR;\n");
    text.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
    text.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for node in graph.nodes() {
        let id = quote(&node.id);
        let Some(job) = node.job else {
            let label = quote(&format!("job of another flow\n{}", node.id));
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "  {id} [label={label}, style=\"rounded,dotted\"];");
            continue;
        };
        let mut label = format!("{}\n{}", job.task, job.elf);
        // What their names stand for is seen by the edges.
        let values = graph.values.iter().flat_map(|values| values.short_lines(&job.job_id, LINE_CHARS_MAX));
        for line in values {
            label.push('\n');
            label.push_str(&line);
        }
        let _infallible = writeln!(
            text,
            "  {id} [label={}, tooltip={}, fillcolor={}{}];",
            quote(&label),
            quote(status_name(job.status())),
            quote(colour(job.status())),
            told(node.attributes()),
        );
    }
    for edge in &graph.edges {
        let look = match edge.kind() {
            JobEdgeKind::Value => {
                format!("label={}", quote(format!("{} -> {}", edge.output, edge.parameter).trim_start()))
            }
            JobEdgeKind::After => "style=dashed".to_owned(),
            JobEdgeKind::Condition => dotted(&edge.output, "if"),
            JobEdgeKind::Element => dotted(&edge.output, "for each"),
            JobEdgeKind::Gather => "style=dotted, label=\"gather\"".to_owned(),
            JobEdgeKind::Unspecified => "style=dotted".to_owned(),
        };
        let (from, to) = (format::id(&edge.from_job_id), format::id(&edge.to_job_id));
        let told = told(parts::attributes(edge));
        let _infallible = writeln!(text, "  {} -> {} [{look}{told}];", quote(&from), quote(&to));
    }
    text.push_str("}\n");
    text
}

/// Attributes that Graphviz draws nothing of and keeps, for programs that read its language.
fn told(attributes: Vec<(&'static str, String)>) -> String {
    attributes.into_iter().map(|(name, value)| format!(", {name}={}", quote(&value))).collect()
}

/// How an edge looks whose value is no argument.
fn dotted(output: &str, what: &str) -> String {
    format!("style=dotted, label={}", quote(format!("{output} -> {what}").trim_start()))
}

/// A quoted string: line breaks as Graphviz writes them, other control characters written out.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            // The backslash of a written-out character is text, and so stands for itself.
            hidden if format::is_hidden(hidden) => {
                let _infallible = write!(quoted, "\\\\u{{{:x}}}", u32::from(hidden));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn colour(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Unspecified => "#ffffff",
        JobStatus::Pending => "#eceff1",
        JobStatus::Ready => "#fff3c4",
        JobStatus::Assigned => "#e1f5fe",
        JobStatus::Running => "#bbdefb",
        JobStatus::Done => "#c8e6c9",
        JobStatus::Failed => "#ef9a9a",
        JobStatus::UpstreamFailed => "#ffcdd2",
        JobStatus::Skipped => "#eeeeee",
        JobStatus::Cancelled => "#cfd8dc",
        JobStatus::Expired => "#ffcc80",
    }
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::{Job, JobEdge};

    use super::*;

    #[test]
    fn what_decides_how_a_job_goes_on_is_an_edge_of_its_own() {
        let edge = |kind: JobEdgeKind, output: &str| JobEdge {
            from_job_id: vec![1; 16].into(),
            to_job_id: vec![2; 16].into(),
            output: output.to_owned(),
            kind: kind.into(),
            ..JobEdge::default()
        };
        let skipped = Job { job_id: vec![2; 16].into(), status: JobStatus::Skipped.into(), ..Job::default() };
        let text = render(&Graph {
            jobs: vec![skipped],
            edges: vec![
                edge(JobEdgeKind::Condition, "weight"),
                edge(JobEdgeKind::Condition, ""),
                edge(JobEdgeKind::Element, ""),
                edge(JobEdgeKind::Gather, ""),
            ],
            ..Graph::default()
        });
        for attributes in [
            "[style=dotted, label=\"weight -> if\", kind=\"CONDITION\", output=\"weight\"]",
            "[style=dotted, label=\"-> if\", kind=\"CONDITION\"]",
            "[style=dotted, label=\"-> for each\", kind=\"ELEMENT\"]",
            "[style=dotted, label=\"gather\", kind=\"GATHER\"]",
            "tooltip=\"SKIPPED\"",
            "status=\"SKIPPED\"",
        ] {
            assert!(text.contains(attributes), "{attributes} in {text}");
        }
    }

    #[test]
    fn names_of_any_kind_are_quoted() {
        assert_eq!(quote("the \"elf\""), r#""the \"elf\"""#);
        assert_eq!(quote(r"c:\n\"), r#""c:\\n\\""#);
        assert_eq!(quote("a\nb\u{1b}"), r#""a\nb\\u{1b}""#);
    }
}
