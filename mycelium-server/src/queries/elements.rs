//! How many jobs lists were expanded into, as far as they are there.

use std::collections::HashMap;

use mycelium_core::ids::JobId;
use mycelium_proto::limits::FOR_EACH_ELEMENTS_MAX;

use super::specs::JOBS_AT_ONCE;
use crate::broker::CallError;
use crate::store::{Reads, isolate};
use crate::values::element_id;

/// Into how many parts a range of elements is cut with each look at them.
const PARTS: u32 = 32;

/// How many of the first elements of a list are there, so far as that is known.
struct Range {
    list: JobId,
    /// So many are.
    there: u32,
    /// So many are not.
    not_there: u32,
}

impl Range {
    /// The elements to look at next: none if it is known how many there are.
    fn next(&self) -> impl Iterator<Item = u32> + use<> {
        let (there, unknown) = (self.there, self.not_there - self.there - 1);
        let parts = PARTS.min(unknown);
        (1..=parts).map(move |part| {
            // Not further than the last that may be there.
            let step = u64::from(unknown) * u64::from(part) / u64::from(parts);
            there + u32::try_from(step).unwrap_or(u32::MAX)
        })
    }

    /// Takes to heart whether the first `count` elements are there.
    fn learn(&mut self, count: u32, are_there: bool) {
        if are_there {
            self.there = self.there.max(count);
        } else {
            self.not_there = self.not_there.min(count);
        }
    }
}

/// How many jobs each of some lists has, at most `limit` each. That of one that has ended is in its record. The others are
/// looked for: they are submitted in their order, so that all before one that is there are there too, and a few looks,
/// each at many of all lists at once, tell where they end.
pub(super) async fn counts(
    store: &dyn Reads,
    lists: &[JobId],
    limit: usize,
) -> Result<HashMap<JobId, u32>, CallError> {
    let limit = u32::try_from(limit.min(FOR_EACH_ELEMENTS_MAX)).unwrap_or(u32::MAX);
    let mut counts = HashMap::with_capacity(lists.len());
    if lists.is_empty() {
        return Ok(counts);
    }
    for lists in lists.chunks(JOBS_AT_ONCE) {
        for record in store.finished(lists).await?.into_iter().flatten() {
            counts.extend(record.elements.map(|count| (record.head.id, count.min(limit))));
        }
    }
    let open = lists.iter().filter(|list| !counts.contains_key(list));
    let mut open: Vec<Range> =
        open.map(|list| Range { list: *list, there: 0, not_there: limit + 1 }).collect();
    while !open.is_empty() {
        let looks: Vec<(usize, u32)> = open
            .iter()
            .enumerate()
            .flat_map(|(place, range)| range.next().map(move |at| (place, at)))
            .collect();
        for looks in looks.chunks(JOBS_AT_ONCE) {
            let ids: Vec<JobId> =
                looks.iter().map(|(place, at)| element_id(open[*place].list, at - 1)).collect();
            for ((place, at), outline) in looks.iter().zip(isolate(&ids, |ids| store.outlines(ids)).await?) {
                // What is damaged is there.
                open[*place].learn(*at, !matches!(outline, Ok(None)));
            }
        }
        open.retain(|range| {
            let is_known = range.not_there <= range.there + 1;
            if is_known {
                counts.insert(range.list, range.there);
            }
            !is_known
        });
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_looks_tell_where_elements_end() {
        for limit in [0, 1, 2, 31, 32, 33, 1_000, 100_000] {
            for there in [0, 1, 2, 31, 32, 33, 999, 1_000, 65_537, 100_000] {
                let mut range = Range { list: JobId::default(), there: 0, not_there: limit + 1 };
                let mut looks = 0;
                while range.not_there > range.there + 1 {
                    looks += 1;
                    let next: Vec<u32> = range.next().collect();
                    assert!(next.iter().all(|at| (1..=limit).contains(at)), "{next:?}");
                    next.into_iter().for_each(|at| range.learn(at, at <= there));
                }
                assert_eq!(range.there, there.min(limit));
                assert!(looks <= 4, "{looks} looks for {there} of {limit}");
            }
        }
    }
}
