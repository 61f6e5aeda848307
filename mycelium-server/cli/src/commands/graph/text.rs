//! A graph for people: jobs in the order of their values, each with what it takes from which.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use bytes::Bytes;
use mycelium_proto::v1::{Job, JobEdge, JobEdgeKind};

use super::Graph;
use crate::output::format::{self, count};
use crate::views::status_name;

/// The graph as text.
pub(super) fn render(graph: &Graph) -> String {
    let mut text = format!(
        "{}: {}, {}\n",
        format::one_line(&graph.title),
        count(graph.jobs.len() as u64, "job"),
        count(graph.edges.len() as u64, "edge"),
    );
    let jobs: HashMap<&Bytes, &Job> = graph.jobs.iter().map(|job| (&job.job_id, job)).collect();
    let mut edges: HashMap<&Bytes, Vec<&JobEdge>> = HashMap::new();
    for edge in &graph.edges {
        edges.entry(&edge.to_job_id).or_default().push(edge);
    }
    let names = graph.values.as_ref().map(|values| values.outline(graph.jobs.iter()));
    for job in in_order(graph) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "\n{}  {:<15}  {} of {}",
            format::id(&job.job_id),
            status_name(job.status()),
            format::one_line(&job.task),
            format::one_line(&job.elf),
        );
        for edge in edges.get(&job.job_id).into_iter().flatten() {
            let source = jobs.get(&edge.from_job_id);
            let source = source.map_or_else(|| "a job of another flow".to_owned(), |from| from.task.clone());
            let from = format::id(&edge.from_job_id);
            let output = if edge.output.is_empty() { String::new() } else { format!(".{}", edge.output) };
            let line = match edge.kind() {
                JobEdgeKind::Value => format!("{} <- {source}{output} ({from})", edge.parameter),
                JobEdgeKind::Condition => format!("if {source}{output} ({from})"),
                JobEdgeKind::Element => format!("for each of {source}{output} ({from})"),
                JobEdgeKind::Gather => format!("gathers {source} ({from})"),
                JobEdgeKind::After | JobEdgeKind::Unspecified => format!("after {source} ({from})"),
            };
            let _infallible = writeln!(text, "    {}", format::one_line(&line));
        }
        let values = graph.values.as_ref().zip(names.as_ref());
        for (definition, result) in
            values.into_iter().flat_map(|(values, names)| values.lines(&job.job_id, names))
        {
            let _infallible = writeln!(text, "    {definition}");
            if let Some(result) = result {
                let _infallible = writeln!(text, "      {result}");
            }
        }
    }
    text
}

/// The jobs so that each stands after those it takes values from, and otherwise in the order of their submission.
fn in_order(graph: &Graph) -> Vec<&Job> {
    let places: HashMap<&Bytes, usize> =
        graph.jobs.iter().enumerate().map(|(place, job)| (&job.job_id, place)).collect();
    let mut waits_for = vec![0_usize; graph.jobs.len()];
    let mut dependents = vec![Vec::new(); graph.jobs.len()];
    for edge in &graph.edges {
        if let (Some(&from), Some(&to)) = (places.get(&edge.from_job_id), places.get(&edge.to_job_id)) {
            waits_for[to] += 1;
            dependents[from].push(to);
        }
    }
    let key = |place: usize| {
        let job = &graph.jobs[place];
        let submitted = job.submitted_at.as_ref().map(|time| (time.seconds, time.nanos));
        (submitted, &job.job_id, place)
    };
    let mut free: BTreeSet<_> =
        (0..graph.jobs.len()).filter(|place| waits_for[*place] == 0).map(key).collect();
    let mut ordered = Vec::with_capacity(graph.jobs.len());
    while let Some((_, _, place)) = free.pop_first() {
        ordered.push(&graph.jobs[place]);
        for &dependent in &dependents[place] {
            waits_for[dependent] -= 1;
            if waits_for[dependent] == 0 {
                free.insert(key(dependent));
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use mycelium_proto::v1::JobStatus;

    use super::*;

    fn job(id: u8, task: &str) -> Job {
        let status = JobStatus::Done.into();
        Job {
            job_id: vec![id; 16].into(),
            elf: "scale".to_owned(),
            task: task.to_owned(),
            status,
            ..Job::default()
        }
    }

    fn edge(from: u8, to: u8, kind: JobEdgeKind, output: &str, parameter: &str) -> JobEdge {
        JobEdge {
            from_job_id: vec![from; 16].into(),
            to_job_id: vec![to; 16].into(),
            output: output.to_owned(),
            parameter: parameter.to_owned(),
            kind: kind.into(),
        }
    }

    #[test]
    fn jobs_stand_after_those_they_take_values_from() {
        let graph = Graph {
            title: "weights".to_owned(),
            jobs: vec![job(1, "task_sum"), job(2, "task_weigh")],
            edges: vec![
                edge(2, 1, JobEdgeKind::Value, "weight", "weights"),
                edge(2, 1, JobEdgeKind::After, "", ""),
                edge(9, 2, JobEdgeKind::Value, "", "species"),
            ],
            ..Graph::default()
        };
        let id = |byte: u8| format::id(&[byte; 16]);
        let expected = format!(
            "weights: 2 jobs, 3 edges\n\n{}  DONE             task_weigh of scale\n    species <- a job of another \
             flow ({})\n\n{}  DONE             task_sum of scale\n    weights <- task_weigh.weight ({})\n    after \
             task_weigh ({})\n",
            id(2),
            id(9),
            id(1),
            id(2),
            id(2),
        );
        assert_eq!(render(&graph), expected);
    }

    #[test]
    fn what_decides_how_a_job_goes_on_is_told() {
        let graph = Graph {
            jobs: vec![job(1, "task_list"), job(2, "task_weigh"), job(3, "task_weigh")],
            edges: vec![
                edge(1, 2, JobEdgeKind::Condition, "length", ""),
                edge(1, 2, JobEdgeKind::Element, "", ""),
                edge(3, 2, JobEdgeKind::Gather, "", ""),
            ],
            ..Graph::default()
        };
        let text = render(&graph);
        let id = |byte: u8| format::id(&[byte; 16]);
        for line in [
            format!("    if task_list.length ({})\n", id(1)),
            format!("    for each of task_list ({})\n", id(1)),
            format!("    gathers task_weigh ({})\n", id(3)),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
