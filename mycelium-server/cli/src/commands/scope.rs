//! Which jobs a command is about: those of a flow, or some by their ids.

use std::collections::HashSet;

use bytes::Bytes;
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::limits;
use mycelium_proto::v1;

use super::client;

/// Which jobs.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ScopeArgs {
    /// All jobs of this flow, named by its id or its name; of several flows of one name the newest is meant.
    #[arg(long, value_name = "NAME|ID")]
    flow: Option<String>,
    /// These jobs, named by their ids.
    #[arg(value_name = "JOB")]
    jobs: Vec<JobId>,
}

/// Jobs as the contract takes them.
#[derive(Debug)]
pub(super) enum Scope {
    /// All jobs of a flow.
    Flow(Bytes),
    /// Jobs in lists that each fit into one call.
    Jobs(Vec<v1::JobIds>),
}

impl ScopeArgs {
    /// The jobs that are named, each once.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        let mut seen = HashSet::new();
        self.jobs.iter().copied().filter(|job| seen.insert(*job)).collect()
    }

    /// Finds out which jobs are meant.
    pub(super) async fn find(&self, mycelium: &Mycelium) -> anyhow::Result<Scope> {
        match &self.flow {
            Some(flow) => Ok(Scope::Flow(client::find_flow(mycelium, flow).await?.flow_id)),
            None => {
                let jobs = self.jobs();
                let lists = jobs.chunks(limits::JOB_IDS_MAX);
                let list = |jobs: &[JobId]| v1::JobIds {
                    job_ids: jobs.iter().copied().map(client::job_bytes).collect(),
                };
                Ok(Scope::Jobs(lists.map(list).collect()))
            }
        }
    }
}
