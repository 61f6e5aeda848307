//! Prints value graphs, whatever holds them.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Binds, Form};

/// What holds the nodes of a value graph.
pub trait Graph<'a> {
    /// Names a node.
    type Node: Copy;

    /// What is printed of a node.
    fn show(&mut self, node: Self::Node) -> Shown<'a, Self::Node>;
}

/// What is printed of a node.
#[derive(Debug, Clone)]
pub enum Shown<'a, N> {
    /// A text: a literal, the name of an output.
    Text(Cow<'a, str>),
    /// An input of the body with this scope, by its index from 0.
    Input {
        /// The scope.
        scope: u64,
        /// The index.
        index: usize,
    },
    /// A list.
    List(Vec<N>),
    /// A map, its entries in order.
    Map(Vec<(Cow<'a, str>, N)>),
    /// An operation.
    Operation {
        /// Its name.
        name: Cow<'a, str>,
        /// Its operands, without those that the body is given by a name of its own.
        operands: Vec<N>,
        /// What it does with each element.
        body: Option<Body<N>>,
    },
}

/// The body of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Body<N> {
    /// Tells its inputs from those of other bodies.
    pub scope: u64,
    /// How many inputs it has.
    pub inputs: usize,
    /// What it comes to.
    pub result: N,
}

/// How much is printed of a value graph. What is beyond it is written `…`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After how many bytes no more nodes are begun. A node may be used many times over, so this bounds the work.
    pub bytes: usize,
    /// The most items of a list or a map, and operands of an operation.
    pub items: usize,
    /// How deep lists and maps are nested in each other.
    pub collections: u32,
    /// How deep operations are nested in each other.
    pub operations: u32,
}

/// Prints a node as an expression.
pub fn print<'a, G: Graph<'a>>(graph: &mut G, node: G::Node, limits: Limits) -> String {
    let mut printer = Printer { graph, text: String::new(), limits, scopes: Vec::new(), names: 0 };
    printer.node(node, Binds::Loosest);
    printer.text
}

struct Printer<'g, G> {
    graph: &'g mut G,
    text: String,
    /// What is left of the depths; bytes and items stay as they are.
    limits: Limits,
    /// The bodies around, with the number of the first name of the inputs of each.
    scopes: Vec<(u64, usize)>,
    /// How many names are taken.
    names: usize,
}

impl<'a, G: Graph<'a>> Printer<'_, G> {
    /// Prints a node, in parentheses if it binds less strongly than its surroundings ask for.
    fn node(&mut self, node: G::Node, around: Binds) {
        if self.text.len() > self.limits.bytes {
            return self.text.push('…');
        }
        let limits = self.limits;
        match self.graph.show(node) {
            Shown::Text(text) if text.starts_with('-') && around > Binds::Negate => {
                // Writing to a text does not fail, here and below.
                let _infallible = write!(self.text, "({text})");
            }
            Shown::Text(text) => self.text.push_str(&text),
            Shown::Input { scope, index } => match self.scopes.iter().rfind(|(around, _)| *around == scope) {
                Some((_, first)) => self.name(first + index),
                None => self.text.push_str("<what a closure was given>"),
            },
            Shown::List(_) | Shown::Map(_) if limits.collections == 0 => self.text.push('…'),
            Shown::List(items) => {
                self.limits.collections -= 1;
                self.text.push('[');
                self.separated(&items, ", ", |printer, _, item| printer.node(*item, Binds::Loosest));
                self.text.push(']');
            }
            Shown::Map(entries) => {
                self.limits.collections -= 1;
                self.text.push('{');
                self.separated(&entries, ", ", |printer, _, (key, item)| {
                    let _infallible = write!(printer.text, "{key:?}: ");
                    printer.node(*item, Binds::Loosest);
                });
                self.text.push('}');
            }
            Shown::Operation { .. } if limits.operations == 0 => self.text.push('…'),
            Shown::Operation { name, operands, body } => {
                self.limits.operations -= 1;
                let form = Form::of(&name, operands.len(), body.is_some());
                let is_looser = form.binds() < around;
                self.text.push_str(if is_looser { "(" } else { "" });
                self.operation(form, &operands, body);
                self.text.push_str(if is_looser { ")" } else { "" });
            }
        }
        self.limits = limits;
    }

    fn separated<T>(&mut self, parts: &[T], separator: &str, mut print: impl FnMut(&mut Self, usize, &T)) {
        for (place, part) in parts.iter().enumerate() {
            self.text.push_str(if place > 0 { separator } else { "" });
            if place == self.limits.items || self.text.len() > self.limits.bytes {
                return self.text.push('…');
            }
            print(self, place, part);
        }
    }

    fn operation(&mut self, form: Form<'_>, operands: &[G::Node], body: Option<Body<G::Node>>) {
        match (form, operands) {
            (Form::Between(sign, binds), operands) => {
                let (first, others) = binds.of_operands();
                self.separated(operands, &format!(" {sign} "), |printer, place, operand| {
                    printer.node(*operand, if place == 0 { first } else { others });
                });
            }
            (Form::Before(sign, binds), [value]) => {
                self.text.push_str(sign);
                self.node(*value, binds);
            }
            (Form::Select, [condition, then, otherwise]) => {
                self.node(*then, Binds::Or);
                self.text.push_str(" if ");
                self.node(*condition, Binds::Or);
                self.text.push_str(" else ");
                self.node(*otherwise, Binds::Select);
            }
            (Form::Element, [value, key]) => {
                self.node(*value, Binds::Tightest);
                self.text.push('[');
                self.node(*key, Binds::Loosest);
                self.text.push(']');
            }
            (Form::Slice, [value, bounds @ ..]) => {
                self.node(*value, Binds::Tightest);
                self.text.push('[');
                for (place, bound) in bounds.iter().enumerate() {
                    self.text.push_str(if place > 0 { ":" } else { "" });
                    if !matches!(self.graph.show(*bound), Shown::Text(text) if text == "null") {
                        self.node(*bound, Binds::Loosest);
                    }
                }
                self.text.push(']');
            }
            (Form::Method(name), [value, operands @ ..]) => {
                self.node(*value, Binds::Tightest);
                self.text.push('.');
                self.call(name, operands, body);
            }
            (Form::Call(name), operands) => self.call(name, operands, body),
            // Each form comes with as many operands as it is matched with above.
            (Form::Before(..) | Form::Select | Form::Element | Form::Slice | Form::Method(_), _) => {
                self.text.push('?');
            }
        }
    }

    /// `name(a, b, x -> x * 2)`
    fn call(&mut self, name: &str, operands: &[G::Node], body: Option<Body<G::Node>>) {
        let _infallible = write!(self.text, "{name}(");
        self.separated(operands, ", ", |printer, _, operand| printer.node(*operand, Binds::Loosest));
        if let Some(body) = body {
            self.text.push_str(if operands.is_empty() { "" } else { ", " });
            let first = self.names;
            self.scopes.push((body.scope, first));
            self.names += body.inputs;
            let is_one = body.inputs == 1;
            self.text.push_str(if is_one { "" } else { "(" });
            let names: Vec<usize> = (first..self.names).collect();
            self.separated(&names, ", ", |printer, _, name| printer.name(*name));
            self.text.push_str(if is_one { " -> " } else { ") -> " });
            self.node(body.result, Binds::Loosest);
            self.names = first;
            self.scopes.pop();
        }
        self.text.push(')');
    }

    /// `x`, `y`, `z`, `x1`...
    fn name(&mut self, number: usize) {
        self.text.push(['x', 'y', 'z'][number % 3]);
        if number >= 3 {
            let _infallible = write!(self.text, "{}", number / 3);
        }
    }
}
