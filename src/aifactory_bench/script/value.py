"""A batch script as a value, and its text."""

import shlex
from collections.abc import Mapping

from attrs import field, frozen

from ..errors import UsageError
from ..node.spec import Spec, spec_to_json
from ..recipe.model import VARIABLE, Resources
from ..sites.rules import NodeShape, Rules
from .commands import Argument, Command, Joined, Placeholder
from .header import header_lines, header_options
from .ruled import srun_words

_DELIMITER = "AFB_SPECIFICATION"
_KEYWORDS = frozenset(
    {
        *("case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then"),
        *("time", "until", "while"),
    }
)


@frozen
class Script:
    """One job as it is submitted; nothing in it is an address or a secret."""

    token: str
    run_folder: str
    """On the site, absolute."""
    spec: Spec
    node_digest: str
    python: str
    resources: Resources = field(factory=Resources)
    scheduler: Mapping[str, str] = field(factory=dict)
    """Scheduler options of the site, long name -> value; an empty value is a flag."""
    modules: "tuple[str, ...]" = ()
    setup: "tuple[str, ...]" = ()
    """Shell lines of the site's administrator."""
    commands: "tuple[Command, ...]" = ()
    """The job's own setup commands."""
    argv: "tuple[str, ...]" = ()
    """What supervise runs, encoded; empty for a client."""
    srun: bool = False
    """Whether ranks are started by `srun`; otherwise the node side starts them."""
    rules: Rules = field(factory=Rules)
    """Of the site."""
    shapes: Mapping[str, NodeShape] = field(factory=dict)
    """Partition -> what its nodes have."""

    def options(self) -> "dict[str, str | None]":
        """Return what the scheduler is asked for: long name -> value, None for an option without one.

        Raises:
            SiteError: the site sets a scheduler option that is not its to set.
        """
        return header_options(
            token=self.token,
            log=f"{self.run_folder}/jobs/{self.token}/log",
            time_s=self.spec.time_s,
            ranks=self.spec.ranks,
            resources=self.resources,
            scheduler=self.scheduler,
            rules=self.rules,
            shapes=self.shapes,
        )

    def text(self) -> str:
        """Return the script, exactly as submitted.

        Raises:
            SiteError: the site sets a scheduler option that is not its to set.
            UsageError: a text cannot stand in a command at all.
        """
        options = self.options()
        lines = ["#!/bin/bash", *header_lines(options)]
        lines += ["", "set -eu"]
        site = [*self.setup, *(f"module load {_quoted(name)}" for name in self.modules)]
        if site:
            lines += ["set +u  # what a site sets up may read variables that are not there", *site, "set -u"]
        lines += [_setup_line(command) for command in self.commands]
        lines += [
            "umask 077",
            f"export AFB_RUN_DIR={_quoted(self.run_folder)}",
            f'AFB_JOB_DIR="$AFB_RUN_DIR/jobs/{self.token}"',
            'mkdir -p "$AFB_JOB_DIR"',
            # Written beside and moved, because an earlier execution of the same script may be reading it.
            f"cat > \"$AFB_JOB_DIR/spec.json.$$\" <<'{_DELIMITER}'",
            spec_to_json(self.spec),
            _DELIMITER,
            'mv -f "$AFB_JOB_DIR/spec.json.$$" "$AFB_JOB_DIR/spec.json"',
        ]
        if self.rules.cpus_per_task_export and "cpus-per-task" in options:
            lines.append(f"export SRUN_CPUS_PER_TASK={options['cpus-per-task']}  # srun does not take it from the job")
        lines.append("exec " + self._last_line(options))
        return "\n".join(lines) + "\n"

    def _last_line(self, options: Mapping[str, str | None]) -> str:
        node = f'{_quoted(self.python)} "$AFB_RUN_DIR/node-{self.node_digest}.pyz"'
        supervise = f'{node} supervise "$AFB_JOB_DIR/spec.json"'
        if self.argv:
            supervise += " -- " + " ".join(_quoted(argument) for argument in self.argv)
        if self.srun:
            return " ".join([*srun_words(self.rules, options, self.spec.ranks), supervise])
        return supervise if self.spec.ranks == 1 else f"{node} ranks {self.spec.ranks} -- {supervise}"


def _setup_line(command: Command) -> str:
    """Return one line of bash; a first word that would be a keyword or an assignment is put in quotes."""
    for name in command.environment:
        if not VARIABLE.fullmatch(name):
            raise TypeError(f"{name!r} is not the name of an environment variable")
    words = [f"{name}={_quoted(_text(value))}" for name, value in command.environment.items()]
    program, *arguments = (_quoted(_text(argument)) for argument in command.argv)
    words.append(f"'{program}'" if program in _KEYWORDS or "=" in program.partition("'")[0] else program)
    return " ".join(words + arguments)


def _text(argument: Argument) -> str:
    """Return an argument that the batch script itself can give: one without placeholders."""
    if isinstance(argument, Placeholder | Joined):
        raise TypeError(f"a setup command runs before anything is known of the node, so it cannot hold {argument!r}")
    return str(argument)


def _quoted(text: str) -> str:
    """Return text as exactly one word of bash."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{text!r} holds a character that no command can carry", "leave the character out")
    return shlex.quote(text)
