"""Values in a command that are known only on the node, written inside plain strings.

In an encoded string `@{name}` stands for a value and `@@` for one `@`; no other `@` occurs. Every string of a
command is encoded, so a recipe's own `@{port}` stays what it is: text.

Names: `port` (own port), `port.peers` (10000 above it, or below where that is none: for servers that talk to each other on a
second one; nobody holds it), `bind` (address to listen on), `host` (own host name), `rank`, `replicas`, `folder` (private
work folder), `log`, `secret` (own service's password), `python`, `node` (the zipapp), and for clients
`endpoint.<role>.<replica>.host`, `.port`, `.url`, `.secret`; for tools also `raw` (folder for output), `seed`,
`seed.point` (another one at each point and repetition), `share.<name>` (this rank's share of a load figure: `rate`,
`concurrency`, `connections`, `requests`).
"""

import re
from typing import Mapping

_TOKEN = re.compile(r"@(?:@|\{([a-z0-9_.-]+)\}|)")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


def literal(text: str) -> str:
    """Encode text that holds no placeholder."""
    return text.replace("@", "@@")


def placeholder(name: str) -> str:
    """Encode one placeholder.

    Raises:
        ValueError: the name has characters that a placeholder cannot have.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a placeholder's name: {name!r}")
    return "@{" + name + "}"


def names(encoded: str) -> "tuple[str, ...]":
    """Return the placeholders of an encoded string, in order."""
    return tuple(match[1] for match in _TOKEN.finditer(encoded) if match[1])


def resolve(encoded: str, values: Mapping[str, str]) -> str:
    """Return the string with every placeholder filled in.

    Raises:
        ValueError: a placeholder has no value here, or the string is not an encoded one.
    """

    def value(match: "re.Match[str]") -> str:
        if match[0] == "@@":
            return "@"
        if match[1] is None:
            raise ValueError(f"a lone '@' in {encoded!r}")
        if match[1] not in values:
            raise ValueError(f"@{{{match[1]}}} has no value here; known: {', '.join(sorted(values)) or 'none'}")
        return values[match[1]]

    return _TOKEN.sub(value, encoded)
