//! A statement as the parser gives it: variables are slots of a row, bind parameters are values.

use std::sync::Arc;

use crate::aql::functions::Function;
use crate::value::Value;

/// Where a variable stands in a row.
pub(crate) type Slot = usize;

/// A whole statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) query: Query,
    /// How many slots a row has.
    pub(crate) slots: usize,
    /// Name of each slot, for the plan and for `COLLECT .. INTO`.
    pub(crate) names: Vec<Arc<str>>,
    /// Collections named by `WITH`.
    pub(crate) declared: Vec<Arc<str>>,
}

/// Clauses in the order in which they run.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) clauses: Vec<Clause>,
}

#[derive(Debug)]
pub(crate) enum Clause {
    For(For),
    Traverse(Box<Traverse>),
    Filter(Expr),
    Let {
        slot: Slot,
        value: Expr,
        writes: bool,
    },
    /// What to sort by, and whether downwards.
    Sort(Vec<(Expr, bool)>),
    Limit {
        skip: Expr,
        count: Expr,
    },
    Collect(Box<Collect>),
    Modify(Box<Modify>),
    Return {
        distinct: bool,
        value: Expr,
    },
}

#[derive(Debug)]
pub(crate) struct For {
    pub(crate) target: Target,
    pub(crate) source: Source,
    pub(crate) hint: Hint,
}

/// What an element is bound to.
#[derive(Debug)]
pub(crate) enum Target {
    Slot(Slot),
    /// `[a, b]`: slots by place.
    Array(Slot, Vec<Slot>),
}

#[derive(Debug)]
pub(crate) enum Source {
    Collection(Arc<str>),
    Values(Expr),
}

/// Options of a loop over a collection.
#[derive(Debug, Default)]
pub(crate) struct Hint {
    pub(crate) indexes: Vec<Arc<str>>,
    pub(crate) force: bool,
    pub(crate) disable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Outbound,
    Inbound,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unique {
    None,
    Path,
    Global,
}

#[derive(Debug)]
pub(crate) struct Traverse {
    pub(crate) vertex: Slot,
    pub(crate) edge: Option<Slot>,
    pub(crate) path: Option<Slot>,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) direction: Direction,
    pub(crate) start: Expr,
    pub(crate) edges: Edges,
    pub(crate) prune: Option<(Option<Slot>, Expr)>,
    pub(crate) breadth_first: bool,
    pub(crate) vertices_unique: Unique,
    pub(crate) edges_unique: Unique,
    /// Only the shortest path to a vertex, and by what its edges are weighed.
    pub(crate) shortest: Option<Shortest>,
}

#[derive(Debug)]
pub(crate) struct Shortest {
    pub(crate) target: Expr,
    /// Without it every edge weighs 1.
    pub(crate) weight: Option<Arc<str>>,
    pub(crate) default_weight: f64,
}

#[derive(Debug)]
pub(crate) enum Edges {
    Graph(Arc<str>),
    /// Collections, each with the direction it is walked in.
    Collections(Vec<(Arc<str>, Direction)>),
}

#[derive(Debug)]
pub(crate) struct Collect {
    pub(crate) groups: Vec<(Slot, Expr)>,
    pub(crate) aggregates: Vec<(Slot, Aggregate, Expr)>,
    pub(crate) into: Option<Into>,
    pub(crate) count: Option<Slot>,
    /// The groups need not come in their order.
    pub(crate) hashed: bool,
}

#[derive(Debug)]
pub(crate) struct Into {
    pub(crate) slot: Slot,
    pub(crate) member: Member,
}

/// What is kept of each member of a group.
#[derive(Debug)]
pub(crate) enum Member {
    Value(Expr),
    /// An object of these variables.
    Variables(Vec<(Arc<str>, Slot)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Count,
    Sum,
    Average,
    Min,
    Max,
    Unique,
    SortedUnique,
    CountUnique,
    Push,
}

#[derive(Debug)]
pub(crate) struct Modify {
    pub(crate) action: Action,
    pub(crate) collection: Arc<str>,
    pub(crate) options: WriteOptions,
    pub(crate) old: Option<Slot>,
    pub(crate) new: Option<Slot>,
}

#[derive(Debug)]
pub(crate) enum Action {
    Insert(Expr),
    /// The document or key, and what to write into it where it is told apart.
    Update(Expr, Option<Expr>),
    Replace(Expr, Option<Expr>),
    Remove(Expr),
    Upsert {
        search: Expr,
        insert: Expr,
        write: Expr,
        replace: bool,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overwrite {
    #[default]
    Conflict,
    Ignore,
    Replace,
    Update,
}

/// Options of a modification.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) overwrite: Overwrite,
    pub(crate) keep_null: bool,
    pub(crate) merge_objects: bool,
    pub(crate) ignore_errors: bool,
    pub(crate) ignore_revs: bool,
    pub(crate) wait_for_sync: bool,
    pub(crate) exclusive: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            overwrite: Overwrite::Conflict,
            keep_null: true,
            merge_objects: true,
            ignore_errors: false,
            ignore_revs: true,
            wait_for_sync: false,
            exclusive: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
    Like,
    NotLike,
    Matches,
    NotMatches,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantifier {
    All,
    Any,
    None,
}

#[derive(Debug)]
pub(crate) enum Expr {
    Value(Value),
    Slot(Slot),
    /// The documents of a collection, which only functions that count them take.
    Collection(Arc<str>),
    Array(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Arc<str>),
    Index(Box<Expr>, Box<Expr>),
    Expand(Box<Expand>),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    Plus(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Quantified(Quantifier, Binary, Box<Expr>, Box<Expr>),
    Ternary(Box<Expr>, Option<Box<Expr>>, Box<Expr>),
    Range(Box<Expr>, Box<Expr>),
    Call(&'static Function, Vec<Expr>),
    Subquery(Box<Query>),
}

/// `base[* FILTER .. LIMIT .. RETURN ..].rest`
#[derive(Debug)]
pub(crate) struct Expand {
    pub(crate) base: Expr,
    /// How many levels are made flat: the stars but one.
    pub(crate) flatten: usize,
    pub(crate) current: Slot,
    pub(crate) filter: Option<Expr>,
    pub(crate) limit: Option<(Expr, Expr)>,
    /// What becomes of each element, in terms of `current`.
    pub(crate) project: Option<Expr>,
    /// What follows the brackets, in terms of `current`.
    pub(crate) rest: Option<Expr>,
}
