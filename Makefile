# everindex, from a clone. `make` alone lists what there is to make.
#
# Needed: Python 3.11 or later, make, a network for the first run. No compiler, no server, no root. `uv`, where it is
# on PATH, makes the environment faster. The recipes keep to relative paths: a directory with a space in its name works.

SHELL = /bin/sh
.DEFAULT_GOAL := help
.PHONY: help up test test-unit test-adapters test-long lint docs lock clean env-run env-test env-adapters
.PHONY: lint-style lint-types lint-layers bytecode

PYTEST_WORKERS ?= auto
PYTEST_ARGS ?=
COUNT ?= 1
ADAPTERS = src/everindex/documents.py src/everindex/langchain.py src/everindex/llamaindex.py src/everindex/mcp
LOCK_ARGS ?=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  make up obeys the environment and .env: PORT=0 make up picks a free port, DATABASE_URL names your own server"
	@echo "  (docs/settings.md). Without one it runs its own PostgreSQL with pgvector in EVERINDEX_HOME (./.everindex)."

up: env-run ## everything: server, migrations, sample, embeddings, index, pages; Ctrl-C stops it
	@if [ -z "$${EVERINDEX_HOME:-}" ] && ! grep -qs '^ *\(export  *\)*EVERINDEX_HOME *=' .env; then \
	  EVERINDEX_HOME="$$(pwd)/.everindex"; export EVERINDEX_HOME; \
	fi; \
	exec .venv/bin/everindex up

test: env-test ## lint, then every test; fails on the first red step
	@# mypy keeps one core busy; what else comes before the tests runs on another.
	@$(MAKE) --no-print-directory --jobs=2 lint-types lint-style lint-layers bytecode
	@OPENBLAS_NUM_THREADS=1 .venv/bin/python -m pytest -m "not long" -n $(PYTEST_WORKERS) --maxprocesses=8 --dist loadfile --no-loadscope-reorder --durations=10 $(PYTEST_ARGS)

test-unit: env-test ## the tests that need no server and no browser, in seconds
	@.venv/bin/python -m compileall -q src
	@# In one process: a second one imports everything again, which takes as long as half of the tests.
	@OPENBLAS_NUM_THREADS=1 env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest tests/unit $(PYTEST_ARGS)

test-adapters: env-adapters ## the adapters of LangChain, LlamaIndex and MCP, in an environment of their own (.venv-adapters)
	@.venv-adapters/bin/mypy $(ADAPTERS)
	@OPENBLAS_NUM_THREADS=1 .venv-adapters/bin/python -m pytest tests/adapters -o asyncio_mode=auto \
	  -o asyncio_default_fixture_loop_scope=function --durations=5 $(PYTEST_ARGS)

test-long: env-test ## the long campaigns alone; COUNT=n repeats them
	@for round in $$(seq $(COUNT)); do .venv/bin/python -m pytest -m long --durations=10 $(PYTEST_ARGS) || exit 1; done

lint: lint-style lint-types lint-layers ## ruff, mypy, import-linter

lint-style: env-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

lint-types: env-test
	.venv/bin/mypy

lint-layers: env-test
	.venv/bin/lint-imports

# Many tests start commands, and each worker loads every test: where Python may not write bytecode, each would compile anew.
bytecode: env-test
	@.venv/bin/python -m compileall -q src
	@env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest --collect-only -q >/dev/null 2>&1 || :  # the run tells its errors

docs: env-test ## docs/cli.md, made of the commands
	@.venv/bin/python -m everindex.cli.reference >docs/cli.md.new && mv docs/cli.md.new docs/cli.md

lock: ## resolve the lock files anew (needs uv; LOCK_ARGS=--upgrade takes newer releases)
	@command -v uv >/dev/null || { \
	  echo "uv-missing: the lock files cannot be made." >&2; \
	  echo "  why:  make lock resolves for every platform and Python at once, which uv does and pip does not." >&2; \
	  echo "  next: install uv (pip install uv), then run make lock again." >&2; exit 1; }
	@$(find_python); \
	build() { "$$python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "editables<1", sep="\n")'; }; \
	set -e; \
	build | $(compile) pyproject.toml - -o requirements.lock; \
	build | $(compile) pyproject.toml - --extra test -c requirements.lock -o requirements-test.lock; \
	build | $(compile) pyproject.toml - --extra test-adapters -c requirements.lock -o requirements-adapters.lock; \
	echo "requirements.lock, requirements-test.lock and requirements-adapters.lock are made."

clean: ## remove the environment and caches; the data in .everindex stays
	rm -rf .venv .venv-adapters build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

env-run:
	@$(call environment,requirements.lock,run)

env-test:
	@$(call environment,requirements-test.lock,test)

env-adapters:
	@$(call environment,requirements-adapters.lock,adapters,.venv-adapters)

# No address of an index goes into a lock file: whoever installs from it uses an index of their own choice.
compile = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)

# Of an activated environment the Python that it was made from: the environment itself is removed before it is made anew.
base_python = import os, sys; \
	base = os.path.join(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2]); \
	print(base if sys.prefix != sys.base_prefix and os.access(base, os.X_OK) else sys.executable)

# Sets $python to a Python that can do it, else explains and ends. A Debian without python3-venv has `venv` and no
# `ensurepip`; uv needs neither.
find_python = \
	python= ; lame= ; \
	for each in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	  "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if command -v uv >/dev/null || "$$each" -c 'import venv, ensurepip' 2>/dev/null; then \
	    python=$$("$$each" -c '$(base_python)'); break; \
	  fi; \
	  lame=$$each; \
	done; \
	if [ -z "$$python" ] && [ -n "$$lame" ]; then \
	  echo "venv-missing: $$lame cannot make a virtual environment." >&2; \
	  echo "  why:  its modules venv and ensurepip are not installed; Debian and Ubuntu pack them apart." >&2; \
	  echo "  next: apt install python3-venv (or install uv), then run make again." >&2; exit 1; \
	elif [ -z "$$python" ]; then \
	  echo "python-missing: there is no Python 3.11 or later on PATH." >&2; \
	  echo "  why:  looked for python3.14, python3.13, python3.12, python3.11, python3 and python." >&2; \
	  echo "  next: install one (Debian: apt install python3 python3-venv), then run make again." >&2; exit 1; \
	fi

# Brings .venv, or the directory $(3), to what the lock file $(1) says, at once when it is there already. Its file
# .made-$(2) holds what it was
# made from: path, lock, and of pyproject.toml what is installed: an option of a linter changes nothing. An environment
# that make has made is thrown away when that changes; one that somebody else has made is installed into and never removed.
installs = awk '/^\[/ { kept = !/^\[+tool\./ || /^\[+tool\.hatch/ } kept' pyproject.toml
venv = $(or $(3),.venv)
environment = set -eu; umask 022; \
	want="$$(pwd) $$($(installs) | cat - $(1) | cksum)"; \
	base="$$(pwd) $$($(installs) | cat - requirements.lock | cksum)"; \
	works() { $(venv)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	is() { [ "$$(cat "$(venv)/.made-$$1" 2>/dev/null)" = "$$2" ]; }; \
	if is $(2) "$$want" && works; then exit 0; fi; \
	$(find_python); \
	if [ -e $(venv) ] && { ! works || ! is run "$$base"; }; then \
	  if [ -e $(venv)/.made-by-make ]; then rm -rf $(venv); \
	  elif ! works; then \
	    echo "environment-unusable: $(venv) is there, and it has no Python 3.11 or later that works." >&2; \
	    echo "  why:  make did not make it, so make does not remove it." >&2; \
	    echo "  next: move it away (mv $(venv) $(venv)-old), then run make again." >&2; exit 1; \
	  fi; \
	fi; \
	echo "making $(venv) from $(1) (once; again only when it or the project in pyproject.toml changes)" >&2; \
	if ! [ -e $(venv) ]; then mkdir $(venv); : >$(venv)/.made-by-make; fi; \
	rm -f $(venv)/.made-run $(venv)/.made-test; \
	if command -v uv >/dev/null; then \
	  works || uv venv --quiet --allow-existing --python "$$python" $(venv); \
	  uv pip install --quiet --compile-bytecode --python $(venv)/bin/python --require-hashes -r $(1); \
	  uv pip install --quiet --python $(venv)/bin/python --no-deps --no-build-isolation -e .; \
	else \
	  works || "$$python" -m venv $(venv); \
	  $(venv)/bin/python -m pip --version >/dev/null 2>&1 || $(venv)/bin/python -m ensurepip >/dev/null; \
	  PIP_DISABLE_PIP_VERSION_CHECK=1; export PIP_DISABLE_PIP_VERSION_CHECK; \
	  $(venv)/bin/python -m pip install --quiet --require-hashes -r $(1); \
	  $(venv)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	fi; \
	printf '%s\n' "$$want" >$(venv)/.made-$(2); \
	printf '%s\n' "$$base" >$(venv)/.made-run
