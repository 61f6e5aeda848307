//! Statements: sent to a cursor, whose further batches are fetched, and which is not left open.

use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::super::statements::Statement;
use super::backoff::Backoff;
use super::failure::Pace;
use super::{ANSWER_BYTES_MAX, Call, Database, Failure, Kind, Ran, read};

/// As many rows are answered at once. More than what one statement of ours writes documents.
const BATCH_ROWS: usize = 10_000;
/// As much memory a statement may take of the server, in bytes.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// The server ends a statement that takes longer, in seconds: before the request for it is given up.
const RUNTIME_SECONDS_MAX: u32 = 20;
/// The error of a cursor that is not there any more.
const CURSOR_NOT_FOUND: u32 = 1600;

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
    warnings: Vec<Warning>,
}

#[derive(Deserialize)]
struct Warning {
    code: u32,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stats {
    writes_ignored: u64,
    intermediate_commits: u64,
}

/// What is special about the run of a statement.
#[derive(Default)]
struct Special {
    fill_block_cache: Option<bool>,
    /// So many of its writes may be ignored.
    ignored_max: u64,
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
        self.run_with(statement, variables, Special::default()).await
    }

    /// Runs a statement of whose writes so many may do nothing, because what they write is there already. The
    /// documentation leaves open whether a server counts them as ignored.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(in crate::store::arango) async fn run_over<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        variables: &impl Serialize,
        ignored_max: usize,
    ) -> Result<Ran<T>, Failure> {
        self.run_with(statement, variables, Special { ignored_max: ignored_max as u64, ..Special::default() })
            .await
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
        let special = Special { fill_block_cache: Some(false), ..Special::default() };
        self.run_with(statement, variables, special).await
    }

    async fn run_with<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        variables: &impl Serialize,
        special: Special,
    ) -> Result<Ran<T>, Failure> {
        let Special { fill_block_cache, ignored_max } = special;
        let envelope = Envelope {
            query: statement.text,
            bind_vars: variables,
            batch_size: BATCH_ROWS,
            memory_limit: MEMORY_BYTES_MAX,
            options: Options { max_runtime: RUNTIME_SECONDS_MAX, fail_on_warning: true, fill_block_cache },
        };
        let call = Call::post("_api/cursor", &envelope);
        let call = if statement.writes { call } else { call.repeatable() };
        let what = format!("statement {} in {} at {}", statement.name, self.name(), self.server().shown());
        let mut backoff = self.backoff();
        loop {
            let first = self.answer(&call, &what, &mut backoff).await?;
            match self.collect(statement, &first, &what, ignored_max, &mut backoff).await {
                // Whether a batch was handed out is not known, or the cursor is gone: the statement begins anew.
                Err(failure) if !statement.writes && may_begin_anew(&failure) => {
                    let Some(pause) = backoff.next(Pace::Failover) else { return Err(failure) };
                    self.server().0.transport.sleep(pause).await?;
                }
                collected => return collected,
            }
        }
    }

    /// All rows of a statement whose first batch is there.
    async fn collect<T: DeserializeOwned>(
        &self,
        statement: &Statement,
        first: &[u8],
        what: &str,
        ignored_max: u64,
        backoff: &mut Backoff,
    ) -> Result<Ran<T>, Failure> {
        let mut bytes = first.len();
        let Page { mut result, has_more, id, extra } = read(first, what)?;
        let mut open = Open { database: self, id: id.filter(|_| has_more) };
        let Stats { writes_ignored, intermediate_commits } = extra.stats;
        if statement.writes && (has_more || intermediate_commits != 0 || writes_ignored > ignored_max) {
            return Err(Failure::new(
                Kind::Unreadable,
                format!(
                    "{what}: {intermediate_commits} intermediate commits, {writes_ignored} writes ignored, more rows: \
                     {has_more}; it was not written as one"
                ),
            ));
        }
        if let Some(Warning { code, message }) = extra.warnings.first() {
            return Err(Failure::new(
                Kind::Unreadable,
                format!("{what}: the server warns: {message} ({code})"),
            ));
        }
        while let Some(id) = &open.id {
            let next = self.answer(&Call::post_nothing(format!("_api/cursor/{id}")), what, backoff).await?;
            bytes += next.len();
            if bytes > ANSWER_BYTES_MAX {
                let line = format!("{what}: more than the {ANSWER_BYTES_MAX} bytes that are taken");
                return Err(Failure::new(Kind::Unreadable, line));
            }
            let page: Page<T> = read(&next, what)?;
            result.extend(page.result);
            open.id = open.id.take().filter(|_| page.has_more);
        }
        Ok(Ran { rows: result })
    }
}

/// Whether a batch that did not come can only be had by running its statement again.
fn may_begin_anew(failure: &Failure) -> bool {
    failure.kind() == Kind::Unknown || failure.error_num() == Some(CURSOR_NOT_FOUND)
}

/// A cursor that has more, and is removed unless all of it is fetched.
struct Open<'a> {
    database: &'a Database,
    id: Option<String>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let database = self.database.with_patience(Duration::ZERO);
        let remove = async move {
            // It is gone by itself after a while.
            if let Err(failure) = database.call::<IgnoredAny>(Call::delete(format!("_api/cursor/{id}"))).await
            {
                tracing::debug!(%failure, "a cursor of ArangoDB was left open");
            }
        };
        drop(self.database.server().spawn("the removal of a cursor of ArangoDB", remove));
    }
}
