//! Computes nodes of a value graph.
//!
//! What is computed is what the wanted nodes need, each node once, in a loop over a stack of work: neither long chains
//! nor bodies within bodies recurse.

mod loops;

use std::collections::HashMap;

use bytes::Bytes;
use mycelium_proto::v1::{self, payload, value_node};

use crate::budget::{Budget, ELEMENT_BYTES, Limits};
use crate::error::{ErrorKind, EvaluationError, Failure};
use crate::json::{is_json_encoding, string_len};
use crate::operations::generic::get;
use crate::operations::operand::{truth, with_article};
use crate::table::{Lazy, Operation, Run};
use crate::types::{Type, Types};
use crate::value::{Entries, Text, Value};
use loops::LoopState;

/// Where the outputs of jobs come from, as valid JSON text.
pub trait Outputs {
    /// The output that a node stands for.
    ///
    /// # Errors
    /// If there is no such output or if it is not JSON.
    fn output(&self, output: &v1::OutputRef) -> Result<Bytes, Failure>;

    /// All of a blob that a literal names.
    ///
    /// # Errors
    /// If it cannot be read, or is more than an operation may take.
    fn blob(&self, blob: &v1::BlobRef) -> Result<Bytes, Failure>;
}

/// Computes the values of `wanted` nodes. The graph has passed the check; one that has not fails and does no harm.
///
/// # Errors
/// The first failure, with the node where it happened.
pub fn evaluate(
    nodes: &[v1::ValueNode],
    wanted: &[u32],
    outputs: &dyn Outputs,
    limits: Limits,
) -> Result<Vec<Value>, EvaluationError> {
    let mut machine = Machine {
        scopes: vec![Scope::new(nodes, Vec::new())],
        work: Vec::new(),
        outputs,
        budget: Budget::new(limits),
    };
    wanted.iter().map(|node| machine.compute(*node)).collect()
}

/// A table of nodes that is being computed: that of the job, or of a body for one element.
struct Scope<'a> {
    nodes: &'a [v1::ValueNode],
    values: Vec<Option<Value>>,
    /// For a body: what it is given.
    inputs: Vec<Value>,
    /// Operands that an operation has looked into. Kept beside the values and not in their place, so that what one
    /// operation gives does not depend on which others were computed before it.
    looked: HashMap<u32, Value>,
    /// For a body: how many of its inputs are its own, and change with each element.
    own_inputs: usize,
    /// For a body: the node outside that it belongs to.
    owner: u32,
}

/// Something to do in the innermost scope.
enum Work<'a> {
    Compute(u32),
    /// The parts of a node are computed: assemble it.
    Finish(u32),
    /// The newest operand of a lazy operation is computed: go on.
    GoOn {
        node: u32,
        operand: usize,
    },
    /// The body was computed for one element, or has to be for the first.
    Loop(Box<LoopState<'a>>),
}

struct Machine<'a> {
    scopes: Vec<Scope<'a>>,
    work: Vec<Work<'a>>,
    outputs: &'a dyn Outputs,
    budget: Budget,
}

impl<'a> Scope<'a> {
    fn new(nodes: &'a [v1::ValueNode], inputs: Vec<Value>) -> Self {
        let values = vec![None; nodes.len()];
        Self { nodes, values, inputs, looked: HashMap::new(), own_inputs: 0, owner: 0 }
    }

    fn kind(&self, node: u32) -> Option<&'a value_node::Kind> {
        self.nodes.get(node as usize)?.kind.as_ref()
    }

    fn value(&self, node: u32) -> Option<&Value> {
        self.values.get(node as usize)?.as_ref()
    }

    /// Forgets what was computed for the last element. Literals and captured values are the same for the next.
    fn begin_again(&mut self) {
        let own_inputs = self.own_inputs;
        let nodes = self.nodes;
        let stays = |node: usize| match nodes.get(node).and_then(|node| node.kind.as_ref()) {
            Some(value_node::Kind::Literal(_)) => true,
            Some(value_node::Kind::BodyInput(input)) => *input as usize >= own_inputs,
            Some(_) | None => false,
        };
        for (node, value) in self.values.iter_mut().enumerate() {
            if !stays(node) {
                *value = None;
            }
        }
        self.looked.retain(|node, _| stays(*node as usize));
    }

    fn set(&mut self, node: u32, value: Value) {
        if let Some(place) = self.values.get_mut(node as usize) {
            *place = Some(value);
        }
    }
}

/// A node that the check would have refused.
fn malformed() -> Failure {
    Failure::invalid("the value graph is malformed")
}

impl<'a> Machine<'a> {
    fn compute(&mut self, wanted: u32) -> Result<Value, EvaluationError> {
        self.work.push(Work::Compute(wanted));
        while let Some(work) = self.work.pop() {
            let (node, done) = match work {
                Work::Compute(node) => (node, self.begin(node)),
                Work::Finish(node) => (node, self.finish(node)),
                Work::GoOn { node, operand } => (node, self.go_on(node, operand)),
                Work::Loop(state) => (state.node, self.next_element(state)),
            };
            done.map_err(|failure| self.locate(node, failure))?;
        }
        let value = self.scopes.first().and_then(|scope| scope.value(wanted)).cloned();
        value.ok_or_else(|| self.locate(wanted, malformed()))
    }

    fn scope(&mut self) -> Result<&mut Scope<'a>, Failure> {
        self.scopes.last_mut().ok_or_else(malformed)
    }

    /// A node whose value is wanted: computes it, or what it needs first.
    fn begin(&mut self, node: u32) -> Result<(), Failure> {
        let scope = self.scopes.last().ok_or_else(malformed)?;
        if scope.value(node).is_some() {
            return Ok(());
        }
        self.budget.steps(1)?;
        let value = match scope.kind(node).ok_or_else(malformed)? {
            value_node::Kind::Literal(literal) => literal_value(literal, self.outputs, &mut self.budget)?,
            value_node::Kind::Output(output) => Value::raw(&self.outputs.output(output)?),
            value_node::Kind::BodyInput(input) => {
                scope.inputs.get(*input as usize).cloned().ok_or_else(malformed)?
            }
            value_node::Kind::List(list) => {
                self.take_operands(list.items.len())?;
                self.need(node, &list.items)?;
                return Ok(());
            }
            value_node::Kind::Map(map) => {
                self.take_operands(map.entries.len())?;
                let inner: Vec<u32> = map.entries.iter().map(|entry| entry.node).collect();
                self.need(node, &inner)?;
                return Ok(());
            }
            value_node::Kind::Operation(operation) => {
                let known = Operation::find(&operation.name).ok_or_else(|| unknown(&operation.name))?;
                self.take_operands(operation.inputs.len())?;
                match known.run {
                    Run::Eager(_) | Run::Loop(_) => self.need(node, &operation.inputs)?,
                    Run::Lazy(Lazy::GetOr) => {
                        // The value and the key; the default only if they lead nowhere.
                        self.want(node, *operation.inputs.first().ok_or_else(malformed)?)?;
                        self.want(node, *operation.inputs.get(1).ok_or_else(malformed)?)?;
                        let at = self.work.len() - 2;
                        self.work.insert(at, Work::GoOn { node, operand: 1 });
                    }
                    Run::Lazy(_) => {
                        self.work.push(Work::GoOn { node, operand: 0 });
                        self.want(node, *operation.inputs.first().ok_or_else(malformed)?)?;
                    }
                }
                return Ok(());
            }
        };
        self.scope()?.set(node, value);
        Ok(())
    }

    /// Takes what it costs to gather so many operands.
    fn take_operands(&mut self, count: usize) -> Result<(), Failure> {
        self.budget.steps(count)?;
        self.budget.memory(count.saturating_mul(2 * ELEMENT_BYTES))
    }

    /// Puts off a node until others are computed.
    fn need(&mut self, node: u32, inner: &[u32]) -> Result<(), Failure> {
        self.work.push(Work::Finish(node));
        // The first on top, so that of several failures the first is told.
        for inner in inner.iter().rev() {
            self.want(node, *inner)?;
        }
        Ok(())
    }

    /// Asks for a node that `of` refers to: an earlier one, so that there are no circles.
    fn want(&mut self, of: u32, node: u32) -> Result<(), Failure> {
        if node >= of {
            return Err(malformed());
        }
        self.work.push(Work::Compute(node));
        Ok(())
    }

    /// All that a node needs is computed.
    fn finish(&mut self, node: u32) -> Result<(), Failure> {
        let scope = self.scopes.last_mut().ok_or_else(malformed)?;
        let value = match scope.kind(node).ok_or_else(malformed)? {
            value_node::Kind::List(list) => {
                let values = || list.items.iter().map(|item| scope.value(*item).ok_or_else(malformed));
                let mut bytes = 2usize;
                for value in values() {
                    bytes = bytes.saturating_add(value?.encoded_len() + 1);
                }
                self.budget
                    .value(list.items.len(), bytes.saturating_sub(usize::from(!list.items.is_empty())))?;
                Value::list(values().map(|value| value.cloned()).collect::<Result<_, _>>()?, &self.budget)?
            }
            value_node::Kind::Map(map) => {
                let mut bytes = 2usize;
                for entry in &map.entries {
                    let value = scope.value(entry.node).ok_or_else(malformed)?;
                    bytes =
                        bytes.saturating_add(string_len(&entry.key)).saturating_add(value.encoded_len() + 2);
                }
                self.budget.value(map.entries.len().saturating_mul(2), bytes)?;
                let mut entries = Entries::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let value = scope.value(entry.node).ok_or_else(malformed)?.clone();
                    entries.insert(Text::from(entry.key.as_str()), value);
                }
                Value::map(entries, &self.budget)?
            }
            value_node::Kind::Operation(operation) => {
                let known = Operation::find(&operation.name).ok_or_else(|| unknown(&operation.name))?;
                let mut operands = Vec::with_capacity(operation.inputs.len());
                for (index, input) in operation.inputs.iter().enumerate() {
                    operands.push(scope.operand(known, index, *input, &mut self.budget)?);
                }
                match known.run {
                    Run::Eager(function) => {
                        if operands.len() < known.operands_min() {
                            return Err(malformed());
                        }
                        function(&mut operands, &mut self.budget)?
                    }
                    Run::Loop(run) => return self.begin_loop(node, run, operation, known, operands),
                    Run::Lazy(_) => return Err(malformed()),
                }
            }
            value_node::Kind::Literal(_) | value_node::Kind::Output(_) | value_node::Kind::BodyInput(_) => {
                return Err(malformed());
            }
        };
        self.scope()?.set(node, value);
        Ok(())
    }

    /// One more operand of a lazy operation is computed.
    fn go_on(&mut self, node: u32, operand: usize) -> Result<(), Failure> {
        let scope = self.scopes.last().ok_or_else(malformed)?;
        let Some(value_node::Kind::Operation(operation)) = scope.kind(node) else { return Err(malformed()) };
        let Some(Operation { run: Run::Lazy(lazy), .. }) = Operation::find(&operation.name) else {
            return Err(malformed());
        };
        let value_of = |operand: usize| {
            operation.inputs.get(operand).and_then(|input| scope.value(*input)).cloned().ok_or_else(malformed)
        };
        let value = value_of(operand)?;
        let is_last = operand + 1 >= operation.inputs.len();
        let result = match (lazy, operand) {
            (Lazy::Select, 0) => {
                let taken = if truth(&value, &mut self.budget)? { 1 } else { 2 };
                Err(taken)
            }
            (Lazy::Select, _) => Ok(value),
            (Lazy::Coalesce, _) if is_last || value.kind() != Type::Null => Ok(value),
            (Lazy::And, _) => {
                let is_true = truth(&value, &mut self.budget)?;
                if is_last || !is_true { Ok(Value::Bool(is_true)) } else { Err(operand + 1) }
            }
            (Lazy::Or, _) => {
                let is_true = truth(&value, &mut self.budget)?;
                if is_last || is_true { Ok(Value::Bool(is_true)) } else { Err(operand + 1) }
            }
            (Lazy::GetOr, 1) => match operation.inputs.as_slice() {
                [value, key, ..] => self.get_or(*value, *key)?.ok_or(2),
                _ => return Err(malformed()),
            },
            (Lazy::GetOr, _) => Ok(value),
            (Lazy::Coalesce, _) => Err(operand + 1),
        };
        match result {
            Ok(value) => self.scope()?.set(node, value),
            Err(next) => {
                self.work.push(Work::GoOn { node, operand: next });
                self.want(node, *operation.inputs.get(next).ok_or_else(malformed)?)?;
            }
        }
        Ok(())
    }

    /// The element, or `None` if there is none and the default is wanted.
    fn get_or(&mut self, value: u32, key: u32) -> Result<Option<Value>, Failure> {
        let known = Operation::find("get_or").ok_or_else(malformed)?;
        let scope = self.scopes.last_mut().ok_or_else(malformed)?;
        let value = scope.operand(known, 0, value, &mut self.budget)?;
        let key = scope.operand(known, 1, key, &mut self.budget)?;
        if value.kind() == Type::Null {
            return Ok(None);
        }
        match get(&value, &key, &mut self.budget) {
            Ok(found) => Ok(Some(found)),
            Err(Failure { kind: ErrorKind::MissingKey | ErrorKind::BadIndex, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Says where a failure happened: at which node of the job, and of bodies below it.
    fn locate(&self, node: u32, failure: Failure) -> EvaluationError {
        let mut path: Vec<usize> = self.scopes.iter().skip(1).map(|scope| scope.owner as usize).collect();
        // While a body is computed its own operation is the owner of the innermost scope, and may be what failed.
        let failing_scope = self.scopes.last();
        path.push(node as usize);
        let (operation, operands) = match failing_scope.and_then(|scope| Some((scope, scope.kind(node)?))) {
            Some((scope, value_node::Kind::Operation(operation))) => {
                let known = operation.inputs.iter().filter_map(|input| scope.value(*input));
                (operation.name.clone(), known.map(Value::kind).collect())
            }
            Some(_) | None => (String::new(), Vec::new()),
        };
        let mut path = path.into_iter();
        EvaluationError {
            node: path.next().unwrap_or_default(),
            body_nodes: path.collect(),
            operation,
            operands,
            failure,
        }
    }
}

fn unknown(name: &str) -> Failure {
    Failure::invalid(format!("there is no operation `{}`", crate::value::shorten(name)))
}

fn literal_value(
    literal: &v1::Payload,
    outputs: &dyn Outputs,
    budget: &mut Budget,
) -> Result<Value, Failure> {
    match &literal.content {
        Some(payload::Content::Inline(json)) if is_json_encoding(&literal.encoding) => {
            budget.scan(json.len())?;
            Ok(Value::raw(json))
        }
        Some(payload::Content::Blob(blob)) if is_json_encoding(&literal.encoding) => {
            let json = outputs.blob(blob)?;
            budget.scan(json.len())?;
            Ok(Value::raw(&json))
        }
        Some(payload::Content::Inline(_) | payload::Content::Blob(_)) => Err(Failure::new(
            ErrorKind::WrongType,
            format!("a value encoded as `{}` is no operand", crate::value::shorten(&literal.encoding)),
        )),
        None => Err(malformed()),
    }
}

impl Scope<'_> {
    /// An operand, held against its parameter, and looked into if that asks for a type.
    fn operand(
        &mut self,
        operation: &Operation,
        index: usize,
        node: u32,
        budget: &mut Budget,
    ) -> Result<Value, Failure> {
        let value = self.value(node).ok_or_else(malformed)?;
        // Operands beyond the parameters are for the body.
        let Some(parameter) = operation.parameter(index) else { return Ok(value.clone()) };
        if parameter.types == Types::ANY {
            return Ok(value.clone());
        }
        let kind = value.kind();
        if !parameter.types.contains(kind) {
            return Err(Failure::new(
                ErrorKind::WrongType,
                format!("`{}` is {}, and must be {}", parameter.name, with_article(kind), parameter.types),
            ));
        }
        let Value::Raw(_) = value else {
            // Tells of an integer that is too wide; anything else is as it should be.
            return value.looked(budget);
        };
        if let Some(looked) = self.looked.get(&node) {
            return Ok(looked.clone());
        }
        let looked = value.looked(budget)?;
        self.looked.insert(node, looked.clone());
        Ok(looked)
    }
}
