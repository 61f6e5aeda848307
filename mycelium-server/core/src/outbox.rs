//! What has come up since the last batch ended, beside the changes of jobs and flows.

use std::collections::BTreeMap;

use crate::effects::{Assignment, Effects, Records, Send};
use crate::ids::{AssignNumber, SessionId, SubmissionId, Token};
use crate::image::{SessionRecord, SubmissionRecord};

/// What waits for the end of the batch.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The shell has something to store beside (what an instance has said it offers): there is a commit even if nothing
    /// else changes.
    must_commit: bool,
    sessions_opened: Vec<SessionRecord>,
    sessions_ended: Vec<SessionId>,
    submissions: BTreeMap<SubmissionId, SubmissionRecord>,
    submissions_dropped: Vec<SubmissionId>,
    cancels: BTreeMap<SessionId, Vec<Token>>,
    recalls: BTreeMap<SessionId, Vec<Token>>,
    assigns: BTreeMap<SessionId, (AssignNumber, Vec<Assignment>)>,
}

impl Outbox {
    /// There is a commit even if nothing of the core changes.
    pub(crate) fn require_commit(&mut self) {
        self.must_commit = true;
    }

    pub(crate) fn session_opened(&mut self, record: SessionRecord) {
        self.sessions_opened.push(record);
    }

    /// What was to be cancelled in its hands, or recalled, need not be told any more.
    pub(crate) fn session_ended(&mut self, session: SessionId) {
        self.cancels.remove(&session);
        self.recalls.remove(&session);
        self.sessions_ended.push(session);
    }

    pub(crate) fn submission(&mut self, record: SubmissionRecord) {
        self.submissions.insert(record.id, record);
    }

    pub(crate) fn submission_dropped(&mut self, submission: SubmissionId) {
        self.submissions.remove(&submission);
        self.submissions_dropped.push(submission);
    }

    pub(crate) fn cancel(&mut self, session: SessionId, token: Token) {
        self.cancels.entry(session).or_default().push(token);
    }

    pub(crate) fn recall(&mut self, session: SessionId, token: Token) {
        self.recalls.entry(session).or_default().push(token);
    }

    /// `number` follows on that of the session's assignment before.
    pub(crate) fn assign(&mut self, session: SessionId, number: AssignNumber, assignment: Assignment) {
        let (_, assignments) = self.assigns.entry(session).or_insert_with(|| (number, Vec::new()));
        assignments.push(assignment);
    }

    /// Puts the records into the effects. Says whether there is to be a commit even if there are none.
    pub(crate) fn emit_records(&mut self, records: &mut Records) -> bool {
        records.sessions_opened.append(&mut self.sessions_opened);
        records.sessions_ended.append(&mut self.sessions_ended);
        records.submissions.extend(std::mem::take(&mut self.submissions).into_values());
        records.submissions_dropped.append(&mut self.submissions_dropped);
        std::mem::take(&mut self.must_commit)
    }

    /// Puts the messages into the effects.
    pub(crate) fn emit_sends(&mut self, effects: &mut Effects) {
        for (session, tokens) in std::mem::take(&mut self.cancels) {
            effects.sends.push(Send::Cancel { session, tokens });
        }
        for (session, (first, assignments)) in std::mem::take(&mut self.assigns) {
            effects.sends.push(Send::Assign { session, assignments, first });
        }
        for (session, tokens) in std::mem::take(&mut self.recalls) {
            effects.sends.push(Send::Recall { session, tokens });
        }
    }
}
