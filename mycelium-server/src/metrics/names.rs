//! Names that clients choose, as values of labels: a bounded number of them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What all are called for which there is no room.
const OTHER: &str = "other";

/// The names that labels may have: the first that came.
#[derive(Debug)]
pub(super) struct Names {
    max: usize,
    known: Mutex<HashSet<Arc<str>>>,
}

impl Names {
    pub(super) fn new(max: usize) -> Self {
        Self { max, known: Mutex::default() }
    }

    /// The name itself, if there is room for it, and otherwise `other`.
    pub(super) fn label(&self, name: &str) -> Arc<str> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(name) {
            return Arc::clone(known);
        }
        if known.len() >= self.max {
            return Arc::from(OTHER);
        }
        let name: Arc<str> = Arc::from(name);
        known.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_stay_and_all_others_are_one() {
        let names = Names::new(2);
        let labels = ["wolf", "bee", "ant", "wolf", "crow"].map(|name| names.label(name).to_string());
        assert_eq!(labels, ["wolf", "bee", OTHER, "wolf", OTHER]);
    }
}
