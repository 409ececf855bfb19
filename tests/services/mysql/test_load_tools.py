"""`images/load-tools.def`: what can be said of a definition without building it."""

import re
import subprocess
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "images" / "load-tools.def"
SECTIONS = {"arguments", "setup", "files", "pre", "post", "environment", "runscript", "startscript", "test", "labels", "help"}
"""Of Apptainer's definition files; those of apps are not used."""
SHELL = ("post", "environment", "test")
PACKAGES = {
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "memtier_benchmark": "memtier-benchmark",
    "pgbench": "postgresql-15",
    "psql": "postgresql-15",
    "sysbench": "sysbench",
    "mariadb": "mariadb-client",
    "python3": "python3",
}
"""Program -> package of Debian 12, or of the vendor, that brings it."""


@pytest.fixture(scope="module")
def definition():
    """Header and sections."""
    header, sections, name = {}, {}, None
    for line in PATH.read_text().splitlines():
        if found := re.fullmatch(r"%(\w+)(.*)", line):
            name = found[1]
            assert name not in sections, f"%{name} is there twice"
            assert not found[2].strip(), f"%{name} has arguments"
            sections[name] = []
        elif name is not None:
            assert not line or line.startswith("    "), f"not indented: {line!r}"
            sections[name].append(line)
        elif line and not line.startswith("#"):
            key, _, value = line.partition(": ")
            header[key] = value.strip()
    return header, {name: "\n".join(lines) for name, lines in sections.items()}


def test_sections_are_those_that_apptainer_knows(definition):
    header, sections = definition
    assert set(header) == {"Bootstrap", "From"}
    assert set(sections) <= SECTIONS
    assert {"post", "test", "help", "labels", "environment"} <= set(sections)


def test_the_base_is_pinned(definition):
    header, sections = definition
    assert header["Bootstrap"] == "docker"
    assert re.fullmatch(r"debian:\d+\.\d+-slim(@sha256:[0-9a-f]{64})?", header["From"])
    major = int(header["From"].removeprefix("debian:").partition(".")[0])
    assert {11: "bullseye", 12: "bookworm", 13: "trixie"}[major] in sections["post"], "packages of the same release"


@pytest.mark.parametrize("section", SHELL)
def test_its_scripts_are_shell(definition, section):
    text = definition[1][section]
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if section != "environment":
        assert text.strip().splitlines()[0].strip() == "set -eu", "a step that fails ends the build"


def test_no_secret_is_in_it():
    text = PATH.read_text()
    assert not re.search(r"(?i)(passw(or)?d|token|secret|api_?key|credential)s?\s*[=:]", text)
    assert not re.search(r"-----BEGIN|https?://[^/\s]*@", text)


def test_packages_are_few_signed_and_cleaned_up(definition):
    post = definition[1]["post"]
    installs = re.findall(r"apt-get install ([^\n]*(?:\\\n[^\n]*)*)", post)
    assert installs
    assert all("-y --no-install-recommends" in install for install in installs)
    assert "signed-by=/usr/share/keyrings/redis-archive-keyring.gpg" in post
    assert not re.search(r"trusted=yes|--allow-unauthenticated|--insecure|curl -k|http://", post)
    assert "rm -rf /var/lib/apt/lists/*" in post
    # Of the vendor's packages none but memtier: its redis-tools would be newer than Debian's, and not the same everywhere.
    pins = re.findall(r"Package: (\S+?)\\nPin: origin packages\.redis\.io\\nPin-Priority: (-?\d+)", post)
    assert pins == [("*", "-1"), ("memtier-benchmark", "500")]


def test_every_program_is_installed_and_tried(definition):
    _, sections = definition
    tried = re.findall(r"^    (\S+) --version$", sections["test"], flags=re.MULTILINE)
    assert set(tried) == {*PACKAGES, "timeout"}
    installed = set(re.split(r"[\s\\]+", sections["post"].rpartition("--no-install-recommends \\")[2].partition("\n\n")[0]))
    assert set(PACKAGES.values()) <= installed
    for program in tried:
        if program not in {"timeout", "python3"}:
            assert program in sections["help"], program


def test_recipes_use_it_by_the_name_that_it_tells(definition):
    assert "images: {load-tools: " in definition[1]["help"]
    for name in ("mysql", "mysql-node"):
        assert "image: load-tools " in (PATH.parents[1] / "recipes" / f"{name}.yaml").read_text()
