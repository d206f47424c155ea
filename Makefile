# Two commands on a fresh machine (Python >= 3.11 and make): `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PYTEST_WORKERS ?= 2

.PHONY: demo test check peers benchmarks clean
.DEFAULT_GOAL := help

help: ## show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[postgres,train]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test --group check
	touch $@

demo: $(VENV)/.installed ## install and run the main job on simulated scans
	$(BIN)/ichnode demo $(DEMO)

peers:
	@sh tests/install_peers.sh

test: $(VENV)/.installed-test peers ## install and run every test
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadscope $(PYTEST)

check: $(VENV)/.installed-test ## style, types and the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmarks: $(VENV)/.installed-test peers ## measure, both sides in one run
	for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean: ## remove what was installed
	rm -rf $(VENV)
