# Every target sets itself up: a machine with Python 3.11 needs nothing else.
VENV ?= .venv
PYTHON ?= python3.11
DEMO ?= demo_output
BIN := $(VENV)/bin
# A test file runs in one of two processes.
PARALLEL ?= -n 2 --dist=loadfile
export TF_CPP_MIN_LOG_LEVEL ?= 3
# The machine's own certificates, as pip uses them: some networks have others than uv's.
export UV_SYSTEM_CERTS ?= 1

# What the shell is to see is handed over as it was given: neither reads quotes or dollars in it.
export VIDEOS_ := $(value VIDEOS)
export DEMO_ := $(value DEMO)

.PHONY: setup demo docs test test-quick test-slow test-exhaustive test-goldens mutants lint bench lock wheel-check clean

setup: $(VENV)/.ready ## GPU=1 adds what TensorFlow needs on Nvidia's GPUs.
ifdef GPU
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --constraint requirements.lock 'tensorflow[and-cuda]'
endif

$(VENV)/.ready: requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or set PYTHON=..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make virtual environments; on Debian: apt-get install $(PYTHON)-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --requirement requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: setup ## VIDEOS=<folder of class folders> runs on your own videos; SEED, DEMO (output)
	$(BIN)/python -m official.video.demo --output_dir="$$DEMO_" $(if $(VIDEOS_),--videos="$$VIDEOS_") $(if $(SEED),--seed=$(SEED)) $(DEMO_FLAGS)

docs: setup ## The site, in build/site; a link that leads nowhere ends it.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir build/site
	@echo "wrote build/site/index.html; with search: $(BIN)/python -m http.server --directory build/site --bind 127.0.0.1"

test: setup
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

# Folder after folder, in new processes: nets of published size make one grow.
test-slow: setup
	@failed=0; for part in "tests/test_*.py" tests/projects "tests/tfrecords_tools tests/benchmarks" tests/official; do \
	  $(BIN)/python -m pytest $(PARALLEL) -m "slow and not exhaustive" --durations=15 $$part || failed=1; \
	done; exit $$failed

# What CI has no time for: before a release.
test-exhaustive: setup
	$(BIN)/python -m pytest $(PARALLEL) -m exhaustive

# A few minutes of the tests: what another Python or TensorFlow would break first.
test-quick: setup
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(addprefix tests/official/video/,losses settings augment test_registry.py) tests/tfrecords_tools/test_convert.py

# The golden tests again, on a set of another seed and other sizes.
test-goldens: export VIDGARDEN_GOLDENS := build/goldens
test-goldens: setup
	$(BIN)/python -m tests.goldens.resized
	$(BIN)/python -m pytest $(PARALLEL) $$(grep -rl goldens tests --include='test_*.py')

mutants: setup ## MUTANTS=<part of a source's path>: breaks the source; its tests must notice.
	$(BIN)/python -m tests.mutants $(MUTANTS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup ## BENCH_FLAGS="--quick", "--only=input,startup"
	$(BIN)/python -m benchmarks $(BENCH_FLAGS)

wheel-check: setup
	$(BIN)/python -m tests.wheel_check

lock: ## Pins what setup.py asks for; holds no index address.
	$(BIN)/uv pip compile setup.py --extra dev --extra docs --no-annotate --no-header --no-emit-index-url --python-version 3.11 --output-file requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info
