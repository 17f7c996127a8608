# Everything a developer runs. `make setup` needs Python >= 3.11 and the network; the rest happens in .venv.
#
#   make setup           the environment in .venv, from the hashed lock
#   make test            lint and all tests (what .ci/run runs)
#   make lint            ruff, mypy, import-linter, buf
#   make console         build the web console (needs the npm registry; kept until its sources change)
#   make demo            a Master and three daemons on this machine until Ctrl-C (DEMO_SECONDS=25 ends by itself)
#   make faults          the long form of the fault suite, of tunnels with real programs, and of the judge of NQL
#   make bench           the benchmarks (SHORT=1: the short form)
#   make proto           regenerate protos/gen from protos/
#   make reference       regenerate docs/reference from the code
#   make proto-baseline  move the baseline of the breaking check (after a release of the contract)
#   make lock            resolve requirements.lock anew
#   make clean           remove the environment, caches and data

PYTHON ?= python3
BIN := .venv/bin
SOURCES := libs master_server tenant_daemon cli
TYPED := $(wildcard $(SOURCES) tests benchmarks docs/examples)
PROTOS := $(sort $(wildcard protos/tenantry/v1/*.proto))
PYTEST_ARGS ?=
# Bytecode is kept, whatever the environment says: else each of the hundreds of programs that tests start compiles what is new.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup test lint lint-style lint-types lint-imports lint-contract programs collected console demo faults bench proto proto-baseline reference lock clean

setup: .venv/.stamp-installed

.venv/.stamp-created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv --clear .venv
	touch $@

# Bytecode is made here, so that every program starts quickly even where Python may not write it.
# uv installs the whole stack in seconds; where it cannot run or cannot reach the index, pip does the same from the same hashes.
.venv/.stamp-locked: .venv/.stamp-created requirements.lock
	{ $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)" \
	  && $(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes --only-binary :all: requirements.lock; } \
	|| { echo 'setup: uv failed; installing with pip' >&2; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock; }
	touch $@

# The project itself: editable, without its dependencies (the lock has them) and without build isolation (the lock has hatchling).
.venv/.stamp-installed: .venv/.stamp-locked pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q $(SOURCES) protos/gen
	touch $@

lint: lint-types lint-style lint-imports lint-contract console

lint-style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: setup
	$(BIN)/mypy $(TYPED)

lint-imports: setup
	$(BIN)/lint-imports --no-logo

lint-contract: setup
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/baseline.binpb

# The types of the console are checked whenever it is built.
console: setup
	$(BIN)/python -m tests.tooling.console

# A browser and what else tests run of other people's programs. Where nobody may install them tests are skipped, loudly.
programs: setup
	$(BIN)/python -m tests.tooling.programs

# Every test can be imported; what pytest makes of the files is kept, so that no worker makes it again for itself.
collected: setup
	@collected=$$($(BIN)/python -m pytest --collect-only --quiet --quiet 2>&1) || { echo "$$collected"; exit 1; }

# The types take one core as long as all other checks, the console's build and the programs take another.
# Most tests wait for real processes: five files at a time keep two cores busy.
test: setup
	$(MAKE) --no-print-directory --jobs=2 lint programs collected
	$(BIN)/python -m pytest --numprocesses 5 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

demo: setup
	$(if $(DEMO_SECONDS),DEMO_SECONDS=$(DEMO_SECONDS)) $(BIN)/python docs/examples/demo.py

faults: setup
	TENANTRY_FAULTS=long $(BIN)/python -m pytest tests/faults tests/system/tunnels tests/query --timeout=1800 $(PYTEST_ARGS)

bench: setup
	$(BIN)/python -m benchmarks $(if $(SHORT),--short)

proto: setup
	$(BIN)/python tests/tooling/generate.py protos/gen

proto-baseline: setup
	$(BIN)/buf build --output protos/baseline.binpb --exclude-source-info

reference: setup
	$(BIN)/python -m tests.tooling.reference

lock: .venv/.stamp-created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13.9'
	$(BIN)/uv pip compile pyproject.toml --no-config --quiet --upgrade --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --output-file requirements.lock

clean:
	rm -rf .venv .demo .bench build dist master_server/tenantry/master/console/built .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
