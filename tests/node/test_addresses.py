"""Where services are reached: by the name of the fast network, or an address there, where a site has one."""

import socket

import pytest

from aifactory_bench.node import addresses

NAMES = {
    "node7": "10.0.0.7",
    "node7i": "10.1.0.7",
    "node7.cluster": "10.0.0.7",
    "node7i.cluster": "10.1.0.7",
    "far": "10.9.9.9",
}
INTERFACES = {"lo": ["127.0.0.1"], "eth0": ["10.0.0.7"], "ib0": ["fe80::1", "10.1.0.7"], "ib1": ["10.2.0.7"]}


@pytest.fixture
def host(monkeypatch):
    """Be a host of a name, with addresses on two networks."""

    def be(name, names=NAMES):
        def resolve(asked, *_more, **_options):
            if asked not in names:
                raise socket.gaierror
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (names[asked], 0))]

        monkeypatch.setattr(addresses.socket, "gethostname", lambda: name)
        monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
        monkeypatch.setattr(addresses, "interfaces", lambda: INTERFACES)

    return be


@pytest.mark.parametrize(("name", "found"), [("node7", "node7i"), ("node7.cluster", "node7i.cluster")])
def test_a_suffix_stands_behind_the_name(host, name, found):
    host(name)
    assert addresses.reachable_host("0.0.0.0", {"suffix": "i"}) == found
    assert addresses.reachable_host("0.0.0.0") == name


def test_a_name_that_is_not_there_is_not_used(host):
    """Nor one that is somebody else's."""
    host("node7", {"node7": "10.0.0.7"})
    assert addresses.reachable_host("0.0.0.0", {"suffix": "i"}) == "node7"
    host("node7", {"node7": "10.0.0.7", "node7i": "10.9.9.9"})
    assert addresses.reachable_host("0.0.0.0", {"suffix": "i"}) == "node7"


def test_an_interface_by_preference(host):
    """The first that the node has; none leaves the name; IPv6 of a link is passed over."""
    host("node7")
    assert addresses.reachable_host("0.0.0.0", {"interfaces": ["hsn0", "ib0", "ib1"]}) == "10.1.0.7"
    assert addresses.reachable_host("0.0.0.0", {"interfaces": ["hsn0"]}) == "node7"
    assert addresses.reachable_host("0.0.0.0", {"interfaces": ["lo"]}) == "node7"
    assert addresses.reachable_host("0.0.0.0", {"suffix": "i", "interfaces": ["ib1"]}) == "node7i"


def test_an_address_that_is_given_stays(host):
    host("node7")
    assert addresses.reachable_host("10.2.0.7", {"suffix": "i", "interfaces": ["ib0"]}) == "10.2.0.7"
