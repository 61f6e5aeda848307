//! Reads a schema and makes a table of it.

mod references;
mod rules;

use std::collections::{HashMap, VecDeque};
use std::fmt;

use super::{Id, Node, Rule, Schema, Sized};
use crate::json::Json;
use references::References;

/// A schema may hold so many others.
const NODES_MAX: usize = 10_000;
/// A schema may take about so much memory, in bytes.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest place that is written out, in bytes.
const PLACE_BYTES_MAX: usize = 256;

/// What is wrong with a schema, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// A JSON pointer to the place; empty for the whole, or if the text is not JSON.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.problem),
            place => write!(f, "at `{place}`: {}", self.problem),
        }
    }
}

impl std::error::Error for SchemaError {}

pub(super) fn compile(text: &str) -> Result<Schema, SchemaError> {
    if text.is_empty() {
        return Ok(Schema { nodes: Vec::new(), is_shallow: true, bytes: 0 });
    }
    let whole = |problem: String| SchemaError { place: String::new(), problem };
    let json = Json::parse(text.as_bytes()).map_err(|error| whole(error.to_string()))?;
    let mut compiler = Compiler {
        references: References::of(&json),
        nodes: Vec::new(),
        origins: Vec::new(),
        ids: HashMap::new(),
        queue: VecDeque::new(),
        bytes: 0,
    };
    compiler.schema(&json, &json, Origin { parent: None, keyword: "", name: Name::None })?;
    while let Some(next) = compiler.queue.pop_front() {
        let rules = rules::rules(&mut compiler, &next)?;
        compiler.take(rules.len() * size_of::<Rule>())?;
        if let Some(node) = compiler.nodes.get_mut(next.id as usize) {
            node.rules = rules.into();
        }
    }
    compiler.refuse_circles()?;
    let Compiler { nodes, bytes, .. } = compiler;
    let is_shallow = nodes.first().is_some_and(|root| root.rules.iter().all(is_shallow));
    Ok(Schema { nodes, is_shallow, bytes })
}

fn is_shallow(rule: &Rule) -> bool {
    matches!(
        rule,
        Rule::Never
            | Rule::Types(_)
            | Rule::Bound(..)
            | Rule::MultipleOf(_)
            | Rule::Length(Sized::Text, _)
            | Rule::Pattern(_)
    )
}

struct Compiler<'a> {
    references: References<'a>,
    nodes: Vec<Node>,
    /// Where each node was met first.
    origins: Vec<Origin<'a>>,
    /// By the place of the JSON in memory: what is referred to is compiled once.
    ids: HashMap<*const Json<'a>, Id>,
    queue: VecDeque<Queued<'a>>,
    bytes: usize,
}

/// A schema whose rules are still to be read.
struct Queued<'a> {
    id: Id,
    json: &'a Json<'a>,
    /// The document that its references begin at.
    resource: &'a Json<'a>,
}

/// Where a schema stands in its parent.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    parent: Option<Id>,
    keyword: &'static str,
    name: Name<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    None,
    Key(&'a str),
    Index(usize),
}

impl<'a> Compiler<'a> {
    /// The id of a schema; its rules are read later.
    fn schema(
        &mut self,
        json: &'a Json<'a>,
        resource: &'a Json<'a>,
        origin: Origin<'a>,
    ) -> Result<Id, SchemaError> {
        if let Some(id) = self.ids.get(&std::ptr::from_ref(json)) {
            return Ok(*id);
        }
        let id = Id::try_from(self.nodes.len()).unwrap_or(Id::MAX);
        self.nodes.push(Node::default());
        self.origins.push(origin);
        match json {
            Json::Bool(true) => {}
            Json::Bool(false) => self.nodes[id as usize].rules = Box::new([Rule::Never]),
            Json::Map(_) => {
                let resource = if json.get("$id").is_some_and(is_document) { json } else { resource };
                self.queue.push_back(Queued { id, json, resource });
            }
            _ => return Err(self.wrong(id, "", "must be an object or a boolean")),
        }
        if self.nodes.len() > NODES_MAX {
            return Err(self.wrong(0, "", &format!("holds more than {NODES_MAX} schemas")));
        }
        self.ids.insert(std::ptr::from_ref(json), id);
        self.take(size_of::<Node>())?;
        Ok(id)
    }

    /// The id of a schema that takes everything.
    fn any(&mut self) -> Id {
        self.nodes.push(Node::default());
        self.origins.push(Origin { parent: None, keyword: "", name: Name::None });
        Id::try_from(self.nodes.len() - 1).unwrap_or(Id::MAX)
    }

    /// Takes memory.
    fn take(&mut self, bytes: usize) -> Result<(), SchemaError> {
        self.bytes += bytes;
        if self.bytes > BYTES_MAX {
            return Err(self.wrong(0, "", "takes more memory than a schema may"));
        }
        Ok(())
    }

    /// What is wrong with a keyword of a schema, or with all of it.
    fn wrong(&self, id: Id, keyword: &str, problem: &str) -> SchemaError {
        let mut steps = Vec::new();
        if !keyword.is_empty() {
            steps.push(keyword.to_owned());
        }
        let mut at = Some(id);
        while let Some(origin) = at.and_then(|id| self.origins.get(id as usize)) {
            match origin.name {
                Name::None => {}
                Name::Key(key) => {
                    steps.push(crate::value::shorten(key).replace('~', "~0").replace('/', "~1"));
                }
                Name::Index(index) => steps.push(index.to_string()),
            }
            if !origin.keyword.is_empty() {
                steps.push(origin.keyword.to_owned());
            }
            at = origin.parent;
        }
        let mut place = String::new();
        while let Some(step) = steps.pop() {
            if place.len() > PLACE_BYTES_MAX {
                place.push_str(&format!("/… ({} steps more)", steps.len() + 1));
                break;
            }
            place.push('/');
            place.push_str(&step);
        }
        SchemaError { place, problem: problem.to_owned() }
    }

    /// Refuses schemas that lead back to themselves without going into the value: they say nothing.
    fn refuse_circles(&self) -> Result<(), SchemaError> {
        /// A node that was not met, is being gone into, or is done with.
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            Open,
            Done,
        }
        let mut states = vec![State::New; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut path = vec![(start, true)];
            while let Some((at, enter)) = path.pop() {
                let Some(state) = states.get_mut(at) else { continue };
                match (enter, *state) {
                    (false, _) => *state = State::Done,
                    (true, State::Open) => {
                        let id = Id::try_from(at).unwrap_or(Id::MAX);
                        return Err(self.wrong(id, "", "leads back to itself without going into the value"));
                    }
                    (true, State::Done) => {}
                    (true, State::New) => {
                        *state = State::Open;
                        path.push((at, false));
                        path.extend(self.nodes[at].same_value().map(|id| (id as usize, true)));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Node {
    /// The schemas that the same value is held against.
    fn same_value(&self) -> impl Iterator<Item = Id> {
        self.rules.iter().flat_map(|rule| match rule {
            Rule::All(ids) | Rule::Any(ids) | Rule::One(ids) => ids.to_vec(),
            Rule::Not(id) | Rule::Reference(id) | Rule::DependentSchema(_, id) => vec![*id],
            Rule::If(condition, then, otherwise) => vec![*condition, *then, *otherwise],
            _ => Vec::new(),
        })
    }
}

/// Whether an `$id` names a document of its own, and not a place in one.
fn is_document(id: &Json<'_>) -> bool {
    matches!(id, Json::Text(id) if !id.starts_with('#'))
}
