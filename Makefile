# `make run` starts BACH, `make test` proves it. Works with GNU make 3.81 (macOS) and a POSIX shell.

VENV = .venv
PYTHON = $(VENV)/bin/python
TEMPLATES = $$(find templates -name '*.html' -o -name '*.txt' | sort)
# Tests run on these; the one that $(VENV) has runs all of them, the others those where a Python may
# make a difference: processes, files, clocks, the shell. Pages and rights are Django's on each.
TESTED = 3.11 3.13
ON_EACH = tests/ground tests/schedules tests/health tests/presence tests/skills daemon_app \
  tests/test_daemon.py tests/test_runner.py tests/test_cluster.py tests/test_executor.py
# Three parts that take about as long, and the browser's: they wait more than they compute.
COMMANDS = tests/cli tests/ground tests/schedules tests/live tests/health tests/skills daemon_app
SITE = $$(ls -d tests/*/ | grep -v -x -F -e tests/browser/ -e tests/nvml/ -e tests/__pycache__/ \
  $(patsubst %,-e %/,$(COMMANDS)) | tr '\n' ' ')
DAEMON = $$(ls tests/test_*.py | tr '\n' ' ')

.PHONY: help run test lint format bench faults messages lock clean
.DEFAULT_GOAL = help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | column -t -s @ 2>/dev/null \
	  || sed -n 's/^\([a-z]*\):.*## /  make \1  /p' $(MAKEFILE_LIST)

run: ## install what is needed and start BACH at http://localhost:8000/daemon
	@.ci/venv $(VENV) requirements.txt
	@exec $(VENV)/bin/bach up

test: ## install what the tests need, a browser included, and run them all
	@.ci/venv $(VENV) requirements-dev.txt
	@$(PYTHON) tests/browser/chromium.py
	$(PYTHON) tests/side_by_side.py "$(PYTHON) -m pytest $(COMMANDS)" "$(PYTHON) -m pytest $(SITE)" \
	  "$(PYTHON) -m pytest $(DAEMON)"
	@set -e; \
	here=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	others=; \
	for version in $(TESTED); do \
	  [ $$version != $$here ] || continue; \
	  python=$$(.ci/python $$version) || { echo "No Python $$version here: not tested on it."; continue; }; \
	  .ci/venv .venv-$$version requirements-dev.txt $$python; \
	  others=".venv-$$version/bin/python -m pytest $(ON_EACH)"; \
	done; \
	echo "$(PYTHON) -m pytest tests/browser"; echo "$$others"; \
	$(PYTHON) tests/side_by_side.py "$(PYTHON) -m pytest tests/browser" "$${others:-true}"

lint: ## style, templates, types, floors, catalogue
	@.ci/venv $(VENV) requirements-dev.txt
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@echo "djade --check"; $(VENV)/bin/djade --check --target-version 5.2 $(TEMPLATES)
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTHON) locale/messages.py --check

format: ## lay out code and templates
	@.ci/venv $(VENV) requirements-dev.txt
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .
	@echo "djade"; $(VENV)/bin/djade --target-version 5.2 $(TEMPLATES)

bench: ## measure: start delay, throughput, idle cost, output, line to browser
	@.ci/venv $(VENV) requirements-dev.txt
	$(PYTHON) -m bench

# ROUNDS=200 SEED=7 ONLY=K1,C4 TIER=long MINUTES=60; without any of them each experiment once, short.
FAULTS = $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) \
  $(if $(TIER),--tier $(TIER)) $(if $(MINUTES),--minutes $(MINUTES))

faults: ## strike the product and count what it loses; a round is repeated by its SEED
	@.ci/venv $(VENV) requirements-dev.txt
	$(PYTHON) -m faults $(FAULTS)

messages: ## bring the German catalogue up to date with code and templates
	@.ci/venv $(VENV) requirements-dev.txt
	$(PYTHON) locale/messages.py

LOCK = $(VENV)/bin/uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
  --generate-hashes --upgrade --quiet --custom-compile-command "make lock"

lock: ## take the newest releases that pyproject.toml allows, with their hashes
	@.ci/venv $(VENV) requirements-dev.txt
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## remove environments and caches; data/ stays
	rm -rf .venv .venv-3.* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache test-results
	find bachweb daemon_app tests bench faults locale -name __pycache__ -prune -exec rm -rf {} +
