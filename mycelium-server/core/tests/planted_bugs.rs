//! Proves that the simulation can fail: with a guard left out, it finds the loss within the seeds that a clean build
//! passes, and says which promise is broken.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mycelium_core::PlantedBug;
use sim::{Counts, Invariant, Length, Seen};

/// Within how many seeds each is found. The clean build passes many more in `simulation.rs`.
fn seeds(length: Length) -> u64 {
    match length {
        Length::Short => 200,
        Length::Long => 32,
    }
}

/// Which invariant the first seed that fails finds broken, from one on that is known not to be long before it.
fn found(bug: PlantedBug, length: Length, first: u64) -> (u64, String) {
    for seed in first..seeds(length) {
        let run = || sim::run(seed, length, false, |config| config.planted = Some(bug));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let text = panic.downcast_ref::<String>().cloned();
            return (seed, text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap());
        }
    }
    panic!("{bug:?} goes unnoticed");
}

/// Each bug, with the invariants of which it may break one first.
macro_rules! planted {
    ($($test:ident: $bug:ident breaks $($invariant:ident)or+ in $length:ident runs $(from $first:literal)?;)+) => {
        $(
            #[test]
            fn $test() {
                let (seed, says) = found(PlantedBug::$bug, Length::$length, 0 $(+ $first)?);
                println!("{:?}, seed {seed}: {says}", PlantedBug::$bug);
                let names = [$(Invariant::$invariant),+].map(|one| format!("{one:?} ("));
                assert!(names.iter().any(|name| says.starts_with(name)), "found is another: {says}");
            }
        )+

        /// The invariant that each is planted for.
        const PLANTED_FOR: &[&[Invariant]] = &[$(&[$(Invariant::$invariant),+]),+];
    };
}

planted! {
    a_submission_that_is_not_stored_is_found: SubmissionNotStored breaks AcknowledgedIsKept in Short runs;
    a_dispatch_that_is_not_stored_is_found: DispatchNotStored breaks DurableFirst in Short runs;
    a_retry_of_what_is_done_is_found: DoneRetried breaks FinalStays in Short runs;
    a_count_that_is_wrong_is_found: RevivedStillCounts breaks CountsAgree in Short runs;
    a_timer_that_fires_late_is_found: FiresLate breaks NothingLate in Short runs;
    a_timer_that_follows_the_wall_clock_is_found: TimedAnew breaks NothingEarly in Short runs;
    a_drained_instance_that_gets_more_is_found: DrainedPlaced breaks DrainKept in Short runs;
    a_step_of_an_action_that_is_not_stored_is_found: ActionStepNotStored breaks ActionsCount in Short runs;
    a_step_of_an_action_that_counts_twice_is_found: ActionStepTwice breaks ActionsCount in Short runs;
    an_explanation_that_is_not_true_is_found: DelayNotExplained breaks ExplainsTruly in Short runs;
    a_job_that_runs_although_it_is_to_be_skipped_is_found: SkippedNotEvaluated breaks OrderKept in Short runs;
    an_outcome_that_is_not_fenced_is_found: OutcomeNotFenced breaks OneOutcome or HeldStays in Short runs;
    a_propagation_that_is_not_stored_is_found:
        PropagationNotStored breaks EndsInTime or ExplainsTruly in Short runs;
    a_stall_that_counts_for_leases_is_found: StallCountsForLeases breaks SessionsKept in Long runs;
    a_process_that_is_gone_and_takes_with_it_the_session_of_its_successor_is_found:
        GoneThoughResumed breaks SessionsKept in Short runs;
    what_is_given_away_although_its_elf_has_come_back_is_found:
        UnconfirmedThoughResumed breaks HeldStays or CountsAgree in Long runs from 12;
    what_is_given_away_although_it_was_confirmed_is_found: ConfirmedGivenAway breaks HeldStays in Long runs;
    a_lease_that_is_shorter_because_the_broker_has_ended_the_stream_is_found:
        LeaseShortenedByShell breaks SessionsKept in Short runs;
    a_job_that_expires_early_is_found: ExpiresEarly breaks NothingEarly in Short runs;
    an_attempt_that_is_ended_before_its_time_is_found: RunEndedEarly breaks NothingEarly in Short runs;
    an_attempt_that_is_ended_though_it_reports_is_found: ReportsUnheard breaks NothingEarly in Short runs;
    an_outcome_that_comes_after_its_time_and_is_taken_is_found: OverrunTaken breaks OneOutcome in Short runs;
    a_job_that_begins_early_is_found: BeginsEarly breaks NothingEarly in Short runs;
    failures_that_are_not_counted_are_found:
        FailuresNotCounted breaks AttemptsCount or NothingEarly in Short runs;
    a_failure_whose_advice_is_not_taken_is_found:
        AdviceNotTaken breaks AttemptsCount or NothingEarly in Short runs;
    a_start_that_does_not_count_is_found: StartsDoNotCount breaks AttemptsCount in Short runs;
    a_slot_that_is_freed_too_early_is_found: CancelledSlotFreedAtOnce breaks WindowsKept in Short runs;
    a_job_that_goes_to_whoever_offers_its_task_is_found: ShapeNotAsked breaks FitsItsElf in Short runs;
    values_that_nobody_judges_are_found: ValuesNotJudged breaks FitsItsElf in Short runs;
    a_declaration_that_is_asked_again_is_found: RefusalForgotten breaks FitsItsElf in Short runs;
    what_is_recalled_and_given_away_at_once_is_found: RecalledGivenAway breaks HeldStays in Short runs;
    what_is_recalled_although_it_was_started_is_found: StartedRecalled breaks RecallsFit in Short runs;
    a_recall_of_one_who_does_not_know_the_word_is_found: RecallNotAsked breaks RecallsFit in Short runs;
    a_recall_of_more_than_can_be_started_is_found: RecalledTooMuch breaks RecallsFit in Long runs from 6;
    a_window_that_is_exceeded_is_found: WindowExceeded breaks WindowsKept in Short runs;
    a_process_that_hoards_is_found: PaceNotMeasured breaks WindowsKept in Short runs;
    a_wait_for_itself_of_which_nobody_hears_is_found: WaitNotTold breaks WaitsTold in Short runs;
    a_wait_for_itself_that_nobody_finds_is_found: WaitNotFound breaks EndsInTime in Short runs;
    suspects_that_run_together_are_found: SuspectsTogether breaks InnocentsLive or CountsAgree in Short runs;
    an_innocent_that_is_ended_is_found: InnocentEnded breaks InnocentsLive in Short runs;
    a_paused_job_that_is_assigned_is_found: PausedPlaced breaks PausedWaits in Short runs;
    a_pause_that_a_restart_forgets_is_found: PauseNotStored breaks RecordsFit in Short runs;
    a_job_that_is_not_resumed_is_found: ResumedNotQueued breaks EndsInTime or CountsAgree in Short runs;
    what_comes_of_a_job_that_is_deleted_is_found: DeletedOriginTaken breaks DeletedUnused in Long runs;
    a_deletion_that_what_was_read_before_survives_is_found:
        DeletionNotFenced breaks DeletedUnused or CountsAgree in Long runs from 20;
}

#[test]
fn a_bug_is_planted_for_every_invariant() {
    let without: Vec<Invariant> = Invariant::ALL
        .into_iter()
        .filter(|invariant| PLANTED_FOR.iter().all(|invariants| invariants[0] != *invariant))
        .collect();
    assert!(without.is_empty(), "nothing proves that these can be found broken: {without:?}");
}

#[test]
fn without_a_bug_nothing_is_found() {
    let mut seen = Counts::default();
    (0..8).for_each(|seed| seen.add(&sim::run(seed, Length::of(seed), false, |_| {}).seen));
    let happened = Seen::ALL.into_iter().filter(|one| seen.of(*one) > 0);
    let happened: Vec<&str> = happened.map(Seen::says).collect();
    assert!(happened.len() > Seen::ALL.len() / 2, "{happened:?}");
}
