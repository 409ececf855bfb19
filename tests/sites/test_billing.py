"""What an hour costs, by examples worked out by hand, some of them the sites' own."""

import pytest

from aifactory_bench.sites.billing import Billing, Charge, Taken, units_per_hour
from aifactory_bench.sites.load import load_unfinished

GIB = 1 << 30


@pytest.mark.parametrize(
    ("site", "partition", "taken", "units"),
    [
        # One node-hour a node, whatever is on it.
        ("meluxina", "gpu", Taken(3, 12, 192, None), 3.0),
        # The documentation of LUMI: 4 nodes for 24 hours are 384 GPU-hours, so 16 an hour.
        ("lumi", "standard-g", Taken(4, 32, 224, None), 16.0),
        # 2 GCDs for 24 hours are 24 GPU-hours.
        ("lumi", "small-g", Taken(1, 2, 8, 64 * GIB), 1.0),
        # 1 GCD with 128 GB for 24 hours is 24 GPU-hours.
        ("lumi", "small-g", Taken(1, 1, 7, 128 * GIB), 1.0),
        # 9 cores are two slices of 8, as 65 GB are two of 64.
        ("lumi", "small-g", Taken(1, 1, 9, GIB), 1.0),
        ("lumi", "small-g", Taken(1, 1, 8, 65 * GIB), 1.0),
        # 16 nodes for 12 hours are 24576 core-hours.
        ("lumi", "standard", Taken(16, 0, 2048, None), 2048.0),
        # 4 cores with 32 GB for 24 hours are 384 core-hours.
        ("lumi", "small", Taken(1, 0, 4, 32 * GIB), 16.0),
        ("lumi", "small", Taken(1, 0, 4, 4 * GIB), 4.0),
        # 8 core-hours a GPU-hour, or the cores where these are more.
        ("leonardo", "boost_usr_prod", Taken(2, 8, 8, None), 64.0),
        ("leonardo", "boost_usr_prod", Taken(1, 1, 32, None), 32.0),
        # An eighth of a node-hour a GPU.
        ("karolina", "qgpu", Taken(1, 3, 48, None), 0.375),
        ("karolina", "qcpu", Taken(5, 0, None, None), 5.0),
    ],
)
def test_by_hand(site, partition, taken, units):
    billing = load_unfinished(site).billing
    assert units_per_hour(billing.charge(partition), taken) == units


def test_what_is_not_known_is_not_guessed():
    """Neither the price of a partition nor the amount of something that is charged for."""
    billing = Billing("node_hour", {"cpu": Charge(node=1.0)})
    assert billing.charge("gpu") is None
    assert billing.charge(None) is None
    assert Billing("node_hour", {"*": Charge(node=2.0)}).charge("gpu").node == 2.0
    assert Billing("node_hour", {"a": Charge(node=3.0), "*": Charge(node=2.0)}).charge("a,b").node == 3.0
    assert units_per_hour(Charge(node=1.0, core=0.1), Taken(1, 0, None, None)) is None
    assert units_per_hour(Charge(), Taken(1, 0, 4, None)) is None
