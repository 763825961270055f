# Everything a person runs here; `make` lists it. Two start from nothing: `make demo` and `make test`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env demo down cluster images test test-unit test-conformance test-cluster test-e2e fuzz gpu soak bench \
	requirements gen verify fmt lint types layers docs chart clean

UV_VERSION := 0.13.8
export ROUNDHOUSE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/roundhouse
UV := $(ROUNDHOUSE_CACHE)/uv-$(UV_VERSION)/bin/uv
PYTHON := .venv/bin/python
STAMP := .venv/.synced
PYTEST := $(PYTHON) -m pytest
# PyPI's wheel of xllamacpp computes on processors alone; its makers have one for CUDA on an index of theirs, of
# which uv.lock knows no hashes.
WHEELS ?= https://xorbitsai.github.io/xllamacpp/whl/cu132
NOT_IN_CI := not gpu and not soak
# Files of tests go to workers side by side: most of the time a test waits for something. tests/scheduling.py says
# which go to whom; in the order of the folders, so that the quick ones even out the end.
WORKERS ?= 3
ALL_AT_ONCE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One pinned uv of our own, so that the lock means the same on each machine. Debian ships Python without `venv`.
$(UV):
	@echo "Installing uv $(UV_VERSION) into $(@D)" >&2
	@mkdir -p $(ROUNDHOUSE_CACHE)
	@python3 -m venv $(ROUNDHOUSE_CACHE)/uv-$(UV_VERSION) >/dev/null 2>&1 || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv && python3 -m venv --clear $(ROUNDHOUSE_CACHE)/uv-$(UV_VERSION); }
	@$(ROUNDHOUSE_CACHE)/uv-$(UV_VERSION)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(STAMP): $(UV) pyproject.toml uv.lock engine-images/sdk/pyproject.toml engine-images/pocketsphinx/pyproject.toml \
		engine-images/faster-whisper/pyproject.toml engine-images/loader/pyproject.toml engine-images/nemo/pyproject.toml \
		engine-images/musicgen/pyproject.toml
	@echo "Installing the locked Python packages (3 GB) into .venv" >&2
	@$(UV) sync --locked --quiet --all-extras --all-packages
	@$(PYTHON) engine-images/base/torch_without_cuda.py
	@touch $@

demo: $(STAMP)  ## From a bare machine to a transcript: cluster, images, chart, an engine, a recording
	@$(PYTHON) -m tests.demo

env: $(STAMP)  ## Print `export KUBECONFIG=…` and `export ROUNDHOUSE_URL=…` of the running demo
	@$(PYTHON) -m tests.cluster.local env

cluster: $(STAMP)  ## A real Kubernetes on this machine, or the context that ROUNDHOUSE_CONTEXT names
	@$(PYTHON) -m tests.cluster.local install
	@$(PYTHON) -m tests.cluster.local up

down: $(STAMP)  ## End the cluster of `make cluster` and `make demo` and leave nothing behind; ALL=1: every local cluster
	@$(PYTHON) -m tests.cluster.local down $(if $(ALL),--all)

images: $(STAMP)  ## Build the container images; GPU=1: those for GPUs; PUSH=<registry> pushes them
	@$(PYTHON) -m tests.images build $(if $(GPU),--gpu) $(if $(PUSH),--push $(PUSH))

test: $(STAMP)  ## All tests: unit, conformance, cluster, end to end; installs what it needs. SOAK=1 adds the soak
	@$(PYTHON) -m tests.prepare
	@SECOND_CHANCES=10 $(PYTEST) -p tests.machine -m "$(if $(SOAK),not gpu,$(NOT_IN_CI))" $(ALL_AT_ONCE) --durations=25 --junitxml=build/tests.xml

test-unit: $(STAMP)  ## The tests that need no network and no cluster
	@$(PYTEST) tests/unit

test-conformance: $(STAMP)  ## The API against a real API server, the wire formats against the official clients
	@$(PYTHON) -m tests.prepare
	@$(PYTEST) tests/conformance -m "$(NOT_IN_CI)"

test-cluster: $(STAMP)  ## Operator, gateway and chart against a real API server and scheduler
	@$(PYTHON) -m tests.prepare
	@$(PYTEST) tests/cluster -m "$(NOT_IN_CI)"

test-e2e: $(STAMP)  ## Real pods, real chart, real audio
	@$(PYTHON) -m tests.prepare
	@$(PYTEST) tests/e2e -m "$(NOT_IN_CI)"

fuzz: $(STAMP)  ## The property tests with new examples; FUZZ says how many (default 1000) where a test does not
	@FUZZ=$${FUZZ:-1000} $(PYTEST) -m "hypothesis and $(NOT_IN_CI)" tests/unit tests/conformance/gateway tests/conformance/engine/test_fuzz.py

# What is in .venv, and CUDA, in an environment of its own: 5 GB, which nothing else wants.
gpu: $(UV)  ## The tests that need a GPU, with the locked CUDA libraries in .venv-gpu
	@UV_PROJECT_ENVIRONMENT=.venv-gpu $(UV) sync --locked --quiet --all-extras --all-packages --group cuda
	@wheel=xllamacpp==$$(.venv-gpu/bin/python -c 'from importlib.metadata import version; print(version("xllamacpp"))'); \
		$(UV) pip install --quiet --python .venv-gpu --reinstall --no-deps --only-binary :all: --default-index $(WHEELS) "$$wheel" || { \
		echo "error: asked $(WHEELS) for the wheel $$wheel, and did not get it; the lines above say why." \
			"Without it llama.cpp computes on processors alone, so no test was run." \
			"WHEELS=<address> names another index: a mirror of that one, or the makers' for another CUDA." >&2; exit 1; }
	@.venv-gpu/bin/python -m tests.prepare --packages
	@.venv-gpu/bin/python -m pytest -m gpu tests/gpu

soak: $(STAMP)  ## The tests that run long; SOAK_SECONDS says how long (default 120)
	@$(PYTHON) -m tests.prepare
	@SOAK_SECONDS=$${SOAK_SECONDS:-120} $(PYTEST) -m soak $(ALL_AT_ONCE) || { test $$? -eq 5 && echo "No test is marked soak yet."; }

bench: $(STAMP)  ## Measure; AREA=operator|gateway|engines for one part. Writes build/bench.json
	@$(PYTHON) -m tests.prepare $(if $(filter operator,$(AREA)),--no-images)
	@$(PYTHON) -m tests.bench $(if $(AREA),--area $(AREA))

requirements: $(STAMP)  ## The numbered behaviours that no test names yet
	@$(PYTHON) -m tests.requirements

gen: $(STAMP)  ## Write every generated file anew: CRDs, reference pages, chart documentation, pins of torch
	@$(PYTHON) -m roundhouse_api.generate
	@$(PYTHON) -m tests.charts gen
	@$(PYTHON) -m tests.images pins

verify: $(STAMP) lint types layers  ## Generated files are current, lint, types, layers, docs; fails on any difference
	@$(PYTHON) -m roundhouse_api.generate --check
	@$(PYTHON) -m tests.charts check
	@$(PYTHON) -m tests.images pins --check
	@$(UV) lock --check --quiet
	@$(PYTEST) -q tests/unit/test_tree.py

fmt: $(STAMP)  ## Format the code
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

lint: $(STAMP)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

types: $(STAMP)
	@.venv/bin/mypy

layers: $(STAMP)
	@.venv/bin/lint-imports

docs: $(STAMP)  ## Check that links and names in the documentation are true
	@$(PYTEST) -q tests/unit/test_tree.py

chart: $(STAMP)  ## Lint and render the chart
	@$(PYTEST) -q tests/unit/test_chart*.py tests/unit/catalogue

clean:  ## Remove what was built in this checkout (the shared cache stays)
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
