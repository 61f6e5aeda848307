//! Walks along edges.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Row, Run};
use crate::aql::ast::{Direction, Edges, Traverse, Unique};
use crate::error::{Failure, Outcome};
use crate::store::split_id;
use crate::value::Value;

/// Where a walk is: the vertices and edges that it came by.
#[derive(Clone)]
struct Way {
    vertices: Vec<(Arc<str>, Value)>,
    edges: Vec<Value>,
}

/// Vertex, edge, path, and whether the walk is cut there.
pub(super) type Step = (Value, Value, Value, Value);

impl<'q> Run<'_, '_, 'q> {
    pub(super) fn traverse(&mut self, traverse: &'q Traverse, row: &mut Row) -> Outcome<Vec<Step>> {
        let start = self.eval(&traverse.start, row)?;
        let id = if matches!(start, Value::Object(_)) { start.get("_id") } else { start };
        let Some(start) = id.as_str().filter(|id| split_id(id).is_some()) else {
            self.calls.warn(10, "Only id strings or objects with _id are allowed");
            return Ok(Vec::new());
        };
        let start: Arc<str> = Arc::from(start);
        let edges = self.edge_collections(&traverse.edges, traverse.direction)?;
        if let Some(shortest) = &traverse.shortest {
            return self.shortest_path(shortest, &edges, &start, row);
        }
        let mut queue = VecDeque::from([Way { vertices: vec![self.vertex(&start)?], edges: Vec::new() }]);
        let mut visited = BTreeSet::from([start]);
        let mut steps = Vec::new();
        while let Some(way) = if traverse.breadth_first { queue.pop_front() } else { queue.pop_back() } {
            self.step()?;
            let depth = u32::try_from(way.edges.len()).unwrap_or(u32::MAX);
            let step = told(&way);
            let pruned = self.pruned(traverse, &step, row)?;
            if depth >= traverse.min {
                steps.push((step.0, step.1, step.2, Value::Bool(pruned)));
            }
            if depth < traverse.max && !pruned {
                let last = way.vertices.last().map(|(id, _)| id.clone()).unwrap_or_default();
                for (edge, next) in self.neighbours(&edges, &last)? {
                    if allowed(traverse, &way, &edge, &next, &mut visited) {
                        let mut way = way.clone();
                        way.edges.push(edge);
                        way.vertices.push(self.vertex(&next)?);
                        queue.push_back(way);
                    }
                }
            }
        }
        Ok(steps)
    }

    fn pruned(
        &mut self,
        traverse: &'q Traverse,
        step: &(Value, Value, Value),
        row: &mut Row,
    ) -> Outcome<bool> {
        let Some((_, condition)) = &traverse.prune else { return Ok(false) };
        row[traverse.vertex] = step.0.clone();
        traverse.edge.iter().for_each(|slot| row[*slot] = step.1.clone());
        traverse.path.iter().for_each(|slot| row[*slot] = step.2.clone());
        Ok(self.eval(condition, row)?.is_true())
    }

    fn edge_collections(&self, edges: &Edges, direction: Direction) -> Outcome<Vec<(Arc<str>, Direction)>> {
        match edges {
            Edges::Collections(collections) => Ok(collections.clone()),
            Edges::Graph(name) => {
                let missing = || Failure::new(1924, format!("AQL: graph '{name}' not found"));
                let graph = self.graphs.get(name).ok_or_else(missing)?;
                Ok(graph.definitions.iter().map(|edge| (edge.collection.clone(), direction)).collect())
            }
        }
    }

    /// A vertex that is not there is null, and the walk goes on.
    pub(super) fn vertex(&self, id: &str) -> Outcome<(Arc<str>, Value)> {
        let (collection, key) =
            split_id(id).ok_or_else(|| Failure::new(1205, "illegal document identifier"))?;
        let found = self.session.collections.get(collection).and_then(|collection| collection.get(key));
        Ok((Arc::from(id), found.map(|stored| stored.document.clone()).unwrap_or_default()))
    }

    /// Edges of a vertex, and where they lead.
    pub(super) fn neighbours(
        &mut self,
        edges: &[(Arc<str>, Direction)],
        id: &str,
    ) -> Outcome<Vec<(Value, Arc<str>)>> {
        let mut found = Vec::new();
        for (name, direction) in edges {
            let collection = self.session.collection(name)?.clone();
            if matches!(direction, Direction::Outbound | Direction::Any) {
                let edges = collection.edges_from(id).filter_map(|place| collection.at(place));
                found.extend(edges.map(|edge| (edge.clone(), edge.get("_to").to_text())));
            }
            if matches!(direction, Direction::Inbound | Direction::Any) {
                let edges = collection.edges_to(id).filter_map(|place| collection.at(place));
                found.extend(edges.map(|edge| (edge.clone(), edge.get("_from").to_text())));
            }
        }
        self.stats.scanned_index += i64::try_from(found.len()).unwrap_or(i64::MAX);
        Ok(found)
    }
}

fn told(way: &Way) -> (Value, Value, Value) {
    let vertices: Vec<Value> = way.vertices.iter().map(|(_, vertex)| vertex.clone()).collect();
    let vertex = vertices.last().cloned().unwrap_or_default();
    let edge = way.edges.last().cloned().unwrap_or_default();
    let path =
        Value::object([("edges", Value::array(way.edges.clone())), ("vertices", Value::array(vertices))]);
    (vertex, edge, path)
}

fn allowed(
    traverse: &Traverse,
    way: &Way,
    edge: &Value,
    next: &Arc<str>,
    visited: &mut BTreeSet<Arc<str>>,
) -> bool {
    let id = edge.get("_id");
    let edge_is_new =
        traverse.edges_unique == Unique::None || !way.edges.iter().any(|other| other.get("_id") == id);
    edge_is_new
        && match traverse.vertices_unique {
            Unique::None => true,
            Unique::Path => !way.vertices.iter().any(|(id, _)| id == next),
            Unique::Global => visited.insert(next.clone()),
        }
}
