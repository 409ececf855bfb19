"""Programs on this machine."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from aifactory_bench.errors import NotExecutedError, OutcomeUnknownError
from aifactory_bench.transports.base import Completed
from aifactory_bench.transports.local import LocalTransport


def _run(program: str, *arguments: str, **options: object) -> Completed:
    return asyncio.run(LocalTransport().run(program, *arguments, **options))


def test_a_program_runs() -> None:
    done = _run('printf "%s|" "$@"; cat; echo words >&2; exit 3', "a b", "it's", stdin=b"\0\xff")
    assert done == Completed(3, b"a b|it's|\0\xff", b"words\n")


def test_much_goes_both_ways_at_once() -> None:
    """More than any pipe holds, and nobody waits for the other for ever."""
    data = os.urandom(8 << 20)
    assert _run("cat", stdin=data).stdout == data


def test_input_that_nobody_reads_does_no_harm() -> None:
    assert _run("exit 4", stdin=bytes(8 << 20)).exit_code == 4


def test_too_much_output_is_given_up() -> None:
    with pytest.raises(OutcomeUnknownError, match="more than 64 MiB"):
        _run("cat /dev/zero")


def test_what_a_program_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    """Though it holds the output open. Standard error that comes a little later is."""
    program = '(sleep 0.5; echo late >&2; exec sleep 600) & echo $! > "$1"; echo answer'
    done = _run(program, str(tmp_path / "pid"), timeout_s=500)
    assert (done.exit_code, done.stdout, done.stderr) == (0, b"answer\n", b"late\n")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_time_that_is_up() -> None:
    with pytest.raises(OutcomeUnknownError, match="limit of 1 s"):
        _run("sleep 600", timeout_s=1)


def _exists(path: Path) -> bool:
    return path.exists()


def test_one_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    """Nor anything that its program started; the guard of all tests looks for them."""

    async def check() -> None:
        task = asyncio.create_task(LocalTransport().run('echo $$ > "$1"; sleep 600', str(tmp_path / "pid")))
        while not _exists(tmp_path / "pid"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())


def test_many_at_once() -> None:
    async def check() -> None:
        transport = LocalTransport()
        done = await asyncio.gather(*(transport.run('echo "$1"', str(number)) for number in range(40)))
        assert [int(one.stdout) for one in done] == list(range(40))
        await transport.close()

    asyncio.run(check())


def test_no_process_is_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    async def check() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "subprocess_exec", refuse)
        with pytest.raises(NotExecutedError, match="temporarily unavailable"):
            await LocalTransport().run("true")

    asyncio.run(check())
