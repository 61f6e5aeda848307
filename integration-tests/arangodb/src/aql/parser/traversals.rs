//! Walks through graphs.

use std::sync::Arc;

use super::{Parser, bad_option, constant};
use crate::aql::ast::{Direction, Edges, Expr, Shortest, Traverse, Unique};
use crate::aql::lexer::Token;
use crate::error::{Failure, Outcome};
use crate::value::Value;

impl Parser<'_> {
    pub(super) fn direction(&self) -> Option<Direction> {
        match self.peek() {
            Token::Keyword("OUTBOUND") => Some(Direction::Outbound),
            Token::Keyword("INBOUND") => Some(Direction::Inbound),
            Token::Keyword("ANY") => Some(Direction::Any),
            _ => None,
        }
    }

    pub(super) fn traverse(
        &mut self,
        names: &[Arc<str>],
        depth: Option<Expr>,
        direction: Direction,
    ) -> Outcome<Traverse> {
        self.next += 1;
        if matches!(self.peek(), Token::Keyword("K_SHORTEST_PATHS" | "ALL_SHORTEST_PATHS" | "K_PATHS")) {
            return Err(self.not_known("searches for several paths"));
        }
        let is_shortest = self.take_keyword("SHORTEST_PATH");
        if is_shortest && depth.is_some() {
            return Err(self.unexpected());
        }
        let (min, max) = depths(depth)?;
        let start = self.expression()?;
        let mut shortest = None;
        if is_shortest {
            if !self.take_word("TO") {
                return Err(self.unexpected());
            }
            shortest = Some(Shortest { target: self.expression()?, weight: None, default_weight: 1.0 });
        }
        let edges = self.edges(direction)?;
        let [vertex, rest @ ..] = names else { return Err(self.unexpected()) };
        if rest.len() > 2 {
            return Err(self.unexpected());
        }
        self.scope().loops = true;
        let vertex = self.declare(vertex)?;
        let edge = rest.first().map(|name| self.declare(name)).transpose()?;
        let path = rest.get(1).map(|name| self.declare(name)).transpose()?;
        if shortest.is_some() && path.is_some() {
            return Err(self.unexpected());
        }
        let prune = if shortest.is_none() && self.take_word("PRUNE") { Some(self.prune()?) } else { None };
        let mut traverse = Traverse {
            vertex,
            edge,
            path,
            min,
            max,
            direction,
            start,
            edges,
            prune,
            breadth_first: false,
            vertices_unique: Unique::None,
            edges_unique: Unique::Path,
            shortest,
        };
        for (name, value) in self.options()? {
            if let Some(shortest) = &mut traverse.shortest {
                match (&*name, &value) {
                    ("weightAttribute", Value::Str(attribute)) => shortest.weight = Some(attribute.clone()),
                    ("defaultWeight", weight) if weight.is_number() => {
                        shortest.default_weight = weight.to_f64()
                    }
                    _ => return Err(bad_option("SHORTEST_PATH", &name)),
                }
                continue;
            }
            match (&*name, &value) {
                ("order", Value::Str(order)) if matches!(&**order, "bfs" | "dfs") => {
                    traverse.breadth_first = &**order == "bfs";
                }
                ("bfs", Value::Bool(bfs)) if !self.is_4 => traverse.breadth_first = *bfs,
                ("uniqueVertices", Value::Str(unique)) => {
                    traverse.vertices_unique = uniqueness(&name, unique)?
                }
                ("uniqueEdges", Value::Str(unique)) if &**unique != "global" => {
                    traverse.edges_unique = uniqueness(&name, unique)?;
                }
                ("parallelism", Value::Int(_)) => {}
                (name, _) => return Err(bad_option("TRAVERSAL", name)),
            }
        }
        if traverse.vertices_unique == Unique::Global && !traverse.breadth_first {
            return Err(Failure::new(10, "uniqueVertices: 'global' is only supported with order: bfs"));
        }
        Ok(traverse)
    }

    fn prune(&mut self) -> Outcome<(Option<usize>, Expr)> {
        if matches!(self.peek(), Token::Name(_)) && *self.peek_at(1) == Token::Sign("=") {
            let name = self.name()?;
            self.expect_sign("=")?;
            let condition = self.expression()?;
            return Ok((Some(self.declare(&name)?), condition));
        }
        Ok((None, self.expression()?))
    }

    fn edges(&mut self, direction: Direction) -> Outcome<Edges> {
        if self.take_keyword("GRAPH") {
            return match self.take() {
                Token::Literal(Value::Str(name)) | Token::Name(name) | Token::Quoted(name) => {
                    Ok(Edges::Graph(name))
                }
                Token::Bind(name) => match self.bind(&name)? {
                    Value::Str(graph) => Ok(Edges::Graph(graph)),
                    _ => Err(Failure::new(
                        1553,
                        format!("AQL: bind parameter '{name}' has an invalid value or type"),
                    )),
                },
                _ => {
                    self.next -= 1;
                    Err(self.unexpected())
                }
            };
        }
        let mut collections = Vec::new();
        loop {
            let own = self.direction();
            self.next += usize::from(own.is_some());
            collections.push((self.collection()?, own.unwrap_or(direction)));
            if !self.take_sign(",") {
                return Ok(Edges::Collections(collections));
            }
        }
    }
}

fn uniqueness(option: &str, value: &str) -> Outcome<Unique> {
    match value {
        "none" => Ok(Unique::None),
        "path" => Ok(Unique::Path),
        "global" => Ok(Unique::Global),
        _ => Err(bad_option("TRAVERSAL", option)),
    }
}

fn depths(depth: Option<Expr>) -> Outcome<(u32, u32)> {
    let number = |expr: &Expr| match constant(expr) {
        Some(Value::Int(number)) => u32::try_from(number).ok(),
        _ => None,
    };
    let depths = match depth {
        None => Some((1, 1)),
        Some(Expr::Range(min, max)) => number(&min).zip(number(&max)),
        Some(one) => number(&one).map(|n| (n, n)),
    };
    depths.filter(|(min, max)| min <= max).ok_or_else(|| Failure::parse("invalid traversal depth"))
}
