//! Values as people write them.

use std::fmt::{self, Write as _};

use mycelium_proto::notation::{Binds, Form};

use super::node::{Node, NodeKind};
use super::scopes::Scope;

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Show { f, scopes: Vec::new(), names: 0, nodes_left: NODES_MAX }.show(self, Binds::Loosest, LEVELS)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({self})")
    }
}

/// The most items of a list or a map, and operands of an operation, that are shown.
const ITEMS_MAX: usize = 8;
/// The most nodes that are shown, all together. A few more may follow, to close what is open.
const NODES_MAX: usize = 512;
/// How deep it is shown.
const LEVELS: Levels = Levels { collections: 4, operations: 12 };

#[derive(Clone, Copy)]
struct Levels {
    /// Lists and maps in each other.
    collections: usize,
    /// Operations in each other.
    operations: usize,
}

impl Levels {
    fn below_collection(self) -> Self {
        Self { collections: self.collections.saturating_sub(1), ..self }
    }

    fn below_operation(self) -> Self {
        Self { operations: self.operations.saturating_sub(1), ..self }
    }
}

struct Show<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    /// The closures around, with the number of the first name of what each is given.
    scopes: Vec<(Scope, usize)>,
    /// How many names are taken.
    names: usize,
    nodes_left: usize,
}

impl Show<'_, '_> {
    /// Writes a node, in parentheses if it binds less strongly than its surroundings ask for.
    fn show(&mut self, node: &Node, around: Binds, levels: Levels) -> fmt::Result {
        let Some(left) = self.nodes_left.checked_sub(1) else { return self.f.write_str("…") };
        self.nodes_left = left;
        match node.kind() {
            NodeKind::Literal(payload) => {
                let is_signed = payload.bytes().first() == Some(&b'-') && around > Binds::Negate;
                if is_signed { write!(self.f, "({payload})") } else { write!(self.f, "{payload}") }
            }
            NodeKind::Output { job, name } if name.is_empty() => write!(self.f, "job {}", job.id()),
            NodeKind::Output { job, name } => write!(self.f, "job {}/{name}", job.id()),
            NodeKind::Invalid(message) => write!(self.f, "<{message}>"),
            NodeKind::BodyInput { scope, index } => {
                match self.scopes.iter().rfind(|(around, _)| around == scope) {
                    Some((_, first)) => self.name(first + *index as usize),
                    None => self.f.write_str("<what a closure was given>"),
                }
            }
            NodeKind::List(_) | NodeKind::Map(_) if levels.collections == 0 => self.f.write_str("…"),
            NodeKind::List(items) => {
                self.f.write_char('[')?;
                self.items(items, levels.below_collection())?;
                self.f.write_char(']')
            }
            NodeKind::Map(entries) => {
                self.f.write_char('{')?;
                for (index, (key, node)) in entries.iter().take(ITEMS_MAX).enumerate() {
                    write!(self.f, "{}{key:?}: ", if index > 0 { ", " } else { "" })?;
                    self.show(node, Binds::Loosest, levels.below_collection())?;
                }
                self.f.write_str(if entries.len() > ITEMS_MAX { ", …}" } else { "}" })
            }
            NodeKind::Operation { .. } if levels.operations == 0 => self.f.write_str("…"),
            NodeKind::Operation { name, .. } => self.operation(name, node, around, levels.below_operation()),
        }
    }

    fn items(&mut self, items: &[Node], levels: Levels) -> fmt::Result {
        for (index, item) in items.iter().take(ITEMS_MAX).enumerate() {
            self.f.write_str(if index > 0 { ", " } else { "" })?;
            self.show(item, Binds::Loosest, levels)?;
        }
        self.f.write_str(if items.len() > ITEMS_MAX { ", …" } else { "" })
    }

    fn operation(&mut self, name: &str, node: &Node, around: Binds, levels: Levels) -> fmt::Result {
        let NodeKind::Operation { inputs, body, .. } = node.kind() else { return Ok(()) };
        // What a body has captured is seen inside of it.
        let captured = body.as_ref().map_or(0, |body| body.captured);
        let operands = &inputs[..inputs.len().saturating_sub(captured)];
        let form = Form::of(name, operands.len(), body.is_some());
        let is_looser = form.binds() < around;
        if is_looser {
            self.f.write_char('(')?;
        }
        match form {
            Form::Between(sign, binds) => self.between(sign, binds, operands, levels)?,
            Form::Before(sign, binds) => {
                self.f.write_str(sign)?;
                self.show(&operands[0], binds, levels)?;
            }
            Form::Select => {
                self.show(&operands[1], Binds::Or, levels)?;
                self.f.write_str(" if ")?;
                self.show(&operands[0], Binds::Or, levels)?;
                self.f.write_str(" else ")?;
                self.show(&operands[2], Binds::Select, levels)?;
            }
            Form::Element => {
                self.show(&operands[0], Binds::Tightest, levels)?;
                self.f.write_char('[')?;
                self.show(&operands[1], Binds::Loosest, levels)?;
                self.f.write_char(']')?;
            }
            Form::Slice => {
                self.show(&operands[0], Binds::Tightest, levels)?;
                self.f.write_char('[')?;
                for (index, bound) in operands[1..].iter().enumerate() {
                    self.f.write_str(if index > 0 { ":" } else { "" })?;
                    if !is_null(bound) {
                        self.show(bound, Binds::Loosest, levels)?;
                    }
                }
                self.f.write_char(']')?;
            }
            Form::Method(name) => {
                self.show(&operands[0], Binds::Tightest, levels)?;
                write!(self.f, ".{name}")?;
                self.arguments(&operands[1..], node, levels)?;
            }
            Form::Call(name) => {
                self.f.write_str(name)?;
                self.arguments(operands, node, levels)?;
            }
        }
        if is_looser { self.f.write_char(')') } else { Ok(()) }
    }

    fn between(&mut self, sign: &str, binds: Binds, operands: &[Node], levels: Levels) -> fmt::Result {
        let (first, others) = binds.of_operands();
        for (index, operand) in operands.iter().take(ITEMS_MAX).enumerate() {
            if index > 0 {
                write!(self.f, " {sign} ")?;
            }
            self.show(operand, if index == 0 { first } else { others }, levels)?;
        }
        if operands.len() > ITEMS_MAX { write!(self.f, " {sign} …") } else { Ok(()) }
    }

    /// `(a, b, x -> x * 2)`
    fn arguments(&mut self, operands: &[Node], node: &Node, levels: Levels) -> fmt::Result {
        self.f.write_char('(')?;
        self.items(operands, levels)?;
        if let NodeKind::Operation { body: Some(body), .. } = node.kind() {
            self.f.write_str(if operands.is_empty() { "" } else { ", " })?;
            let first = self.names;
            self.scopes.push((body.scope, first));
            self.names += body.own_inputs as usize;
            let is_one = body.own_inputs == 1;
            self.f.write_str(if is_one { "" } else { "(" })?;
            for name in first..self.names {
                self.f.write_str(if name > first { ", " } else { "" })?;
                self.name(name)?;
            }
            self.f.write_str(if is_one { " -> " } else { ") -> " })?;
            self.show(&body.result, Binds::Loosest, levels)?;
            self.names = first;
            self.scopes.pop();
        }
        self.f.write_char(')')
    }

    /// `x`, `y`, `z`, `x1`...
    fn name(&mut self, number: usize) -> fmt::Result {
        const LETTERS: [char; 3] = ['x', 'y', 'z'];
        self.f.write_char(LETTERS[number % LETTERS.len()])?;
        match number / LETTERS.len() {
            0 => Ok(()),
            round => write!(self.f, "{round}"),
        }
    }
}

fn is_null(node: &Node) -> bool {
    matches!(node.kind(), NodeKind::Literal(payload) if payload.bytes().as_ref() == b"null")
}
