# `make demo` measures a real Redis on this machine; `make test` runs the tests. Both work in .venv and leave the system's Python alone.
# `make cluster-up` starts a real Slurm cluster on this machine, `make cluster-down` ends it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Most tests wait for what they have started: two at a time take little more than half as long, and times stay as they are.
TEST_PROCESSES ?= 2

.PHONY: demo test llama-server dev cluster-up cluster-down clean

demo: $(VENV)/.demo
	@$(BIN)/aifactory-bench run recipes/quickstart.yaml || [ $$? -eq 3 ]  # numbers to mistrust are no failure of make

test: llama-server $(VENV)/.tests
	@PYTHON=$(BIN)/python .ci/chroma-server || [ "$$CI" != true ]  # without it its tests are left out
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

# Compiled for minutes the first time: begun before anything else, behind it, and ended with this make at the latest.
llama-server: | $(VENV)/.created
	@.ci/servers
	@PYTHON=$(BIN)/python .ci/llm-servers behind $$PPID

# As root every host has an address of its own; ACCOUNTING=1 adds slurmdbd and MariaDB. docs/test-bed.md says more.
cluster-up:
	@.ci/servers
	@"$(PYTHON)" tests/slurm/bed up $(if $(ACCOUNTING),--accounting)

cluster-down:
	@"$(PYTHON)" tests/slurm/bed down

# What `nox` needs beside the tests' own packages.
dev: $(VENV)/.dev

$(VENV)/.created:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: no program $(PYTHON): install Python 3.11 or later, or name one with make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Python 3.11 or later is needed, and $(PYTHON) is $$("$(PYTHON)" -V 2>&1): name another with make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) has no venv module: on Debian and Ubuntu run 'apt-get install python3-venv'"; exit 1; }
	@"$(PYTHON)" -m venv "$(VENV)"
	@touch $@

# Installed again only when pyproject.toml changes: the installation is an editable one.
$(VENV)/.demo: pyproject.toml | $(VENV)/.created
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[quickstart]'
	@touch $@

# Dependency groups need pip 25.1 or later.
$(VENV)/.tests: pyproject.toml | $(VENV)/.created
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable '.[quickstart]' --group tests
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: $(VENV)/.tests
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

clean:
	rm -rf "$(VENV)" .venv-* .nox dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
