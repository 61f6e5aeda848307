//! Statements: sent to a cursor, whose further batches are fetched, and which is not left open.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::statements::Statement;
use super::{Call, Database, Failure, Kind, Ran};

/// As many rows are answered at once. More than what one statement of ours writes documents.
const BATCH_ROWS: usize = 10_000;
/// As much memory a statement may take of the server, in bytes.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// The server ends a statement that takes longer, in seconds: before the request for it is given up.
const RUNTIME_SECONDS_MAX: u32 = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, V> {
    query: &'a str,
    bind_vars: &'a V,
    batch_size: usize,
    memory_limit: usize,
    options: Options,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    max_runtime: u32,
    fail_on_warning: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fill_block_cache: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    result: Vec<T>,
    has_more: bool,
    id: Option<String>,
    #[serde(default)]
    extra: Extra,
}

#[derive(Default, Deserialize)]
struct Extra {
    #[serde(default)]
    stats: Stats,
    #[serde(default)]
    warnings: Vec<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    writes_executed: u64,
    writes_ignored: u64,
    intermediate_commits: u64,
}

impl Database {
    /// Runs a statement. `variables` are those that stand in it, no more and no less.
    ///
    /// # Errors
    /// A [`Failure`]. One that writes is tried again only if it was certainly not executed; what to do about an unknown
    /// outcome is for whoever runs it.
    pub(in crate::store::arango) async fn run<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        variables: &impl Serialize,
    ) -> Result<Ran<T>, Failure> {
        self.run_with(statement, variables, None).await
    }

    /// Runs a statement that reads much, without putting what it reads into the cache of the server.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(in crate::store::arango) async fn scan<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        variables: &impl Serialize,
    ) -> Result<Ran<T>, Failure> {
        self.run_with(statement, variables, Some(false)).await
    }

    async fn run_with<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        variables: &impl Serialize,
        fill_block_cache: Option<bool>,
    ) -> Result<Ran<T>, Failure> {
        let envelope = Envelope {
            query: statement.text,
            bind_vars: variables,
            batch_size: BATCH_ROWS,
            memory_limit: MEMORY_BYTES_MAX,
            options: Options { max_runtime: RUNTIME_SECONDS_MAX, fail_on_warning: true, fill_block_cache },
        };
        let call = Call::post("_api/cursor", &envelope);
        let page = self.call(if statement.writes { call } else { call.repeatable() }).await?;
        let Page { mut result, has_more, id, extra } = page;
        let unreadable = |why: String| {
            Failure::new(Kind::Unreadable, format!("statement {} in {}: {why}", statement.name, self.name()))
        };
        let mut next = id.filter(|_| has_more);
        if statement.writes {
            let stats = &extra.stats;
            if next.is_some() || stats.intermediate_commits > 0 || stats.writes_ignored > 0 {
                return Err(unreadable(format!(
                    "{} intermediate commits, {} writes ignored, more rows: {has_more}",
                    stats.intermediate_commits, stats.writes_ignored
                )));
            }
        }
        if let Some(warning) = extra.warnings.first() {
            return Err(unreadable(format!("the server warns: {}", warning.get())));
        }
        while let Some(id) = next {
            let page: Page<T> = self.call(Call::post_nothing(format!("_api/cursor/{id}"))).await?;
            result.extend(page.result);
            next = page.id.filter(|_| page.has_more);
        }
        Ok(Ran { rows: result, written: extra.stats.writes_executed })
    }
}
