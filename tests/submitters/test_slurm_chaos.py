"""The benchmark of faults, small: everything goes wrong at once, and nothing is lost, twice there, or false."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "slurm_faults.py"


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("slurm_faults", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sixty_submissions_with_a_fault_at_every_step(faults):
    found = faults.chaos(60, seed=4)
    assert (found.submitted, found.duplicates, found.lost, found.false_ends) == (60, 0, 0, set()), found
    assert found.transport_faults > 10
    assert found.slurm_faults > 10


def test_a_submission_takes_a_session_and_many_share_one(faults):
    assert faults.channels(20) == (1.0, 0.05)
