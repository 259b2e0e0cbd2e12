# make run: build, train on the names, show the result.   make test: build, run every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(wildcard fastembed/*.pyx fastembed/*.pxd src_c/*.[ch] src_c/*/*)

.PHONY: run test test-long build lint clean

run: $(VENV)/.run
	$(BIN)/python -m fastembed train

test: $(VENV)/.test
	$(BIN)/python -m pytest
	FASTEMBED_BACKEND=reference $(BIN)/python -m pytest tests/test_ops.py tests/test_layers.py

# What takes minutes: a thousand steps of the names model on single floats.
test-long: $(VENV)/.test
	$(BIN)/python -m pytest -m long

build: $(VENV)/.run

lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet ruff mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# An editable install builds the extension in place, so that the source folder is what runs.
$(VENV)/.%: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRA_$*)]'
	touch $@
EXTRA_run := cli
EXTRA_test := cli,test

clean:
	rm -rf $(VENV) build dist *.egg-info fastembed/*.so .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
