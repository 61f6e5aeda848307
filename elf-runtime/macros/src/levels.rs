//! Types of which JSON would lose a level: it has one null, for the outer `None` and the inner one.

use quote::ToTokens as _;
use syn::visit_mut::{self, VisitMut};
use syn::{Error, GenericArgument, PathArguments, Type, TypePath};

use crate::source::pretty;

/// The mistakes in a type as it is written: each `Option` of what is written as null itself. What an alias hides is
/// found where such a value is written.
pub(crate) fn lost(ty: &Type) -> Vec<Error> {
    let mut found = Found(Vec::new());
    found.visit_type_mut(&mut ty.clone());
    found.0
}

struct Found(Vec<Error>);

impl VisitMut for Found {
    fn visit_type_path_mut(&mut self, path: &mut TypePath) {
        if let Some(Nullable { inner, instead }) = argument(path, "Option").and_then(nullable) {
            let ty = pretty(&path.to_token_stream().to_string());
            let message = format!(
                "`{ty}` loses a level on the wire: JSON has one null, so `Some({inner})` would be read back as `None`. \
                 {instead}"
            );
            self.0.push(Error::new_spanned(&path, message));
        }
        visit_mut::visit_type_path_mut(self, path);
    }
}

/// A type that is written as null, or may be.
struct Nullable {
    /// The value that is.
    inner: &'static str,
    /// What to write instead of an `Option` of it.
    instead: &'static str,
}

fn nullable(ty: &Type) -> Option<Nullable> {
    match ty {
        Type::Tuple(tuple) if tuple.elems.is_empty() => {
            Some(Nullable { inner: "()", instead: "Use a `bool`, or an enum" })
        }
        Type::Path(path) if argument(path, "Option").is_some() => {
            Some(Nullable { inner: "None", instead: "Use an enum that names the cases, or one `Option`" })
        }
        Type::Path(path) => argument(path, "Box").and_then(nullable),
        Type::Paren(inner) => nullable(&inner.elem),
        Type::Group(inner) => nullable(&inner.elem),
        _ => None,
    }
}

/// The `T` of a type `name<T>`.
fn argument<'a>(path: &'a TypePath, name: &str) -> Option<&'a Type> {
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(ty)) => Some(ty),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_what_is_null_are_found_at_any_depth() {
        for (text, count) in [
            ("Option<Option<i64>>", 1),
            ("Option<()>", 1),
            ("std::option::Option<Box<(Option<i64>)>>", 1),
            ("Option<Option<Option<()>>>", 3),
            ("Result<Vec<HashMap<String, Option<Option<i64>>>>, TaskError>", 1),
            ("(i64, [Option<()>; 2])", 1),
            ("Option<i64>", 0),
            ("Option<Vec<Option<i64>>>", 0),
            ("Option<(Option<i64>, ())>", 0),
            ("Result<(), TaskError>", 0),
            ("Option", 0),
        ] {
            let errors = lost(&syn::parse_str(text).unwrap());
            assert_eq!(errors.len(), count, "{text}");
        }
    }
}
