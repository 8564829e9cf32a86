# `make demo` and `make test` work from a fresh clone: each makes its own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The true timm and transformers, which the project itself never imports: an environment of their own.
PARITY := .venv-parity

# An arm64 Debian, run by qemu: made once (two minutes), kept.
ARM := .arm-root

.PHONY: demo test test-slow test-ray test-parity test-arm fuzz lint docs screenshots dist clean

demo: $(VENV)/installed
	$(BIN)/edgevit demo

# Empty is unset: tests start hundreds of interpreters, and each would compile edgevit anew. (Containers like to set it.)
export PYTHONDONTWRITEBYTECODE =

# Three workers: on two cores, tests that wait for cameras, links and children leave a third of the time unused.
test: $(VENV)/installed lint
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest

# A Ray cluster of two nodes on this machine.
test-ray: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest tests/executor/test_ray.py

test-parity: $(PARITY)/installed
	$(PARITY)/bin/python -m pytest tests/parity

# As root, with debootstrap and qemu-user-static: edgevit on an Arm processor that qemu emulates. Skips, and says why, elsewhere.
test-arm: $(VENV)/installed
	EDGEVIT_ARM=$(ARM) $(BIN)/python -m pytest tests/arm tests/test_dockerfiles.py -rs

# An hour of mutated inputs, every kind in turn; a table of what became of them at the end.
fuzz: $(VENV)/installed
	EDGEVIT_FUZZ_SECONDS=3600 $(BIN)/python -m pytest tests/fuzz

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as a site, in site/: open site/index.html. Without a network, for building and for reading.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# Pictures of the documentation, of a real run in a real browser: some minutes, with Chromium.
screenshots: $(VENV)/installed
	$(BIN)/python docs/drawings/make.py
	$(BIN)/python docs/screenshots/make.py

dist: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/twine check --strict dist/*

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(PARITY)/installed: pyproject.toml tests/parity/requirements.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install --quiet --requirement tests/parity/requirements.txt --editable '.[build,cpu]'
	touch $@

clean:
	rm -rf $(VENV) $(PARITY) $(ARM) edgevit-demo edgevit-solar dist site
