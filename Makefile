# Every target works first on a fresh clone: it makes .venv when that is missing.
PYTHON ?= python3
# Options for pip at set-up, for instance the index of a CPU or CUDA build of torch (see README).
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: setup demo test test-slow check gen bench soak conformance clean

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "openchat needs Python 3.11 or newer: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/openchat demo demo

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not gpu and not network"

test-slow: setup
	$(BIN)/python -m pytest -q -m "slow and not gpu and not network"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# The help reference and the shell completions, from the program itself.
gen: setup
	$(BIN)/python docs/generate.py

bench: setup
	for part in $(filter-out %_gpu.py,$(wildcard tests/benchmarks/*.py)); do $(BIN)/python $$part || exit 1; done

# Ten minutes of mixed load against a server; SOAK_SECONDS=60 make soak takes less.
soak: setup
	$(BIN)/python -m tests.serving.soak

# Other people's clients and suites against a running server, in an environment of their own.
conformance: setup .venv-conformance/.done
	SERVER_PYTHON=$(CURDIR)/$(BIN)/python HF_HUB_OFFLINE=1 LITELLM_LOCAL_MODEL_COST_MAP=True \
		.venv-conformance/bin/python -m pytest -q -c tests/conformance/pytest.ini tests/conformance --no-skips

.venv-conformance/.done: tests/conformance/requirements.txt
	$(PYTHON) -m venv .venv-conformance
	.venv-conformance/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

clean:
	rm -rf .venv .venv-conformance build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache
