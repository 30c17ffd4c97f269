# Everything here needs Python 3.11 or newer and make; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CAPTURE ?= pcaps/mixed.pcap

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench captures docs model wheel clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  \1|/' | column -t -s '|'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.user

demo: $(VENV)/.user ## Classify a capture with the shipped model (CAPTURE=...)
	$(BIN)/llmflow classify $(CAPTURE)

test: $(VENV)/.dev ## Run all tests
	$(BIN)/python -m pytest -n auto

check: $(VENV)/.dev ## Lint, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## Measure CPU time per stage and peak memory (CAPTURE=...)
	$(BIN)/python tests/bench/stages.py $(CAPTURE)

captures: $(VENV)/.dev ## Make the captures of pcaps/ again
	$(BIN)/llmflow synth -o pcaps

docs: $(VENV)/.dev ## Write the generated pages of docs/ again
	$(BIN)/python docs/generate.py

model: $(VENV)/.dev ## Evaluate and train the shipped model again (CORPUS=path)
	$(BIN)/python models/recipe.py $(CORPUS)

wheel: $(VENV)/.dev ## Build the wheel; prove that it works alone in an empty environment
	rm -rf dist build/alone
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/alone
	build/alone/bin/pip install --quiet --disable-pip-version-check dist/*.whl
	cd build/alone && bin/llmflow classify "$(CURDIR)/pcaps/mixed.pcap"

clean: ## Remove what was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
