# make demo         install into .venv and make a first motion: out/demo.mp4 and out/demo.bvh
# make test         the test suite, with linter and type checker
# make fuzz         an hour of damaged files of every kind
# make wheel-test   build the package and use the wheel outside this folder
# make lint         linter, type checker, import rules
# make docs         the documentation as a site, into site/
# make install      only install; make install-dev: with what tests and docs need
#
# Needs CPython 3.11, pip and make; no GPU. On Linux, PyPI's PyTorch brings CUDA with it (2 GB more). The CPU build:
#   make demo TORCH_INDEX="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
PYTEST_OPTIONS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_INDEX)

.PHONY: demo test fuzz lint docs wheel-test install install-dev clean

demo: .venv/.installed
	$(BIN)/motiongpt3 generate "a person walks forward and waves with the right hand" -o out/demo.mp4 -o out/demo.bvh

# Two or more files at a time, each on one thread.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_OPTIONS)

# Damaged files for an hour; another FUZZ_SEED tries others.
fuzz: .venv/.installed-dev
	FUZZ_SECONDS=3600 $(BIN)/python -m pytest tests/fuzz

lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.installed-dev
	$(BIN)/mkdocs build --strict --quiet

# An environment of its own, which borrows the dependencies of .venv but not the package in it.
wheel-test: .venv/.installed-dev
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(BIN)/python -m build --outdir "$$tmp/dist" . >"$$tmp/build.log" 2>&1 || { cat "$$tmp/build.log"; exit 1; }; \
	$(BIN)/python -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$$tmp"/dist/*.whl; \
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$("$$tmp/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"; \
	cd "$$tmp"; \
	venv/bin/python -c 'import motiongpt3, sys; sys.exit(not motiongpt3.__file__.startswith(sys.prefix))'; \
	venv/bin/motiongpt3 generate "a person walks forward" --seconds 2 -o walk.bvh; \
	venv/bin/motiongpt3 info walk.bvh | head -n 3; \
	echo "the wheel works: $$(cd dist && echo *)"

install: .venv/.installed

install-dev: .venv/.installed-dev

clean:
	rm -rf .venv build dist out

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) -e ".[dev]"
	@touch $@
