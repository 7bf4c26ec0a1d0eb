"""The model contract passes valid models and finds the fault of each broken one."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TRIALS = Path(__file__).with_name("trial_models.py")
PROTOCOL = "test_output_follows_the_event_protocol"
NEIGHBOURS = {
    "test_neighbours_do_not_show",
    "test_a_cancelled_neighbour_does_not_show",
    "test_as_many_as_it_says_run_at_once",
}
TOO_LONG = "test_a_prompt_beyond_the_context_is_refused"
REJECTS = "test_what_does_not_suit_is_refused_or_answered"


def failures(pytester: pytest.Pytester, trial: str) -> tuple[int, set[str]]:
    """The number of tests that passed, and the names of those that failed."""
    ran = pytester.inline_run(f"{TRIALS}::{trial}", "-n0", "-p", "no:cacheprovider")
    passed, _, failed = ran.listoutcomes()
    return len(passed), {report.nodeid.rpartition("::")[2] for report in failed}


@pytest.mark.parametrize(("trial", "passes"), [("TestValid", 16), ("TestSingleSlot", 12), ("TestEmbeds", 14)])
def test_valid_models_pass(pytester: pytest.Pytester, trial: str, passes: int) -> None:
    assert failures(pytester, trial) == (passes, set())


@pytest.mark.parametrize(
    ("trial", "found"),
    [
        ("TestWithoutFinished", {PROTOCOL}),
        ("TestTextAfterFinished", {PROTOCOL}),
        ("TestStartsLate", {PROTOCOL}),
        ("TestYieldsStrings", {PROTOCOL}),
        ("TestStartsTwice", {PROTOCOL}),
        ("TestNumbersChoicesFromOne", {PROTOCOL}),
        ("TestOmitsVectors", {PROTOCOL}),
        ("TestOmitsIndices", {PROTOCOL}),
        ("TestRepeatsIndices", {PROTOCOL}),
        ("TestMiscounts", {"test_counts_add_up"}),
        ("TestIgnoresMaxTokens", {"test_counts_add_up"}),
        ("TestFinishesChoicesTwice", {"test_choices_end_once"}),
        ("TestKeepsSlotWhenCancelled", {"test_cancelling_leaves_no_trace", REJECTS, TOO_LONG}),
        ("TestSwallowsGeneratorExit", {"test_cancelling_leaves_no_trace", "test_a_cancelled_neighbour_does_not_show"}),
        ("TestLosesRequestsOnCancel", {"test_a_cancelled_neighbour_does_not_show"}),
        ("TestLeaksCancelledOutput", {"test_cancelling_leaves_no_trace"}),
        ("TestMixesRequests", NEIGHBOURS),
        ("TestHasFewerSlotsThanConcurrency", {"test_as_many_as_it_says_run_at_once"}),
        ("TestUnpicklable", {"test_requests_and_events_pickle"}),
        ("TestCrashes", {REJECTS}),
        ("TestRejectsWithEngineError", {REJECTS, TOO_LONG}),
        ("TestIgnoresContextLength", {TOO_LONG}),
        ("TestEqualRequests", {"test_requests_are_fit_to_try"}),
        ("TestSupportsMoreRequests", {"test_a_model_serves_what_its_backend_serves"}),
        ("TestOptionWithoutDescription", {"test_options_have_descriptions_and_names_of_their_own"}),
        ("TestReservedOptionName", {"test_options_have_descriptions_and_names_of_their_own"}),
    ],
)
def test_each_fault_fails_exactly_the_tests_for_it(pytester: pytest.Pytester, trial: str, found: set[str]) -> None:
    assert failures(pytester, trial)[1] == found


def test_endless_output_fails_all_tests_that_wait_for_it(pytester: pytest.Pytester) -> None:
    passed, failed = failures(pytester, "TestEndless")
    assert (passed, len(failed)) == (4, 12)
