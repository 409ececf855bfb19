"""The command line: one file a command, each loaded only when it is asked for.

Nothing is imported here before `main` is ready for an interrupt.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one command and return its exit code; what a user did wrong is told as text, never as a traceback.

    Args:
        arguments: without the program's name; None: those of the process, which ends when this returns.
    """
    try:
        from .signals import Kept

        with Kept(for_good=arguments is None):
            from .entry import invoke

            return invoke(arguments)
    except KeyboardInterrupt:
        return 130
