//! Holds the outputs of an attempt against what its task has declared.

use std::sync::Arc;

use bytes::Bytes;
use mycelium_proto::v1;
use prost::Message as _;

use super::message::{Body, FailureBody};

/// What was found.
pub(crate) enum Fit {
    /// The outputs are those declared, in their order.
    AsItIs,
    /// They were in another order.
    Reordered(Body),
    /// They are not those declared.
    Refused(Body),
}

/// Compares `body`, if it holds outputs, with the names `declared`.
pub(crate) fn fit(body: &Body, declared: &[String]) -> Fit {
    let Body::Outputs { outputs, blobs, .. } = body else { return Fit::AsItIs };
    let reported = &outputs.outputs;
    if reported.len() == declared.len()
        && reported.iter().zip(declared).all(|(output, name)| output.name == *name)
    {
        return Fit::AsItIs;
    }
    let mut ordered = Vec::with_capacity(declared.len());
    for name in declared {
        let mut named = reported.iter().filter(|output| output.name == *name);
        match (named.next(), named.next()) {
            (Some(output), None) => ordered.push(output.clone()),
            (None, _) => return refused(format!("output `{name}` is missing")),
            (Some(_), Some(_)) => return refused(format!("output `{name}` is given twice")),
        }
    }
    if let Some(unknown) = reported.iter().find(|output| !declared.contains(&output.name)) {
        let declared = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
        return refused(format!(
            "output `{}` is not one that the task declares; it declares {declared}",
            unknown.name
        ));
    }
    let outputs = v1::Outputs { outputs: ordered };
    let encoded = Bytes::from(outputs.encode_to_vec());
    Fit::Reordered(Body::Outputs { outputs: Arc::new(outputs), encoded, blobs: blobs.clone() })
}

fn refused(message: String) -> Fit {
    Fit::Refused(Body::Failure(FailureBody::result_type(message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(names: &[&str]) -> Body {
        let outputs = names
            .iter()
            .map(|name| v1::Output { name: (*name).to_owned(), payload: Some(v1::Payload::default()) })
            .collect();
        Body::Outputs { outputs: Arc::new(v1::Outputs { outputs }), encoded: Bytes::new(), blobs: Vec::new() }
    }

    fn found(names: &[&str], declared: &[&str]) -> String {
        let declared: Vec<String> = declared.iter().map(|name| (*name).to_owned()).collect();
        match fit(&body(names), &declared) {
            Fit::AsItIs => "as it is".to_owned(),
            Fit::Reordered(Body::Outputs { outputs, encoded, .. }) => {
                assert_eq!(v1::Outputs::decode(encoded).unwrap(), *outputs);
                let names: Vec<&str> = outputs.outputs.iter().map(|output| output.name.as_str()).collect();
                format!("reordered to {}", names.join(", "))
            }
            Fit::Refused(Body::Failure(failure)) => failure.message,
            Fit::Reordered(_) | Fit::Refused(_) => panic!("a body of the wrong kind"),
        }
    }

    #[test]
    fn outputs_are_exactly_those_declared_in_any_order() {
        assert_eq!(found(&["a", "b"], &["a", "b"]), "as it is");
        assert_eq!(found(&["b", "a"], &["a", "b"]), "reordered to a, b");
        assert_eq!(found(&[], &[]), "as it is");
        assert_eq!(found(&["a"], &["a", "b"]), "output `b` is missing");
        assert_eq!(found(&["a", "a"], &["a"]), "output `a` is given twice");
        assert_eq!(found(&["a", "a"], &["a", "b"]), "output `a` is given twice");
        assert_eq!(found(&["a", "c"], &["a"]), "output `c` is not one that the task declares; it declares a");
        assert_eq!(found(&["c"], &[]), "output `c` is not one that the task declares; it declares none");
    }
}
