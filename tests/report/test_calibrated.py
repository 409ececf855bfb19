"""Calibrations: read off a run, kept by host, and told in later results."""

import pytest

from aifactory_bench.errors import RunError
from aifactory_bench.report.calibrated import Calibration, calibration_of, keep, kept, with_calibrations


@pytest.fixture
def summary(make_summary, make_histogram):
    """Two loads, measured on two hosts."""
    times = {"unit": "us", "histogram": make_histogram(300.0, 20_000)}
    document = {
        "distributions": {"added_ttft": times, "added_gap": times},
        "sums": {"output_tokens": {"unit": "token", "per_second": [800] * 10}},
        "provenance": {"host": "node../7"},
    }
    return make_summary(rates=(10, 20), document=document)


def test_a_run_becomes_a_calibration(summary):
    """A row a load, in the order of the loads."""
    found = calibration_of(summary)
    assert (found.run_id, found.site, found.hosts) == ("r1", "local", ("node../7",))
    assert [load.rate_per_s for load in found.loads] == [10.0, 20.0]
    load = found.loads[0]
    assert load.added_ttft_p50_us == pytest.approx(450, rel=0.01)
    assert (load.tokens_per_s, load.cpu_share_max, load.verdict) == (800, 0.5, "valid")


def test_nothing_measured_is_no_calibration(make_summary):
    """And what is known of the cause is told."""
    with pytest.raises(RunError, match="not measured: load/p0000-r1"):
        calibration_of(make_summary(without=("load/p0000-r1",)))


def test_a_calibration_is_kept_by_host_and_told_in_later_results(summary, tmp_path):
    """Whatever the host is called, its file stays in the folder; another host's results have nothing."""
    assert kept(tmp_path, "node../7") is None
    calibration = calibration_of(summary)
    keep(tmp_path, calibration)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")] == [".calibrations/node.._7.json"]
    assert kept(tmp_path, "node../7") == calibration
    (first, *_) = with_calibrations(summary, tmp_path).points[0].measurements
    assert first.provenance["calibration"]["node../7"]["run_id"] == "r1"
    assert with_calibrations(summary, tmp_path / "elsewhere") == summary


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "loads": 3}', '{"version": 2}'])
def test_a_damaged_calibration_is_none(tmp_path, text, summary):
    """Results are worth more than what stands beside them."""
    keep(tmp_path, calibration_of(summary))
    (path,) = tmp_path.rglob("*.json")
    path.write_text(text)
    assert kept(tmp_path, "node../7") is None


def test_the_form_is_stable(summary, tmp_path):
    """What was written is read back as the same value."""
    calibration = calibration_of(summary)
    assert isinstance(calibration, Calibration)
    keep(tmp_path, calibration)
    assert kept(tmp_path, "node../7") == calibration
