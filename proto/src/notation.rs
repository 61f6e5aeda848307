//! How operations of value graphs are written for people: `weight * 2 + 1`, `weights.map(x -> x * 2)`. One notation for
//! all programs that show them.

mod print;

pub use print::{Body, Graph, Limits, Shown, print};

/// How strongly an expression holds its operands, from the one that holds them least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binds {
    /// Whatever stands by itself.
    Loosest,
    /// `a if c else b`
    Select,
    /// `a or b`
    Or,
    /// `a and b`
    And,
    /// `not a`
    Not,
    /// `a < b`
    Compare,
    /// `a + b`
    Add,
    /// `a * b`
    Multiply,
    /// `-a`
    Negate,
    /// `a ** b`
    Power,
    /// Names, calls, and what stands in brackets.
    Tightest,
}

impl Binds {
    /// The next that binds more strongly.
    fn tighter(self) -> Self {
        match self {
            Self::Loosest => Self::Select,
            Self::Select => Self::Or,
            Self::Or => Self::And,
            Self::And => Self::Not,
            Self::Not => Self::Compare,
            Self::Compare => Self::Add,
            Self::Add => Self::Multiply,
            Self::Multiply => Self::Negate,
            Self::Negate => Self::Power,
            Self::Power | Self::Tightest => Self::Tightest,
        }
    }

    /// What the first operand of a sign has to bind with, and the others: an expression that binds less stands in
    /// parentheses.
    fn of_operands(self) -> (Self, Self) {
        // `a - (b - c)`, but `2 ** 3 ** 4` for the one that is read from the right; comparisons are not chained.
        match self {
            Self::Power => (self.tighter(), self),
            Self::Compare => (self.tighter(), self.tighter()),
            _ => (self, self.tighter()),
        }
    }
}

/// How an operation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form<'a> {
    /// `a + b`
    Between(&'static str, Binds),
    /// `-a`
    Before(&'static str, Binds),
    /// `a if c else b`, where the condition is the first operand
    Select,
    /// `a[k]`
    Element,
    /// `a[start:stop:step]`, where a bound that is null is left out
    Slice,
    /// `a.name(b, c)`
    Method(&'a str),
    /// `name(a, b)`
    Call(&'a str),
}

impl<'a> Form<'a> {
    /// The form of an operation with so many operands.
    fn of(name: &'a str, operands: usize, has_body: bool) -> Self {
        let name = shown_as(name);
        let call = Self::Call(name.strip_prefix("list.").unwrap_or(name));
        if has_body && !name.contains('.') {
            return call;
        }
        let of = |form, is_it: bool| if is_it { form } else { call };
        let between = |sign, binds| of(Self::Between(sign, binds), operands >= 2);
        let between_two = |sign, binds| of(Self::Between(sign, binds), operands == 2);
        match name {
            "or" => between("or", Binds::Or),
            "and" => between("and", Binds::And),
            "not" => of(Self::Before("not ", Binds::Not), operands == 1),
            "equal" => between_two("==", Binds::Compare),
            "not_equal" => between_two("!=", Binds::Compare),
            "less" => between_two("<", Binds::Compare),
            "less_or_equal" => between_two("<=", Binds::Compare),
            "greater" => between_two(">", Binds::Compare),
            "greater_or_equal" => between_two(">=", Binds::Compare),
            "add" | "string.concat" => between("+", Binds::Add),
            "subtract" => between_two("-", Binds::Add),
            "multiply" => between_two("*", Binds::Multiply),
            "divide" => between_two("/", Binds::Multiply),
            "integer_divide" => between_two("//", Binds::Multiply),
            "modulo" => between_two("%", Binds::Multiply),
            "negate" => of(Self::Before("-", Binds::Negate), operands == 1),
            "power" => between_two("**", Binds::Power),
            "select" => of(Self::Select, operands == 3),
            "get" => of(Self::Element, operands == 2),
            "slice" => of(Self::Slice, (3..=4).contains(&operands)),
            // Its operands are alike: none of them is the list.
            "list.range" => call,
            _ => match name.split_once('.') {
                Some(("list" | "map" | "string", method)) if operands > 0 => Self::Method(method),
                Some(_) | None => call,
            },
        }
    }

    /// How strongly it holds its operands: in surroundings that ask for more, it stands in parentheses.
    fn binds(self) -> Binds {
        match self {
            Self::Between(_, binds) | Self::Before(_, binds) => binds,
            Self::Select => Binds::Select,
            Self::Element | Self::Slice | Self::Method(_) | Self::Call(_) => Binds::Tightest,
        }
    }
}

/// The name of the operation that does the same with values of all kinds, which reads better.
fn shown_as(name: &str) -> &str {
    match name {
        "strict.sort" => "list.sort",
        "strict.min" => "list.min",
        "strict.max" => "list.max",
        _ => name.strip_prefix("strict.").unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_written_by_its_name_and_what_it_takes() {
        let of = |name, operands| Form::of(name, operands, false);
        assert_eq!(of("strict.less", 2), Form::Between("<", Binds::Compare));
        assert_eq!(of("and", 3), Form::Between("and", Binds::And));
        assert_eq!(of("subtract", 3), Form::Call("subtract"));
        assert_eq!(of("strict.sort", 1), Form::Method("sort"));
        assert_eq!(of("list.range", 3), Form::Call("range"));
        assert_eq!(of("json.parse", 1), Form::Call("json.parse"));
        assert_eq!(Form::of("list.map", 1, true), Form::Method("map"));
        assert!(of("multiply", 2).binds() > of("add", 2).binds());
        assert_eq!(Binds::Power.of_operands(), (Binds::Tightest, Binds::Power));
    }
}
