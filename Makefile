# Two commands are enough: `make demo` runs the main job, `make test` checks everything. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Nothing phones home, and nothing is fetched from a model hub.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_OFFLINE := 1

.PHONY: install demo test check soak mutations audits lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Promptward needs CPython 3.11, 3.12 or 3.13; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: install
	$(BIN)/promptward simulate

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist worksteal

soak: install
	PROMPTWARD_SOAK_ROUNDS=50 $(BIN)/python -m pytest tests/federation/test_survive.py -k soak

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# Puts every bug of tests/mutation into a copy of the tree, and writes docs/mutations.md: which test caught it.
mutations: install
	$(BIN)/python -m tests.mutation

# The audits audited: every layer on every bug, and a hundred times on right code. docs/audits.md has the outcome.
audits: install
	$(BIN)/promptward audit --self-test --runs 100 --out build/audits

# The lock holds exact versions for CPython 3.11 to 3.13. torch's CUDA packages are left out: torch asks for them
# by itself where its build needs them. tests/test_packaging.py fails when pyproject.toml and the lock drift apart.
lock: install
	{ echo "# Made by 'make lock' from pyproject.toml; do not edit."; \
	  $(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate --quiet pyproject.toml \
	    --constraint requirements.lock | grep -vE '^(nvidia-|cuda-|triton)'; } > .lock.new
	mv .lock.new requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info
