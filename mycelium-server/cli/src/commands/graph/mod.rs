//! `mycelium graph`.

mod dot;
mod graphml;
mod parts;
mod text;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use clap::ValueEnum;
use elf_runtime::{Error, JobId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1::{GetGraphRequest, Job, JobEdge, get_graph_request};

use super::client;
use super::values::Values;
use crate::errors::Misuse;
use crate::output::format::{self, count};
use crate::output::{Json, Output, note};
use crate::views::views;

/// Shows jobs and the values that flow between them: of a whole flow, or around one job.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For other programs, --format dot, json and graphml: a node is a job, with task, elf, status and flow \
    (nothing for a job of another flow), an edge leads from a job to one that depends on it, with kind (VALUE, AFTER, \
    CONDITION, ELEMENT or GATHER), and for a value that flows output (none for the whole of what a job returned) and \
    parameter.\n\
    DOT: jobs are coloured by status; a value that flows is an edge labelled `output -> parameter`, an order without a \
    value is a dashed edge, and what decides how a job goes on is a dotted edge: `if`, `for each` and `gather`.\n\
    --format json: {directed, multigraph, graph: {name, truncated}, nodes: [{id, task, elf, status, flow}], edges: \
    [{source, target, kind, output, parameter}]}, without what is not known: what NetworkX calls node-link data.\n\
    --output json, as the contract has it: {jobs (as in `mycelium jobs`), edges: [{kind: VALUE, AFTER, CONDITION, ELEMENT or GATHER, from_job_id, \
    to_job_id, output, parameter}], truncated, and with --values: values: [{job_id, values (as in `mycelium \
    job`)}]}.\n\n\
    Example: mycelium graph --flow 'daily report' --format dot | dot -Tsvg > report.svg"
)]
pub(crate) struct Args {
    #[command(flatten)]
    root: RootArgs,
    /// How many edges away from the job to look, up and down. Default: 1. A flow is shown whole.
    #[arg(long, conflicts_with = "flow", value_parser = clap::value_parser!(u32).range(1..=100))]
    depth: Option<u32>,
    /// Whether to print the graph for people, or for programs that draw and analyse graphs. Default: text.
    #[arg(long, value_enum)]
    format: Option<GraphFormat>,
    /// Whether to show as well what each job was given: how its values are computed, and what they come to.
    #[arg(long)]
    values: bool,
}

/// Which part of the graph.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct RootArgs {
    /// All jobs of this flow, named by its id or its name; of several flows of one name the newest is meant.
    #[arg(long, value_name = "NAME|ID")]
    flow: Option<String>,
    /// The jobs around this one.
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
}

/// How a graph is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// For people: jobs in the order of their values, each with what it takes from which.
    Text,
    /// For Graphviz.
    Dot,
    /// Nodes and edges, for libraries of graphs.
    Json,
    /// XML, for editors and libraries of graphs.
    #[value(name = "graphml")]
    GraphMl,
}

/// How the graph is printed, all told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Text,
    Dot,
    GraphMl,
    /// Nodes and edges.
    NodeLink,
    /// As the contract has it.
    Json,
}

impl Args {
    /// How to print.
    ///
    /// # Errors
    /// If two ways are asked for.
    pub(crate) fn style(&self, output: Output) -> Result<Style, Misuse> {
        match (self.format, output.is_json()) {
            (None, true) => Ok(Style::Json),
            (Some(_), true) => Err(Misuse("--format and --output json exclude each other".to_owned())),
            (None | Some(GraphFormat::Text), false) => Ok(Style::Text),
            (Some(GraphFormat::Dot), false) => Ok(Style::Dot),
            (Some(GraphFormat::Json), false) => Ok(Style::NodeLink),
            (Some(GraphFormat::GraphMl), false) => Ok(Style::GraphMl),
        }
    }
}

/// Jobs and the edges that end in them.
#[derive(Debug, Default)]
struct Graph {
    title: String,
    jobs: Vec<Job>,
    edges: Vec<JobEdge>,
    truncated: bool,
    /// If they were asked for.
    values: Option<Values>,
}

pub(crate) async fn run(args: Args, style: Style, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let (title, root, depth) = match (&args.root.flow, args.root.job) {
        (Some(flow), _) => {
            let flow = client::find_flow(mycelium, flow).await?;
            (flow.name, get_graph_request::Root::FlowId(flow.flow_id), 0)
        }
        (None, Some(job)) => (
            format!("around job {job}"),
            get_graph_request::Root::JobId(client::job_bytes(job)),
            args.depth.unwrap_or(1),
        ),
        (None, None) => return Err(Misuse("give --flow or --job".to_owned()).into()),
    };
    let graph = fetch(mycelium, title, root, depth, args.values).await?;
    match style {
        Style::Json => output.json(&json(&graph))?,
        Style::NodeLink => output.json(&node_link(&graph))?,
        Style::GraphMl => output.text(&graphml::render(&graph))?,
        Style::Dot => output.text(&dot::render(&graph))?,
        Style::Text => output.text(&text::render(&graph))?,
    }
    if graph.truncated {
        let jobs = count(graph.jobs.len() as u64, "job");
        if args.root.flow.is_some() {
            note("Some edges are left out: they take more room than an answer has.");
        } else {
            note(&format!(
                "Not all can be shown: there are more than these {jobs} within this depth, or more edges than an answer has room for."
            ));
        }
    }
    Ok(())
}

/// Follows all pages.
async fn fetch(
    mycelium: &Mycelium,
    title: String,
    root: get_graph_request::Root,
    depth: u32,
    include_values: bool,
) -> Result<Graph, Error> {
    let mut graph = Graph { title, values: include_values.then(Values::default), ..Graph::default() };
    let mut places: HashMap<Bytes, usize> = HashMap::new();
    let mut seen: HashSet<JobEdge> = HashSet::new();
    let mut request = GetGraphRequest {
        root: Some(root),
        depth,
        page_size: limits::PAGE_SIZE_MAX,
        include_values,
        ..GetGraphRequest::default()
    };
    loop {
        let page = mycelium.get_graph(request.clone()).await?;
        // A job that finishes between two pages is on both. The later word on it is the true one.
        for job in page.jobs {
            match places.get(&job.job_id) {
                Some(&place) => graph.jobs[place] = job,
                None => {
                    places.insert(job.job_id.clone(), graph.jobs.len());
                    graph.jobs.push(job);
                }
            }
        }
        // Its edges then come twice as well. Most come with the job that they end in, but not all.
        graph.edges.extend(page.edges.into_iter().filter(|edge| seen.insert(edge.clone())));
        graph.truncated |= page.truncated;
        if let Some(values) = &mut graph.values {
            values.extend(page.values);
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if let Some(values) = &mut graph.values {
        values.complete(mycelium, graph.jobs.iter()).await?;
    }
    Ok(graph)
}

fn json(graph: &Graph) -> Json {
    let json = Json::object([
        ("jobs", views(&graph.jobs)),
        ("edges", views(&graph.edges)),
        ("truncated", graph.truncated.into()),
    ]);
    let Some(values) = &graph.values else { return json };
    let of = |job: &Job| {
        Json::object([("job_id", format::id(&job.job_id).into()), ("values", values.json(&job.job_id))])
    };
    json.with("values", graph.jobs.iter().map(of).collect::<Vec<_>>())
}

/// Nodes and edges, in the shape that libraries of graphs read.
fn node_link(graph: &Graph) -> Json {
    let texts = |object: Json, attributes: Vec<(&str, String)>| {
        attributes.into_iter().fold(object, |object, (name, value)| object.with(name, value))
    };
    let node = |node: parts::Node<'_>| {
        let object = texts(Json::object([("id", node.id.as_str().into())]), node.attributes());
        match (node.job, &graph.values) {
            (Some(job), Some(values)) => object.with("values", values.json(&job.job_id)),
            _ => object,
        }
    };
    let edge = |edge: &JobEdge| {
        let ends = [
            ("source", format::id(&edge.from_job_id).into()),
            ("target", format::id(&edge.to_job_id).into()),
        ];
        texts(Json::object(ends), parts::attributes(edge))
    };
    let of_graph = [("name", graph.title.as_str().into()), ("truncated", graph.truncated.into())];
    Json::object([
        ("directed", true.into()),
        ("multigraph", true.into()),
        ("graph", Json::object(of_graph)),
        ("nodes", graph.nodes().map(node).collect::<Vec<_>>().into()),
        ("edges", graph.edges.iter().map(edge).collect::<Vec<_>>().into()),
    ])
}
