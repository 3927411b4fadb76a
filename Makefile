# make quickstart: everything from a fresh clone to a taught model. Other targets are for people who change the code.
# PIP_ARGS goes to pip, for those who need another package index (README: "Installing on other machines").

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
BIN := .venv/bin
WORKERS ?= 2
PYTEST_ARGS ?=
# In CI a skipped test is a failed test (tests/ci_no_skips.py).
PYTEST := PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p ci_no_skips

.PHONY: quickstart install test lint unit check-slow bench bench-quick web web-types web-test clean migration

quickstart: .venv/.installed
	$(BIN)/chatwright quickstart

install: .venv/.installed

test: lint unit

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: .venv/.installed-test
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not slow" $(PYTEST_ARGS)

# RESUME=1 runs what has not passed yet, CLIENTS=no what needs no environment of other programs.
check-slow: .venv/.installed-test
	PYTHONPATH=tests $(BIN)/python tests/slow_suite.py $(if $(RESUME),--resume) $(if $(filter no,$(CLIENTS)),--without-clients) $(PYTEST_ARGS)

# After a change of tables: make migration NAME="what it changes" writes the next revision, to be reviewed.
migration: .venv/.installed
	$(BIN)/python -m chatwright.serve.tables "$(NAME)"

# The web app, into src/chatwright/serve/static; needs Node.js 20.19 or newer.
web: web/node_modules/.installed
	cd web && npm run build

# After a change of the server's /api: what the app knows of it.
web-types: web/node_modules/.installed .venv/.installed-test
	PYTHONPATH=tests $(BIN)/python tests/web_schema.py > web/openapi.json
	cd web && npm run types

web-test: .venv/.installed-test
	$(PYTEST) tests/web $(PYTEST_ARGS)

web/node_modules/.installed: web/package-lock.json
	@command -v npm >/dev/null || { echo "error: no npm found; install Node.js 20.19 or newer from nodejs.org, then run make web again" >&2; exit 1; }
	cd web && npm ci --no-progress
	@touch $@

# Everything takes most of a day on two cores that do nothing else; `make bench BENCH="train ppo"` runs some of it.
BENCH ?= $(filter-out http_streams quick readme_claims,$(basename $(notdir $(wildcard benchmarks/[a-z]*.py))))
bench: .venv/.installed-test
	for name in $(BENCH); do $(BIN)/python benchmarks/$$name.py || exit 1; done

# Every figure of the READMEs, with less repetition: at most an hour. QUICK_ARGS: --only RUN, --resume, --list.
bench-quick: .venv/.installed-test
	$(BIN)/python benchmarks/quick.py $(QUICK_ARGS)

clean:
	rm -rf build dist test-results.xml .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no python3 found; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# Installed in editable mode: pulling new code needs no new install, a change of dependencies does.
.venv/.installed: pyproject.toml | .venv/bin/python
	@echo "installing into .venv (once; about 1 GB, mostly PyTorch)"
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -e .
	@touch $@

.venv/.installed-test: pyproject.toml | .venv/bin/python
	@echo "installing into .venv with what the tests need (once)"
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -e '.[test]'
	@touch $@ .venv/.installed
