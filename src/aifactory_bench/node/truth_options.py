"""What the truth server may be told about an answer: by options of the program, and by a request in its field `afb`."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from .truth_delays import Delay, delay_of, stall_of

MOST_TOKENS = _MOST = 1_000_000
_KNOWN_MOST = 1000
_TTFT, _GAP, _SEGMENT_GAP = delay_of("50ms"), delay_of("10ms"), delay_of("200us")


def _option(default: Any, convert: "Callable[[object], Any]", text: str) -> Any:
    return field(default=default, metadata={"convert": convert, "text": text})


def _whole(low: int, high: int = _MOST) -> "Callable[[object], int]":
    def convert(value: object) -> int:
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, found {value!r}")
        return value

    return convert


def _one_of(*names: str) -> "Callable[[object], str]":
    def convert(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"must be one of {', '.join(names)}; found {value!r}")
        return value

    return convert


def _yes_or_no(value: object) -> bool:
    if value in (True, "yes", "true"):
        return True
    if value in (False, "no", "false"):
        return False
    raise ValueError(f"must be yes or no, found {value!r}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text, found {value!r}")
    checked_text(value)
    return value


def checked_text(value: str) -> None:
    """Refuse halves of characters, which JSON can hold and an answer cannot.

    Raises:
        ValueError: the text has some.
    """
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"must be a text of whole characters, found {value!r}")


def status_of(value: object) -> int:
    """Return the status of an error, or 0.

    Raises:
        ValueError: it is none.
    """
    status = _whole(0, 599)(value)
    if 0 < status < 400:
        raise ValueError(f"must be 0, or a status from 400 to 599, found {value!r}")
    return status


def _share(value: object) -> float:
    try:
        share = float(value) if isinstance(value, (str, int, float)) else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"must be a number from 0 to 1, found {value!r}")
    return share


def _list_of(convert: "Callable[[object], Any]") -> "Callable[[object], Tuple[Any, ...]]":
    def convert_all(value: object) -> "Tuple[Any, ...]":
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(convert(part) for part in (parts if isinstance(parts, (list, tuple)) else (parts,)))

    return convert_all


def _sizes(value: object) -> "Tuple[int, ...]":
    sizes = _list_of(_whole(1, 10_000))(value)
    if not sizes:
        raise ValueError("must hold at least one number of tokens")
    return sizes


@dataclass(frozen=True)
class Options:
    """How an answer is given. Names are those of the program's options (with `-`) and of the keys in `afb` (with `_`)."""

    ttft: Delay = _option(_TTFT, delay_of, "from the request's arrival, or its slot, to the first token")  # noqa: RUF009 - never changed
    gap: Delay = _option(_GAP, delay_of, "delay between chunks")  # noqa: RUF009 - never changed
    tokens: Optional[int] = _option(
        None, _whole(0), "output tokens, at most what the request allows (default: what it allows, 16 if it does not say)"
    )
    tokens_per_chunk: Tuple[int, ...] = _option(
        (1,), _sizes, "tokens in a chunk; several numbers with commas are taken in turn"
    )
    prompt_tokens: Optional[int] = _option(None, _whole(0), "prompt tokens to state (default: words of the prompt)")
    cached_tokens: Optional[int] = _option(None, _whole(0), "cached prompt tokens to state in the usage (default: none)")
    reasoning: int = _option(0, _whole(0), "so many of the output tokens come first, as reasoning")
    role: str = _option(
        "at_once",
        _one_of("at_once", "before_first", "with_first", "none"),
        "chat: the role in a chunk of its own at once, or right before the first token, or in its chunk, or never",
    )
    header: str = _option(
        "at_once", _one_of("at_once", "with_first"), "when the head of the answer is sent: at once, or with the first token"
    )
    finish: str = _option(
        "with_last", _one_of("with_last", "own"), "the reason of the end in the last token's chunk, or in a chunk of its own"
    )
    empty_before: int = _option(0, _whole(0, 1000), "chunks without text, evenly spread before the first token")
    empty_every: int = _option(0, _whole(0), "a chunk without text and token half a gap after every so many chunks; 0: never")
    usage: str = _option(
        "asked",
        _one_of("asked", "own", "last", "every", "none"),
        "usage as the request asks for it, or in a chunk of its own, in the last token's chunk, "
        "in every chunk and one of its own, nowhere",
    )
    stall: Tuple[Tuple[int, int], ...] = _option(
        (), _list_of(stall_of), "TOKENS:PAUSE, after so many tokens a pause; repeatable"
    )
    error_status: int = _option(0, status_of, "answer with this status and an error in place of a stream; 0: do not")
    error_after: Optional[int] = _option(None, _whole(0), "after so many chunks an error inside the stream")
    error_event: bool = _option(False, _yes_or_no, "that error as an event called `error`, where the protocol has events")
    error_message: str = _option("made to fail", _text, "what an error says")
    abort_after: Optional[int] = _option(None, _whole(0), "after so many chunks the connection is given up")
    abort: str = _option("close", _one_of("close", "reset"), "how it is given up: closed, or reset")
    fault_share: float = _option(1.0, _share, "share of requests that meet error_status, error_after, abort_after")
    done: bool = _option(True, _yes_or_no, "end an event stream with [DONE]")
    line_end: str = _option("lf", _one_of("lf", "crlf"), "line ends of an event stream")
    comment_every: int = _option(0, _whole(0), "a comment before every so many events, and one with the head; 0: none")
    text: str = _option("plain", _one_of("plain", "utf8"), "words of ASCII letters, or words that hold longer characters")
    segment_bytes: int = _option(0, _whole(0), "cut what is sent at random into pieces of 1 to so many bytes; 0: do not")
    segment_gap: Delay = _option(_SEGMENT_GAP, delay_of, "delay between such pieces")  # noqa: RUF009 - never changed
    seed: Optional[int] = _option(
        None, _whole(0, 2**63), "of this request's draws (default: the server's seed and the request's number)"
    )
    truth: bool = _option(False, _yes_or_no, "stamp every JSON object of an answer, as the request's `afb_truth: true` does")

    def draws(self) -> bool:
        """Return whether anything about an answer is random."""
        constant = min(self.ttft.constant_ns, self.gap.constant_ns) >= 0
        return not constant or self.segment_bytes > 0 or 0 < self.fault_share < 1

    def changed(self, given: "Mapping[str, object]", place: "Callable[[str], str]" = "afb.{}".format) -> "Options":
        """Return these options with some changed; place: what an error calls an option of some name.

        Raises:
            ValueError: a name that there is not, or a value that cannot be.
        """
        return replace(self, **{name: converted(name, value, place(name)) for name, value in given.items()}) if given else self


class Choices:
    """Options as requests change them; the same changes are worked out once."""

    def __init__(self, defaults: Options) -> None:
        self._defaults = defaults
        self._known: "Dict[str, Options]" = {}

    def of(self, given: object, *, truth: bool) -> Options:
        """Return the options of a request with this field `afb`; truth: it wants stamps.

        Raises:
            ValueError: the field is wrong; the text says where and what would be right.
        """
        name = f"{truth}{given!r}"
        known = self._known.get(name)
        if known is None:
            if not isinstance(given, dict):
                raise ValueError(f"afb: must be an object with options, found {given!r}")
            known = self._defaults.changed(given)
            if truth:
                known = replace(known, truth=True)
            if len(self._known) < _KNOWN_MOST:
                self._known[name] = known
        return known


_CONVERT: "Dict[str, Callable[[object], Any]]" = {item.name: item.metadata["convert"] for item in fields(Options)}
TEXTS: "Dict[str, Tuple[str, Any]]" = {item.name: (item.metadata["text"], item.default) for item in fields(Options)}
"""Name -> what it is for, and its default."""


def converted(name: str, value: object, place: str) -> Any:
    """Return the value of an option out of what was given.

    Raises:
        ValueError: there is no such option, or the value cannot be; the text begins with `place`.
    """
    if name not in _CONVERT:
        raise ValueError(f"{place}: there is no such option; there are: {', '.join(sorted(_CONVERT))}")
    try:
        return _CONVERT[name](value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{place}: {error}") from None
