# `make` lists the targets. Everything runs in a virtual environment of its own (.venv).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CPUS   := $(shell nproc 2>/dev/null || echo 2)
# most tests wait more than they compute; those that hold rates (marker `rates`) need CPUs at once,
# and one worker has all of them that need much (tests/support/schedule.py)
WORKERS := -n $(shell expr $(CPUS) + 3) --dist loadfile
# without network namespaces, iperf3, containers, other systems or a package index
QUICK  := not network and not interop and not containers and not packaging and not debian13
STAMP  := $(VENV)/.installed
NATIVE := $(wildcard src/netmeasure/_fast/*.pyx src/netmeasure/_fast/*.pxd src/netmeasure/_fast/*.h)

# the program is started often, and its workers import the tests: compiled once, that is quick
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run test quicktest test-debian13 coverage lint bench article fuzz asan tsan faults soak docs annotate debug dist clean tools

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml setup.py $(NATIVE)
	@PYTHON=$(PYTHON) sh tools/install-debian.sh build
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--editable '.[test]'
	@# on all CPUs, where pip uses one; without it, each start would compile it all where
	@# PYTHONDONTWRITEBYTECODE is set. Some packages have templates that are no Python
	@$(BIN)/python -m compileall -q -j 0 src
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

install: $(STAMP)  ## install into .venv, native modules compiled

run: $(STAMP)  ## measure this machine's loopback on an embedded server
	$(BIN)/python -m netmeasure loopback

tools:  # what the tests use besides Python; needs root, tests skip what is missing
	@sh tools/install-debian.sh test

test: $(STAMP) tools  ## install what the tests need and run everything
	@# else each worker would prepare every test file for itself; collected in two halves at once
	@$(BIN)/python -m pytest -qqq --collect-only tests/[a-e]*/ >/dev/null 2>&1 & \
		$(BIN)/python -m pytest -qqq --collect-only tests/[f-z]*/ >/dev/null 2>&1; wait
	$(BIN)/python -m pytest $(WORKERS) -m "not rates"
	$(BIN)/python -m pytest $(WORKERS) -m rates

coverage: $(STAMP) tools  ## everything but the tests of rates, and what they did not reach, line by line
	@# not a part of `make test`, since the tracer slows it down
	$(BIN)/python -m pytest $(WORKERS) -m "not rates" --cov --cov-report=
	$(BIN)/coverage report --show-missing --skip-covered

quicktest: $(STAMP)  ## only the tests that need no network namespaces, iperf3, containers or package index
	$(BIN)/python -m pytest $(WORKERS) -m "$(QUICK)"

test-debian13: $(STAMP) tools  ## quicktest and iperf3's output on Debian 13 (FRESH=1: system made anew)
	cd tests && $(abspath $(BIN))/python -m support.debian13 $(if $(FRESH),--fresh) "$(QUICK)"

lint: $(STAMP)  ## ruff and mypy (both are part of `make test`)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(STAMP) tools  ## most benchmarks, side by side with iperf3, nginx, vsftpd
	@sh tools/install-debian.sh bench
	$(BIN)/python -m benchmarks.versus --page docs/reference/speed.md
	$(BIN)/python -m benchmarks.bench_alignment
	$(BIN)/python -m benchmarks.bench_http
	$(BIN)/python -m benchmarks.bench_ftp
	$(BIN)/python -m benchmarks.pacing_trace
	$(BIN)/python -m benchmarks.bench_origins
	$(BIN)/python -m benchmarks.bench_requests
	$(BIN)/python -m benchmarks.bench_round_trips
	$(BIN)/python -m benchmarks.bench_fresh_trips
	$(BIN)/python -m benchmarks.known_delays
	$(BIN)/python -m benchmarks.bench_steady
	$(BIN)/python -m benchmarks.bench_paths
	$(BIN)/python -m benchmarks.bench_events
	$(BIN)/python -m benchmarks.bench_analysis
	$(BIN)/python -m benchmarks.bench_history
	$(BIN)/python -m benchmarks.bench_capacity
	$(BIN)/python -m benchmarks.bench_latency
	$(BIN)/python -m benchmarks.queue_delays
	$(BIN)/python -m benchmarks.bench_mesh
	$(BIN)/python -m benchmarks.bench_handshake
	$(BIN)/python -m benchmarks.bench_strangers
	$(BIN)/python -m benchmarks.bench_many
	$(BIN)/python -m benchmarks.bench_many --tests 64 --rate 0
	$(BIN)/python -m benchmarks.bench_large
	$(BIN)/python -m benchmarks.bench_idle
	$(BIN)/python -m benchmarks.bench_holes
	$(BIN)/python -m benchmarks.bench_ready
	$(BIN)/python -m benchmarks.bench_start
	$(BIN)/python -m benchmarks.bench_report

article: $(STAMP) tools  ## measure a network that comes up late with curl, iperf3 and netmeasure
	$(BIN)/python -m benchmarks.article

# executions of each target; what is wanted before a release: NATIVE_RUNS=10000000 PYTHON_RUNS=1000000
NATIVE_RUNS ?= 1000000
PYTHON_RUNS ?= 100000
fuzz: $(STAMP) tools  ## fuzz the parsers of bytes from strangers, then the property tests, for long
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[fuzz]' || \
		echo "without atheris the Python targets get random inputs"
	$(BIN)/python -m fuzz --native $(NATIVE_RUNS) --python $(PYTHON_RUNS)
	$(BIN)/python -m pytest tests/protocol tests/fast/test_udp_accounting.py --hypothesis-profile=long --timeout=3600

faults: $(STAMP) tools  ## the whole fault matrix: every state, fault, end and kind of conversation
	cd tests && $(abspath $(BIN))/python -m support.all_faults

MINUTES ?= 60
soak: $(STAMP)  ## use a server for an hour (MINUTES=60), with kills and faults, and print what it keeps
	$(BIN)/python -m benchmarks.bench_soak --minutes $(MINUTES)

asan: $(STAMP)  ## the native tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(BIN)/python tools/sanitized.py address,undefined

tsan: $(STAMP)  ## the native tests under ThreadSanitizer
	$(BIN)/python tools/sanitized.py thread

docs: $(STAMP)  ## build the documentation into docs/_build/index.html; a warning is an error
	$(BIN)/python -m tools.draw_layers
	$(BIN)/python -m tools.man_page
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs docs/_build

annotate:  ## Cython's annotated HTML beside each .pyx
	NETMEASURE_ANNOTATE=1 $(BIN)/python setup.py build_ext --inplace --force

debug: $(STAMP)  ## the whole test suite on native modules with assertions compiled in
	NETMEASURE_DEBUG=1 $(BIN)/python setup.py build_ext --inplace --force
	$(BIN)/python -m pytest
	$(BIN)/python setup.py build_ext --inplace --force

dist: $(STAMP)  ## make a source distribution and a manylinux wheel in dist/
	rm -rf dist
	sh tools/make-dist.sh $(BIN)/python dist

clean:  ## remove what was built
	rm -rf $(VENV) build dist docs/_build src/*.egg-info src/netmeasure/_fast/*.c src/netmeasure/_fast/*.so src/netmeasure/_fast/*.html
