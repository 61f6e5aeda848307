use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, ElfOffer, Hello, OutcomeResult, StreamEnd, Window};
use crate::config::Config;
use crate::core::Core;
use crate::effects::{Effects, End, FailedBy, JobRecord, Reply, Send};
use crate::ids::{AssignNumber, Attachment, Build, RequestId, SecretDigest, SessionId, Timestamp, Token};
use crate::image::SessionRecord;
use crate::status::{FinalStatus, Status};
use crate::testing::{TestEnv, after, assigned, clocks, ends, id, instance, job, offer, reply, token};

const LEASE: Duration = Duration::from_secs(30);
const S1: SessionId = SessionId(1);

fn beat(env: &mut TestEnv, held: Vec<Token>, received: u64) -> Vec<Send> {
    let received = AssignNumber(received);
    env.batch([Command::Heartbeat { session: S1, held, received }]).sends
}

#[test]
fn a_window_is_filled_and_never_exceeded() {
    let mut env = TestEnv::new();
    env.submit((1..=5).map(|number| job(number, &[])).collect());
    let effects = env.hello(1, None, vec![offer(2, 1)], vec![]);
    assert_eq!(assigned(&effects), [(1, token(1, 1)), (1, token(2, 1))]);
    let set = |jobs| {
        let window = Window { jobs, concurrency: 1, occupied: 0 };
        Command::SetWindow { session: S1, elf: Arc::from("elf"), window }
    };
    assert_eq!(assigned(&env.batch([set(1)])), [], "a lower window takes nothing back");
    assert_eq!(env.core.status().running, 2);
    assert_eq!(assigned(&env.batch([set(3)])), [(1, token(3, 1))]);
    assert_eq!(assigned(&env.batch([Command::Draining { session: S1 }, set(9)])), []);
}

#[test]
fn the_highest_priority_goes_first_and_then_the_earliest() {
    let mut env = TestEnv::new();
    let mut urgent = job(3, &[]);
    urgent.head.priority = 5;
    env.submit(vec![job(1, &[]), job(2, &[]), urgent]);
    let effects = env.hello(1, None, vec![offer(9, 1)], vec![]);
    assert_eq!(assigned(&effects), [(1, token(3, 1)), (1, token(1, 1)), (1, token(2, 1))]);
}

#[test]
fn instances_of_one_elf_share_its_jobs() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(3, 1)], vec![]);
    env.hello(2, None, vec![offer(3, 1)], vec![]);
    let effects = env.submit((1..=4).map(|number| job(number, &[])).collect());
    let mut taken = assigned(&effects);
    taken.sort_unstable();
    assert_eq!(taken, [(1, token(1, 1)), (1, token(3, 1)), (2, token(2, 1)), (2, token(4, 1))]);
}

#[test]
fn an_instance_gets_only_tasks_that_it_offers() {
    let mut env = TestEnv::new();
    let other = ElfOffer { tasks: vec![crate::testing::task_offer("task_other", &[], &[])], ..offer(3, 1) };
    env.hello(1, None, vec![other], vec![]);
    assert_eq!(assigned(&env.submit(vec![job(1, &[])])), []);
    assert_eq!(assigned(&env.hello(2, None, vec![offer(3, 1)], vec![])), [(2, token(1, 1))]);
}

#[test]
fn a_session_outlives_its_stream_and_goes_on() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.hello(1, None, vec![offer(2, 1)], vec![]);
    env.batch([Command::StreamClosed { session: S1, end: StreamEnd::Broken }]);
    assert_eq!(env.core.status().running, 2);
    assert_eq!(assigned(&env.submit(vec![job(3, &[])])), [], "nothing is assigned without a stream");
    // Job 2 never arrived: it returns to its place, before job 3, and is not held against the elf.
    let effects = env.hello(1, Some(1), vec![offer(2, 1)], vec![token(1, 1), token(9, 9)]);
    let welcome = Reply::Welcome { session: S1, resumed: true, keep: vec![token(1, 1)] };
    assert_eq!(reply(&effects), Some(&Ok(welcome)));
    assert_eq!(assigned(&effects), [(1, token(2, 2))]);
    assert_eq!(env.core.job(id(2)).unwrap().elves_lost, 0);
    // What an instance offers is kept by the shell, with a commit even where nothing else has changed.
    let effects = env.hello(1, Some(1), vec![offer(2, 1)], vec![token(1, 1), token(2, 2)]);
    assert!(effects.jobs.is_empty() && effects.counters.is_some(), "{effects:?}");
}

#[test]
fn a_lease_that_runs_out_returns_what_was_held_and_counts_what_can_have_started() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.hello(1, None, vec![offer(2, 1)], vec![]);
    assert_eq!(env.core.next_deadline(), Some(env.now.steady.after(LEASE)));
    after(&mut env, LEASE);
    let effects = env.batch([]);
    assert_eq!((effects.records.sessions_ended, effects.sessions_lost), (vec![S1], 1));
    assert_eq!(effects.sends, [Send::SessionOver { session: S1 }]);
    assert_eq!((env.status(1), env.status(2)), (Some(Status::Ready), Some(Status::Ready)));
    assert_eq!(env.core.job(id(1)).unwrap().elves_lost, 1);
    assert_eq!(env.core.job(id(2)).unwrap().elves_lost, 0, "it runs one at a time, in order");
    env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!((env.status(1), env.core.status().outcomes_stale), (Some(Status::Ready), 1));
}

#[test]
fn a_sign_of_life_renews_the_lease() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(2, 1)], vec![]);
    after(&mut env, LEASE - Duration::from_secs(1));
    beat(&mut env, vec![], 0);
    after(&mut env, LEASE - Duration::from_secs(1));
    assert_eq!(env.batch([]).records.sessions_ended, []);
}

#[test]
fn a_job_that_kills_every_elf_ends_at_its_limit() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[1])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    after(&mut env, LEASE);
    assert_eq!(ends(&[env.batch([])]), []);
    env.hello(2, None, vec![offer(1, 1)], vec![]);
    after(&mut env, LEASE);
    let lost = End::Failed(FailedBy::ElvesLost(2));
    let effects = env.batch([]);
    assert_eq!(effects.blamed, [(id(1), vec![])]);
    assert_eq!(ends(&[effects]), [(id(1), lost), (id(2), End::UpstreamFailed(id(1)))]);
}

#[test]
fn a_goodbye_is_not_held_against_a_job_and_a_new_session_of_the_instance_is() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let effects = env.batch([Command::Goodbye { session: S1 }]);
    assert_eq!((effects.records.sessions_ended, effects.sessions_lost), (vec![S1], 0));
    assert_eq!(env.core.job(id(1)).unwrap().elves_lost, 0);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let effects = env.hello(1, None, vec![offer(1, 1)], vec![]);
    assert_eq!((&effects.records.sessions_ended, effects.sessions_lost), (&vec![SessionId(2)], 1));
    assert_eq!(assigned(&effects), [(3, token(1, 3))]);
    assert_eq!(env.core.job(id(1)).unwrap().elves_lost, 1);
}

#[test]
fn a_heartbeat_finds_what_was_lost_on_the_way_and_what_is_not_known() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.hello(1, None, vec![offer(2, 1)], vec![]);
    let sends = beat(&mut env, vec![token(9, 1)], 0);
    assert_eq!(sends, [Send::HeartbeatAck { session: S1, unknown: vec![token(9, 1)] }]);
    assert_eq!(env.core.status().running, 2, "nothing has been received yet");
    beat(&mut env, vec![token(1, 1)], 2);
    assert_eq!(env.core.job(id(2)).unwrap().attempt.0, 2, "lost, and assigned again");
    assert_eq!(env.core.job(id(2)).unwrap().elves_lost, 0);
}

#[test]
fn an_attempt_handed_back_returns_to_its_place() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[]), job(2, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Released);
    assert_eq!(assigned(&effects), [(1, token(1, 2))], "before job 2, with a new number");
}

#[test]
fn arguments_that_fail_fail_the_job() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let failure = Attachment(5);
    let effects = env.batch([Command::ArgumentsFailed { session: S1, token: token(1, 1), failure }]);
    assert_eq!(effects.sends, []);
    assert_eq!(effects.changes[0].status, Status::Final(FinalStatus::Failed));
}

fn secret(number: u8) -> Option<SecretDigest> {
    Some(SecretDigest::new([number; 32]))
}

/// A process that speaks of secrets.
fn hello(
    env: &mut TestEnv,
    resume: Option<u64>,
    shown: Option<SecretDigest>,
    new: Option<SecretDigest>,
    held: Vec<Token>,
) -> Effects {
    let hello = Hello {
        knows_drain: false,
        needs_secret: false,
        knows_recall: false,
        request: RequestId(900),
        instance: instance(1),
        build: Build::new("two").unwrap(),
        resume: resume.map(SessionId),
        secret: shown,
        secret_new: new,
        elves: vec![offer(1, 1)],
        held,
        tells_starts: false,
    };
    env.batch([Command::Hello(hello)])
}

#[test]
fn the_program_that_an_attempt_ran_in_is_kept_with_it() {
    let mut env = TestEnv::new();
    let as_build = |command, text: &str| {
        let Command::Hello(hello) = command else { panic!("{command:?}") };
        Command::Hello(Hello { build: Build::new(text).unwrap(), ..hello })
    };
    let hello = env.hello_command(1, None, vec![offer(2, 1)], vec![]);
    env.batch([as_build(hello, "one")]);
    env.submit(vec![job(1, &[]), job(2, &[])]);
    let build = |env: &TestEnv, number| env.core.job(id(number)).unwrap().running.unwrap().build;
    assert_eq!(build(&env, 1).as_str(), "one");
    // What runs goes on in the program that it began in, whatever is said later.
    let hello = env.hello_command(1, Some(1), vec![offer(2, 1)], vec![token(1, 1)]);
    env.batch([as_build(hello, "two")]);
    assert_eq!((build(&env, 1).as_str(), build(&env, 2).as_str()), ("one", "two"));
    let attempts = env.core.attempts(id(2)).unwrap();
    assert_eq!(attempts[0].held.build.as_str(), "one");
}

fn welcome(effects: &Effects) -> (u64, bool) {
    match reply(effects) {
        Some(Ok(Reply::Welcome { session, resumed, .. })) => (session.0, *resumed),
        other => panic!("no welcome: {other:?}"),
    }
}

#[test]
fn a_session_with_a_secret_is_resumed_by_its_secret_alone() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    let opened = hello(&mut env, None, None, secret(7), vec![]);
    assert_eq!(welcome(&opened), (1, false));
    let record = SessionRecord { id: S1, instance: instance(1), secret: secret(7) };
    assert_eq!(opened.records.sessions_opened, [record], "its digest is stored with it");
    beat(&mut env, vec![token(1, 1)], 1);

    // Instance and number are public: they neither resume the session nor end it.
    for shown in [None, secret(8)] {
        let stranger = hello(&mut env, Some(1), shown, secret(9), vec![token(1, 1)]);
        assert!(!welcome(&stranger).1, "{shown:?}");
        assert!(!stranger.records.sessions_ended.contains(&S1), "{shown:?}");
        assert_eq!(assigned(&stranger), []);
    }
    assert_eq!(env.core.job(id(1)).unwrap().running.map(|running| running.session), Some(S1));
    let resumed = hello(&mut env, Some(1), secret(7), secret(9), vec![token(1, 1)]);
    let kept = Reply::Welcome { session: S1, resumed: true, keep: vec![token(1, 1)] };
    assert_eq!(reply(&resumed), Some(&Ok(kept)));
    assert_eq!(resumed.records.sessions_opened, [], "its secret stays");

    // Over its lease it ends as any other, and what it held goes to a process that is there.
    after(&mut env, LEASE);
    let effects = env.batch([]);
    assert!(effects.records.sessions_ended.contains(&S1));
}

#[test]
fn a_session_whose_welcome_was_never_answered_gives_way_to_the_next_of_its_instance() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    hello(&mut env, None, None, secret(7), vec![]);
    // While its stream is there, whoever says to be its process may be a stranger.
    let stranger = hello(&mut env, None, None, secret(9), vec![]);
    assert_eq!((welcome(&stranger), stranger.records.sessions_ended.as_slice()), ((2, false), [].as_slice()));
    assert_eq!(env.core.job(id(1)).unwrap().running.map(|running| running.session), Some(S1));

    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    hello(&mut env, None, None, secret(7), vec![]);
    // The stream breaks with the welcome: the process knows neither number nor secret.
    env.batch([Command::StreamClosed { session: S1, end: StreamEnd::Broken }]);
    let again = hello(&mut env, None, None, secret(8), vec![]);
    assert_eq!((welcome(&again), again.records.sessions_ended.as_slice()), ((2, false), [S1].as_slice()));
    assert_eq!(assigned(&again), [(2, token(1, 2))]);
}

#[test]
fn a_session_without_a_secret_is_resumed_as_before_unless_secrets_are_required() {
    for secrets_required in [false, true] {
        let mut env = TestEnv::new();
        env.core = Core::new(Config { secrets_required, ..Config::default() });
        hello(&mut env, None, None, None, vec![]);
        beat(&mut env, vec![], 0);
        let resumed = hello(&mut env, Some(1), None, secret(8), vec![]);
        assert_eq!(welcome(&resumed).1, !secrets_required);
        if secrets_required {
            assert_eq!(resumed.records.sessions_ended, [S1], "nobody could resume it");
        }
    }
}

#[test]
fn who_says_who_it_is_resumes_no_session_without_a_secret() {
    let mut env = TestEnv::new();
    hello(&mut env, None, None, None, vec![]);
    let mut command = env.hello_command(1, Some(1), vec![offer(1, 1)], vec![]);
    if let Command::Hello(hello) = &mut command {
        (hello.secret, hello.needs_secret) = (secret(8), true);
        assert_eq!(env.core.resumes(hello), None);
    }
    assert!(!welcome(&env.batch([command])).1);
}

#[test]
fn an_instance_that_offers_an_elf_no_more_holds_nothing_of_it() {
    let mut env = TestEnv::new();
    env.submit(vec![job(1, &[])]);
    env.hello(1, None, vec![offer(1, 1)], vec![]);
    let other = ElfOffer { elf: "other".into(), ..offer(1, 1) };
    let resumed = env.hello(1, Some(1), vec![other], vec![token(1, 1)]);
    assert_eq!(reply(&resumed), Some(&Ok(Reply::Welcome { session: S1, resumed: true, keep: vec![] })));
    assert_eq!(env.status(1), Some(Status::Ready), "it goes back into the queue");
    env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
    assert_eq!((env.status(1), env.core.status().outcomes_stale), (Some(Status::Ready), 1));
}

#[test]
fn a_secret_is_never_shown() {
    assert_eq!(format!("{:?}", secret(7)), "Some(SecretDigest(..))");
    let mut other = [7; 32];
    other[31] = 8;
    assert!(SecretDigest::new([7; 32]) != SecretDigest::new(other) && secret(7) == secret(7));
}

#[test]
fn a_stall_of_the_broker_moves_every_lease_and_an_early_death_still_ends_in_time() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 1)], vec![]);
    env.submit(vec![job(1, &[])]);
    let begun = env.now.steady;
    env.now = clocks(begun.after(LEASE * 3).0);
    assert_eq!(env.core.leases_over(env.now), [S1]);
    let effects = env.batch([Command::Stalled { by: LEASE * 2 + LEASE / 2 }]);
    assert_eq!((effects.records.sessions_ended, effects.sends.len()), (vec![], 0), "half of it is left");
    assert_eq!(env.core.leases_over(env.now), []);
    assert_eq!(env.core.next_deadline(), Some(begun.after(LEASE * 3 + LEASE / 2)));

    env.now = clocks(begun.after(LEASE * 3 + LEASE / 2).0 - 1);
    assert_eq!(env.batch([]).records.sessions_ended, []);
    env.now = clocks(env.now.steady.0 + 1);
    let effects = env.batch([]);
    assert_eq!(effects.records.sessions_ended, [S1]);
    assert_eq!(env.core.job(id(1)).unwrap().elves_lost, 1);
}

#[test]
fn an_elf_whose_words_are_on_their_way_is_alive() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 1)], vec![]);
    env.now = clocks(env.now.steady.after(LEASE).0);
    assert_eq!(env.core.leases_over(env.now), [S1]);
    assert_eq!(env.batch([Command::Heard { session: S1 }]).records.sessions_ended, []);
    assert_eq!(env.core.next_deadline(), Some(env.now.steady.after(LEASE)));
    assert_eq!(env.batch([Command::Heard { session: SessionId(7) }]).sends, [], "of others nothing is known");
}

/// Somebody sets the machine's clock.
#[test]
fn the_wall_clock_is_shown_and_measures_nothing() {
    let mut env = TestEnv::new();
    env.hello(1, None, vec![offer(9, 1)], vec![]);
    let deadline = env.core.next_deadline();
    env.now.wall = Timestamp(4_102_444_800_000_000);
    env.submit(vec![job(1, &[])]);
    assert_eq!(env.core.next_deadline(), deadline);
    env.now.wall = Timestamp(5);
    let effects = env.outcome(1, token(1, 1), OutcomeResult::Outputs(Attachment(1)));
    let JobRecord::Finished(finished) = &effects.jobs[0].after else { panic!("{effects:?}") };
    assert_eq!((finished.head.submitted_at.0, finished.finished_at.0), (4_102_444_800_000_000, 5));
}
