//! What the ports promise, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod accounts;
mod backend;
mod bad_rows;
mod builds;
mod concurrency;
mod failures;
mod grounds;
mod history;
mod isolation;
mod lists;
mod marks;
mod policies;
mod realisations;
mod runs;
mod sample;
mod sharing;
mod signed;
mod told;
mod usage;
mod views;

macro_rules! conformance {
    ($($group:ident: $($case:ident),+;)+) => {
        mod sqlite {
            $(mod $group {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (bench, _directory) = crate::backend::sqlite().await;
                    crate::$group::$case(bench).await;
                })+
            })+
        }

        mod postgres {
            $(mod $group {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(bench) = crate::backend::postgres().await {
                        crate::$group::$case(bench).await;
                    }
                })+
            })+
        }
    };
}

conformance! {
    accounts: names_are_unique, listed_by_name, numbers_are_not_reused, key_acts_for_one_account,
        adding_a_key_again_changes_nothing, keys_come_oldest_first, removed_key_acts_for_nobody, removing_takes_all_of_one,
        unknown_accounts_are_named, any_words_are_stored;
    views: claim_round_trip, oldest_first, recording_again_unites_signatures, kinds_and_contents_are_separate,
        within_one_batch, many_at_once, by_hash_part, referrers_are_exact, paths_and_derivers, becomes_shareable,
        contents_are_those_spoken_of, nothing_asked, numbers_have_a_limit, batch_is_atomic;
    isolation: one_path_two_contents, same_object_is_shared_but_not_believed, order_is_not_anothers_doing,
        removal_leaves_others_evidence;
    builds: round_trip, without_outputs, first_recorded_stays, recording_again_changes_nothing, forgotten_then_recorded,
        forgetting_nothing, wrong_key_for_a_run, requests_newest_first, requests_of_one_account, a_withdrawn_result_leaves_the_run;
    concurrency: first_result_wins, read_then_write, overlapping_batches, removal_against_recording, one_name_once,
        forgetting_against_recording, sharing_against_taking_back, a_signature_is_never_missed, decisions_against_removal,
        failures_at_once, differences_are_never_missed, failures_against_removal;
    policies: keys_that_one_account_makes_known_are_limited, settings_of_account_and_key, settings_need_a_key_of_the_account, trust_needs_consent, trust_is_in_order,
        relations_of_both_sides, logins_by_host, signing_keys_active_first, public_keys_have_numbers, epochs,
        what_accounts_give_follows_from_the_operators_settings;
    lists: changes_of_trusted_keys_are_serial, no_list_outgrows_its_limit, new_signing_keys_have_names_of_their_own,
        a_refused_change_changes_nothing;
    signed: who_kept_it_to_itself_shows_nobody_when, trusted_accounts_by_level, seen_by_those_who_trust_the_key, what_is_not_shared, privacy_takes_effect_at_once,
        forgetting_takes_what_was_ones_own, removal_leaves_what_was_shared, in_the_order_of_becoming_visible,
        others_see_when_sharers_had_it,
        two_signatures_of_one_key, signatures_are_compared_whole, a_claim_that_becomes_shareable_shares,
        open_signatures_are_proven_later, open_signatures_are_their_bringers,
        a_claim_has_room_for_so_many_signatures, newer_keys_are_noticed, many_signatures;
    realisations: round_trip, the_latest_stands_and_signatures_unite, who_sees_what, signatures_are_limited, what_is_too_large_is_refused,
        bad_rows_of_others_are_left_out;
    sharing: own_before_shared, giving_can_be_taken_back, removal_leaves_shared_results;
    failures: round_trip, newest_stands, own_before_shared, giving_can_be_taken_back, removal_leaves_shared_failures, only_some_are_kept,
        a_run_is_one_or_the_other;
    marks: round_trip, a_shared_result_forgives, who_takes_gets_the_shared_result, of_those_who_are_gone, so_many_are_every_key;
    grounds: outputs_by_path, by_the_rule_of_results, objects, forgotten_runs;
    runs: round_trip, newest_first, known_to_whom, after_removal, checks_are_no_results, of_objects, of_requests, objects_by_number,
        differing_outputs, differing_for_whom, latest_request_of_a_derivation, forgotten_runs, strange_inputs;
    history: what_runs_took, own_and_others, latest_of_each, many_packages;
    told: signatures_stay, what_is_ones_own_is_not_told, words_of_accounts_stay, trust_outlives_who_was_trusted,
        what_is_gone_cannot_be_told, many_are_told_at_once, realisations_stay;
    usage: in_sum, in_time, of_all;
    bad_rows: named_by_table_and_row;
}
