//! Labels: texts by which people find jobs and flows again.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels of a job or a flow, by key. Copies share their memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Option<Arc<BTreeMap<String, String>>>);

impl Labels {
    /// None.
    pub const NONE: Self = Self(None);

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether they are just these.
    pub fn are(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.as_deref().map_or(labels.is_empty(), |own| own == labels)
    }

    /// Each key and its value, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|labels| labels.iter()).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether all of `wanted` are among these.
    pub fn contain(&self, wanted: &Self) -> bool {
        wanted.iter().all(|(key, value)| {
            self.0.as_ref().and_then(|labels| labels.get(key)).is_some_and(|found| found == value)
        })
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        Self((!labels.is_empty()).then(|| Arc::new(labels)))
    }
}

impl From<&Labels> for BTreeMap<String, String> {
    fn from(labels: &Labels) -> Self {
        labels.0.as_deref().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect::<BTreeMap<_, _>>().into()
    }

    #[test]
    fn labels_contain_those_with_the_same_values() {
        let all = labels(&[("team", "apiary"), ("site", "north")]);
        for wanted in [&[][..], &[("team", "apiary")], &[("site", "north"), ("team", "apiary")]] {
            assert!(all.contain(&labels(wanted)), "{wanted:?}");
        }
        for wanted in [&[("team", "north")][..], &[("team", "")], &[("team", "apiary"), ("nobody", "")]] {
            assert!(!all.contain(&labels(wanted)), "{wanted:?}");
        }
        assert!(!Labels::default().contain(&all));
        assert!(labels(&[]).is_empty());
    }
}
