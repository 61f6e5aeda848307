//! Holds the outputs of an attempt against what its task has declared.

use mycelium_proto::v1;

use super::registry::OutputSignature;

/// Why outputs cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadOutput {
    /// Which output, and what is wrong unless it is its value: failures are told apart by it.
    pub(crate) what: String,
    /// The same for people.
    pub(crate) message: String,
}

impl BadOutput {
    pub(crate) fn new(what: impl Into<String>, message: String) -> Self {
        Self { what: what.into(), message }
    }
}

/// Puts outputs into the order in which they are declared.
///
/// # Errors
/// The reason, if they are not those.
pub(crate) fn in_order(
    reported: Vec<v1::NamedOutput>,
    declared: &[OutputSignature],
) -> Result<Vec<v1::NamedOutput>, BadOutput> {
    if reported.len() == declared.len()
        && reported.iter().zip(declared).all(|(output, declared)| output.name == declared.name)
    {
        return Ok(reported);
    }
    let mut rest = reported;
    let mut ordered = Vec::with_capacity(declared.len());
    for OutputSignature { name, .. } in declared {
        let Some(at) = rest.iter().position(|output| output.name == *name) else {
            return Err(BadOutput::new(format!("{name} missing"), format!("output `{name}` is missing")));
        };
        ordered.push(rest.remove(at));
        if rest.iter().any(|output| output.name == *name) {
            return Err(BadOutput::new(
                format!("{name} given twice"),
                format!("output `{name}` is given twice"),
            ));
        }
    }
    match rest.first() {
        None => Ok(ordered),
        Some(v1::NamedOutput { name, .. }) => Err(BadOutput::new(
            format!("{name} unknown"),
            format!("output `{name}` is not one that the task declares; it declares {}", names(declared)),
        )),
    }
}

/// The names of declared outputs, for people.
pub(super) fn names(declared: &[OutputSignature]) -> String {
    if declared.is_empty() {
        return "none".to_owned();
    }
    declared.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str], declared: &[&str]) -> String {
        let reported = names
            .iter()
            .map(|name| v1::NamedOutput { name: (*name).to_owned(), payload: Some(v1::Payload::default()) })
            .collect();
        let declared: Vec<OutputSignature> =
            declared.iter().map(|name| OutputSignature { name: (*name).to_owned(), schema: None }).collect();
        match in_order(reported, &declared) {
            Ok(outputs) => outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", "),
            Err(BadOutput { message, .. }) => message,
        }
    }

    #[test]
    fn outputs_are_exactly_those_declared_in_any_order() {
        assert_eq!(found(&["a", "b"], &["a", "b"]), "a, b");
        assert_eq!(found(&["b", "a"], &["a", "b"]), "a, b");
        assert_eq!(found(&[], &[]), "");
        assert_eq!(found(&["a"], &["a", "b"]), "output `b` is missing");
        assert_eq!(found(&["a", "a"], &["a"]), "output `a` is given twice");
        assert_eq!(found(&["a", "a"], &["a", "b"]), "output `a` is given twice");
        assert_eq!(found(&["a", "c"], &["a"]), "output `c` is not one that the task declares; it declares a");
        assert_eq!(found(&["c"], &[]), "output `c` is not one that the task declares; it declares none");
    }
}
