# Everything a person types. Each target makes what it needs: a virtual environment with this checkout in it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

# What makes and checks wheels, in an environment of its own.
WHEELS = build/wheels
TOOLS = $(WHEELS)/venv/bin

# The documentation's own environment.
DOCS = build/docs

.PHONY: demo picture docs site quick test texts lint units asan coverage bench mutants faults soak faults-core soak-core clean
.PHONY: wheels wheels-native wheels-test test-wheel release

demo: $(STAMP)  ## extensions in real processes, for a few seconds
	$(BIN)/lensipc demo

picture: $(STAMP)  ## docs/demo.svg: the demo's screen
	$(BIN)/lensipc demo --svg docs/demo.svg

docs: site $(STAMP)  ## build/site/: the documentation; warnings are errors, and each block of code runs
	$(BIN)/python -m pytest -q tests/test_docs.py

site: $(DOCS)/.installed  ## the same, without running its code
	$(DOCS)/bin/codespell docs *.md bench/README.md examples lensipc
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict

quick: $(STAMP)  ## what to run after each change: lint, types and the unit tests, in half a minute
	+$(MAKE) --no-print-directory -j2 --output-sync=target lint units

units: $(STAMP)
	$(BIN)/python -m pytest -q -m unit

test: lint $(WHEELS)/.native  ## lint, the tests of this tree's text, and all others on its wheel, installed
	+$(MAKE) --no-print-directory -j2 --output-sync=target texts test-wheel SHARE=1

texts: $(STAMP)
	$(BIN)/python -m pytest -q tests/test_house.py tests/test_mutants.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## side by side with what you would use instead
	$(BIN)/lensipc bench

JOBS ?= 1
mutants: $(STAMP)  ## whether the tests notice small mistakes, made one at a time in a copy: minutes; make mutants JOBS=2
	$(BIN)/python tests/mutants/run.py --jobs $(JOBS)

CORE = $(BIN)/python tests/programs.py

faults-core: $(STAMP)  ## the C core killed at every instruction, starved of each resource, under a hostile peer: hours
	$(CORE) asan exhaustion
	$(CORE) shipped killed --count 10000
	$(CORE) asan hostile --count 100000000

asan: $(STAMP)  ## the C core's tests under ASan and UBSan, and under TSan; and its reader in Python, under ASan
	$(BIN)/python -m pytest -q tests/test_csrc.py tests/test_reader.py -k 'asan or tsan or reads_no_byte_beyond'

coverage: $(STAMP)  ## what the tests run: branches of Python, lines of C, and the largest holes; a quarter of an hour
	$(BIN)/python tests/covered.py

soak-core: $(STAMP)  ## 10^8 messages each once and in order, 10^7 sleeps with delays, ten million states: half an hour
	$(CORE) shipped once --count 100000000
	$(CORE) shipped delays --count 10000000
	$(CORE) shipped model +1

faults: $(STAMP)  ## what CI runs a slice of, at full length: hours; each prints the seed that repeats it
	$(BIN)/python tests/faults/kills.py --who renderer --count 1000
	$(BIN)/python tests/faults/kills.py --who main --count 500
	$(BIN)/python tests/faults/outcomes.py --count 1000000
	$(BIN)/python tests/faults/churn.py --what attach --count 10000
	$(BIN)/python tests/faults/churn.py --what listen --count 1000000
	$(BIN)/python tests/faults/churn.py --what enable --count 1000
	$(BIN)/python tests/faults/exits.py --count 1000
	$(BIN)/python tests/faults/interruptions.py --count 10000
	$(BIN)/python tests/faults/slow.py --count 1 --seconds 10
	$(BIN)/python tests/faults/flood.py --count 64 --seconds 5
	$(BIN)/python tests/faults/stops.py --count 100 --longest 5
	$(BIN)/python tests/faults/neighbours.py --count 1 --seconds 3
	$(BIN)/python tests/faults/views.py --count 10000000
	$(BIN)/python tests/faults/threads.py --who main --count 1000000 --arrays 1000
	$(BIN)/python tests/faults/threads.py --who renderer --count 1000000 --arrays 1000
	$(BIN)/python tests/faults/threads.py --who script --count 1000000 --arrays 1000
	$(BIN)/python tests/hostile --count 20000
	$(BIN)/python tests/fuzz/fuzz_values.py --count 100000000 --jobs 2
	$(BIN)/python tests/fuzz/fuzz_adapters.py --count 1000000

MINUTES ?= 60
soak: $(STAMP)  ## everything at once for so long, with an eye on memory: make soak MINUTES=60
	$(BIN)/python tests/faults/soak.py --minutes $(MINUTES)

wheels: $(WHEELS)/.installed  ## dist/: the sdist and a wheel for each platform, compiled by zig, and checked
	$(TOOLS)/python tests/wheels/make.py

wheels-native: $(WHEELS)/.native  ## this machine's wheel, audited, on two Pythons
	$(TOOLS)/python tests/wheels/run.py --only native --python 3.11 --python 3.13

wheels-test: $(WHEELS)/.installed  ## each wheel of dist/ that this machine can run, on each Python that can be had
	$(TOOLS)/python tests/wheels/run.py

SHARE ?= 1
test-wheel: $(WHEELS)/.native  ## the tests on this tree's wheel, installed: make test-wheel PYTHON=3.15 SHARE=3 SEED=1
	$(TOOLS)/python tests/wheels/suite.py --python $(PYTHON) --share $(SHARE) $(if $(SEED),--seed $(SEED))

release: $(WHEELS)/.installed  ## make release VERSION=1.2.3: RELEASING.md
	$(TOOLS)/python tests/wheels/release.py $(VERSION)

$(WHEELS)/.native: $(WHEELS)/.installed build.py README.md $(wildcard lensipc/*.py* lensipc/*/*.py lensipc/*/*/*.py csrc/*/* csrc/*)
	$(TOOLS)/python tests/wheels/make.py --only native
	touch $@

$(WHEELS)/.installed: pyproject.toml
	$(if $(filter 3.%,$(PYTHON)),python3,$(PYTHON)) -m venv $(WHEELS)/venv
	$(TOOLS)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(TOOLS)/python -m pip install --quiet --group wheels
	touch $@

$(DOCS)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(DOCS)/bin/python -m pip install --quiet --group docs
	touch $@

$(STAMP): pyproject.toml build.py $(wildcard csrc/* csrc/*/*)
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -e '.[cli,bench,testing]' --group dev
	touch $@

clean:
	rm -rf $(VENV) build dist lensipc/_core*.so
