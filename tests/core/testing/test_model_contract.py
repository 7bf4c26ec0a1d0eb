"""The model contract passes valid models and finds the fault of each broken one."""

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
REJECTS = "test_unsuitable_requests_are_rejected_or_completed"


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
        ("TestKeepsSlotWhenCancelled", {"test_output_is_independent_of_cancelled_requests", REJECTS, TOO_LONG}),
        (
            "TestSwallowsGeneratorExit",
            {
                "test_output_is_independent_of_cancelled_requests",
                "test_output_is_independent_of_cancelled_concurrent_requests",
            },
        ),
        ("TestLosesRequestsOnCancel", {"test_output_is_independent_of_cancelled_concurrent_requests"}),
        ("TestLeaksCancelledOutput", {"test_output_is_independent_of_cancelled_requests"}),
        ("TestMixesRequests", NEIGHBOURS),
        ("TestHasFewerSlotsThanConcurrency", {"test_declared_concurrency_is_supported"}),
        ("TestUnpicklable", {"test_requests_and_events_pickle"}),
        ("TestCrashes", {REJECTS}),
        ("TestRejectsWithEngineError", {REJECTS, TOO_LONG}),
        ("TestIgnoresContextLength", {TOO_LONG}),
        ("TestEqualRequests", {"test_requests_are_supported_and_differ"}),
        ("TestSupportsMoreRequests", {"test_the_backend_declares_the_supported_requests"}),
        ("TestOptionWithoutDescription", {"test_options_have_descriptions_and_unique_names"}),
        ("TestReservedOptionName", {"test_options_have_descriptions_and_unique_names"}),
    ],
)
def test_each_fault_fails_exactly_the_tests_for_it(pytester: pytest.Pytester, trial: str, found: set[str]) -> None:
    assert failures(pytester, trial)[1] == found


def test_endless_output_fails_all_tests_that_wait_for_it(pytester: pytest.Pytester) -> None:
    passed, failed = failures(pytester, "TestEndless")
    assert (passed, len(failed)) == (4, 12)
