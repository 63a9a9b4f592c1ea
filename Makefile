# Every target sets up what it needs first; a set-up that has nothing to do costs under a second.
# PYTHON=python3.12 make setup builds .venv with that Python.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export DO_NOT_TRACK := 1
export PATH := $(PATH):$(HOME)/.cargo/bin

BIN := .venv/bin
CARGO := cargo --quiet
CRATE := --manifest-path rustbpe/Cargo.toml
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --quiet
# Many tests wait (for fsync, time-outs, servers), so two at once use two cores well. A file stays whole: its
# fixtures are made once.
AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo up down test check crate-test fuzz soak lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## check the system, create .venv, install the locked packages, build the tokenizer crate
	@command -v $(or $(PYTHON),python3) >/dev/null || \
		{ echo "setup: $(or $(PYTHON),python3) not found; on Debian: apt-get install -y python3 python3-venv" >&2; exit 4; }
	@$(or $(PYTHON),python3) deployments/setup_venv.py $(if $(PYTHON),--rebuild)

demo: setup ## train tokenizer, base, mid, SFT and RL on this CPU and write the report (minutes)
	@$(BIN)/nanochat run demo

up: setup ## start a Prefect server, two workers and the web app on this machine
	@$(BIN)/nanochat up

down: ## stop what make up started
	@$(BIN)/nanochat down

test: check crate-test ## everything that must pass: lint, types, layers, Rust and Python tests
	$(BIN)/python -m pytest $(AT_ONCE) --durations=25

check: setup ## lint, format, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if cargo fmt --version >/dev/null 2>&1; then set -x; cargo fmt $(CRATE) --check; \
		else echo "skipped: cargo fmt is not installed (rustup component add rustfmt)"; fi
	@if cargo clippy --version >/dev/null 2>&1; then set -x; $(CARGO) clippy $(CRATE) --all-targets --all-features -- -D warnings; \
		else echo "skipped: cargo clippy is not installed (rustup component add clippy)"; fi

crate-test: setup
	$(CARGO) test $(CRATE)

fuzz: setup ## ten minutes of random input for the tokenizer crate's binding (SEED=1: those cases again)
	$(BIN)/python tests/fuzz/bpe.py --seconds 600 --seed $(or $(SEED),$$(date +%Y%m%d)) --out benchmarks/results/fuzz.json

soak: setup ## ten minutes of 50 clients against the server: memory, files, slots and times (T81)
	$(BIN)/python benchmarks/serve_load.py --soak

lock: setup ## compile both lock files again, keeping what still fits (make lock UPGRADE=--upgrade for newer)
	$(COMPILE) $(UPGRADE) -o requirements.lock
	$(COMPILE) $(UPGRADE) --group dev --extra demo-data --extra dask --extra redis --extra s3-server --extra signing -c requirements.lock -o requirements-dev.lock

clean: ## remove what make made here; what was trained stays in NANOCHAT_HOME
	rm -rf .venv build rustbpe/target test-output *.egg-info .*_cache .hypothesis
