# Everything a checkout needs, with nothing but make and Python 3.11, 3.12 or 3.13. `make help` lists the targets.

.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV ?= .venv
# The interpreter the environment is made with; empty: the first suitable one of those below.
PYTHON ?=
PYTHONS := python3.11 python3.12 python3.13 python3 python
ARGS ?=

BIN := $(VENV)/bin
# A stamp is named after the content of its lock file, so that a changed lock installs and a changed clock does not.
stamp = $(VENV)/.installed-$(1)-$(firstword $(shell cksum requirements/$(1).txt))
BASE := $(call stamp,base)
DEV := $(call stamp,dev)

.PHONY: help run test lint format bench lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

run: $(BASE) ## Run listener, worker, scheduler and web on this machine
	@exec $(BIN)/python manage.py serve $(ARGS)

test: $(DEV) ## Run the tests; ARGS="delivery -k retry" runs some
	@$(BIN)/python -m pytest $(ARGS)

lint: $(DEV) ## Check style, types, import rules, migrations and settings
	@status=0; try() { echo "$$*"; "$$@" || status=1; }; \
	try $(BIN)/ruff check .; \
	try $(BIN)/ruff format --check .; \
	try $(BIN)/mypy; \
	try $(BIN)/lint-imports; \
	try $(BIN)/python manage.py makemigrations --check --dry-run; \
	try $(BIN)/python manage.py check --fail-level WARNING; \
	exit $$status

format: $(DEV) ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) ## Measure, beside Postfix where it is installed; see docs/benchmarks.md
	$(BIN)/python -m bench $(ARGS)

lock: $(DEV) ## Resolve requirements/*.in anew; ARGS="-P django" upgrades one package, ARGS=-U all
	@for name in uv base dev prod; do \
		case $$name in dev | prod) same="--constraint requirements/base.txt" ;; *) same= ;; esac; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			$(ARGS) $$same requirements/$$name.in --output-file requirements/$$name.txt || exit 1; \
	done

clean: ## Remove the environment; data under var/ stays
	rm -rf $(VENV)

$(BIN)/python:
	@set -e; \
	suitable() { "$$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		if suitable "$$python"; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11, 3.12 or 3.13 found. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$found"; \
	if ! "$$found" -m venv --clear $(VENV); then \
		rm -rf $(VENV); \
		echo "Python cannot make virtual environments here; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi

# uv takes seconds where pip takes minutes; where it cannot be had, pip does the same. Compiled once here, every process
# starts in half the time.
$(VENV)/.installed-%: $(BIN)/python
	@lock=requirements/$$(echo $(@F) | cut -d- -f2).txt; \
	echo "Installing $$lock"; \
	pip="$(BIN)/python -m pip --disable-pip-version-check"; \
	if [ -x $(BIN)/uv ] || $$pip install --quiet --require-hashes -r requirements/uv.txt; then \
		$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r $$lock || $$pip install --require-hashes -r $$lock; \
	else \
		echo "uv cannot be had; pip takes a few minutes." >&2; $$pip install --require-hashes -r $$lock; \
	fi && rm -f $(VENV)/.installed-$$(basename $$lock .txt)-* && touch $@
