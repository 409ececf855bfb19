"""The documentation is true: every block runs, every link leads somewhere, every error has its place.

Blocks of a page run from top to bottom in one folder. What a language means:

- `yaml`: a recipe or site profile (with `schema:`) is kept as `<its name>.yaml` and must be valid; anything else must be YAML;
- `python`: is executed; all blocks of a page share their names;
- `console`: each `$ command` is run; the lines below are what it prints, `...` standing for anything, `[2]` for its exit code;
- `sh`: is run by bash; `json`, `toml`: must be that; anything else is only text.

A block below a comment that begins with `<!-- not run:` is left alone; the comment says why. One below
`<!-- needs: PROGRAM -->` is left alone where the program is not installed, but never with CI=true.
Output of `--help` is brought up to date by `AFB_UPDATE_DOCS=1 pytest tests/test_docs.py`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from aifactory_bench import errors, load_site
from aifactory_bench.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"yaml", "python", "console", "sh", "json", "toml", "text", "make", "{toctree}", "{include}"}


@dataclass
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Of its first line of text."""
    language: str
    text: str
    left_alone: bool

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    number, comment = 0, ""
    while number < len(lines):
        line = lines[number]
        if fence := re.match(r"(\s*)(`{3,})(.*)$", line):
            first = number + 1
            number = next(at for at in range(first, len(lines)) if lines[at].strip() == fence[2])
            text = "\n".join(inner.removeprefix(fence[1]) for inner in lines[first:number]) + "\n"
            yield Block(page, first + 1, (fence[3].split() or ["text"])[0], text, _is_left_alone(comment))
            comment = ""
        elif line.strip():
            comment = line.strip()
        number += 1


def _is_left_alone(comment: str) -> bool:
    needed = re.match(r"<!-- needs: (\S+)", comment)
    missing = needed is not None and shutil.which(needed[1]) is None and os.environ.get("CI") != "true"
    return missing or comment.startswith("<!-- not run:")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipes, where the program is on the path."""
    folder = tmp_path / "work"
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copytree(ROOT / "plugins", folder / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page: Path, workplace: Path) -> None:
    """What a reader may copy works as it stands."""
    if os.environ.get("AFB_UPDATE_DOCS") == "1":
        _update_help(page)
    names: dict[str, Any] = {"__name__": "docs"}
    for block in _blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: nobody has said what to do with {block.language!r}"
        if not block.left_alone:
            _run(block, names, workplace)


def _run(block: Block, names: dict[str, Any], workplace: Path) -> None:
    match block.language:
        case "yaml":
            _yaml(block, workplace)
        case "python":
            # Line numbers of a failure are those of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)
        case "console":
            for command, expected in _commands(block.text):
                _compare(block, command, expected)
        case "sh":
            done = subprocess.run(["bash", "-euc", block.text], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"
        case "json":
            json.loads(block.text)
        case "toml":
            tomllib.loads(block.text)


def _yaml(block: Block, workplace: Path) -> None:
    document = YAML(typ="safe").load(StringIO(block.text))
    if isinstance(document, dict) and document.get("schema") == "aifactory-bench/site/1":
        path = workplace / f"{document['name']}.yaml"
        path.write_text(block.text)
        assert load_site(str(path)).name == document["name"], block.place
    elif isinstance(document, dict) and "schema" in document:
        path = workplace / f"{document['name']}.yaml"
        path.write_text(block.text)
        assert main(["validate", path.name]) == 0, block.place


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command with what it is to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def _compare(block: Block, command: str, expected: str) -> None:
    code = 0
    if exit_code := re.search(r"^\[(\d+)\]\n\Z", expected, flags=re.MULTILINE):
        code, expected = int(exit_code[1]), expected[: exit_code.start()]
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = f"{block.place}: $ {command}\n{done.stdout}"
    # Numbers of a machine that others use at the same time may be invalid; that they are there is what is shown.
    assert done.returncode in ({code, 3} if " run " in command else {code}), said
    pattern = re.escape(expected).replace(re.escape("...\n"), r"(?s:.*)").replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, done.stdout), f"{said}\nexpected:\n{expected}"


def _update_help(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for found in re.findall(
        r"^```console\n\$ (aifactory-bench [a-z ]*--help)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL
    ):
        command, before = found
        now = subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
        text = text.replace(f"$ {command}\n{before}```", f"$ {command}\n{now}```")
    page.write_text(text, encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files that are linked to exist, and so do the headings."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: no such file: {target}"
        assert not anchor or anchor in _anchors(file), f"{page.name}: no such heading: {target}"


@pytest.mark.parametrize(
    "error",
    [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.AifactoryBenchError)],
    ids=lambda cls: cls.__name__,
)
def test_every_error_has_its_heading(error: type[errors.AifactoryBenchError]) -> None:
    """`docs/errors.md` has each error with its code and exit code."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {error.__name__}\n\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section, f"no heading for {error.__name__}"
    assert section[1].startswith(f"Code `{error.code}`, exit code {error.exit_code}.")


def test_every_command_has_its_heading() -> None:
    """`docs/cli.md` has a heading for each command, in the order of the help."""
    from aifactory_bench.cli.group import OWN

    headings = re.findall(r"^## ([a-z]+)$", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == list(OWN)


def test_every_page_is_in_the_table_of_contents() -> None:
    """A page that nobody links to is not found."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = {line.strip() for block in re.findall(r"```{toctree}(.*?)```", index, re.DOTALL) for line in block.splitlines()}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"} <= listed


def test_text_speaks_of_this_project_only() -> None:
    """No path of the machine it was written on."""
    for page in PAGES:
        assert not re.search(r"/work/|/root/|\.pyenv", page.read_text(encoding="utf-8")), page
