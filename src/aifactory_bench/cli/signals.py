"""SIGINT and SIGTERM while nobody can act on them: before a command is known, and after its end."""

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

NUMBERS = (signal.SIGINT, signal.SIGTERM)

_came: list[int] = []
_former: dict[int, Any] = {}


class Kept:
    """Keeps signals for a command that will ask for them, so that none is lost and none breaks into an import.

    Args:
        for_good: the process ends with the context: a signal after that comes too late to change its exit code.
    """

    def __init__(self, *, for_good: bool) -> None:
        self._for_good = for_good

    def __enter__(self) -> None:
        for number in NUMBERS:
            try:
                _former[number] = signal.signal(number, lambda number, _frame: _came.append(number))
            except ValueError:  # on another thread than the first: signals are not ours
                return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None") -> None:
        _came.clear()
        for number, handler in _former.items():
            signal.signal(number, signal.SIG_IGN if self._for_good else handler)
        _former.clear()


def came() -> bool:
    """Tell whether a signal has been kept."""
    return bool(_came)


def let_go() -> None:
    """Give signals the meaning back that they had; those that were kept have it now."""
    for number, handler in _former.items():
        signal.signal(number, handler)
    for number in tuple(_came):
        signal.raise_signal(number)
