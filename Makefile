# One door for people and for CI: every target first brings what it needs, and is quick when that is there.
# Stamps lie inside .venv, so that removing it starts from nothing.

PYTHON ?= python3
PHOTOS ?= build/photos
COUNT  ?= 3000
# Options of `make bench-peers`, such as PEERS="--short --tracks train".
PEERS  ?=
# Options of `make bench-short`, such as BENCH=--repeats=1.
BENCH  ?=
# Seconds for each target of `make fuzz`.
FUZZ   ?= 60
# Options of `make campaign`, such as CAMPAIGN="--quick --only mutations soak".
CAMPAIGN ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two jobs, so that the Rust core is compiled while pip unpacks torch.
MAKEFLAGS += --no-builtin-rules --no-print-directory -j2

VENV := $(CURDIR)/.venv
export VIRTUAL_ENV := $(VENV)
export PATH := $(VENV)/bin:$(PATH):$(HOME)/.cargo/bin
export PYO3_PYTHON := $(VENV)/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 2

RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml $(wildcard Cargo.lock)
PACKAGES := $(VENV)/.packages
CORE := target/.core
EXTENSION := $(VENV)/.extension

.PHONY: help demo test test-all campaign fuzz lint bench bench-short bench-peers wheel pin clean tools browser

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(EXTENSION) ## Pack photos, look at them, train from them, and compare with folder loading
	@echo; echo "== $(COUNT) photos, made from the pictures that scikit-image and scikit-learn ship"
	python benches/photos.py $(PHOTOS) --count $(COUNT)
	@echo; echo "== Pack them once"
	fastshard pack $(PHOTOS) build/demo --overwrite
	@echo; echo "== What is in it"
	fastshard inspect build/demo
	fastshard preview build/demo build/preview.png --transform 'Resize(256)' --transform 'CenterCrop(224)'
	@echo; echo "== Train a small CNN from it"
	python examples/train_torch.py build/demo
	@echo; echo "== Against loading the folder"
	python benches/compare.py --short --repeats 1 --only fastshard torch-pil tf-fused-aliased keras

test: $(EXTENSION) browser ## Run the tests of the Rust core, its documentation, and of the Python package
	+cargo test --workspace --exclude fastshard-python
	python -m pytest -q -m 'not campaign'

test-all: test ## The same, then what takes minutes: 10,000 damaged datasets
	python -m pytest -q -m campaign

campaign: $(EXTENSION) ## Look for faults by force, for hours; writes build/campaign.md (CAMPAIGN=--quick for minutes)
	python scripts/campaign.py $(CAMPAIGN)

fuzz: $(EXTENSION) ## Feed the parsers broken input, FUZZ seconds each
	scripts/fuzz $(FUZZ)

lint: $(EXTENSION) ## Check format, lints, types, the stub, licences and banned crates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	ruff check
	ruff format --check
	mypy
	python -m mypy.stubtest fastshard._fastshard --mypy-config-file pyproject.toml
	scripts/deny

bench: $(EXTENSION) ## Measure against every peer; writes a table, JSON and a plot
	python benches/compare.py

bench-short: $(EXTENSION) ## The same in a few minutes, with fewer rounds
	python benches/compare.py --short $(BENCH)

bench-peers: $(EXTENSION) ## The same against every other loader, each really installed (.venv-peers, several gigabytes)
	python benches/peers/install.py
	PYTHONPATH=benches .venv-peers/bin/python -m peers $(PEERS)

wheel: $(PACKAGES) $(CORE) ## Build the wheel into dist/, and try it in an empty environment
	rm -rf dist build/wheel-venv
	maturin build --release --out dist
	python -m venv build/wheel-venv
	build/wheel-venv/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	cd build && wheel-venv/bin/fastshard --version && wheel-venv/bin/python -I ../scripts/smoke.py
	@echo "The wheel: $(CURDIR)/$$(ls dist/*.whl)"

pin: $(PACKAGES) ## Move constraints.txt to today's versions
	pip install --upgrade --upgrade-strategy eager --requirement $(VENV)/requirements.txt
	{ sed '/^#/!d' constraints.txt; pip freeze --all --exclude pip --exclude fastshard; } > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt

clean: ## Remove everything that make has built
	rm -rf .venv .venv-peers build dist target python/fastshard/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

tools:
	@PYTHON=$(PYTHON) scripts/system-tools

# A report is opened in one by tests/test_report_in_a_browser.py, which fails without.
browser:
	@command -v chromium-headless-shell chromium chromium-browser google-chrome >/dev/null || \
		scripts/apt-install chromium-headless-shell

$(VENV)/bin/python: | tools
	$(PYTHON) -m venv $(VENV)

# Without --no-compile, pip compiles tens of thousands of modules of which few are ever imported.
$(PACKAGES): pyproject.toml constraints.txt scripts/requirements.py | $(VENV)/bin/python
	@echo "Installing Python packages into .venv (the first time, torch alone is several gigabytes)"
	python scripts/requirements.py dev > $(VENV)/requirements.txt
	pip install --quiet --disable-pip-version-check --no-compile \
		--requirement $(VENV)/requirements.txt --constraint constraints.txt
	touch $@

# What maturin will ask for, so that it finds all but its own crate built.
$(CORE): $(RUST) | $(VENV)/bin/python
	PYO3_BUILD_EXTENSION_MODULE=1 cargo build --release --package fastshard-python
	touch $@

$(EXTENSION): $(PACKAGES) $(CORE)
	maturin develop --release
	touch $@
