"""What a node module imports, read from its source: a node has the standard library, our node side and its siblings."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import PluginError

_CORE = "aifactory_bench"
_CORE_NODE = f"{_CORE}.node"
# The oldest Python of a node is 3.9: what the library gained after it is not there.
_NEWER_THAN_NODE = frozenset({"tomllib", "annotationlib", "compression"})
_STANDARD_LIBRARY = sys.stdlib_module_names - _NEWER_THAN_NODE


def node_imports(module: str, path: Path, source: bytes) -> "list[str]":
    """Return the sibling modules that a node module imports; they must travel with it.

    Raises:
        PluginError: the source cannot be read as Python, or imports something that a node does not have.
    """
    try:
        tree = ast.parse(source, str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise PluginError(f"{path}:{line}: node module {module} is not Python: {error}") from None
    package = module.rpartition(".")[0]
    siblings = []
    for statement in _import_statements(tree):
        for name, written in _imported(statement, package, path):
            if _is_sibling(name, package) or (not package and _is_beside(name, path)):
                siblings.append(name)
            elif not _is_on_node(name):
                raise _refused(module, path, statement.lineno, written)
    return siblings


def _import_statements(tree: ast.AST) -> "Iterator[ast.Import | ast.ImportFrom]":
    if isinstance(tree, ast.Import | ast.ImportFrom):
        yield tree
        return
    # What stands under `if TYPE_CHECKING:` is never executed.
    children = tree.orelse if isinstance(tree, ast.If) and _is_type_checking(tree.test) else ast.iter_child_nodes(tree)
    for child in children:
        yield from _import_statements(child)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _imported(statement: "ast.Import | ast.ImportFrom", package: str, path: Path) -> "Iterator[tuple[str, str]]":
    """Yield (module, as written): of `from a import b` either a or a.b, whichever has to be there."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.name, f"import {alias.name}"
        return
    base = statement.module or ""
    written = f"from {'.' * statement.level}{base} import {', '.join(alias.name for alias in statement.names)}"
    if statement.level:
        try:
            base = importlib.util.resolve_name("." * statement.level + base, package)
        except ImportError:
            raise PluginError(
                f"{path}:{statement.lineno}: `{written}`: the module stands in no package that deep",
                "name the module absolutely",
            ) from None
    if base in (package, _CORE):
        for alias in statement.names:
            yield f"{base}.{alias.name}", written
    else:
        yield base, written


def _is_on_node(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in _STANDARD_LIBRARY or name == _CORE_NODE or name.startswith(f"{_CORE_NODE}.")


def _is_sibling(name: str, package: str) -> bool:
    parent, _, last = name.rpartition(".")
    return bool(package) and parent == package and last.endswith("_node")


def _is_beside(name: str, path: Path) -> bool:
    """Whether a module without a package, as those of a loose file, has this one in its own folder."""
    return "." not in name and name.endswith("_node") and path.with_name(f"{name}.py").is_file()


def _refused(module: str, path: Path, line: int, written: str) -> PluginError:
    return PluginError(
        f"{path}:{line}: node module {module}: `{written}` is not there on a node",
        f"a node module may import the standard library of Python 3.9, {_CORE_NODE}, and modules of its own package "
        f"(of a loose file: beside it) whose name ends in `_node`",
    )
