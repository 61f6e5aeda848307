//! Proves that the simulation can fail: with a guard left out, it finds the loss within the seeds that a clean build
//! passes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mycelium_core::PlantedBug;

/// The clean build passes these many seeds in `simulation.rs`.
const SEEDS: u64 = 32;

fn is_found(bug: PlantedBug) {
    let finds = |seed: &u64| {
        let run = || sim::run(*seed, false, |config| config.planted = Some(bug));
        catch_unwind(AssertUnwindSafe(run)).is_err()
    };
    let seed = (0..SEEDS).find(finds);
    assert!(seed.is_some(), "{bug:?} goes unnoticed");
}

#[test]
fn an_outcome_that_is_not_fenced_is_found() {
    is_found(PlantedBug::OutcomeNotFenced);
}

#[test]
fn a_propagation_that_is_not_stored_is_found() {
    is_found(PlantedBug::PropagationNotStored);
}

#[test]
fn a_stall_that_counts_for_leases_is_found() {
    is_found(PlantedBug::StallCountsForLeases);
}

#[test]
fn a_process_that_is_gone_and_takes_with_it_the_session_of_its_successor_is_found() {
    is_found(PlantedBug::GoneThoughResumed);
}

#[test]
fn what_is_given_away_although_its_elf_has_come_back_is_found() {
    is_found(PlantedBug::UnconfirmedThoughResumed);
}

#[test]
fn what_is_given_away_although_it_was_confirmed_is_found() {
    is_found(PlantedBug::ConfirmedGivenAway);
}

#[test]
fn a_lease_that_is_shorter_because_the_broker_has_ended_the_stream_is_found() {
    is_found(PlantedBug::LeaseShortenedByShell);
}

#[test]
fn a_job_that_expires_early_is_found() {
    is_found(PlantedBug::ExpiresEarly);
}

#[test]
fn an_attempt_that_is_ended_before_its_time_is_found() {
    is_found(PlantedBug::RunEndedEarly);
}

#[test]
fn an_outcome_that_comes_after_its_time_and_is_taken_is_found() {
    is_found(PlantedBug::OverrunTaken);
}

#[test]
fn a_job_that_begins_early_is_found() {
    is_found(PlantedBug::BeginsEarly);
}

#[test]
fn failures_that_are_not_counted_are_found() {
    is_found(PlantedBug::FailuresNotCounted);
}

#[test]
fn a_failure_whose_advice_is_not_taken_is_found() {
    is_found(PlantedBug::AdviceNotTaken);
}

#[test]
fn a_start_that_does_not_count_is_found() {
    is_found(PlantedBug::StartsDoNotCount);
}

#[test]
fn a_slot_that_is_freed_too_early_is_found() {
    is_found(PlantedBug::CancelledSlotFreedAtOnce);
}

#[test]
fn a_job_that_goes_to_whoever_offers_its_task_is_found() {
    is_found(PlantedBug::ShapeNotAsked);
}

#[test]
fn values_that_nobody_judges_are_found() {
    is_found(PlantedBug::ValuesNotJudged);
}

#[test]
fn a_declaration_that_is_asked_again_is_found() {
    is_found(PlantedBug::RefusalForgotten);
}

#[test]
fn what_is_recalled_and_given_away_at_once_is_found() {
    is_found(PlantedBug::RecalledGivenAway);
}

#[test]
fn what_is_recalled_although_it_was_started_is_found() {
    is_found(PlantedBug::StartedRecalled);
}

#[test]
fn a_recall_of_one_who_does_not_know_the_word_is_found() {
    is_found(PlantedBug::RecallNotAsked);
}

#[test]
fn a_recall_of_more_than_can_be_started_is_found() {
    is_found(PlantedBug::RecalledTooMuch);
}

#[test]
fn a_window_that_is_exceeded_is_found() {
    is_found(PlantedBug::WindowExceeded);
}

#[test]
fn a_process_that_hoards_is_found() {
    is_found(PlantedBug::PaceNotMeasured);
}

#[test]
fn a_wait_for_itself_of_which_nobody_hears_is_found() {
    is_found(PlantedBug::WaitNotTold);
}

#[test]
fn a_wait_for_itself_that_nobody_finds_is_found() {
    is_found(PlantedBug::WaitNotFound);
}

#[test]
fn suspects_that_run_together_are_found() {
    is_found(PlantedBug::SuspectsTogether);
}

#[test]
fn an_innocent_that_is_ended_is_found() {
    is_found(PlantedBug::InnocentEnded);
}

#[test]
fn a_paused_job_that_is_assigned_is_found() {
    is_found(PlantedBug::PausedPlaced);
}

#[test]
fn a_pause_that_a_restart_forgets_is_found() {
    is_found(PlantedBug::PauseNotStored);
}

#[test]
fn a_job_that_is_not_resumed_is_found() {
    is_found(PlantedBug::ResumedNotQueued);
}

#[test]
fn what_comes_of_a_job_that_is_deleted_is_found() {
    is_found(PlantedBug::DeletedOriginTaken);
}

#[test]
fn a_deletion_that_what_was_read_before_survives_is_found() {
    is_found(PlantedBug::DeletionNotFenced);
}
