# scripts/setup.sh creates .venv with the locked dependencies, and with .venv/bin/harness.
.PHONY: help setup test test-vm coverage replay chaos crash kernels mutants bench lint manual links page lock

help:
	@echo "make setup   create .venv with all locked dependencies; as root also install apt packages"
	@echo "make replay  replay 10,000 Services into the real kernel"
	@echo "make test    run the tests; of those in a virtual machine only a few quick ones"
	@echo "make test-vm run all tests in a virtual machine: mode ipvs and other kernels (slow under emulation)"
	@echo "make coverage run the tests and report their line coverage"
	@echo "make chaos   run the release gate: every fault under load, in modes nftables and iptables"
	@echo "make crash   kill recorder and broker 200 times (kill -9) and check that no event is lost or duplicated"
	@echo "make kernels run every mode on other kernels in virtual machines, and update the table in docs/kernels.md"
	@echo "make mutants inject over 200 bugs one at a time and report which gate detects each (hours; resumable)"
	@echo "make bench   run the benchmarks, each with its reference"
	@echo "make lint    check style, import directions and types"
	@echo "make manual  build the documentation as a site, in build/manual"
	@echo "make links   check the manual's external links"
	@echo "make page    bundle the libraries of harness explore's page again (npm)"
	@echo "make lock    compile both requirements*.lock from pyproject.toml"

setup: .venv/.ready

.venv/.ready: pyproject.toml requirements.lock scripts/setup.sh
	bash scripts/setup.sh
	touch $@

# The dependencies of a replay are a subset of these.
.venv/.replay: pyproject.toml requirements-replay.lock scripts/setup.sh
	[ .venv/.ready -nt pyproject.toml ] || bash scripts/setup.sh replay
	touch $@

# More workers than cores, since most tests wait for probes, brokers or another kernel.  They start thousands of
# interpreters, each of which would compile every module if bytecode could not be written.
PYTEST = env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest
PARALLEL = -n 5 --dist loadgroup --no-loadscope-reorder -p no:benchmark

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

# Run it with the oldest supported Python, Debian 12's 3.11.2: a newer one selects versions that this one cannot install.
lock: setup
	$(LOCK) --extra chaos --extra cluster --extra kafka --extra fleet --extra dev --output-file requirements.lock pyproject.toml
	mkdir -p build && grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' requirements.lock > build/constraints.txt
	$(LOCK) --constraint build/constraints.txt --output-file requirements-replay.lock pyproject.toml

page:
	bash scripts/page/build.sh
