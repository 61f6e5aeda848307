//! Names that clients choose, as values of labels: a bounded number of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all are called for which there is no room.
const OTHER: &str = "other";

/// The names that labels may have: the first that came.
#[derive(Debug)]
pub(super) struct Names {
    max: usize,
    known: Mutex<HashMap<Arc<str>, Standing>>,
}

/// Why a name has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is that of something, and stays: counters go on under it.
    Kept,
    /// Somebody has named what need not be there.
    Claimed,
}

impl Names {
    pub(super) fn new(max: usize) -> Self {
        Self { max, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, Standing>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name itself, if there is room for it, and otherwise `other`.
    pub(super) fn label(&self, name: &str) -> Arc<str> {
        let mut known = self.known();
        if let Some(standing) = known.get_mut(name) {
            *standing = Standing::Kept;
        }
        placed(&mut known, name, self.max, Standing::Kept)
    }

    /// The same for what need not be there, until [`release`](Self::release): half of the room is not for those, or whoever may
    /// name things would leave none for what is there.
    pub(super) fn claim(&self, name: &str) -> Arc<str> {
        let mut known = self.known();
        let claimed = known.values().filter(|standing| **standing == Standing::Claimed).count();
        let max = if claimed < self.max / 2 { self.max } else { 0 };
        placed(&mut known, name, max, Standing::Claimed)
    }

    /// Gives back the places that were claimed for what is named no more.
    pub(super) fn release(&self, named: &HashSet<&str>) {
        self.known().retain(|name, standing| *standing == Standing::Kept || named.contains(&**name));
    }
}

fn placed(known: &mut HashMap<Arc<str>, Standing>, name: &str, max: usize, standing: Standing) -> Arc<str> {
    if let Some((known, _)) = known.get_key_value(name) {
        return Arc::clone(known);
    }
    if known.len() >= max {
        return Arc::from(OTHER);
    }
    let name: Arc<str> = Arc::from(name);
    known.insert(Arc::clone(&name), standing);
    name
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

    #[test]
    fn what_need_not_be_there_leaves_room_and_gives_it_back() {
        let names = Names::new(4);
        let claimed = ["ghost", "wolf", "phantom"].map(|name| names.claim(name).to_string());
        assert_eq!(claimed, ["ghost", "wolf", OTHER]);
        assert_eq!(["bee", "wolf"].map(|name| names.label(name).to_string()), ["bee", "wolf"]);
        assert_eq!(&*names.claim("phantom"), "phantom", "the wolf has come, and claims no more");
        names.release(&HashSet::from(["phantom"]));
        assert_eq!(
            ["wolf", "bee", "phantom"].map(|name| names.claim(name).to_string()),
            ["wolf", "bee", "phantom"]
        );
        assert_eq!(&*names.claim("ghost"), "ghost", "it had given back its place");
        assert_eq!(&*names.label("ant"), OTHER);
    }
}
