//! Expressions.

use std::sync::Arc;

use super::Parser;
use crate::aql::ast::{Binary, Expand, Expr, Quantifier};
use crate::aql::functions;
use crate::aql::lexer::Token;
use crate::error::{Failure, Outcome};
use crate::value::Value;

/// How strongly comparisons of equality bind; operators that are higher bind more strongly.
const EQUALITY: u8 = 3;

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Outcome<Expr> {
        self.deeper(Self::ternary)
    }

    fn ternary(&mut self) -> Outcome<Expr> {
        let condition = self.binary(0)?;
        if !self.take_sign("?") {
            return Ok(condition);
        }
        let then = if self.is_sign(":") { None } else { Some(Box::new(self.expression()?)) };
        self.expect_sign(":")?;
        Ok(Expr::Ternary(Box::new(condition), then, Box::new(self.expression()?)))
    }

    /// The operator that comes next, how strongly it binds, and of how many words it is.
    fn operator(&self) -> Option<(Binary, u8, usize)> {
        let one = |operator, strength| Some((operator, strength, 1));
        match self.peek() {
            Token::Keyword("OR") | Token::Sign("||") => one(Binary::Or, 0),
            Token::Keyword("AND") | Token::Sign("&&") => one(Binary::And, 1),
            Token::Sign("==") => one(Binary::Equal, EQUALITY),
            Token::Sign("!=") => one(Binary::Unequal, EQUALITY),
            Token::Sign("=~") => one(Binary::Matches, EQUALITY),
            Token::Sign("!~") => one(Binary::NotMatches, EQUALITY),
            Token::Keyword("LIKE") => one(Binary::Like, EQUALITY),
            Token::Keyword("IN") if !self.in_ends => one(Binary::In, 4),
            Token::Keyword("NOT") => match self.peek_at(1) {
                Token::Keyword("IN") => Some((Binary::NotIn, 4, 2)),
                Token::Keyword("LIKE") => Some((Binary::NotLike, EQUALITY, 2)),
                _ => None,
            },
            Token::Sign("<") => one(Binary::Less, 5),
            Token::Sign("<=") => one(Binary::LessEqual, 5),
            Token::Sign(">") => one(Binary::Greater, 5),
            Token::Sign(">=") => one(Binary::GreaterEqual, 5),
            Token::Sign("+") => one(Binary::Add, 7),
            Token::Sign("-") => one(Binary::Subtract, 7),
            Token::Sign("*") => one(Binary::Multiply, 8),
            Token::Sign("/") => one(Binary::Divide, 8),
            Token::Sign("%") => one(Binary::Modulo, 8),
            _ => None,
        }
    }

    fn quantifier(&self) -> Option<Quantifier> {
        let quantifier = match self.peek() {
            Token::Keyword("ALL") => Quantifier::All,
            Token::Keyword("ANY") => Quantifier::Any,
            Token::Keyword("NONE") => Quantifier::None,
            _ => return None,
        };
        let compares = matches!(
            self.peek_at(1),
            Token::Sign("==" | "!=" | "<" | "<=" | ">" | ">=") | Token::Keyword("IN" | "NOT")
        );
        compares.then_some(quantifier)
    }

    fn binary(&mut self, strength_min: u8) -> Outcome<Expr> {
        let mut left = self.unary()?;
        loop {
            if strength_min <= 2
                && let Some(quantifier) = self.quantifier()
            {
                self.next += 1;
                let (operator, _, words) = self.operator().ok_or_else(|| self.unexpected())?;
                self.next += words;
                let right = self.binary(EQUALITY)?;
                left = Expr::Quantified(quantifier, operator, Box::new(left), Box::new(right));
                continue;
            }
            if self.is_sign("..") && strength_min <= 6 {
                self.next += 1;
                let right = self.binary(7)?;
                left = Expr::Range(Box::new(left), Box::new(right));
                continue;
            }
            let Some((operator, strength, words)) = self.operator().filter(|(_, s, _)| *s >= strength_min)
            else {
                return Ok(left);
            };
            self.next += words;
            let right = self.deeper(|parser| parser.binary(strength + 1))?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Outcome<Expr> {
        if self.take_keyword("NOT") || self.take_sign("!") {
            return Ok(Expr::Not(Box::new(self.deeper(Self::unary)?)));
        }
        if self.take_sign("-") {
            let operand = self.deeper(Self::unary)?;
            return Ok(match operand {
                Expr::Value(Value::Int(number)) => Expr::Value(Value::Int(-number)),
                Expr::Value(Value::Double(number)) => Expr::Value(Value::Double(-number)),
                operand => Expr::Minus(Box::new(operand)),
            });
        }
        if self.take_sign("+") {
            return Ok(Expr::Plus(Box::new(self.deeper(Self::unary)?)));
        }
        let literal = matches!(self.peek(), Token::Literal(_));
        let first = self.primary()?;
        // Literals have neither attributes nor elements.
        if literal { Ok(first) } else { self.postfix(first) }
    }

    fn primary(&mut self) -> Outcome<Expr> {
        match self.peek().clone() {
            Token::Literal(value) => {
                self.next += 1;
                Ok(Expr::Value(value))
            }
            Token::Bind(name) => {
                self.next += 1;
                self.bind(&name).map(Expr::Value)
            }
            Token::BindCollection(_) => self.collection().map(Expr::Collection),
            Token::Sign("(") => {
                self.next += 1;
                let inner = if self.starts_query() {
                    Expr::Subquery(Box::new(self.query()?))
                } else {
                    self.within(false, Self::expression)?
                };
                self.expect_sign(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.array(),
            Token::Sign("{") => self.object(),
            Token::Name(name) if *self.peek_at(1) == Token::Sign("(") => self.call(&name),
            Token::Keyword("LIKE") if *self.peek_at(1) == Token::Sign("(") => self.call("LIKE"),
            Token::Name(_) if *self.peek_at(1) == Token::Sign("::") => Err(self.not_known("user functions")),
            Token::Name(name) | Token::Quoted(name) => {
                self.next += 1;
                Ok(self.lookup(&name).map_or(Expr::Collection(name), Expr::Slot))
            }
            Token::Keyword(_) | Token::Sign(_) | Token::End => Err(self.unexpected()),
        }
    }

    fn array(&mut self) -> Outcome<Expr> {
        self.expect_sign("[")?;
        let mut items = Vec::new();
        while !self.take_sign("]") {
            items.push(self.within(false, Self::expression)?);
            if !self.is_sign("]") {
                self.expect_sign(",")?;
            }
        }
        Ok(Expr::Array(items))
    }

    pub(super) fn object(&mut self) -> Outcome<Expr> {
        self.expect_sign("{")?;
        let mut attributes = Vec::new();
        while !self.take_sign("}") {
            attributes.push(self.within(false, Self::object_element)?);
            if !self.is_sign("}") {
                self.expect_sign(",")?;
            }
        }
        Ok(Expr::Object(attributes))
    }

    fn object_element(&mut self) -> Outcome<(Expr, Expr)> {
        let key = match self.peek().clone() {
            Token::Name(name) | Token::Quoted(name) => {
                self.next += 1;
                if !self.is_sign(":") {
                    let slot = self.lookup(&name).ok_or_else(|| self.unexpected())?;
                    return Ok((Expr::Value(Value::Str(name)), Expr::Slot(slot)));
                }
                Expr::Value(Value::Str(name))
            }
            Token::Literal(Value::Str(name)) => {
                self.next += 1;
                Expr::Value(Value::Str(name))
            }
            Token::Bind(name) => {
                self.next += 1;
                Expr::Value(self.bind(&name)?)
            }
            Token::Sign("[") => {
                self.next += 1;
                let key = self.expression()?;
                self.expect_sign("]")?;
                key
            }
            _ => return Err(self.unexpected()),
        };
        self.expect_sign(":")?;
        Ok((key, self.expression()?))
    }

    fn call(&mut self, name: &str) -> Outcome<Expr> {
        let function = functions::find(name)?;
        self.next += 1;
        self.expect_sign("(")?;
        let mut arguments = Vec::new();
        while !self.take_sign(")") {
            arguments.push(if self.starts_query() {
                Expr::Subquery(Box::new(self.query()?))
            } else {
                self.within(false, Self::expression)?
            });
            if !self.is_sign(")") {
                self.expect_sign(",")?;
                if self.is_sign(")") {
                    return Err(self.unexpected());
                }
            }
        }
        if !(function.least..=function.most).contains(&arguments.len()) {
            return Err(Failure::new(
                1541,
                format!(
                    "AQL: invalid number of arguments for function '{}()', expected number of arguments: \
                     minimum: {}, maximum: {}",
                    function.name, function.least, function.most
                ),
            ));
        }
        Ok(Expr::Call(function, arguments))
    }

    /// What follows a value: attributes, indexes, expansions.
    fn postfix(&mut self, mut base: Expr) -> Outcome<Expr> {
        loop {
            if self.take_sign(".") {
                base = match self.take() {
                    Token::Name(name) | Token::Quoted(name) => Expr::Attribute(Box::new(base), name),
                    Token::Bind(name) => match self.bind(&name)? {
                        Value::Str(attribute) => Expr::Attribute(Box::new(base), attribute),
                        Value::Array(path) => path.iter().fold(base, |base, name| {
                            Expr::Index(Box::new(base), Box::new(Expr::Value(name.clone())))
                        }),
                        _ => {
                            return Err(Failure::new(
                                1553,
                                format!("AQL: bind parameter '{name}' has an invalid type"),
                            ));
                        }
                    },
                    _ => {
                        self.next -= 1;
                        return Err(self.unexpected());
                    }
                };
            } else if self.is_sign("[") {
                match self.peek_at(1) {
                    Token::Sign("*") => return self.expand(base),
                    Token::Sign("?") => return Err(self.not_known("the question mark operator")),
                    _ => {}
                }
                self.next += 1;
                let index = self.within(false, Self::expression)?;
                self.expect_sign("]")?;
                base = Expr::Index(Box::new(base), Box::new(index));
            } else {
                return Ok(base);
            }
        }
    }

    fn expand(&mut self, base: Expr) -> Outcome<Expr> {
        self.expect_sign("[")?;
        let mut stars = 0;
        while self.take_sign("*") {
            stars += 1;
        }
        self.scopes.push(super::Scope::default());
        let current = self.declare_pseudo("CURRENT");
        let expand = self.within(false, |parser| parser.expansion(base, stars, current));
        self.scopes.pop();
        expand.map(|expand| Expr::Expand(Box::new(expand)))
    }

    fn expansion(&mut self, base: Expr, stars: usize, current: usize) -> Outcome<Expand> {
        let filter = if self.take_keyword("FILTER") { Some(self.expression()?) } else { None };
        let limit = if self.take_keyword("LIMIT") { Some(self.limits()?) } else { None };
        let project = if self.take_keyword("RETURN") { Some(self.expression()?) } else { None };
        self.expect_sign("]")?;
        let rest = if self.is_sign(".") || self.is_sign("[") {
            // What follows applies to each element, and stands outside of the brackets: CURRENT is none of its names.
            let hidden = self.scope().variables.pop();
            let rest = self.postfix(Expr::Slot(current));
            self.scope().variables.extend(hidden);
            Some(rest?)
        } else {
            None
        };
        Ok(Expand { base, flatten: stars - 1, current, filter, limit, project, rest })
    }

    /// `[skip,] count`
    pub(super) fn limits(&mut self) -> Outcome<(Expr, Expr)> {
        let first = self.expression()?;
        if self.take_sign(",") {
            return Ok((first, self.expression()?));
        }
        Ok((Expr::Value(Value::Int(0)), first))
    }

    /// A name for what has none.
    pub(super) fn hidden(&mut self) -> usize {
        self.new_slot(&Arc::from(""))
    }
}
