# Everything here needs Python 3.11 or newer and make; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CAPTURE ?= pcaps/mixed.pcap
MADE := $(or $(TMPDIR),/tmp)/llmflow-bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
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

bench: $(VENV)/.dev ## Compare CPU time and memory with other readers (CAPTURE=..., or CORPUS=path)
ifdef CORPUS
bench: $(MADE)/1M.pcap $(MADE)/10M.pcap
	$(BIN)/python tests/bench/compare.py --rounds 3 $(MADE)/1M.pcap
	$(BIN)/python tests/bench/compare.py --rounds 1 $(MADE)/10M.pcap
else
	$(BIN)/python tests/bench/compare.py $(CAPTURE)
endif

# Packets, bytes kept of each (0: all), seconds, seed; the generator lies beside the corpus.
$(MADE)/1M.pcap: KIND := 1000000 0 300 1
$(MADE)/10M.pcap: KIND := 10000000 96 300 2
$(MADE)/%.pcap: | $(VENV)/.dev
	mkdir -p $(MADE)
	$(BIN)/python $(CORPUS)/../bench/make_capture.py $(CORPUS)/background $@ $(KIND)

captures: $(VENV)/.dev ## Make the captures of pcaps/ again (lab.pcap: as root)
	$(BIN)/python pcaps/recipe.py

docs: $(VENV)/.dev ## Write the generated pages and pictures of docs/ again
	$(BIN)/python docs/generate.py
	$(BIN)/llmflow explain pcaps/mixed.pcap --flow 3e5dff5c -o docs/pictures/explain.svg

model: $(VENV)/.dev ## Evaluate and train the shipped model again (CORPUS=path LAB="run1 run2")
	$(BIN)/python models/recipe.py $(CORPUS) $(LAB)

wheel: $(VENV)/.dev ## Build the wheel; prove that it works alone in an empty environment
	rm -rf dist build/alone
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/alone
	build/alone/bin/pip install --quiet --disable-pip-version-check dist/*.whl
	cd build/alone && bin/llmflow classify "$(CURDIR)/pcaps/mixed.pcap"

clean: ## Remove what was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
