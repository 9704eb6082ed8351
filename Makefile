# Everything goes through scripts/setup.sh: a .venv with locked dependencies and .venv/bin/harness.
.PHONY: help setup test test-vm coverage replay chaos crash kernels mutants bench lint manual links page lock

help:
	@echo "make setup   a .venv with everything locked; apt packages when root"
	@echo "make replay  replay 10,000 Services into the real kernel"
	@echo "make test    the tests; in a virtual machine only a few, which are quick"
	@echo "make test-vm all tests in a virtual machine: mode ipvs and other kernels (long where it is emulated)"
	@echo "make coverage the tests, and which lines of engine, harness and chaos they reach"
	@echo "make chaos   the release gate: every fault under load, in modes nftables and iptables"
	@echo "make crash   200 deaths of recorder and broker by kill -9: nothing lost, nothing doubled"
	@echo "make kernels every mode on other kernels, in virtual machines, and the table in docs/kernels.md"
	@echo "make mutants over 200 bugs put into the engine one at a time: which gate notices (hours; resumable)"
	@echo "make bench   benchmarks, side by side with their references"
	@echo "make lint    style, import directions and types"
	@echo "make manual  the documentation as a site, in build/manual"
	@echo "make links   whether the manual's links to other sites lead somewhere"
	@echo "make page    the libraries of the page of harness explore, bundled again (npm)"
	@echo "make lock    both requirements*.lock again from pyproject.toml"

setup: .venv/.ready

.venv/.ready: pyproject.toml requirements.lock scripts/setup.sh
	bash scripts/setup.sh
	touch $@

# What a replay needs is a part of it.
.venv/.replay: pyproject.toml requirements-replay.lock scripts/setup.sh
	[ .venv/.ready -nt pyproject.toml ] || bash scripts/setup.sh replay
	touch $@

# Most tests wait, for probes, brokers or another kernel: more workers than cores.  They start thousands of interpreters,
# each of which would compile every module where bytecode may not be written.
PYTEST = env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest
PARALLEL = -n 6 --dist loadgroup --no-loadscope-reorder -p no:benchmark

test: setup
	$(PYTEST) $(PARALLEL)

coverage: setup
	$(PYTEST) $(PARALLEL) --cov --cov-report term --cov-report html:build/coverage

replay: .venv/.replay
	.venv/bin/harness replay recordings/10k-svc.jsonl

chaos: setup
	.venv/bin/harness chaos run release-gate --mode nftables --out build/gate-nftables
	.venv/bin/harness chaos run release-gate --mode iptables --out build/gate-iptables

crash: setup
	.venv/bin/python -m tests.record.crashes --kills 200

test-vm: setup
	$(PYTEST) -m vm

kernels: setup
	.venv/bin/python -m tests.vm.table

mutants: setup
	.venv/bin/python -m tests.mutants --results build/mutants.json

bench: setup
	.venv/bin/python -m pytest benchmarks --benchmark-only

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

manual: setup
	.venv/bin/sphinx-build --fail-on-warning --quiet --jobs auto -c docs . build/manual

links: setup
	.venv/bin/sphinx-build --quiet --jobs auto -b linkcheck -c docs . build/links

LOCK = .venv/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-find-links \
	--no-emit-index-url --no-emit-trusted-host --no-header

# With the oldest Python that is supported, Debian 12's 3.11.2: a newer one picks versions that it cannot install.
lock: setup
	$(LOCK) --extra chaos --extra cluster --extra kafka --extra fleet --extra dev --output-file requirements.lock pyproject.toml
	mkdir -p build && grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' requirements.lock > build/constraints.txt
	$(LOCK) --constraint build/constraints.txt --output-file requirements-replay.lock pyproject.toml

page:
	bash scripts/page/build.sh
