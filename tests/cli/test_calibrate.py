"""`calibrate`: what is asked, what is shown, and a real one."""

import json

import pytest

from aifactory_bench.calibration import calibration_recipe
from aifactory_bench.errors import UsageError
from aifactory_bench.plugins import load_registry
from aifactory_bench.recipe.load import load_recipe_text


@pytest.mark.parametrize(("rate", "process", "key"), [(None, "closed", "concurrency"), (20.0, "poisson", "connections")])
def test_the_recipe_is_one(rate, process, key):
    """It loads as a user's does, a point a number of streams."""
    recipe = load_recipe_text(calibration_recipe((1, 8), rate, 2.0), "calibration", load_registry())
    assert [factor.values for factor in recipe.matrix] == [(1, 8)]
    load = recipe.clients[0].load
    assert (load.process, getattr(load, key), load.duration_s, load.rate_per_s) == (process, 1, 2.0, rate)


@pytest.mark.parametrize("arguments", [((),), ((0,),), ((1,), 0.0), ((1,), float("inf")), ((1,), None, 0.0)])
def test_what_cannot_be_calibrated_is_refused(arguments):
    """Before anything is started."""
    with pytest.raises(UsageError):
        calibration_recipe(*arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--streams", "1,x"], "--streams: '1,x' is no list of whole numbers"),
        (["--streams", "0"], "from 1 to 100,000"),
        (["--rate", "fast"], "--rate: "),
        (["--duration", "soon"], "--duration: "),
    ],
)
def test_bad_arguments_are_told(console, arguments, text):
    """One clear error, exit code 2."""
    result = console("calibrate", *arguments)
    assert result.returncode == 2
    assert text in result.stderr


def test_a_calibration_of_this_machine(console, tmp_path):
    """A table on standard output, the same as JSON, and kept for later results."""
    result = console("calibrate", "--streams", "2", "--duration", "1s", "--json", "--quiet")
    assert result.returncode == 0, result.stderr
    calibration = json.loads(result.stdout)
    (load,) = calibration["loads"]
    assert load["streams"] == 2
    assert load["tokens_per_s"] == pytest.approx(2 * 64 / (0.1 + 63 * 0.02), rel=0.25)
    assert 0 <= load["added_ttft_p50_us"] < 20_000
    (host,) = calibration["hosts"]
    (kept,) = tmp_path.rglob(".calibrations/*.json")
    assert json.loads(kept.read_text())["hosts"] == [host]
    result = console("calibrate", "--streams", "1", "--rate", "5/s", "--duration", "1s", "--quiet")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].split()[:2] == ["streams", "token/s"]
    assert max(map(len, result.stdout.splitlines()[1:3])) <= 80
