"""Options of the commands, read as getopt_long reads them."""

from collections.abc import Sequence


class Answer(Exception):  # a command may answer from anywhere
    """What a command prints, and its exit code; raised where there is nothing more to do."""

    def __init__(self, stdout: str = "", stderr: str = "", code: int = 0) -> None:
        super().__init__(stdout, stderr, code)
        self.stdout = stdout
        self.stderr = stderr
        self.code = code


class Options:
    """The options of one program: `"partition=,p"` takes a value, `"nice?"` may take one, `"hold,H"` takes none."""

    def __init__(self, program: str, specification: str, *, code: int = 1, stop_early: bool = False) -> None:
        self._program = program
        self._code = code
        self._stop_early = stop_early
        self.names: dict[str, str] = {}
        """Long names, and whether each takes a value: `=`, `?` or empty."""
        self._short: dict[str, str] = {}
        for word in specification.split():
            name, _, letter = word.partition(",")
            kind = name[-1] if name[-1] in "=?" else ""
            name = name.rstrip("=?")
            self.names[name] = kind
            if letter:
                self._short[letter] = name

    def parse(self, arguments: "Sequence[str]") -> "tuple[dict[str, str], list[str]]":
        """Return values by long name ("" for an option without one) and the other arguments.

        Raises:
            Answer: an option that there is not.
        """
        found: dict[str, str] = {}
        others: list[str] = []
        left = list(arguments)
        while left:
            word = left.pop(0)
            if word == "--":
                others += left
                break
            if word.startswith("--"):
                self._take_long(word, left, found)
            elif word.startswith("-") and word != "-":
                self._take_short(word, left, found)
            else:
                others.append(word)
                if self._stop_early:
                    others += left
                    break
        return found, others

    def _take_long(self, word: str, left: "list[str]", found: "dict[str, str]") -> None:
        text, equals, value = word[2:].partition("=")
        names = [text] if text in self.names else [name for name in self.names if name.startswith(text)]
        if not names:
            raise self._refused(f"unrecognized option '{word}'")
        if len(names) > 1:
            possible = " ".join(f"'--{name}'" for name in names)
            raise self._refused(f"option '{word}' is ambiguous; possibilities: {possible}")
        kind = self.names[names[0]]
        if equals and not kind:
            raise self._refused(f"option '--{names[0]}' doesn't allow an argument")
        if kind == "=" and not equals:
            if not left:
                raise self._refused(f"option '--{names[0]}' requires an argument")
            value = left.pop(0)
        found[names[0]] = value

    def _take_short(self, word: str, left: "list[str]", found: "dict[str, str]") -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter not in self._short:
                raise self._refused(f"invalid option -- '{letter}'")
            name = self._short[letter]
            kind = self.names[name]
            found[name] = ""
            if kind == "=" and not letters and not left:
                raise self._refused(f"option requires an argument -- '{letter}'")
            if kind == "=":
                found[name] = letters or left.pop(0)
            elif kind == "?":
                found[name] = letters
            if kind:
                break

    def _refused(self, text: str) -> Answer:
        return Answer("", f'{self._program}: {text}\nTry "{self._program} --help" for more information\n', self._code)
