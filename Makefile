# Each target sets up what it needs in .venv and leaves it there for the next.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint docs benchmark clean

demo: $(VENV)/.core
	$(BIN)/driftway demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --quiet --builder html docs build/docs
	@echo "open build/docs/index.html"

# those that need nothing: not the ones that are given data, a run or another interpreter
GIVEN := $(addprefix benchmarks/,climate_cost.py climate_drift.py plasim.py well_exchange.py)
benchmark: $(VENV)/.dev
	for script in $(filter-out $(GIVEN),$(wildcard benchmarks/*.py)); do OMP_NUM_THREADS=1 $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[docs]'
	touch $@
