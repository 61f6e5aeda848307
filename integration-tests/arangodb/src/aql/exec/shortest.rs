//! The shortest path between two vertices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::traverse::Step;
use super::{Row, Run};
use crate::aql::ast::{Direction, Shortest};
use crate::error::{Failure, Outcome};
use crate::store::split_id;
use crate::value::Value;

/// How a vertex is reached.
struct Reached {
    weight: f64,
    /// The vertex before, and the edge from there.
    by: Option<(Arc<str>, Value)>,
    /// There are others of the same weight.
    tied: bool,
}

impl<'q> Run<'_, '_, 'q> {
    /// The vertices of the path with the edges that lead to them. Which of several shortest paths a server gives is not
    /// documented, so that a tie is refused.
    pub(super) fn shortest_path(
        &mut self,
        shortest: &'q Shortest,
        edges: &[(Arc<str>, Direction)],
        start: &Arc<str>,
        row: &mut Row,
    ) -> Outcome<Vec<Step>> {
        let target = self.eval(&shortest.target, row)?;
        let target = if matches!(target, Value::Object(_)) { target.get("_id") } else { target };
        let Some(target) = target.as_str().filter(|id| split_id(id).is_some()) else {
            self.calls.warn(10, "Only id strings or objects with _id are allowed");
            return Ok(Vec::new());
        };
        if self.vertex(start)?.1.is_null() || self.vertex(target)?.1.is_null() {
            return Ok(Vec::new());
        }
        let reached = self.reach(shortest, edges, start, target)?;
        let mut path = Vec::new();
        let mut at: Arc<str> = Arc::from(target);
        while let Some(found) = reached.get(&at) {
            if found.tied {
                return Err(Failure::unknown(1501, "which of several shortest paths is given"));
            }
            let vertex = self.vertex(&at)?.1;
            let edge = found.by.as_ref().map(|(_, edge)| edge.clone()).unwrap_or_default();
            path.push((vertex, edge, Value::Null, Value::Null));
            let Some((before, _)) = &found.by else { break };
            at = before.clone();
        }
        path.reverse();
        Ok(path)
    }

    /// Goes from the nearest vertex to the next until the target is the nearest (Dijkstra).
    fn reach(
        &mut self,
        shortest: &Shortest,
        edges: &[(Arc<str>, Direction)],
        start: &Arc<str>,
        target: &str,
    ) -> Outcome<BTreeMap<Arc<str>, Reached>> {
        let mut reached = BTreeMap::from([(start.clone(), Reached { weight: 0.0, by: None, tied: false })]);
        let mut open = BTreeSet::from([(Value::Double(0.0), start.clone())]);
        while let Some((weight, at)) = open.pop_first() {
            self.step()?;
            if *at == *target {
                break;
            }
            for (edge, next) in self.neighbours(edges, &at)? {
                let own =
                    shortest.weight.as_ref().map(|attribute| edge.get(attribute)).filter(Value::is_number);
                let more = own.map_or(shortest.default_weight, |own| own.to_f64());
                if more < 0.0 {
                    return Err(Failure::new(10, "negative edge weight found"));
                }
                let weight = weight.to_f64() + more;
                match reached.get_mut(&next) {
                    Some(known) if known.weight < weight => {}
                    Some(known) if known.weight == weight => known.tied |= known.by.is_some(),
                    _ => {
                        open.insert((Value::Double(weight), next.clone()));
                        reached.insert(next, Reached { weight, by: Some((at.clone(), edge)), tied: false });
                    }
                }
            }
        }
        Ok(reached)
    }
}
