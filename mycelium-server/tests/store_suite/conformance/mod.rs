//! What every store has to do. One function for each promise; `suite!` makes tests of them for a kind of store.

pub(crate) mod catalog;
pub(crate) mod erasing;
pub(crate) mod jobs;
pub(crate) mod lists;
pub(crate) mod log;
pub(crate) mod requests;

use std::collections::BTreeMap;

use mycelium_core::labels::Labels;
use mycelium_server::store::FinishedQuery;

use super::*;

/// Makes a module of tests for a kind of store.
#[macro_export]
macro_rules! suite {
    ($name:ident, $kind:ty) => {
        $crate::suite!($name, $kind;
            log {
                a_new_store_is_empty,
                commits_are_numbered_without_gaps,
                counters_are_stored,
                the_image_has_what_unfinished_jobs_need,
                sessions_submissions_and_propagations_come_and_go,
                policies_come_and_go_and_keep_what_they_leave_open,
                pauses_are_kept_until_they_are_over,
                actions_are_kept_until_they_are_forgotten,
                submissions_are_listed_by_their_ids,
                a_read_sees_all_of_a_batch_or_nothing,
                a_name_longer_than_a_key_is_refused_or_kept,
                another_owner_is_kept_out_or_takes_over,
                a_durable_store_has_a_place_for_blobs,
            }
            jobs {
                a_job_is_created_and_waits,
                a_live_job_is_replaced,
                a_job_is_created_and_finishes_in_one_batch,
                a_live_job_is_to_be_evaluated,
                the_job_that_gathers_an_element_is_its_dependent,
                what_a_job_was_expanded_into_and_how_many_were_skipped_is_kept,
                a_live_job_finishes,
                a_finished_job_is_revived,
                a_job_is_revived_and_finishes_in_one_batch,
                outputs_of_any_size_are_kept_and_go_with_a_revival,
                a_dropped_job_leaves_nothing,
                a_job_created_and_dropped_in_one_batch_leaves_nothing,
                reads_of_many_keep_their_order,
                dependents_are_listed_in_pages,
                uses_of_blobs_come_and_go_and_are_listed_in_pages,
                the_newest_checkpoint_of_a_job_is_kept_until_it_is_removed,
            }
            erasing {
                deletions_come_and_go,
                what_is_erased_leaves_nothing_in_any_list,
                a_stub_keeps_all_but_its_values,
                a_flow_that_is_removed_is_in_no_list,
                an_id_that_was_erased_is_free,
                occurrences_are_removed_and_failures_of_which_none_is_left,
                what_nothing_refers_to_of_an_elf_is_removed_unless_it_is_back,
            }
            catalog {
                flows_are_found_and_listed,
                elves_are_kept_and_listed,
                revisions_are_kept_once_and_listed_newest_first,
                failures_are_counted_under_their_identity,
                failures_are_listed_last_seen_first,
            }
            lists {
                finished_jobs_are_listed_by_every_filter,
                jobs_are_listed_by_the_beginning_of_their_failure,
                a_page_reads_at_most_one_entry_more,
                a_list_bounded_in_time_is_exact,
                a_list_is_exact_after_the_clock_was_set_back,
                revived_jobs_leave_every_list,
            }
            requests {
                a_commit_is_one_request_whatever_is_in_it,
                what_a_batch_has_to_know_takes_a_request_for_each_kind_of_record,
                many_keys_are_one_request,
                a_page_is_one_request_and_no_longer_than_asked_for,
            }
        );
    };
    ($name:ident, $kind:ty; $($part:ident { $($test:ident,)+ })+) => {
        mod $name {
            $(mod $part {
                $(
                    #[test]
                    fn $test() {
                        let mut world = $crate::store_suite::World::new(<$kind>::default());
                        $crate::store_suite::conformance::$part::$test(&mut world);
                    }
                )+
            })+
        }
    };
}

const ALL: FinishedQuery = FinishedQuery {
    flow: None,
    elf: None,
    task: None,
    statuses: Vec::new(),
    labels: Labels::NONE,
    failure: None,
    finished_from: None,
    finished_before: None,
    after: None,
    limit: 100,
};

fn labels_of(labels: &[(&str, &str)]) -> Labels {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    labels.collect::<BTreeMap<_, _>>().into()
}
