VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: backtest test check slow bench mutants lock clean

backtest: $(VENV)/.installed          ## run the main job on the shipped default
	$(BIN)/python -m marketsimulator.backtest start=2024-04-01

test: $(VENV)/.installed-dev          ## the default tests
	$(BIN)/pytest -n auto --dist loadfile

check: $(VENV)/.installed-dev         ## format, lint, types, layers, default tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --dist loadfile

slow: $(VENV)/.installed-dev          ## the longer tests
	$(BIN)/pytest -m slow

bench: $(VENV)/.installed-dev         ## the measurements behind docs/PERFORMANCE.md
	$(BIN)/pytest -m bench -s

$(VENV)/.installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev,joblib,ray]'
	touch $@

mutants: $(VENV)/.installed-dev       ## how many small faults the tests notice; words=..., e.g. words="--seed 2 sizing/kelly.py"
	$(BIN)/python tests/mutants/measure.py $(words)

lock:                                 ## write constraints.txt anew from the bounds in pyproject.toml
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet torch==2.13.0 --editable '.[joblib,ray,rl,dev]'
	.lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt
	rm -rf .lock

clean:
	rm -rf $(VENV) outputs logs .mypy_cache .ruff_cache .pytest_cache .hypothesis
