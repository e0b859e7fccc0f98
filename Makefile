# Two commands: `make demo` sets up everything and runs the main job, `make test` sets up everything and
# passes the tests. Both work in .venv and touch nothing else.

PYTHON ?= python3
VENV ?= .venv
# PyTorch first and by itself: set TORCH to pick another build, e.g. one for your accelerator.
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: demo test check clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.run: $(BIN)/python pyproject.toml shim/ptychopinn_ptychodus_attach.py
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[torch]"
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --editable ".[torch,gui,test]"
	touch $@

demo: $(VENV)/.run
	$(BIN)/ptychopinn-ptychodus demo

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) demo_output
