//! The broker's shell.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use mycelium_core::Core;
use mycelium_core::command::{Command, ElfOffer, Hello, OutcomeResult, StreamEnd};
use mycelium_core::effects::{Assignment, Effects, Reply, Send};
use mycelium_core::ids::{AssignNumber, Build, Clocks, RequestId, SessionId, Steady, Token};

use super::super::client::{ELVES, tasks};
use super::super::elf::Process;
use super::super::invariants::Invariant;
use super::super::oracle::Oracle;
use super::super::recalls::Recalls;
use super::super::seen::Seen;
use super::super::versions;
use super::drains::knows_drain;
use super::recalls::knows_recall;
use super::{
    BATCHES_MAX, Event, FromElf, LATE_MAX, MS, SECOND, Stream, ToElf, Waiting, World, secret, speaker,
};

impl World {
    pub(super) fn batch(&mut self) {
        self.is_batch_due = false;
        self.outcome.batches += 1;
        holds!(EndsInTime, self.outcome.batches < BATCHES_MAX, "the core keeps itself busy");
        let now = self.clocks();
        let mut effects = Effects::default();
        self.paused_lately = self.store.pauses.keys().cloned().collect();
        let late_by = std::mem::take(&mut self.late_by);
        if late_by > LATE_MAX {
            let stalled = Command::Stalled { by: Duration::from_micros(late_by - LATE_MAX) };
            self.core.apply(now, stalled, &mut effects);
        }
        for _ in 0..1 + self.rng.below(8) {
            let command = match self.inbox.pop_front() {
                None => break,
                Some(Waiting::Command(command)) if self.is_of_the_deleted(&command) => continue,
                Some(Waiting::Command(command)) => *command,
                // A stream that was replaced may close when it likes.
                Some(Waiting::Closed { session, stream, .. })
                    if self.of_session.get(&session) != Some(&stream) =>
                {
                    continue;
                }
                Some(Waiting::Unfit { session, token, version }) => {
                    if self.core.token_task(session, token).is_some() {
                        self.oracle.turned_down.insert((token.job, version));
                    }
                    Command::Unfit { session, token }
                }
                Some(Waiting::Closed { session, end, .. }) => {
                    self.of_session.remove(&session);
                    self.oracle.sessions.stream_closed(session, self.now, end);
                    Command::StreamClosed { session, end }
                }
            };
            // Whether a hello is one, the answer tells.
            if let Some(session) = speaker(&command).filter(|_| !matches!(command, Command::Hello(_))) {
                self.oracle.sessions.word(session, self.now);
            }
            if let Command::Starts { session, starts } = &command {
                self.oracle.recalls.tell_started(*session, starts);
            }
            if let Command::Pause(pause) = &command {
                self.paused_lately.insert(pause.target.clone());
            }
            if self.keeps_log {
                writeln!(self.outcome.log, "{now:?} {command:?}").unwrap();
            }
            let drain = if let Command::Drain(drain) = &command { Some(*drain) } else { None };
            self.core.apply(now, command, &mut effects);
            if let Some(drain) = drain {
                self.note_drain(&drain);
            }
            self.attach(&effects);
        }
        self.spare_heard(now, &mut effects);
        self.core.finish_batch(now, &mut effects);
        self.is_timed = true;
        let is_looked_at = self.length.looks_at(self.outcome.batches);
        if is_looked_at {
            self.check_core();
        }
        if self.keeps_log {
            writeln!(self.outcome.log, "{now:?} {effects:?}").unwrap();
        }
        let fate = if self.has_faults { self.rng.below(1_000) } else { 999 };
        if fate < 20 && effects.counters.is_some() {
            // Failed, or uncertain and applied all the same, or the broker dies around the commit: in each case the
            // shell goes back to what the store has.
            if fate < 10 {
                self.commit(now, &effects);
            }
            self.see(if fate < 10 { Seen::CommitUncertain } else { Seen::CommitFailed });
            self.rebuild();
            return;
        }
        self.commit(now, &effects);
        if is_looked_at {
            self.pauses_hold();
            self.actions_hold();
            self.store.nothing_unfinished_comes_of_what_was_deleted();
        }
        self.nothing_is_given_to_what_drains(&effects);
        self.release(effects);
        if is_looked_at {
            self.explain(now);
        }
    }

    fn check_core(&self) {
        if let Err(violation) = self.core.check_invariants() {
            broken!(CountsAgree, "{violation}");
        }
        Invariant::CountsAgree.check();
    }

    /// Renews the leases that are about to end of elves whose words wait to be applied.
    pub(super) fn spare_heard(&mut self, now: Clocks, effects: &mut Effects) {
        for session in self.core.leases_over(now) {
            let is_heard = self.inbox.iter().any(|waiting| match waiting {
                Waiting::Command(command) => speaker(command) == Some(session),
                Waiting::Closed { .. } | Waiting::Unfit { .. } => false,
            });
            if is_heard {
                self.core.apply(now, Command::Heard { session }, effects);
            } else {
                self.who_beats_is_not_lost(session);
                self.oracle.sessions.leases_are_kept(session, self.now, &self.config);
            }
        }
    }

    /// Invariant: no lease ends of an elf that has kept beating on an open stream, whether the broker stood still or not.
    pub(super) fn who_beats_is_not_lost(&self, session: SessionId) {
        if let Some(process) = self.process_on(session) {
            let silent_for = self.now - process.spoke_at;
            holds!(
                SessionsKept,
                silent_for > 10 * SECOND,
                "session {session} ends, and was silent for {silent_for} us"
            );
        }
    }

    /// Invariant: no session is over of an elf that is there and has not left, whatever has become of another process.
    pub(super) fn who_is_there_is_not_over(&self, session: SessionId) {
        let process = self.process_on(session).filter(|process| !process.has_left);
        let is_there = process.is_some_and(|process| self.now - process.spoke_at < 10 * SECOND);
        holds!(SessionsKept, !is_there, "session {session} is over, and its elf is there");
    }

    /// The process of the stream that a session has.
    pub(super) fn process_of(&self, session: SessionId) -> Option<usize> {
        let stream = self.of_session.get(&session)?;
        self.streams.get(stream).map(|entry| entry.process)
    }

    /// The process that has been welcomed to a session on a stream which is open and brings what it says.
    fn process_on(&self, session: SessionId) -> Option<&Process> {
        let brings = |stream| self.streams.get(&stream).is_some_and(|entry| !entry.holes[1]);
        let is_on = |process: &&Process| {
            process.is_welcome && process.session == Some(session) && process.stream.is_some_and(brings)
        };
        self.processes.iter().find(is_on)
    }

    /// If the last command was a `Hello`, its session has this stream from now on, and not only once that is durable.
    pub(super) fn attach(&mut self, effects: &Effects) {
        if let Some((request, Ok(Reply::Welcome { session, .. }))) = effects.replies.last()
            && let Some((stream, _)) = self.hellos.get(request)
            && self.streams.contains_key(stream)
        {
            self.of_session.insert(*session, *stream);
            self.oracle.sessions.connected(*session, self.now);
        }
    }

    pub(super) fn commit(&mut self, now: Clocks, effects: &Effects) {
        self.oracle.outcomes_are_as_reported(&self.store, effects);
        self.oracle.only_who_is_alone_ends_with_its_elf(&self.store, effects);
        self.oracle.count_retries(effects);
        self.oracle.sessions.what_is_confirmed_is_not_given_away(effects);
        let Oracle { last_reports, sessions, .. } = &self.oracle;
        Recalls::only_who_holds_it_gives_it_back(effects, last_reports, sessions);
        self.oracle.deadlines.nothing_expires_early(&self.store, effects, now);
        let Oracle { tries, reports, deadlines, .. } = &mut self.oracle;
        tries.what_is_tried_again_may_be(&self.store, effects, reports, now, deadlines);
        Oracle::every_attempt_is_recorded(effects);
        Oracle::what_was_started_counts(effects);
        self.store.commit(effects, &self.oracle.digests);
        self.outcome.seen.see_effects(effects);
    }

    /// The broker starts again from its store. Everything on its way is lost.
    pub(super) fn rebuild(&mut self) {
        self.outcome.rebuilds += 1;
        self.is_timed = false;
        self.inbox.clear();
        self.hellos.clear();
        self.drains.clear();
        self.asked.clear();
        self.of_session.clear();
        self.oracle.forget_memory();
        self.oracle.sessions.begin_anew(self.now);
        // Which of them run is not known any more of those that do not tell: nobody can say which wait for each other.
        self.processes
            .iter_mut()
            .filter(|process| !process.tells_starts)
            .for_each(|process| process.nested.clear());
        let streams: Vec<u64> = self.streams.keys().copied().collect();
        for stream in streams {
            self.cut(stream);
        }
        self.streams.clear();
        let (image, jobs) = self.store.image();
        self.config.evaluations_after = self.core.last_evaluation();
        let mut restore = Core::restore(self.config.clone(), Steady(self.now));
        for job in jobs {
            restore.job(job).unwrap_or_else(|error| broken!(RecordsFit, "{error}"));
        }
        self.core = restore.finish(image).unwrap_or_else(|error| broken!(RecordsFit, "{error}"));
        self.check_core();
        let counts = self.core.status();
        let unfinished = counts.pending + counts.ready + counts.assigned + counts.running + counts.unsealed;
        same!(RecordsFit, unfinished, self.store.live.len() as u64, "a rebuilt core has every job");
        self.oracle.acknowledged_jobs_are_kept(&self.store);
    }

    pub(super) fn release(&mut self, effects: Effects) {
        for (request, answer) in effects.replies {
            if let Some((stream, secret)) = self.hellos.remove(&request) {
                if let Ok(Reply::Welcome { session, keep, resumed }) = answer
                    && let Some(entry) = self.streams.get_mut(&stream)
                {
                    entry.session = Some(session);
                    let secret = secret.filter(|_| !resumed);
                    self.send_to_elf(stream, ToElf::Welcome { session, keep, secret });
                }
            } else if let Some(process) = self.drains.remove(&request) {
                self.on_drain_answer(process, &answer, &effects.sends);
            } else if let Some(asked) = self.asked.remove(&request) {
                self.on_action_answer(asked, &answer);
            } else {
                self.oracle.strangers_resume_nothing(request, &answer);
                if self.has_faults && self.requests.contains_key(&request) && self.rng.percent(3) {
                    self.see(Seen::ReplyLost);
                    continue;
                }
                self.after(20 * MS, Event::Answer(request, answer));
            }
        }
        self.on_recalls(self.clocks(), &effects.sends);
        for send in effects.sends {
            self.release_send(send);
        }
        for evaluation in effects.evaluations {
            self.after(500 * MS, Event::Evaluate(evaluation));
        }
    }

    pub(super) fn release_send(&mut self, send: Send) {
        let (session, message) = match send {
            Send::Assign { session, assignments, first } => {
                for assignment in &assignments {
                    self.oracle.dispatched_is_durable(&self.store, session, assignment);
                    self.oracle.attempts_only_rise(assignment.token);
                    self.oracle.pauses_are_kept(assignment.token.job, self.now);
                    self.oracle.dependencies_are_done(&self.store, assignment.token.job);
                    Oracle::nothing_paused_is_assigned(&self.store, assignment.token.job);
                }
                let last = AssignNumber(first.0 + assignments.len() as u64 - 1);
                let numbered: BTreeMap<Token, u64> =
                    assignments.iter().map(|assignment| assignment.token).zip(first.0..).collect();
                let assignments = self.turn_down(session, assignments);
                let assignments = self.put_aside(session, assignments);
                for assignment in &assignments {
                    let number = AssignNumber(numbered[&assignment.token]);
                    self.oracle.sessions.number(session, number, assignment.token);
                }
                if assignments.is_empty() {
                    return;
                }
                (session, ToElf::Assign { assignments, last })
            }
            Send::Ready { tokens, .. } if tokens.is_empty() => return,
            Send::Ready { session, tokens, first } => {
                let last = AssignNumber(first.0 + tokens.len() as u64 - 1);
                for (token, number) in tokens.iter().zip(first.0..) {
                    self.oracle.sessions.number(session, AssignNumber(number), *token);
                }
                let assignments = tokens.iter().map(|token| self.aside.remove(token).unwrap()).collect();
                (session, ToElf::Assign { assignments, last })
            }
            Send::Recall { session, tokens } => (session, ToElf::Recall(tokens)),
            Send::Drain { session, within } => (session, ToElf::Drain(within)),
            Send::Cancel { session, tokens } => (session, ToElf::Cancel(tokens)),
            Send::OutcomeAcks { session, acks } => (session, ToElf::Acks(acks)),
            Send::HeartbeatAck { session, unknown } => (session, ToElf::Unknown(unknown)),
            Send::WaitsForItself { session, attempt, .. } => {
                self.see(Seen::Notified);
                self.oracle.noticed.insert(attempt);
                (session, ToElf::Notice(attempt))
            }
            Send::SessionOver { session } => (session, ToElf::Closed),
        };
        if let ToElf::Acks(acks) = &message {
            for (token, verdict) in acks {
                if let Some(&result) = self.oracle.last_reports.get(&(session, *token)) {
                    self.oracle.deadlines.what_is_late_changes_nothing(*token, *verdict);
                    self.oracle.one_outcome_per_job(*token, *verdict, result);
                    self.oracle.count_handed_back(*token, *verdict, result, self.now);
                }
            }
        }
        let may_be_lost = !matches!(message, ToElf::Assign { .. } | ToElf::Closed);
        if may_be_lost && self.has_faults && self.rng.percent(4) {
            self.see(Seen::MessageLost);
            return;
        }
        if message.is_over() {
            self.who_is_there_is_not_over(session);
        }
        if let Some(&stream) = self.of_session.get(&session) {
            if let ToElf::Assign { last, .. } = &message
                && let Some(entry) = self.streams.get_mut(&stream)
            {
                entry.confirming.sent(*last);
            }
            self.send_to_elf(stream, message);
        }
    }

    /// The arguments of some do not fit. Gives the others.
    fn turn_down(&mut self, session: SessionId, assignments: Vec<Assignment>) -> Vec<Assignment> {
        let stream = self.of_session.get(&session).and_then(|stream| self.streams.get(stream));
        let Some(&Stream { version, .. }) = stream else { return assignments };
        assignments
            .iter()
            .for_each(|assignment| self.oracle.nobody_is_asked_in_vain(assignment.token.job, version));
        let fits =
            |assignment: &Assignment| assignment.is_judged || versions::takes(version, assignment.token.job);
        let (fitting, others): (Vec<_>, Vec<_>) = assignments.into_iter().partition(fits);
        for Assignment { token, .. } in others {
            self.see(Seen::Unfit);
            let unfit = Waiting::Unfit { session, token, version };
            self.inbox.push_back(unfit);
        }
        fitting
    }

    /// The arguments of some take longer to compute. Gives the others.
    pub(super) fn put_aside(&mut self, session: SessionId, assignments: Vec<Assignment>) -> Vec<Assignment> {
        let Some(&stream) = self.of_session.get(&session) else { return assignments };
        let (aside, others): (Vec<_>, Vec<_>) = assignments.into_iter().partition(|_| self.rng.percent(15));
        if !aside.is_empty() {
            self.see(Seen::ArgumentsLate);
            let tokens: Vec<Token> = aside.iter().map(|assignment| assignment.token).collect();
            self.aside.extend(aside.into_iter().map(|assignment| (assignment.token, assignment)));
            let command = Command::ArgumentsDelayed { session, tokens: tokens.clone() };
            self.inbox.push_back(Waiting::Command(Box::new(command)));
            self.after(10 * SECOND, Event::ArgumentsReady { stream, session, tokens });
        }
        others
    }

    pub(super) fn on_message(&mut self, stream: u64, message: FromElf) {
        let Some(entry) = self.streams.get(&stream).cloned() else { return };
        self.hear(stream, &message);
        let process = &self.processes[entry.process];
        if let FromElf::Hello { resume, held, window } = message {
            self.next_request += 1;
            let request = RequestId(self.next_request);
            // Every other process speaks a version of the protocol that knows of secrets.
            let secret_new = (entry.process % 2 == 1).then(|| secret(&mut self.rng));
            self.hellos.insert(request, (stream, secret_new));
            let tasks = tasks(entry.process);
            let offer = ElfOffer {
                elf: Arc::from(ELVES[process.elf]),
                tasks: tasks.iter().map(|task| versions::offer(entry.version, task)).collect(),
                window,
            };
            let (instance, secret) = (process.instance, process.secret);
            let elves = vec![offer];
            let tells_starts = process.tells_starts;
            let build = Build::UNKNOWN;
            let hello = Hello {
                knows_recall: knows_recall(entry.process),
                knows_drain: knows_drain(entry.process),
                needs_secret: false,
                request,
                instance,
                build,
                resume,
                secret,
                secret_new,
                elves,
                held,
                tells_starts,
            };
            self.inbox.push_back(Waiting::Command(Box::new(Command::Hello(hello))));
            return;
        }
        let Some(session) = entry.session else { return };
        let command = match message {
            FromElf::Hello { .. } => return,
            FromElf::SetWindow(window) => {
                Command::SetWindow { session, elf: Arc::from(ELVES[process.elf]), window }
            }
            FromElf::Beat { held, received } => Command::Heartbeat { session, held, received },
            FromElf::Confirm { .. } => return,
            FromElf::Starts(starts) => Command::Starts { session, starts },
            FromElf::Reports(tokens) => Command::Reports { session, tokens },
            FromElf::Outcomes(outcomes) => {
                for report in &outcomes {
                    self.oracle.last_reports.insert((session, report.token), report.result);
                    if let OutcomeResult::Outputs(tag)
                    | OutcomeResult::Failure(tag)
                    | OutcomeResult::Refused(tag) = report.result
                    {
                        self.oracle.reports.insert(tag, (session, report.token, report.result));
                    }
                }
                if self.has_faults && self.rng.percent(25) {
                    self.see(Seen::OutcomeTwice);
                    let outcomes = outcomes.clone();
                    let within = if self.rng.percent(50) { 2 * SECOND } else { 20 * SECOND };
                    self.after(within, Event::Late(Box::new(Command::Outcomes { session, outcomes })));
                }
                Command::Outcomes { session, outcomes }
            }
            FromElf::Draining => Command::Draining { session },
            FromElf::Goodbye => Command::Goodbye { session },
        };
        self.inbox.push_back(Waiting::Command(Box::new(command)));
    }

    pub(super) fn on_stream_gone(&mut self, stream: u64) {
        if let Some(Stream { session: Some(session), .. }) = self.streams.remove(&stream) {
            self.inbox.push_back(Waiting::Closed { session, stream, end: StreamEnd::Broken });
        }
    }
}
