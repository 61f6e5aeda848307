//! Holds the outputs of an attempt against what its task has declared.

use mycelium_proto::v1;

use super::registry::OutputSignature;

/// Puts outputs into the order in which they are declared; in words if they are not those.
pub(crate) fn in_order(
    reported: Vec<v1::Output>,
    declared: &[OutputSignature],
) -> Result<Vec<v1::Output>, String> {
    if reported.len() == declared.len()
        && reported.iter().zip(declared).all(|(output, declared)| output.name == declared.name)
    {
        return Ok(reported);
    }
    let mut rest = reported;
    let mut ordered = Vec::with_capacity(declared.len());
    for OutputSignature { name, .. } in declared {
        let Some(at) = rest.iter().position(|output| output.name == *name) else {
            return Err(format!("output `{name}` is missing"));
        };
        ordered.push(rest.remove(at));
        if rest.iter().any(|output| output.name == *name) {
            return Err(format!("output `{name}` is given twice"));
        }
    }
    match rest.first() {
        None => Ok(ordered),
        Some(unknown) => Err(format!(
            "output `{}` is not one that the task declares; it declares {}",
            unknown.name,
            names(declared)
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
            .map(|name| v1::Output { name: (*name).to_owned(), payload: Some(v1::Payload::default()) })
            .collect();
        let declared: Vec<OutputSignature> =
            declared.iter().map(|name| OutputSignature { name: (*name).to_owned(), schema: None }).collect();
        match in_order(reported, &declared) {
            Ok(outputs) => outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", "),
            Err(problem) => problem,
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
