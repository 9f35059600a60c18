# Two commands are all that a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
UV := $(VENV)/bin/uv
SYNC := UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --quiet --locked

# tests/lab/conftest.py says which tests are tried once more; more than a few of them are no accident
ONCE_MORE := --rerun-show-tracebacks --max-suite-reruns=3

.PHONY: demo test test-fast test-lab soak lint bench packages lock clean help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: $(VENV)/.run ## see what domicile does, on an embedded simulated host
	@$(VENV)/bin/domicile demo

test: test-fast test-lab ## install what the tests need, and run them all (the lab's boot a real Xen)

test-fast: $(VENV)/.dev packages ## the tests that take seconds
	$(VENV)/bin/pytest -n auto -m "not lab and not soak"

test-lab: $(VENV)/.dev packages ## the tests on the real Xen, in QEMU
	$(VENV)/bin/pytest $(ONCE_MORE) -m "lab and not soak"

soak: $(VENV)/.dev packages ## the longer tests: thousands of schedules of faults, and the lab's
	$(VENV)/bin/pytest -n auto -m "soak and not lab"
	$(VENV)/bin/pytest $(ONCE_MORE) -m "lab and soak"

lint: $(VENV)/.dev ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.dev ## how fast it is, as ratios in one run
	$(VENV)/bin/python -m benchmarks

packages: $(VENV)/.dev
	@$(VENV)/bin/python scripts/test_packages.py

lock: $(UV)
	$(UV) lock

$(UV): scripts/bootstrap.py
	@$(PYTHON) scripts/bootstrap.py $(VENV)
	@touch $@

$(VENV)/.run: $(UV) pyproject.toml uv.lock
	@$(SYNC) --no-dev --inexact
	@touch $@

$(VENV)/.dev: $(UV) pyproject.toml uv.lock
	@$(SYNC) --all-extras --inexact
	@touch $@ $(VENV)/.run

clean: ## remove what was made here (not the lab's cache)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
