# All commands for developers and CI. `make` without a target lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough. To use another one: make PYTHON=/path/to/python setup
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

NEEDS_PYTHON = @"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "raincheck needs Python 3.11 or newer: make PYTHON=/path/to/python $@" >&2; exit 1; }

.PHONY: help
help: ## Print this help
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: setup
setup: .venv/installed .venv/redis/redis-server .venv/shell-tools ## Create .venv with the locked tools and the project

.venv/locked: requirements/dev.txt
	$(NEEDS_PYTHON)
	"$(PYTHON)" -m venv --clear .venv
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	@touch $@

.venv/installed: .venv/locked pyproject.toml
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/redis/redis-server: .venv/locked tools/debian.sh
	tools/debian.sh .venv/redis usr/bin/redis-server redis-server redis-tools

# What the worker in the shell needs, unless the system has it.
.venv/shell-tools: .venv/locked tools/debian.sh
	@command -v curl >/dev/null || tools/debian.sh .venv/curl usr/bin/curl curl
	@command -v jq >/dev/null || tools/debian.sh .venv/jq usr/bin/jq jq
	@touch $@

# What the demo needs, without the tools of developers. The files of packages are compiled when they are used.
.venv-run/installed: requirements/demo.txt pyproject.toml
	$(NEEDS_PYTHON)
	"$(PYTHON)" -m venv --clear .venv-run
	.venv-run/bin/python -m pip --disable-pip-version-check -qq install --no-compile --require-hashes \
		--requirement requirements/demo.txt
	.venv-run/bin/python -m pip --disable-pip-version-check -qq install --no-compile --no-deps \
		--no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: .venv-run/installed ## Run the demo: a server, two workers and a job
	@.venv-run/bin/raincheck demo

.PHONY: serve
serve: .venv-run/installed ## Serve the chain example
	@.venv-run/bin/raincheck serve examples/chain/app.py:app

.PHONY: fmt
fmt: setup ## Format the code and apply ruff's fixes
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

CHECKS := check-types check-typing check-format check-lint check-layers check-spelling check-diagram check-twin

.PHONY: check
check: setup ## Run the static checks: format, lint, types, layers, spelling, generated files
	@$(MAKE) --no-print-directory --jobs $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(CHECKS)

.PHONY: $(CHECKS)
check-types: ; $(BIN)/mypy
check-typing: ; $(BIN)/basedpyright
check-format: ; $(BIN)/ruff format --check
check-lint: ; $(BIN)/ruff check
check-layers: ; $(BIN)/lint-imports --no-logo
check-spelling: ; $(BIN)/codespell
check-diagram: ; $(BIN)/python tools/state_diagram.py --check
check-twin: ; $(BIN)/python tools/twin.py --check

# Tests start hundreds of processes. Without compiled files, each process would compile raincheck again.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := $(BIN)/pytest --numprocesses auto --dist loadgroup --no-loadscope-reorder

.PHONY: test
test: check ## Run the checks and the tests (up to three minutes on two cores)
	$(PYTEST) -m "not long"

GENERATORS := .venv-generators/installed

$(GENERATORS): requirements/generators.txt tests/generators/typescript/package-lock.json
	$(BIN)/python -m venv --clear .venv-generators
	$(BIN)/uv pip sync --quiet --require-hashes --python .venv-generators requirements/generators.txt
	@if command -v npm >/dev/null; then \
		cd tests/generators/typescript && npm ci --no-audit --no-fund --ignore-scripts --silent; \
	else \
		echo "The client in TypeScript needs Node.js and npm. Its test will be skipped." >&2; test -z "$(CI)"; \
	fi
	@touch $@

CHROMIUM := .venv/chromium/chromium-headless-shell

$(CHROMIUM): .venv/locked tools/debian.sh
	tools/debian.sh .venv/chromium usr/lib/chromium/chromium-headless-shell chromium-headless-shell chromium-common

HAPROXY := .venv/haproxy/haproxy

$(HAPROXY): .venv/locked tools/debian.sh
	tools/debian.sh .venv/haproxy usr/sbin/haproxy haproxy

.PHONY: test-long
test-long: setup $(GENERATORS) $(CHROMIUM) $(HAPROXY) .venv-docs/installed ## Run the long tests: many crashes and failovers, every store, more generated inputs
	$(PYTEST) -m "long or generated" --hypothesis-profile=long

.PHONY: test-all
test-all: test test-long ## Run all tests, as CI does

.PHONY: test-fast
test-fast: setup ## Run the unit and contract tests
	$(PYTEST) -m "not long" tests/unit tests/contract

.PHONY: bench
bench: setup ## Run the benchmarks against baselines
	$(BIN)/python -m benchmarks

PEERS := benchmarks/peers/installed

.PHONY: bench-peers
bench-peers: setup $(PEERS) ## Run the benchmarks against peers (short run: ARGS=--quick)
	$(BIN)/python -m benchmarks.peers $(ARGS)

$(PEERS): requirements/peers.txt requirements/peers-arq.txt benchmarks/peers/bullmq/package-lock.json
	@command -v npm >/dev/null || { echo "BullMQ needs Node.js and npm" >&2; exit 1; }
	$(BIN)/python -m venv --clear benchmarks/.venv-peers
	$(BIN)/uv pip sync --quiet --require-hashes --python benchmarks/.venv-peers requirements/peers.txt
	$(BIN)/python -m venv --clear benchmarks/.venv-arq
	$(BIN)/uv pip sync --quiet --require-hashes --python benchmarks/.venv-arq requirements/peers-arq.txt
	cd benchmarks/peers/bullmq && npm install --no-save --no-audit --no-fund --ignore-scripts
	$(BIN)/python -m benchmarks.peers.postgres
	@touch $@

.PHONY: docs
docs: setup ## Regenerate the parts of the docs that come from the code
	$(BIN)/python tools/state_diagram.py

SITE := build/site

.PHONY: docs-site
docs-site: .venv-docs/installed ## Build the site of the documentation; a broken link is an error
	.venv-docs/bin/sphinx-build -q -W --keep-going -n -j auto -c docs/site . $(SITE)
	@echo "Open $(SITE)/index.html"

.venv-docs/installed: requirements/docs.txt
	$(NEEDS_PYTHON)
	"$(PYTHON)" -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip --disable-pip-version-check -qq install --require-hashes \
		--requirement requirements/docs.txt
	@touch $@

.PHONY: picture
picture: setup ## Draw the picture of a running job in the README
	$(BIN)/python tools/picture.py docs/watch.svg

.PHONY: twin
twin: setup ## Regenerate the blocking client from the async client
	$(BIN)/python tools/twin.py

COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --upgrade --exclude-newer "1 week" \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet

.PHONY: lock
lock: setup ## Lock the newest dependencies that are at least a week old
	$(COMPILE) pyproject.toml --group dev --all-extras --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --extra auth --extra valkey --constraints requirements/dev.txt \
		--output-file requirements/run.txt
	$(COMPILE) --group generators --output-file requirements/generators.txt
	$(COMPILE) pyproject.toml --group demo --constraints requirements/dev.txt --output-file requirements/demo.txt
	$(COMPILE) --group docs --output-file requirements/docs.txt
	$(COMPILE) --group peers --output-file requirements/peers.txt
	$(COMPILE) --group peers-arq --output-file requirements/peers-arq.txt
	for folder in benchmarks/peers/bullmq tests/generators/typescript; do \
		(cd $$folder && npm update --package-lock-only --omit-lockfile-registry-resolved \
			--no-audit --no-fund --ignore-scripts \
			--before "$$(python3 -c 'import datetime as d; print(d.date.today() - d.timedelta(7))')") || exit; \
	done

.PHONY: clean
clean: ## Remove all generated files
	rm -rf .venv .venv-docs .venv-generators .venv-run benchmarks/.venv-* $(PEERS)
	rm -rf benchmarks/.postgres {benchmarks/peers/bullmq,tests/generators/typescript}/node_modules
	rm -rf build dist .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
