//! What the client and the evaluator ask of the broker.

use mycelium_core::command::EvaluationResult;
use mycelium_core::effects::{Evaluation, Refusal, Reply};
use mycelium_core::ids::{Attachment, RequestId, Timestamp};

use super::super::client::{Request, Wish};
use super::super::evaluator::{self, Next, digest, element, elements_of};
use super::super::seen::Seen;
use super::{Event, MS, SECOND, Waiting, World};

impl World {
    pub(super) fn idea(&mut self) {
        if !self.has_faults {
            return;
        }
        if self.store.live.len() < self.length.jobs()
            && let Some(wish) = self.client.make_wish(&mut self.rng, &self.store, &mut self.oracle)
        {
            self.see(Seen::Asked);
            self.ask(wish);
        }
        self.after(self.length.ideas_apart(), Event::Idea);
    }

    pub(super) fn ask(&mut self, wish: Wish) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let again_at = Timestamp(self.now + 10 * SECOND);
        self.inbox.push_back(Waiting::Command(Box::new(wish.command(request, &self.store))));
        if self.rng.percent(3) {
            self.see(Seen::CommandTwice);
            let command = wish.command(request, &self.store);
            self.after(20 * SECOND, Event::Late(Box::new(command)));
        }
        self.requests.insert(request, Request { wish, again_at });
    }

    pub(super) fn ask_again(&mut self) {
        let due: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.again_at.0 <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(request) = self.requests.remove(&id)
                && (self.has_faults || matches!(request.wish, Wish::Submit { .. }))
            {
                self.see(Seen::AskedAgain);
                self.ask(request.wish);
            }
        }
        self.after(2 * SECOND, Event::AskAgain);
    }

    pub(super) fn on_answer(&mut self, request: RequestId, answer: Result<Reply, Refusal>) {
        if let Some((evaluation, submitted)) = self.evaluator.answered(request) {
            return self.on_elements_answer(evaluation, submitted, answer.is_ok());
        }
        let Some(Request { wish, .. }) = self.requests.remove(&request) else { return };
        match (answer, wish) {
            (Err(Refusal::PreconditionsStale), wish) => self.ask(wish),
            (Err(_), _) => {}
            (Ok(_), Wish::Submit { flow, on_behalf_of, submission, parts, at }) if at + 1 < parts.len() => {
                if !self.rng.percent(10) {
                    self.ask(Wish::Submit { flow, on_behalf_of, submission, parts, at: at + 1 });
                }
            }
            (Ok(_), Wish::Submit { parts, .. }) => {
                let ids = parts.iter().flatten().map(|job| job.head.id);
                self.client.known.extend(ids.clone());
                self.oracle.acknowledged.extend(ids);
                self.oracle.acknowledged_jobs_are_kept(&self.store);
            }
            (Ok(_), Wish::CancelJobs(_) | Wish::CancelFlow(_) | Wish::Retry(_) | Wish::StartNow(_)) => {}
        }
    }

    pub(super) fn evaluate(&mut self, evaluation: Evaluation) {
        if self.has_faults && self.rng.percent(10) {
            return self.evaluated(evaluation, EvaluationResult::Again);
        }
        for list in self.client.new_lists.drain(..) {
            for index in 0..elements_of(list.head.id) {
                self.oracle.digests.insert(element(list.head.id, index), digest(list.head.id, index));
            }
            self.evaluator.lists.insert(list.head.id, list);
        }
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.next_attachment += 1;
        let tag = Attachment(self.next_attachment);
        self.oracle.evaluations.insert(tag, evaluation.job);
        let next = self.evaluator.begin(evaluation, request, tag, &self.store);
        self.go_on_evaluating(evaluation, next);
    }

    pub(super) fn go_on_evaluating(&mut self, evaluation: Evaluation, next: Next) {
        match next {
            Next::Submit(command) => self.after(200 * MS, Event::Late(command)),
            Next::Answer(result) => self.evaluated(evaluation, result),
        }
    }

    pub(super) fn on_elements_answer(&mut self, evaluation: Evaluation, submitted: u32, is_taken: bool) {
        if !is_taken {
            return self.evaluated(evaluation, EvaluationResult::Again);
        }
        let ids = (0..submitted).map(|index| element(evaluation.job, index));
        self.oracle.acknowledged.extend(ids.clone());
        self.client.known.extend(ids);
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let next = self.evaluator.go_on(evaluation, submitted, request, &self.store);
        self.go_on_evaluating(evaluation, next);
    }

    pub(super) fn evaluated(&mut self, evaluation: Evaluation, result: EvaluationResult) {
        let slow = if self.has_faults { 5 * SECOND } else { SECOND };
        self.after(slow, Event::Late(Box::new(evaluator::answer(evaluation, result))));
    }
}
