//! Places in a value: `animals[2].weight`.

use std::fmt::Write as _;

/// One step from a value to a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Index(usize),
    Key(String),
}

/// The most steps that are told; those in the middle of a longer way are left out.
const STEPS_MAX: usize = 32;
/// The most characters of a key that are told.
const KEY_CHARACTERS_MAX: usize = 64;

/// The way to a part of a value as people write it; empty for the value itself.
pub(super) fn place<'a>(steps: impl ExactSizeIterator<Item = &'a Step>) -> String {
    let mut text = String::new();
    let count = steps.len();
    for (number, step) in steps.enumerate() {
        if count > STEPS_MAX && number == STEPS_MAX / 2 {
            text.push('…');
        }
        if count > STEPS_MAX && (STEPS_MAX / 2..count - STEPS_MAX / 2).contains(&number) {
            continue;
        }
        // Writing to a text does not fail.
        let _infallible = match step {
            Step::Index(index) => write!(text, "[{index}]"),
            Step::Key(key) if is_name(key) => {
                write!(text, "{}{key}", if text.is_empty() { "" } else { "." })
            }
            Step::Key(key) => match key.char_indices().nth(KEY_CHARACTERS_MAX) {
                Some((end, _)) => write!(text, "[{:?}…]", &key[..end]),
                None => write!(text, "[{key:?}]"),
            },
        };
    }
    text
}

/// Whether a key reads well without quotes.
fn is_name(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= KEY_CHARACTERS_MAX
        && !key.starts_with(|first: char| first.is_ascii_digit())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_one_would_write_it_and_is_bounded() {
        let key = |key: &str| Step::Key(key.to_owned());
        let of = |steps: &[Step]| place(steps.iter());
        assert_eq!(of(&[]), "");
        assert_eq!(of(&[Step::Index(3)]), "[3]");
        assert_eq!(of(&[key("animals"), Step::Index(2), key("weight")]), "animals[2].weight");
        assert_eq!(of(&[key("a b"), key("x\"\n"), key("7")]), r#"["a b"]["x\"\n"]["7"]"#);
        assert_eq!(of(&[key(&"ü".repeat(100))]), format!("[\"{}\"…]", "ü".repeat(64)));
        let long = of(&vec![key("a"); 1_000]);
        assert_eq!(long, format!("{}….{}", vec!["a"; 16].join("."), vec!["a"; 16].join(".")));
    }
}
