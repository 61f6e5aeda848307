//! Names that are the same share their memory: a million jobs have a handful of elves and tasks.

use std::collections::HashSet;
use std::sync::Arc;

/// The names met until now.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    pub(super) fn share(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.0.get(name) {
            *name = known.clone();
        } else {
            self.0.insert(name.clone());
        }
    }
}
