//! Flows are deleted, as the shell does it: by what the store has, one step after the other.

use mycelium_core::command::{Command, Delete, DeletionTo, Deletions};
use mycelium_core::ids::{FlowId, JobId, RequestId};
use mycelium_core::image::DeletionStage;

use super::super::seen::Seen;
use super::{Event, SECOND, Waiting, World};

impl World {
    pub(super) fn delete(&mut self) {
        let flows: Vec<FlowId> = self.store.flows.keys().copied().collect();
        if self.has_faults
            && let Some(flow) = self.rng.pick(&flows)
        {
            let flows = vec![self.store.flows[&flow].clone()];
            let as_of = self.store.counters.commit;
            let request = self.deletion_request();
            let delete = Command::Delete(Delete { request, flows, as_of });
            self.inbox.push_back(Waiting::Command(Box::new(delete)));
        }
        let under_way: Vec<FlowId> = self.store.deletions.keys().copied().collect();
        if let Some(flow) = self.rng.pick(&under_way) {
            self.go_on_deleting(flow);
        }
        self.after(2 * SECOND, Event::Delete);
    }

    fn go_on_deleting(&mut self, flow: FlowId) {
        let of_flow = |of: &FlowId| *of == flow;
        let jobs: Vec<JobId> =
            self.store.specs.iter().filter(|(_, spec)| of_flow(&spec.flow)).map(|(id, _)| *id).collect();
        let to = match self.store.deletions[&flow] {
            DeletionStage::Checking => {
                let uses = |on: &JobId| jobs.contains(on);
                let users = self.store.specs.values();
                let users = users.filter(|spec| spec.flow != flow && spec.depends_on.iter().any(uses));
                let users: Vec<FlowId> = users.map(|spec| spec.flow).collect();
                let is_unfinished =
                    |user: &FlowId| self.store.live.values().any(|live| live.head.flow == *user);
                match users.iter().any(is_unfinished) {
                    true => {
                        self.see(Seen::DeletionGivenUp);
                        DeletionTo::GivenUp
                    }
                    false if users.is_empty() => DeletionTo::Stage(DeletionStage::Removing),
                    false => DeletionTo::Stage(DeletionStage::Stubbing),
                }
            }
            DeletionStage::Removing => match jobs.split_first() {
                None => {
                    self.see(Seen::FlowRemoved);
                    DeletionTo::Gone
                }
                Some((first, rest)) => {
                    [*first].iter().chain(rest.first()).for_each(|job| self.store.erase(*job));
                    return;
                }
            },
            DeletionStage::Stubbing => {
                self.see(Seen::FlowStubbed);
                self.store.values_gone.extend(jobs);
                DeletionTo::Stub
            }
        };
        let flows = vec![(self.store.flows[&flow].clone(), to)];
        let request = self.deletion_request();
        let moved = Command::Deletions(Deletions { request, flows, submissions: Vec::new() });
        self.inbox.push_back(Waiting::Command(Box::new(moved)));
    }

    fn deletion_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Whether a command brings jobs again that were deleted. It would be taken for new, and what the world remembers of
    /// them would not fit.
    pub(super) fn is_of_the_deleted(&self, command: &Command) -> bool {
        let Command::Submit(submit) = command else { return false };
        submit.jobs.iter().any(|job| self.store.erased.contains(&job.head.id))
    }
}
