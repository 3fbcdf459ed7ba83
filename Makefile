VENV := .venv
PYTHON ?= $(shell for v in 3.14 3.13 3.12 3.11; do python$$v -c "import venv" 2>/dev/null && { echo python$$v; break; }; done)
NO_PYTHON = error: no Python 3.11 to 3.14 with its venv module on the path: install one (on Debian and Ubuntu: apt install \
python3 python3-venv), or name one: make PYTHON=/path/to/python
BIN := $(VENV)/bin
WHEELS ?= wheels
COMMIT ?= $(shell git describe --always --dirty 2>/dev/null)
SEED ?= $(shell date -u +%Y%m%d)
MONEY := 'money_property and not wire and not slow and not long and not gpu and not bench'
WIRE := tests/e2e/wire
WIRE_FILES = $(shell grep -rl --include='test_*.py' 'mark\.wire' tests) $(WIRE)
MONEY_FILES = $(shell sed -n 's/^ *- \(tests[^:]*\)::.*/\1/p' tests/money.yaml | sort -u)
# Libraries are installed without bytecode, which the first import writes: without it each takes seconds, every time.
export PYTHONDONTWRITEBYTECODE :=
# A worker of the tests has one core: two that compute on all of them wait for each other.
# A test that hangs ends its worker, a worker that ends ends the run: neither stands until someone looks.
TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --max-worker-restart 0 -o faulthandler_timeout=900 \
	-o faulthandler_exit_on_timeout=true

.PHONY: backtest test check money wire slow long bench settings-page schema mass promises sbom gpu wheels mutants matrix lock clean

backtest: $(VENV)/.installed          ## run the main job on the shipped default
	$(BIN)/python -m marketsimulator.backtest start=2024-01-02

test: $(VENV)/.installed-dev          ## the default tests
	$(TESTS) --dist loadfile

check: $(VENV)/.installed-dev         ## format, lint, types, layers, default tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TESTS) --dist loadfile

money: $(VENV)/.installed-dev         ## properties of what money rests on, with more examples, of a seed of the day
	@echo "random examples of the seed $(SEED)"
	HYPOTHESIS_PROFILE=dated $(TESTS) -m $(MONEY) --dist loadfile --hypothesis-seed $(SEED) $(MONEY_FILES)

wire: $(VENV)/.installed-dev          ## tests with servers, processes, kills and a browser
	$(TESTS) -m 'wire and not slow and not long and not gpu and not bench' --dist loadfile $(WIRE_FILES)

slow: $(VENV)/.installed-dev          ## the longer tests
	$(TESTS) -m slow --dist loadgroup tests $(WIRE)

long: $(VENV)/.installed-dev          ## the longest ones, beyond what continuous integration runs
	$(TESTS) -m long tests $(WIRE)

bench: $(VENV)/.installed-dev         ## the measurements behind docs/PERFORMANCE.md, then beside peers
	$(BIN)/pytest -m bench -s studies/benchmarks
	$(BIN)/python studies/peers.py

settings-page: $(VENV)/.installed     ## write docs/SETTINGS.md anew from the configurations and the settings classes
	$(BIN)/python docs/settings_page.py

schema: $(VENV)/.installed            ## write configs/schema anew: JSON Schemas of the YAML files
	$(BIN)/python -m docs.schema

# The tool has libraries of its own, which are not part of what it lists.
sbom: $(VENV)/.installed              ## write outputs/sbom.json, a CycloneDX list of what is installed
	test -d .sbom || $(PYTHON) -m venv .sbom
	.sbom/bin/pip install --disable-pip-version-check --quiet 'cyclonedx-bom>=7,<8'
	mkdir -p outputs
	.sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file outputs/sbom.json $(BIN)/python

mass: $(VENV)/.installed              ## write tests/mass.yaml anew, after the mass of code fell
	$(BIN)/python -m tests.test_mass

promises: $(VENV)/.installed          ## write docs/promises.yaml anew: what a version promises to keep
	$(BIN)/python -m docs.promises

# On a bare machine with CUDA: PYTHON has torch, and whatever else lacks lies as wheels in $(WHEELS); no index is asked.
# Of conftest files pytest reads those beside a file alone: the others import what is not brought along.
GPU_TESTS = HF_HUB_OFFLINE=1 COMMIT=$(COMMIT) PYTHONPATH=$(CURDIR)/.gpu:$(CURDIR) timeout $(1)m $(PYTHON) -m pytest -m gpu -s \
	--durations 0 --confcutdir $(dir $(2)) $(2)
gpu:                                  ## the measurements and the tests that need CUDA, in one go; its table: outputs/gpu.md
	@$(PYTHON) studies/benchmarks/bare_machine.py cuda
	@rm -rf .gpu && mkdir -p .gpu outputs
	@if ls $(WHEELS)/*.whl >/dev/null 2>&1; then \
		$(PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --target .gpu $(WHEELS)/*.whl; fi
	@PYTHONPATH=$(CURDIR)/.gpu $(PYTHON) studies/benchmarks/bare_machine.py packages
	@failed=0; $(call GPU_TESTS,5,studies/benchmarks/test_forecasting_speed.py) || failed=$$?; \
	$(call GPU_TESTS,3,tests/forecasting/test_gpu.py) || failed=$$?; exit $$failed

wheels: $(VENV)/.installed-dev        ## what `make gpu` needs beside torch, for Python 3.12, into $(WHEELS)
	mkdir -p $(WHEELS) && rm -f $(WHEELS)/*.whl
	$(BIN)/python studies/benchmarks/bare_machine.py pins > $(WHEELS)/pins.txt
	$(BIN)/pip download --disable-pip-version-check --quiet --no-deps --only-binary :all: --implementation cp \
		--python-version 3.12 $(foreach n,28 27 26 24 17 12 5,--platform manylinux_2_$(n)_x86_64) \
		--platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest $(WHEELS) --requirement $(WHEELS)/pins.txt
	@$(BIN)/python studies/benchmarks/bare_machine.py weigh $(WHEELS)

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -d $(VENV) || test -n "$(PYTHON)" || { echo "$(NO_PYTHON)" >&2; exit 2; }
	@echo "installing the libraries into $(VENV): one to three minutes, most of it torch"
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --no-compile --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what the tests need: a minute"
	$(BIN)/pip install --disable-pip-version-check --quiet --no-compile --constraint constraints.txt --editable '.[dev,joblib,notices,pictures,ray,rl,search]'
	touch $@

mutants: $(VENV)/.installed-dev       ## how many small faults the tests notice; words=..., e.g. words="--seed 2 sizing/kelly.py"
	$(BIN)/python -m tools.mutants.measure $(words)

matrix: $(VENV)/.installed-dev        ## the default tests on every Python that is there, with the lowest and the latest libraries
	$(BIN)/python -m tools.matrix $(words)

lock:                                 ## write constraints.txt anew from the bounds in pyproject.toml
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet torch==2.13.0 --editable '.[joblib,notices,pictures,ray,rl,search,dev]'
	.lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt
	rm -rf .lock

clean:
	rm -rf $(VENV) .gpu .sbom outputs logs .mypy_cache .ruff_cache .pytest_cache .hypothesis
