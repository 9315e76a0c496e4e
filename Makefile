# make demo   explain four real subjects and write a report for each
# make test   everything CI runs
# make setup  only the environment
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
WORKERS ?= 2
# several processes with several threads each slow one another down many-fold
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo test lint docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt requirements-nodeps.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "apportion needs Python 3.11 or newer; say which with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "making $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@# torch first and pinned: an open range may fetch a build with gigabytes of CUDA libraries
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-nodeps.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@OMP_NUM_THREADS=$$(nproc 2>/dev/null || echo 2) $(BIN)/python -m apportion demo --out reports

test: $(STAMP) lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) reports build *.egg-info
