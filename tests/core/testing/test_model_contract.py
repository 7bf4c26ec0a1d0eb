"""The model contract lets sound models pass and finds what is wrong with broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TRIALS = Path(__file__).with_name("trial_models.py")
PROTOCOL = "test_output_follows_the_event_protocol"
NEIGHBOURS = {
    "test_output_is_independent_of_concurrent_requests",
    "test_output_is_independent_of_cancelled_concurrent_requests",
    "test_declared_concurrency_is_supported",
}
TOO_LONG = "test_prompts_longer_than_the_context_are_rejected"
REFUSES = "test_unsuitable_requests_are_rejected_or_completed"


def failures(pytester: pytest.Pytester, trial: str) -> tuple[int, set[str]]:
    """How many tests passed, and the names of those that did not."""
    ran = pytester.inline_run(f"{TRIALS}::{trial}", "-n0", "-p", "no:cacheprovider")
    passed, _, failed = ran.listoutcomes()
    return len(passed), {report.nodeid.rpartition("::")[2] for report in failed}


@pytest.mark.parametrize(("trial", "passes"), [("TestSound", 16), ("TestSolitary", 12), ("TestEmbeds", 14)])
def test_sound_models_pass(pytester: pytest.Pytester, trial: str, passes: int) -> None:
    assert failures(pytester, trial) == (passes, set())


@pytest.mark.parametrize(
    ("trial", "found"),
    [
        ("TestWithoutFinished", {PROTOCOL}),
        ("TestTalksOn", {PROTOCOL}),
        ("TestStartsLate", {PROTOCOL}),
        ("TestSaysStrings", {PROTOCOL}),
        ("TestStartsTwice", {PROTOCOL}),
        ("TestNumbersChoicesFromOne", {PROTOCOL}),
        ("TestLeavesVectorsOut", {PROTOCOL}),
        ("TestGivesNoIndices", {PROTOCOL}),
        ("TestRepeatsIndices", {PROTOCOL}),
        ("TestMiscounts", {"test_counts_add_up"}),
        ("TestIgnoresMaxTokens", {"test_counts_add_up"}),
        ("TestEndsChoicesTwice", {"test_choices_end_once"}),
        ("TestKeepsSlotWhenCancelled", {"test_output_is_independent_of_cancelled_requests", REFUSES, TOO_LONG}),
        (
            "TestSwallowsCancelling",
            {
                "test_output_is_independent_of_cancelled_requests",
                "test_output_is_independent_of_cancelled_concurrent_requests",
            },
        ),
        ("TestLosesNeighboursOnCancel", {"test_output_is_independent_of_cancelled_concurrent_requests"}),
        ("TestRemembersWhatWasCancelled", {"test_output_is_independent_of_cancelled_requests"}),
        ("TestMixesNeighbours", NEIGHBOURS),
        ("TestHasFewerSlotsThanItSays", {"test_declared_concurrency_is_supported"}),
        ("TestUnpicklable", {"test_requests_and_events_pickle"}),
        ("TestCrashes", {REFUSES}),
        ("TestBlamesItself", {REFUSES, TOO_LONG}),
        ("TestOverrunsItsContext", {TOO_LONG}),
        ("TestAlike", {"test_requests_are_supported_and_differ"}),
        ("TestServesMore", {"test_the_backend_declares_the_supported_requests"}),
        ("TestUnexplained", {"test_options_have_descriptions_and_unique_names"}),
        ("TestTaken", {"test_options_have_descriptions_and_unique_names"}),
    ],
)
def test_a_fault_is_found_by_the_test_for_it(pytester: pytest.Pytester, trial: str, found: set[str]) -> None:
    assert failures(pytester, trial)[1] == found


def test_an_endless_answer_fails_all_that_wait_for_it(pytester: pytest.Pytester) -> None:
    passed, failed = failures(pytester, "TestEndless")
    assert (passed, len(failed)) == (4, 12)
