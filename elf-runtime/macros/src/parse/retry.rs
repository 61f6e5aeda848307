//! Reads `retry(attempts = 5, first = "1s", never = [NotFound], …)`.

use std::time::Duration;

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, LitBool, LitFloat, LitInt, Path, Token};

use super::timeouts::duration;

/// As in the contract.
const ATTEMPTS_MAX: u32 = 1_000_000;
const FACTOR_MAX: f64 = 1_000.0;
const TYPES_MAX: usize = 64;

/// By which rules the jobs of a task are tried again, as it declares: calls that make an `elf_runtime::RetryPolicy`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Retry {
    pub(crate) rules: Vec<TokenStream>,
}

impl Retry {
    /// Reads what stands in the parentheses.
    pub(super) fn read(list: &ParseNestedMeta<'_>) -> Result<Self, Error> {
        let mut read: Vec<(String, TokenStream)> = Vec::new();
        let mut times = [None; 2];
        list.parse_nested_meta(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            let value = match name.as_str() {
                "attempts" => {
                    let attempts = literal::<LitInt>(&meta, "a number of 1 to 1000000")?;
                    let number = attempts.base10_parse::<u32>().ok();
                    let number = number.filter(|number| (1..=ATTEMPTS_MAX).contains(number));
                    let number = number.ok_or_else(|| expected(&attempts, "a number of 1 to 1000000"))?;
                    quote!(#number)
                }
                "first" | "cap" => {
                    let time = duration(&meta)?;
                    times[usize::from(name == "cap")] = Some(time);
                    time_tokens(time)
                }
                "factor" => number(&meta, 1.0, FACTOR_MAX, "a number of 1 to 1000, such as `2.0`")?,
                "jitter" => number(&meta, 0.0, 1.0, "a number of 0 to 1, such as `0.2`")?,
                "never" => types(&meta)?,
                "panics" | "argument_errors" => {
                    let is_so = literal::<LitBool>(&meta, "`true` or `false`")?;
                    quote!(#is_so)
                }
                _ => {
                    return Err(meta.error(
                        "expected `attempts`, `first`, `factor`, `cap`, `jitter`, `never`, `panics` or \
                         `argument_errors`, each with a value, such as `attempts = 5`",
                    ));
                }
            };
            if read.iter().any(|(other, _)| *other == name) {
                return Err(meta.error("this rule is there twice"));
            }
            read.push((name, value));
            Ok(())
        })?;
        if read.is_empty() {
            return Err(list.error("expected at least one rule, such as `attempts = 5`"));
        }
        if let [Some(first), Some(cap)] = times
            && cap < first
        {
            return Err(list.error("`cap` must not be less than `first`"));
        }
        let rule = |(name, value): (String, TokenStream)| {
            let method = proc_macro2::Ident::new(&name, proc_macro2::Span::call_site());
            quote!(.#method(#value))
        };
        Ok(Self { rules: read.into_iter().map(rule).collect() })
    }
}

/// A time as it is written into the declaration.
pub(crate) fn time_tokens(time: Duration) -> TokenStream {
    let nanos = Literal::u64_unsuffixed(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    quote!(::core::time::Duration::from_nanos(#nanos))
}

fn expected(at: &impl Spanned, what: &str) -> Error {
    Error::new(at.span(), format!("expected {what}"))
}

fn literal<T: Parse>(meta: &ParseNestedMeta<'_>, what: &str) -> Result<T, Error> {
    let value = meta.value()?;
    let place = value.span();
    value.parse().map_err(|_| Error::new(place, format!("expected {what}")))
}

/// Reads `= 2.0`, or `= 2`.
fn number(meta: &ParseNestedMeta<'_>, min: f64, max: f64, what: &str) -> Result<TokenStream, Error> {
    let value = meta.value()?;
    let place = value.span();
    let text = match value.peek(LitInt) {
        true => value.parse::<LitInt>().map(|number| number.base10_digits().to_owned()),
        false => value.parse::<LitFloat>().map(|number| number.base10_digits().to_owned()),
    };
    let read = text.ok().and_then(|text| text.parse::<f64>().ok());
    let read = read.filter(|read| (min..=max).contains(read));
    let read = read.ok_or_else(|| Error::new(place, format!("expected {what}")))?;
    Ok(quote!(#read))
}

/// A path without what does not belong to a name.
fn name_of_type(path: &Path) -> String {
    let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    segments.join("::")
}

/// Reads `= [NotFound, ReadError::Cut]`.
fn types(meta: &ParseNestedMeta<'_>) -> Result<TokenStream, Error> {
    const EXPECTED: &str = "1 to 64 types of failures, such as `[NotFound, ReadError::Cut]`";
    let value = meta.value()?;
    let place = value.span();
    let read = || -> Result<Vec<String>, Error> {
        let content;
        syn::bracketed!(content in value);
        let paths = Punctuated::<Path, Token![,]>::parse_terminated_with(&content, Path::parse_mod_style)?;
        Ok(paths.iter().map(name_of_type).collect())
    };
    let names = read().ok().filter(|names| (1..=TYPES_MAX).contains(&names.len()));
    let names = names.ok_or_else(|| Error::new(place, format!("expected {EXPECTED}")))?;
    Ok(quote!([#(#names),*]))
}
