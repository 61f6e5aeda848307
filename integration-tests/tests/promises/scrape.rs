//! What a broker tells at `/metrics`, in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};

use super::admin::get;

/// A sample: the name, the labels, and the value.
pub(super) type Sample = (String, BTreeMap<String, String>, f64);

/// What was told, in the format of Prometheus.
pub(super) struct Scrape {
    pub(super) text: String,
    pub(super) samples: Vec<Sample>,
}

pub(super) async fn scrape(admin: SocketAddr) -> anyhow::Result<Scrape> {
    let (status, text) = get(admin, "/metrics").await?;
    ensure!(status == 200, "{status}: {text}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(sample);
    let samples = samples.collect::<Option<_>>().with_context(|| text.clone())?;
    Ok(Scrape { samples, text: text + "\n" })
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}')?.split(',').filter(|label| !label.is_empty());
    let labels = labels.map(|label| {
        let (name, value) = label.split_once("=\"")?;
        Some((name.to_owned(), value.strip_suffix('"')?.to_owned()))
    });
    Some((name.to_owned(), labels.collect::<Option<_>>()?, value.parse().ok()?))
}

impl Scrape {
    /// The values of a metric where its labels are these, and others.
    pub(super) fn of<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = f64> + 'a {
        let is_wanted = move |(found, of, _): &&Sample| {
            found == name && labels.iter().all(|(label, value)| of.get(*label).is_some_and(|of| of == value))
        };
        self.samples.iter().filter(is_wanted).map(|(.., value)| *value)
    }

    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).sum()
    }

    pub(super) fn ensure(&self, name: &str, labels: &[(&str, &str)], expected: f64) -> anyhow::Result<()> {
        let found: Vec<f64> = self.of(name, labels).collect();
        ensure!(found == [expected], "{name} {labels:?} is {found:?}, and not {expected}:\n{}", self.text);
        Ok(())
    }

    /// The type and the help of each metric, under the name that its samples have.
    pub(super) fn described(&self) -> anyhow::Result<BTreeMap<String, (String, String)>> {
        let mut described = BTreeMap::new();
        let lines: Vec<&str> = self.text.lines().collect();
        for pair in lines.windows(2) {
            let (Some(help), Some(kind)) = (pair[0].strip_prefix("# HELP "), pair[1].strip_prefix("# TYPE "))
            else {
                continue;
            };
            let ((name, help), (typed, kind)) =
                help.split_once(' ').zip(kind.split_once(' ')).context("a name")?;
            ensure!(name == typed, "{pair:?}");
            described.insert(name.to_owned(), (kind.to_owned(), help.to_owned()));
        }
        Ok(described)
    }

    /// The labels that the samples of each metric have, those of buckets left out.
    pub(super) fn labels(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut labels = BTreeMap::<String, BTreeSet<String>>::new();
        for (name, of, _) in &self.samples {
            labels.entry(name.clone()).or_default().extend(of.keys().filter(|label| *label != "le").cloned());
        }
        labels
    }
}
