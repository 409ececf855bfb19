"""Sessions: `nox` runs the checks and the tests; `nox -l` lists all.

With `--no-venv` a session uses the environment that nox runs in (`make dev` makes it), as `.ci/run` does.
"""

import nox
from nox.virtualenv import PassthroughEnv

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "layers", "docs", "tests"]

PYTHONS = ["3.11", "3.12", "3.13"]


def install(session: nox.Session, *groups: str, project: bool = True) -> None:
    """Install dependency groups of pyproject.toml, and the project itself, unless the session has no environment of its own."""
    if isinstance(session.virtualenv, PassthroughEnv):
        return
    session.install("pip>=25.1")  # the first that knows groups
    wanted = [f"--group={group}" for group in groups]
    session.install(*wanted, *(["--editable", ".[quickstart]"] if project else []))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after `--` go to pytest."""
    install(session, "tests")
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take long."""
    install(session, "tests")
    session.run("pytest", "-m", "slow", "--timeout=1800", *session.posargs)


@nox.session(python="3.11")
def vllm(session: nox.Session) -> None:
    """Run the tests against a real vLLM on the CPU; the first time 800 MB are downloaded."""
    install(session, "tests")
    session.run(".ci/llm-servers", "vllm", external=True, env={"PYTHON": "python"})
    session.run("pytest", "-m", "vllm", "--timeout=600", *session.posargs)


@nox.session
def shell_cases(session: nox.Session) -> None:
    """Send 100,000 hostile recipe strings through rendered scripts and real bash."""
    install(session, "tests")
    session.run(
        "pytest", "tests/script/test_shell_safety.py", "--timeout=3600", *session.posargs, env={"AFB_SHELL_CASES": "100000"}
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    install(session, "lint", project=False)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types strictly, and the public names as a user's program sees them."""
    install(session, "types", "tests")
    session.run("mypy")
    session.run("mypy", "tests/typing/api.py")


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports run one way, and that products use public names only."""
    install(session, "lint")
    session.run("lint-imports", "--no-cache")


@nox.session
def new_service(session: nox.Session) -> None:
    """Write a starting service plugin into ./NAME: `nox -s new_service -- NAME`."""
    install(session)
    session.run("python", "-m", "aifactory_bench.testing.new_service", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; every warning is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")
