//! Requests whose replies have not been released.

use std::collections::HashMap;

use mycelium_core::effects::{Refusal, Reply};
use mycelium_core::ids::{Commit, RequestId};

use crate::broker::message::{CallError, ReplySender};

/// Who waits for a reply of the core.
#[derive(Default)]
pub(super) struct Requests {
    waiting: HashMap<RequestId, ReplySender>,
    last: u64,
}

impl Requests {
    /// Numbers a request.
    pub(super) fn expect(&mut self, reply: ReplySender) -> RequestId {
        self.last += 1;
        let request = RequestId(self.last);
        self.waiting.insert(request, reply);
        request
    }

    /// Passes a reply on to whoever made the request.
    pub(super) fn answer(&mut self, request: RequestId, reply: Result<Reply, Refusal>, commit: Commit) {
        if let Some(caller) = self.waiting.remove(&request) {
            // A caller who has gone does not want to know.
            let _gone = caller.send(reply.map(|reply| (reply, commit)).map_err(CallError::Refused));
        }
    }

    /// Passes `error` on to all of them.
    pub(super) fn fail_all(&mut self, error: &CallError) {
        for (_, caller) in self.waiting.drain() {
            let _gone = caller.send(Err(error.clone()));
        }
    }
}
