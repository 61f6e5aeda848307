//! Strings. They are counted in Unicode code points.

use super::convert::to_string;
use super::operand::{any, int, list, place, take_list, text, wrong_type};
use super::plain;
use crate::budget::Budget;
use crate::error::{ErrorKind, Failure};
use crate::json::string_len;
use crate::table::{Operation, Parameter};
use crate::types::{Type, Types};
use crate::value::Value;

const STRING: Types = Types::of(&[Type::String]);
const BOOL: Types = Types::of(&[Type::Bool]);
const INT: Types = Types::of(&[Type::Int]);
const LIST: Types = Types::of(&[Type::List]);
const TEXT: Parameter = Parameter::new("string", STRING);
const INVALID: &[ErrorKind] = &[ErrorKind::InvalidValue];

pub(crate) const OPERATIONS: &[Operation] = &[
    plain(
        "string.concat",
        &[Parameter::new("strings", STRING).variadic()],
        STRING,
        &[],
        "All strings, one after the other.",
        |operands, budget| {
            let texts =
                (0..operands.len()).map(|index| text(operands, index)).collect::<Result<Vec<_>, _>>()?;
            new_text(&texts.iter().map(|text| &**text).collect::<Vec<_>>(), "", budget)
        },
    ),
    plain("string.upper", &[TEXT], STRING, &[], "In upper case, as Unicode has it.", |operands, budget| {
        let text = text(operands, 0)?;
        let size = text.chars().flat_map(char::to_uppercase).map(char::len_utf8).sum();
        take_text(size, text.len(), budget)?;
        Ok(Value::text(text.to_uppercase()))
    }),
    plain("string.lower", &[TEXT], STRING, &[], "In lower case, as Unicode has it.", |operands, budget| {
        let text = text(operands, 0)?;
        let size = text.chars().flat_map(char::to_lowercase).map(char::len_utf8).sum();
        take_text(size, text.len(), budget)?;
        Ok(Value::text(text.to_lowercase()))
    }),
    plain(
        "string.trim",
        &[TEXT, Parameter::new("characters", STRING).optional()],
        STRING,
        &[],
        "Without blanks, or without any of these characters, at both ends.",
        |operands, budget| {
            let whole = text(operands, 0)?;
            budget.scan(whole.len())?;
            let trimmed = if operands.len() > 1 {
                let characters = text(operands, 1)?;
                budget.steps(characters.len())?;
                let set: std::collections::HashSet<char> = characters.chars().collect();
                whole.trim_matches(|one| set.contains(&one))
            } else {
                whole.trim()
            };
            take_text(trimmed.len(), 0, budget)?;
            Ok(Value::text(trimmed))
        },
    ),
    plain(
        "string.split",
        &[TEXT, Parameter::new("separator", STRING).optional()],
        LIST,
        INVALID,
        "The parts between the separators; without one the parts between runs of blanks. An empty separator is \
         invalid.",
        split,
    ),
    plain(
        "string.join",
        &[Parameter::new("strings", LIST), Parameter::new("separator", STRING)],
        STRING,
        &[],
        "The strings of a list, with the separator between them.",
        |operands, budget| {
            let (strings, separator) = (list(operands, 0)?, text(operands, 1)?);
            budget.value(strings.items().len(), 0)?;
            let mut texts = Vec::with_capacity(strings.items().len());
            for item in strings.items() {
                match item.looked(budget)? {
                    Value::Text(text) => texts.push(text),
                    other => return Err(wrong_type("an element", other.kind(), "a string")),
                }
            }
            new_text(&texts.iter().map(|text| &**text).collect::<Vec<_>>(), &separator, budget)
        },
    ),
    plain(
        "string.replace",
        &[TEXT, Parameter::new("old", STRING), Parameter::new("new", STRING)],
        STRING,
        INVALID,
        "With the new part in the place of each old one. An empty old part is invalid.",
        |operands, budget| {
            let (whole, old, new) = (text(operands, 0)?, text(operands, 1)?, text(operands, 2)?);
            if old.is_empty() {
                return Err(Failure::invalid("the part to replace is empty"));
            }
            budget.scan(whole.len().saturating_add(old.len()))?;
            let count = if old.len() > whole.len() { 0 } else { whole.matches(&*old).count() };
            let size = (whole.len() - count * old.len()).saturating_add(count.saturating_mul(new.len()));
            take_text(size, whole.len(), budget)?;
            if count == 0 {
                return Ok(Value::Text(whole));
            }
            Ok(Value::text(whole.replace(&*old, &new)))
        },
    ),
    plain(
        "string.starts_with",
        &[TEXT, Parameter::new("prefix", STRING)],
        BOOL,
        &[],
        "Whether it begins with the prefix.",
        |operands, budget| {
            let (whole, prefix) = (text(operands, 0)?, text(operands, 1)?);
            budget.scan(prefix.len())?;
            Ok(Value::Bool(whole.starts_with(&*prefix)))
        },
    ),
    plain(
        "string.ends_with",
        &[TEXT, Parameter::new("suffix", STRING)],
        BOOL,
        &[],
        "Whether it ends with the suffix.",
        |operands, budget| {
            let (whole, suffix) = (text(operands, 0)?, text(operands, 1)?);
            budget.scan(suffix.len())?;
            Ok(Value::Bool(whole.ends_with(&*suffix)))
        },
    ),
    plain(
        "string.find",
        &[TEXT, Parameter::new("part", STRING)],
        Types::of(&[Type::Int, Type::Null]),
        &[],
        "The index of the first code point of the first such part; null if there is none.",
        |operands, budget| {
            let (whole, part) = (text(operands, 0)?, text(operands, 1)?);
            budget.scan(whole.len().saturating_add(part.len()))?;
            if part.len() > whole.len() {
                return Ok(Value::Null);
            }
            Ok(whole.find(&*part).map_or(Value::Null, |at| Value::count(whole[..at].chars().count())))
        },
    ),
    plain(
        "string.pad_start",
        &[TEXT, Parameter::new("width", INT), Parameter::new("fill", STRING).optional()],
        STRING,
        INVALID,
        "With so many blanks, or other single code points, before it that it has the width.",
        |operands, budget| pad(operands, true, budget),
    ),
    plain(
        "string.pad_end",
        &[TEXT, Parameter::new("width", INT), Parameter::new("fill", STRING).optional()],
        STRING,
        INVALID,
        "With so many blanks, or other single code points, behind it that it has the width.",
        |operands, budget| pad(operands, false, budget),
    ),
    plain(
        "string.repeat",
        &[TEXT, Parameter::new("count", INT)],
        STRING,
        &[],
        "The string so many times one after the other; the empty string if the count is not positive.",
        |operands, budget| {
            let text = text(operands, 0)?;
            if text.is_empty() {
                return Ok(Value::Text(text));
            }
            let count = usize::try_from(int(operands, 1)?.max(0)).unwrap_or(usize::MAX);
            take_text((string_len(&text) - 2).saturating_mul(count).saturating_add(2), 0, budget)?;
            Ok(Value::text(text.repeat(count)))
        },
    ),
    plain(
        "string.format",
        &[Parameter::new("template", STRING), Parameter::any("values").variadic()],
        STRING,
        INVALID,
        "The template with the values as strings: `{}` stands for the next one, `{0}` for the one with this number, \
         `{{` and `}}` for the braces themselves.",
        format,
    ),
];

/// Takes the memory of a new string of `size` bytes, and the steps of reading `scanned` bytes.
fn take_text(size: usize, scanned: usize, budget: &mut Budget) -> Result<(), Failure> {
    budget.scan(scanned)?;
    budget.value(1, size)
}

fn new_text(parts: &[&str], separator: &str, budget: &mut Budget) -> Result<Value, Failure> {
    let separators = separator.len().saturating_mul(parts.len().saturating_sub(1));
    let size = parts.iter().fold(separators, |sum, part| sum.saturating_add(part.len()));
    take_text(size, 0, budget)?;
    Ok(Value::text(parts.join(separator)))
}

fn split(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let whole = text(operands, 0)?;
    if operands.len() > 1 {
        let separator = text(operands, 1)?;
        if separator.is_empty() {
            return Err(Failure::invalid("the separator is empty"));
        }
        budget.scan(separator.len())?;
        if separator.len() > whole.len() {
            return parts(&whole, std::iter::once(&*whole), budget);
        }
        parts(&whole, whole.split(&*separator), budget)
    } else {
        parts(&whole, whole.split_whitespace(), budget)
    }
}

fn parts<'a>(
    whole: &str,
    parts: impl Iterator<Item = &'a str> + Clone,
    budget: &mut Budget,
) -> Result<Value, Failure> {
    budget.scan(whole.len())?;
    let (count, bytes) = parts.clone().fold((0usize, 0usize), |(count, bytes), part| {
        (count + 1, bytes.saturating_add(string_len(part) + 1))
    });
    take_list(count, bytes, budget)?;
    Value::list(parts.map(Value::text).collect(), budget)
}

fn pad(operands: &mut [Value], at_start: bool, budget: &mut Budget) -> Result<Value, Failure> {
    let whole = text(operands, 0)?;
    let fill = if operands.len() > 2 { text(operands, 2)? } else { " ".into() };
    let mut points = fill.chars();
    let (Some(fill), None) = (points.next(), points.next()) else {
        return Err(Failure::invalid("what to fill with is not one code point"));
    };
    budget.scan(whole.len())?;
    let width = usize::try_from(int(operands, 1)?.max(0)).unwrap_or(usize::MAX);
    let missing = width.saturating_sub(whole.chars().count());
    take_text(missing.saturating_mul(fill.len_utf8()).saturating_add(whole.len()), 0, budget)?;
    let filled: String = std::iter::repeat_n(fill, missing).collect();
    Ok(Value::text(if at_start { filled + &whole } else { whole.to_string() + &filled }))
}

fn format(operands: &mut [Value], budget: &mut Budget) -> Result<Value, Failure> {
    let invalid = |message: String| Failure::invalid(message);
    let template = text(operands, 0)?;
    budget.scan(template.len())?;
    let mut result = String::new();
    let mut next = 0;
    let mut rest = &*template;
    while let Some(at) = rest.find(['{', '}']) {
        take_text(at + 1, 0, budget)?;
        result.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(behind) = after.strip_prefix(brace) {
            result.push_str(brace);
            rest = behind;
            continue;
        }
        let Some((name, behind)) = after.split_once('}').filter(|_| brace == "{") else {
            return Err(invalid("the template has a brace without its partner".to_owned()));
        };
        let number = if name.is_empty() {
            next += 1;
            next - 1
        } else if name.len() <= 9 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            name.parse::<usize>().map_err(|error| invalid(error.to_string()))?
        } else {
            return Err(invalid(
                "the template has braces around what is not the number of a value".to_owned(),
            ));
        };
        let given = operands.len() - 1;
        let Some(place) = place(number as i128, given) else {
            return Err(invalid(format!(
                "the template asks for more values than the {given} that are given"
            )));
        };
        let shown = [to_string(any(operands, place + 1)?, budget)?];
        let shown = text(&shown, 0)?;
        budget.value(1, result.len().saturating_add(shown.len()))?;
        result.push_str(&shown);
        rest = behind;
    }
    take_text(result.len().saturating_add(rest.len()), 0, budget)?;
    result.push_str(rest);
    Ok(Value::text(result))
}
