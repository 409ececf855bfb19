"""Lists of nodes: `node[1-3,7]`."""

from collections.abc import Iterator


def expand(text: str) -> "list[str]":
    """Return the names of a list; what is none is the name of nothing, and comes back as it is."""
    try:
        return [name for part in _split(text) for name in _expand_one(part)]
    except ValueError:
        return [text]


def _split(text: str) -> "Iterator[str]":
    """Yield what stands between commas outside brackets."""
    depth, begin = 0, 0
    for at, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            raise ValueError(text)
        if character == "," and not depth:
            yield text[begin:at]
            begin = at + 1
    if depth:
        raise ValueError(text)
    yield text[begin:]


def _expand_one(text: str) -> "Iterator[str]":
    prefix, bracket, rest = text.partition("[")
    if not bracket:
        yield text
        return
    ranges, _, suffix = rest.partition("]")
    for part in ranges.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(text)
        for number in range(int(first), int(last or first) + 1):
            for end in _expand_one(suffix):
                yield f"{prefix}{number:0{len(first)}d}{end}"


def compress(names: "list[str]") -> str:
    """Return a list for names that differ in the number they end with."""
    groups: dict[tuple[str, int], list[int]] = {}
    for name in names:
        prefix = name.rstrip("0123456789")
        digits = name[len(prefix) :]
        padded = len(digits) if digits.startswith("0") else 0
        groups.setdefault((prefix, padded), []).append(int(digits) if digits else -1)
    return ",".join(_group(prefix, width, sorted(numbers)) for (prefix, width), numbers in groups.items())


def _group(prefix: str, width: int, numbers: "list[int]") -> str:
    if numbers == [-1]:
        return prefix
    text = ranges(numbers, width)
    return f"{prefix}[{text}]" if len(numbers) > 1 else f"{prefix}{text}"


def ranges(numbers: "list[int]", width: int = 0) -> str:
    """Return sorted numbers as `1-3,7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(f"{number:0{width}d}" for number in part) for part in parts)
