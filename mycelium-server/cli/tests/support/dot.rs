//! Reads as much of the language of Graphviz as the binary writes, and refuses the rest.

use std::collections::BTreeMap;

/// A statement's attributes.
pub type Attributes = BTreeMap<String, String>;

/// A graph that was read.
#[derive(Debug, Default)]
pub struct Dot {
    pub name: String,
    pub nodes: BTreeMap<String, Attributes>,
    pub edges: Vec<(String, String, Attributes)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Id(String),
    Quoted(String),
    Sign(&'static str),
}

/// Reads a graph; panics where it is not valid.
pub fn parse(text: &str) -> Dot {
    let mut parser = Parser { tokens: tokens(text).into_iter().peekable() };
    let mut dot = Dot::default();
    assert_eq!(parser.next(), Token::Id("digraph".to_owned()));
    dot.name = parser.id();
    parser.sign("{");
    while parser.tokens.peek() != Some(&Token::Sign("}")) {
        let is_quoted = matches!(parser.tokens.peek(), Some(Token::Quoted(_)));
        let name = parser.id();
        match parser.tokens.peek() {
            Some(Token::Sign("->")) => {
                parser.sign("->");
                let to = parser.id();
                let attributes = parser.attributes();
                dot.edges.push((name, to, attributes));
            }
            Some(Token::Sign("=")) => {
                parser.sign("=");
                parser.id();
            }
            _ if !is_quoted && (name == "node" || name == "edge") => {
                parser.attributes();
            }
            _ => {
                let attributes = parser.attributes();
                assert!(dot.nodes.insert(name.clone(), attributes).is_none(), "{name} is there twice");
            }
        }
        parser.sign(";");
    }
    parser.sign("}");
    assert_eq!(parser.tokens.next(), None, "nothing follows the graph");
    dot
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn next(&mut self) -> Token {
        self.tokens.next().expect("the text ends too early")
    }

    fn id(&mut self) -> String {
        match self.next() {
            Token::Id(id) | Token::Quoted(id) => id,
            Token::Sign(sign) => panic!("{sign} where a name is due"),
        }
    }

    fn sign(&mut self, sign: &'static str) {
        assert_eq!(self.next(), Token::Sign(sign));
    }

    fn attributes(&mut self) -> Attributes {
        let mut attributes = Attributes::new();
        self.sign("[");
        loop {
            let name = self.id();
            self.sign("=");
            let value = self.id();
            assert!(attributes.insert(name.clone(), value).is_none(), "{name} is set twice");
            match self.next() {
                Token::Sign(",") => {}
                Token::Sign("]") => return attributes,
                other => panic!("{other:?} in a list of attributes"),
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            space if space.is_whitespace() => {}
            '"' => {
                // As in labels: `\n` ends a line, and any other character after a backslash stands for itself.
                let mut quoted = String::new();
                loop {
                    match rest.next().expect("a string that does not end") {
                        '"' => break,
                        '\\' => match rest.next().expect("a string that does not end") {
                            'n' => quoted.push('\n'),
                            character @ ('"' | '\\') => quoted.push(character),
                            other => panic!("\\{other} means something to Graphviz"),
                        },
                        control if control.is_control() => panic!("a control character"),
                        other => quoted.push(other),
                    }
                }
                tokens.push(Token::Quoted(quoted));
            }
            '-' => {
                assert_eq!(rest.next(), Some('>'));
                tokens.push(Token::Sign("->"));
            }
            sign if "{}[]=,;".contains(sign) => {
                let at = "{}[]=,;".find(sign).unwrap();
                tokens.push(Token::Sign(&"{}[]=,;"[at..=at]));
            }
            letter if letter.is_ascii_alphabetic() => {
                let mut id = String::from(letter);
                while let Some(more) = rest.next_if(|more| more.is_ascii_alphanumeric() || *more == '_') {
                    id.push(more);
                }
                tokens.push(Token::Id(id));
            }
            digit if digit.is_ascii_digit() => {
                let mut number = String::from(digit);
                while let Some(more) = rest.next_if(char::is_ascii_digit) {
                    number.push(more);
                }
                tokens.push(Token::Id(number));
            }
            other => panic!("{other} has to be quoted"),
        }
    }
    tokens
}
