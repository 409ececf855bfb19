"""Several Redis servers as one cluster: which of them has a key, and making them one.

Slots are dealt out in equal, contiguous parts, in the order of the endpoints. So every client knows without asking where a
key is, and several that make the cluster at the same time do the same.
"""

import contextlib
import socket
import time
from binascii import crc_hqx
from functools import lru_cache
from typing import Iterator, List, Sequence, Tuple

from aifactory_bench.node.endpoint import Endpoint

from .redis_data_node import key_of
from .redis_resp_node import Client, ErrorReply

SLOTS = 16384
LEAST_SERVERS = 3
"""Fewer cannot agree on one that has failed."""
_ENOUGH = 10_000
"""Among so many keys every server has some."""
_TIMEOUT_S = 10.0
_AGREE_S = 30.0
_LOOK_S = 0.05
_MEET_AGAIN_S = 5.0


class ClusterError(Exception):
    """The servers do not become one cluster; the text says why."""


def slot_of(key: bytes) -> int:
    """Return the slot of a key that has no braces."""
    return crc_hqx(key, 0) % SLOTS


def slots_of(place: int, servers: int) -> range:
    """Return the slots of one of so many servers."""
    return range(place * SLOTS // servers, (place + 1) * SLOTS // servers)


@lru_cache(maxsize=4)
def _owners(servers: int) -> "Tuple[int, ...]":
    return tuple(place for place in range(servers) for _ in slots_of(place, servers))


def owner_of(number: int, servers: int) -> int:
    """Return which server has a key."""
    return _owners(servers)[slot_of(key_of(number))]


def owned(numbers: Iterator[int], place: int, servers: int) -> Iterator[int]:
    """Yield those of the numbers whose keys a server has."""
    owners = _owners(servers)
    return (number for number in numbers if owners[crc_hqx(b"key:%012d" % number, 0) % SLOTS] == place)


def owners(numbers: Iterator[int], servers: int) -> Iterator[int]:
    """Yield the server of each number's key."""
    found = _owners(servers)
    return (found[crc_hqx(b"key:%012d" % number, 0) % SLOTS] for number in numbers)


def check_shares(numbers: range, servers: int) -> None:
    """See that every server has some of the keys: a server that has none can be asked for nothing.

    Raises:
        ClusterError: one has none.
    """
    found = {owner_of(number, servers) for number in numbers[:_ENOUGH]}
    if len(found) < servers:
        raise ClusterError(f"of {len(numbers)} keys {servers - len(found)} of {servers} servers have none; use more keys")


def form(endpoints: Sequence[Endpoint], secret: str) -> None:
    """Make the servers one cluster, unless they are; may be done by several clients at a time.

    Raises:
        ClusterError: they are part of another one, or do not agree in time.
        OSError, ErrorReply, RespError: a server is not there, or refuses.
    """
    clients: "List[Client]" = []
    try:
        for endpoint in endpoints:
            clients.append(Client(endpoint.host, endpoint.port, secret, _TIMEOUT_S))
        for place, client in enumerate(clients):
            _deal(client, place, len(clients))
        _agree(endpoints, clients)
    finally:
        for client in clients:
            client.close()


def _deal(client: Client, place: int, servers: int) -> None:
    own = slots_of(place, servers)
    state = _state(client)
    if state["cluster_known_nodes"] == "1" and state["cluster_slots_assigned"] == "0":
        # Refused where another client is at it; servers that find that theirs are the same choose others.
        with contextlib.suppress(ErrorReply):
            client.ask("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        try:
            client.ask("CLUSTER", "ADDSLOTSRANGE", own[0], own[-1])
        except ErrorReply as error:
            if "busy" not in str(error):
                raise


def _agree(endpoints: Sequence[Endpoint], clients: "Sequence[Client]") -> None:
    """Let the first server meet the others, and wait until all of them see all slots served and nobody else."""
    ports = [_bus_port(client, endpoint) for client, endpoint in zip(clients, endpoints)]
    hosts = [_address_of(endpoint) for endpoint in endpoints]
    deadline, meet_at = time.monotonic() + _AGREE_S, 0.0
    while True:
        states = [_state(client) for client in clients]
        if all(
            state["cluster_state"] == "ok"
            and state["cluster_slots_ok"] == str(SLOTS)
            and state["cluster_known_nodes"] == str(len(clients))
            for state in states
        ):
            break
        now = time.monotonic()
        if now > deadline:
            worst = next(state for state in states if state["cluster_state"] != "ok" or state is states[-1])
            raise ClusterError(
                f"the {len(clients)} servers are not one cluster after {_AGREE_S:g} s: "
                + ", ".join(f"{name[8:]} {value}" for name, value in worst.items())
            )
        if now >= meet_at:
            # A server that was stopped for a moment forgets whom it was to meet.
            meet_at = now + _MEET_AGAIN_S
            for endpoint, host, port in list(zip(endpoints, hosts, ports))[1:]:
                clients[0].ask("CLUSTER", "MEET", host, endpoint.port, port)
        time.sleep(_LOOK_S)
    for place, client in enumerate(clients):
        _check(client, place, len(clients))


def _check(client: Client, place: int, servers: int) -> None:
    """Find out whether a server has the slots that we take it to have."""
    own = slots_of(place, servers)
    myself = client.ask("CLUSTER", "MYID")
    found = {(first, last) for first, last, node, *_ in client.ask("CLUSTER", "SLOTS") if node[2] == myself}
    if found != {(own[0], own[-1])}:
        raise ClusterError(f"server {place} has the slots {sorted(found)}, not {own[0]} to {own[-1]}: another cluster's")


def _state(client: Client) -> "dict[str, str]":
    lines = client.ask("CLUSTER", "INFO").decode().splitlines()
    known = dict(line.partition(":")[::2] for line in lines)
    names = ("cluster_state", "cluster_slots_assigned", "cluster_slots_ok", "cluster_known_nodes")
    return {name: known.get(name, "") for name in names}


def _bus_port(client: Client, endpoint: Endpoint) -> int:
    """Return where a server listens for the others."""
    said = client.ask("CONFIG", "GET", "cluster-port")
    return (int(said[1]) if said else 0) or endpoint.port + 10_000


def _address_of(endpoint: Endpoint) -> str:
    """Return the address of a server; it takes no names."""
    return str(socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)[0][4][0])
