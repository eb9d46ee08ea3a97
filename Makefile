# setup: the environment. demo: the whole loop on real data. test, check: what must hold. bench: every figure. lock: pin anew.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/installed

BENCHMARKS := ingest recovery order freshness feature_read segments publish topk serving als_speed als_quality als_scale fold_in two_tower_quality two_tower_feed session journey \
	cold propensity statistics drift actions

.PHONY: setup demo test check format bench lock clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/bespoke demo $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --save || exit 1; done

# Installs the newest versions that pyproject.toml allows into an empty environment and writes them down.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet '.[dev]'
	.venv-lock/bin/python -m pip freeze --exclude bespoke | sed 's/+cpu$$//' > constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv var build *.egg-info
