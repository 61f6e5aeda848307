//! Reads the `#[task(…)]` of tasks and their parameters.

use syn::{Attribute, Expr};

use super::retry::Retry;
use super::timeouts::Timeouts;
use super::{Mistakes, is_ours};

/// What the `#[task(…)]` of a task itself declares for those of its jobs that do not say it themselves.
#[derive(Debug, Default, Clone)]
pub(crate) struct Declared {
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Retry,
}

impl Declared {
    pub(super) fn of(attributes: &[Attribute], mistakes: &mut Mistakes) -> Self {
        let (mut timeouts, mut retry) = (None, None);
        for attribute in attributes.iter().filter(|attribute| is_ours(attribute)) {
            let mut is_empty = true;
            let read = attribute.parse_nested_meta(|meta| {
                is_empty = false;
                if meta.path.is_ident("timeouts") {
                    match timeouts.replace(Timeouts::read(&meta)?) {
                        None => Ok(()),
                        Some(_) => Err(meta.error("the timeouts are there twice")),
                    }
                } else if meta.path.is_ident("retry") {
                    match retry.replace(Retry::read(&meta)?) {
                        None => Ok(()),
                        Some(_) => Err(meta.error("the rules to try again are there twice")),
                    }
                } else {
                    Err(meta.error("expected `retry(…)` or `timeouts(…)`"))
                }
            });
            match read {
                Err(error) => mistakes.add(error),
                Ok(()) if is_empty => {
                    mistakes
                        .at(attribute, "expected `#[task(retry(attempts = 5), timeouts(run = \"10s\"))]`");
                }
                Ok(()) => {}
            }
        }
        Self { timeouts: timeouts.unwrap_or_default(), retry: retry.unwrap_or_default() }
    }
}

/// Reads `#[task(default = expression)]`.
pub(super) fn default(attributes: &[Attribute], mistakes: &mut Mistakes) -> Option<Expr> {
    let mut default = None;
    for attribute in attributes.iter().filter(|attribute| is_ours(attribute)) {
        let read = attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("default") {
                return Err(meta.error("expected `default = expression`"));
            }
            if default.replace(meta.value()?.parse::<Expr>()?).is_some() {
                return Err(meta.error("the default is there twice"));
            }
            Ok(())
        });
        if let Err(error) = read {
            mistakes.add(error);
        } else if default.is_none() {
            mistakes.at(attribute, "expected `#[task(default = expression)]`");
        }
    }
    default
}
