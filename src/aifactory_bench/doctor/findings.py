"""What an examination of a site comes to."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Optional

from attrs import field, frozen

State = Literal["ok", "warn", "fail", "skipped"]
SCHEMA = "aifactory-bench/doctor/1"


@frozen
class Finding:
    """What came of one check."""

    check: str
    state: State
    """`warn`: runs work, and something is slower, missing or worth knowing; `skipped`: it was not looked at."""
    text: str
    """What was found; where it is bad, the cause."""
    fix: str = ""
    """What to do about it."""

    def __str__(self) -> str:
        """Return one line, with the fix behind it."""
        return f"{self.check}: {self.text}" + (f"; {self.fix}" if self.fix else "")


@frozen
class Diagnosis:
    """Everything that was found about a site."""

    site: str
    findings: "tuple[Finding, ...]"

    @property
    def ok(self) -> bool:
        """Whether nothing fails."""
        return not self.failed

    @property
    def failed(self) -> "tuple[Finding, ...]":
        """The findings that fail."""
        return tuple(finding for finding in self.findings if finding.state == "fail")

    @property
    def exit_code(self) -> int:
        """0 when nothing fails, else 1."""
        return 0 if self.ok else 1

    def of(self, check: str) -> Finding:
        """Return what came of a check.

        Raises:
            KeyError: there is no such check.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(check)

    def to_json(self) -> "dict[str, Any]":
        """Return what `--json` prints."""
        findings = [{"check": one.check, "state": one.state, "text": one.text, "fix": one.fix or None} for one in self.findings]
        return {"schema": SCHEMA, "site": self.site, "ok": self.ok, "findings": findings}


@frozen
class Report:
    """Findings as they are made."""

    listener: Optional[Callable[[Finding], None]] = None
    findings: "list[Finding]" = field(factory=list)

    def ok(self, check: str, text: str) -> None:
        """Note that a check is passed."""
        self._add(Finding(check, "ok", text))

    def warn(self, check: str, text: str, fix: str) -> None:
        """Note what is worth knowing and stops no run."""
        self._add(Finding(check, "warn", text, fix))

    def fail(self, check: str, text: str, fix: str) -> None:
        """Note what stops runs."""
        self._add(Finding(check, "fail", text, fix))

    def skip(self, check: str, why: str) -> None:
        """Note what was not looked at, and why."""
        self._add(Finding(check, "skipped", why))

    def failed(self, *checks: str) -> "tuple[str, ...]":
        """Return those of the checks that failed; of all where none is named."""
        return tuple(one.check for one in self.findings if one.state == "fail" and (not checks or one.check in checks))

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        if self.listener is not None:
            self.listener(finding)


def counted(findings: "tuple[Finding, ...]") -> Mapping[str, int]:
    """Return how many findings there are of each state."""
    return {state: sum(one.state == state for one in findings) for state in ("ok", "warn", "fail", "skipped")}
