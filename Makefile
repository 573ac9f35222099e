# Everything a contributor types. Needs Python 3.10 to 3.13, git and make; the rest goes into .venv by itself.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
ARGS ?=
SECONDS ?= 600

# CrewAI phones home unless told not to; nothing here may depend on a network.
export CREWAI_DISABLE_TELEMETRY := true
export CREWAI_TRACING_ENABLED := false
export OTEL_SDK_DISABLED := true

.DEFAULT_GOAL := help
.PHONY: help demo test torture check format bench clean

help: ## Show this list
	@echo "make TARGET [ARGS='...'] [SECONDS=600] [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## Record a crew, kill it in the middle, look at it, resume it; offline
	@$(BIN)/eventlog demo $(ARGS)

test: $(STAMP) ## Run the tests, one worker per core, and hold the coverage floor; ARGS go to pytest, e.g. ARGS='-n 0'
	@$(BIN)/python -m pytest -q -n auto --dist worksteal --cov --cov-report=term $(ARGS)

torture: $(STAMP) ## Kill, cut off and crowd again and again, each time otherwise; SECONDS=600 unless told otherwise
	@$(BIN)/python -m tests.torture --seconds $(SECONDS) $(ARGS)

check: $(STAMP) ## Check format, lint, types and layers
	@$(BIN)/ruff format --quiet --check --output-format=concise . || { echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet --output-format=concise .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

bench: $(STAMP) ## Measure beside others: 10 minutes, ARGS=--quick one; ARGS='capture read' some cases
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove what make and the tests made
	@rm -rf .venv build dist *.egg-info .coverage .coverage.* htmlcov
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last: an install that was interrupted is done again.
$(STAMP): pyproject.toml constraints.txt
	@echo "preparing .venv (some minutes, once)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
