"""The API contract passes valid APIs and finds the fault of each broken one."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.plugin_projects import install_projects

pytest_plugins = ["pytester"]

TRIALS = Path(__file__).with_name("trial_api_contracts.py")
PROJECT = Path(__file__).parents[2] / "support" / "trial-apis"

TYPES = "test_request_types_are_valid"
DESCRIPTIONS = "test_settings_have_descriptions"
FLAGS = "test_settings_are_flags"
PREFIXES = "test_prefixes_cover_the_routes"
OPENAPI = "test_routes_are_in_the_openapi_document"
VALID = "test_valid_requests_succeed"
AGREE = "test_plain_and_streamed_output_agree"
UNKNOWN_FIELDS = "test_unknown_fields_are_listed_or_rejected"
MESSAGES = "test_error_bodies_contain_the_message"
PATHS = "test_unknown_paths_are_rejected"
METHODS = "test_unsupported_methods_are_rejected"
TOO_LARGE = "test_too_large_bodies_are_rejected"
CONTENT_TYPES = "test_other_content_types_are_rejected"
MALFORMED = "test_malformed_bodies_are_rejected"
WRONG_TYPES = "test_wrong_types_are_rejected"
INVALID = "test_invalid_requests_are_rejected"
CAPACITY = "test_requests_beyond_capacity_get_a_status"
DISCONNECT = "test_disconnecting_cancels"
STATUSES = {PATHS, METHODS, TOO_LARGE, CONTENT_TYPES, CAPACITY}
ERRORS = {*STATUSES, MALFORMED, WRONG_TYPES, INVALID}

FAULTS: dict[str, set[str]] = {
    "TestValid": set(),
    "TestOwnFormat": set(),
    "TestEmptyErrors": {MESSAGES, *ERRORS},
    "TestWrongStatus": STATUSES,
    "TestTwoFormats": {INVALID, CAPACITY, DISCONNECT},
    "TestIgnoresSilently": {UNKNOWN_FIELDS},
    "TestParsesItself": {CONTENT_TYPES, MALFORMED},
    "TestAcceptsAnyType": {WRONG_TYPES, INVALID},
    "TestKeepsRunning": {DISCONNECT},
    "TestStreamsTooSoon": {INVALID, CAPACITY},
    "TestStreamsOther": {AGREE},
    "TestUndocumented": {OPENAPI},
    "TestCatchesAll": {PATHS},
    "TestUndescribed": {DESCRIPTIONS},
    "TestWithoutTypes": {TYPES, VALID},
    "TestWithoutPrefix": {PREFIXES, *ERRORS} - {PATHS},
    "TestUnregistered": {FLAGS},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_projects(tmp_path_factory.mktemp("installed"), [PROJECT])


@pytest.fixture
def outcomes(pytester: pytest.Pytester, installed: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Counter[str]]:
    """The failed tests of each trial and the number that passed; all trials share one server."""
    monkeypatch.setenv("PYTHONPATH", str(installed), prepend=os.pathsep)
    monkeypatch.syspath_prepend(installed)
    ran = pytester.inline_run(TRIALS, "-n0", "-p", "no:cacheprovider")
    passed, _, failed = ran.listoutcomes()
    found = {trial: Counter[str]() for trial in FAULTS}
    for report in (*passed, *failed):
        trial, _, test = report.nodeid.partition("::")[2].partition("::")
        found[trial]["passed" if report.passed else test] += 1
    return found


def test_each_fault_fails_exactly_the_tests_for_it(outcomes: dict[str, Counter[str]]) -> None:
    passes = {trial: counts.pop("passed") for trial, counts in outcomes.items()}
    assert {trial: set(counts) for trial, counts in outcomes.items()} == FAULTS
    assert passes["TestValid"] == 18


def test_every_contract_test_fails_for_a_trial() -> None:
    from mlx_host.testing import ApiContract

    contract_tests = {name for name in vars(ApiContract) if name.startswith("test_")}
    assert set().union(*FAULTS.values()) == contract_tests
