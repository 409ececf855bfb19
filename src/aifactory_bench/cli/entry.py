"""From the arguments to an exit code: the root command and what becomes of errors."""

from collections.abc import Sequence
from typing import Any

import click

from ..errors import AifactoryBenchError
from .exits import worst
from .group import CommandGroup
from .messages import explain, explain_output, show_error
from .signals import let_go
from .streams import safe_streams

_KEEPING_SIGNALS = frozenset({"run", "attach"})
"""Commands whose runs act on signals, those included that came before there was a run."""


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    click.echo(f"aifactory-bench {version('aifactory-bench')}")
    context.exit()


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 valid, 1 a measurement is missing, 2 bad recipe or usage, 3 a measurement is invalid, "
    "4 detached, 130 interrupted.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
@click.pass_context
def root(context: click.Context) -> None:
    """Benchmark AI services from one recipe, with numbers that say when they cannot be trusted."""
    if context.invoked_subcommand not in _KEEPING_SIGNALS:
        let_go()


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C where no run was under way.
    """
    with safe_streams() as output:
        code = _invoke(arguments)
        if output is not None and output.lost is not None:
            problem = explain_output(output.lost)
            show_error(problem)
            code = worst([code, problem.exit_code])
    return code


def _invoke(arguments: Sequence[str] | None) -> int:
    try:
        code: Any = root.main(
            None if arguments is None else list(arguments), prog_name="aifactory-bench", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except (AifactoryBenchError, OSError) as error:
        problem = explain(error)
        show_error(problem)
        return problem.exit_code
    return code if isinstance(code, int) else 0
