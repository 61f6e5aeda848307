//! The processes of the elves.

use mycelium_core::command::{Command, Outcome as Report, OutcomeResult, Window};
use mycelium_core::ids::{AssignNumber, Attachment, InstanceId, Token};

use super::super::client::ELVES;
use super::super::deadlines::timeouts;
use super::super::elf::{Attempt, Process};
use super::super::tries::report;
use super::super::versions;
use super::confirming::{Confirming, SILENCE_MAX, confirms};
use super::{Event, FromElf, MS, READ_AFTER_STALL, SECOND, Stream, ToElf, World};

/// Whether a task has to say how far it is.
fn has_to_report(token: Token) -> bool {
    timeouts(token.job).progress.is_some()
}

/// Whether a process takes many jobs at a time, most of which are short.
pub(super) fn has_room(process: usize) -> bool {
    process == 1
}

impl World {
    pub(super) fn kill(&mut self, process: usize) {
        let session = self.processes[process].session;
        if let Some(stream) = self.processes[process].stream {
            self.cut(stream);
        }
        // Of every other process the broker sees that it is gone.
        if let Some(session) = session
            && process.is_multiple_of(2)
        {
            self.after(20 * SECOND, Event::Late(Box::new(Command::ProcessGone { session })));
        }
        let Process { elf, tells_starts, .. } = self.processes[process];
        let window = Window { jobs: if has_room(process) { 8 } else { 2 }, concurrency: 1, occupied: 0 };
        let instance = InstanceId::new(self.rng.id());
        let version = if self.has_faults { versions::any(&mut self.rng) } else { versions::TAKES_ALL };
        self.processes[process] = Process { tells_starts, ..Process::new(instance, elf, version, window) };
        self.after(10 * SECOND, Event::Connect { process, instance });
    }

    pub(super) fn connect(&mut self, process: usize, instance: InstanceId) {
        let entry = &self.processes[process];
        if entry.instance != instance || entry.stream.is_some() {
            return;
        }
        self.next_stream += 1;
        let stream = self.next_stream;
        let read_from = self.now.max(self.stalled_until + READ_AFTER_STALL);
        let busy_until = [self.now, read_from];
        let (holes, confirming) = ([false; 2], Confirming::new(process));
        let version = entry.version;
        self.streams
            .insert(stream, Stream { process, version, session: None, busy_until, holes, confirming });
        let hello = FromElf::Hello { resume: entry.session, held: entry.held_tokens(), window: entry.window };
        self.processes[process].stream = Some(stream);
        self.processes[process].heard_at = self.now;
        self.processes[process].has_left = false;
        self.processes[process].is_welcome = false;
        self.send_to_broker(stream, hello);
        // If no answer comes, or the stream is lost without a word, the next beat finds out.
        self.after(5 * SECOND, Event::Beat { process, instance });
    }

    /// Says something, if there is a stream to say it on.
    pub(super) fn say(&mut self, process: usize, message: FromElf) {
        if self.processes[process].is_welcome
            && let Some(stream) = self.processes[process].stream
        {
            self.processes[process].spoke_at = self.now;
            self.send_to_broker(stream, message);
        }
    }

    pub(super) fn beat(&mut self, process: usize, instance: InstanceId) {
        let entry = &self.processes[process];
        if entry.instance != instance || entry.stream.is_none() {
            return;
        }
        let is_open = entry.stream.is_some_and(|stream| self.streams.contains_key(&stream));
        let is_silent = self.now - entry.heard_at > SILENCE_MAX.max(self.stalled_for(entry.heard_at));
        if !is_open || !entry.is_welcome || is_silent {
            if let Some(stream) = entry.stream {
                self.cut(stream);
            }
            return;
        }
        let beat = FromElf::Beat { held: entry.held_tokens(), received: entry.received };
        self.say(process, beat);
        self.at(self.now + 5 * SECOND, Event::Beat { process, instance });
    }

    pub(super) fn on_elf_message(&mut self, stream: u64, message: ToElf) {
        let index = self.processes.iter().position(|process| process.stream == Some(stream));
        let Some(process) = index else { return };
        let entry = &mut self.processes[process];
        entry.heard_at = self.now;
        match message {
            ToElf::Welcome { session, keep, secret } => {
                if entry.session != Some(session) {
                    entry.secret = secret;
                }
                // What was received on other streams says nothing here: a restarted broker numbers anew.
                entry.received = AssignNumber(0);
                entry.session = Some(session);
                entry.is_welcome = true;
                entry.keep_only(&keep);
                let again: Vec<Report> = entry
                    .held
                    .iter()
                    .filter_map(|(token, attempt)| match attempt {
                        // How long it ran is forgotten.
                        Attempt::Over(result) => Some(report(*token, *result, None)),
                        Attempt::Waiting | Attempt::Running => None,
                    })
                    .collect();
                let starts = entry.starts(self.now);
                self.say(process, FromElf::Starts(starts));
                if !again.is_empty() {
                    self.say(process, FromElf::Outcomes(again));
                }
            }
            ToElf::Assign { assignments, last } => {
                entry.received = last;
                let instance = entry.instance;
                for assignment in assignments {
                    same!(FitsItsElf, &*assignment.elf, ELVES[entry.elf], "jobs go to their elf");
                    entry.take(assignment.token);
                }
                if confirms(process) {
                    self.after(500 * MS, Event::Confirm { process, instance });
                }
            }
            ToElf::Drain(within) => self.begin_to_drain(process, within),
            ToElf::Notice(token) => {
                entry.noticed.insert(token);
            }
            ToElf::Recall(tokens) => {
                for token in tokens {
                    match self.processes[process].held.get(&token) {
                        Some(Attempt::Waiting) => self.report(process, token, OutcomeResult::Released),
                        Some(Attempt::Running) => {
                            let instance = self.processes[process].instance;
                            self.tell_start(process, instance, token);
                        }
                        Some(Attempt::Over(_)) | None => {}
                    }
                }
            }
            ToElf::Cancel(tokens) => {
                for token in tokens {
                    if entry.held.contains_key(&token) {
                        entry.cancelled.push(token);
                    }
                }
            }
            ToElf::Acks(acks) => acks.into_iter().for_each(|(token, _)| entry.forget(token)),
            ToElf::Unknown(tokens) => tokens.into_iter().for_each(|token| entry.forget(token)),
            ToElf::Closed => {
                entry.keep_only(&[]);
                self.cut(stream);
            }
        }
        self.start_tasks(process);
    }

    pub(super) fn start_tasks(&mut self, process: usize) {
        if self.processes[process].is_draining {
            return self.give_back(process, Attempt::Waiting);
        }
        let instance = self.processes[process].instance;
        for token in self.processes[process].start(self.now) {
            self.oracle.deadlines.begins(token, self.now);
            self.after(200 * MS, Event::TellStart { process, instance, token });
            let time = match self.rng.below(100) {
                0..5 => 20 * SECOND,
                _ if has_to_report(token) => 6 * SECOND,
                5..95 if has_room(process) => 10 * MS,
                _ => 1_500 * MS,
            };
            self.after(time, Event::TaskEnds { process, instance, token });
            if has_to_report(token) {
                self.after(SECOND, Event::Report { process, instance, token });
            }
            self.may_nest(process, token);
        }
    }

    pub(super) fn tell_start(&mut self, process: usize, instance: InstanceId, token: Token) {
        let entry = &self.processes[process];
        let starts: Vec<_> =
            entry.starts(self.now).into_iter().filter(|start| start.token == token).collect();
        if entry.instance == instance && !starts.is_empty() {
            self.say(process, FromElf::Starts(starts));
            if self.rng.percent(20) {
                self.after(SECOND, Event::TellStart { process, instance, token });
            }
        }
    }

    /// Every other task falls silent after a few words.
    pub(super) fn say_how_far(&mut self, process: usize, instance: InstanceId, token: Token) {
        let entry = &self.processes[process];
        if entry.instance != instance || entry.held.get(&token) != Some(&Attempt::Running) {
            return;
        }
        if entry.is_welcome && entry.stream.is_some() {
            self.oracle.deadlines.reports(token, self.now);
            self.say(process, FromElf::Reports(vec![token]));
        }
        if token.job.as_bytes()[13].is_multiple_of(2) || self.rng.percent(50) {
            self.after(SECOND, Event::Report { process, instance, token });
        }
    }

    pub(super) fn task_ends(&mut self, process: usize, instance: InstanceId, token: Token) {
        let entry = &self.processes[process];
        if entry.instance != instance || entry.held.get(&token) != Some(&Attempt::Running) {
            return;
        }
        if self.waits_for_nested(process, token) {
            self.after(SECOND, Event::TaskEnds { process, instance, token });
            return;
        }
        // Some jobs kill every elf they meet.
        if token.job.as_bytes()[15] < 6 {
            self.kill(process);
            return;
        }
        self.next_attachment += 1;
        let tag = Attachment(self.next_attachment);
        let is_cancelled = self.processes[process].cancelled.contains(&token);
        let result = match self.rng.below(100) {
            _ if is_cancelled => OutcomeResult::Cancelled,
            0..75 => OutcomeResult::Outputs(tag),
            75..90 => OutcomeResult::Failure(tag),
            90..95 => OutcomeResult::Refused(tag),
            _ if self.has_faults => OutcomeResult::Cancelled,
            _ => OutcomeResult::Outputs(tag),
        };
        self.report(process, token, result);
        self.start_tasks(process);
    }

    pub(super) fn report(&mut self, process: usize, token: Token, result: OutcomeResult) {
        let ran = self.processes[process].ran(token, self.now);
        let entry = &mut self.processes[process];
        entry.least_ran = entry.least_ran.into_iter().chain(ran).min();
        entry.held.insert(token, Attempt::Over(result));
        self.say(process, FromElf::Outcomes(vec![report(token, result, ran)]));
    }
}
