"""Secrets by reference: where one is, never what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aifactory_bench import RecipeError
from aifactory_bench.recipe.model import External
from aifactory_bench.recipe.references import check_reference, read_secret

RECIPE = """schema: aifactory-bench/1
name: base
services:
  api: {external: {url: "http://host:80", secret: REFERENCE}}
"""


def test_a_reference_is_read_as_it_stands(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked up when a recipe is loaded."""
    monkeypatch.delenv("TOKEN", raising=False)
    (entry,) = load(RECIPE.replace("REFERENCE", '"env:TOKEN"')).services
    assert entry.external == External("http://host:80", "env:TOKEN")


@pytest.mark.parametrize(
    "written",
    ["sk-hunter2", "env:", "env:hunter2-x", "env:2hunter2", "file:hunter2", "file:~/hunter2", "Env:hunter2", "hunter2:x", ""],
)
def test_anything_else_is_refused_and_not_shown(load: Callable[..., Any], written: str) -> None:
    """It may be the secret itself."""
    with pytest.raises(RecipeError, match=r"services\.api\.external\.secret: must say where the secret is") as error:
        load(RECIPE.replace("REFERENCE", f'"{written}"'))
    assert "hunter2" not in str(error.value)
    assert "env:NAME or file:/path" in str(error.value)


def test_blanks_around_it_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files end with a line end."""
    monkeypatch.setenv("TOKEN", " a b\t")
    (tmp_path / "token").write_text("\u00e4 \n")
    assert read_secret("env:TOKEN") == "a b"
    assert read_secret(f"file:{tmp_path}/token") == "\u00e4"


def test_what_is_no_secret_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each with its reference, and without its value."""
    monkeypatch.setenv("TOKEN", "hunter2\nhunter2")
    (tmp_path / "long").write_text("hunter2" * 5000)
    (tmp_path / "empty").touch()
    for reference, text in {
        "env:TOKEN": "control characters",
        "env:NOT_THERE_AT_ALL": "is not set",
        f"file:{tmp_path}/long": "at most 16384 characters",
        f"file:{tmp_path}/empty": "is empty",
        f"file:{tmp_path}/none": "cannot be read",
        f"file:{tmp_path}": "is no file",
    }.items():
        check_reference(reference)
        with pytest.raises(ValueError, match=text) as error:
            read_secret(reference)
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["redis://db:6379", "http://host:80", "https://host:8443/v1", "https://api.example.org", "http://[::1]/v1"]
)
def test_urls(url: str) -> None:
    """Only http and https have a port of their own."""
    assert External(url).url == url


@pytest.mark.parametrize(
    "url", ["redis://db", "https://host:0", "https://host:70000", "https://user:x@host", "https://", "host:80"]
)
def test_what_is_no_url(url: str) -> None:
    """A port, no user and no password."""
    with pytest.raises(ValueError, match="must be scheme://host:port without user or password"):
        External(url)
