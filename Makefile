# Everything goes through `make setup`: a .venv with locked dependencies and .venv/bin/harness.
.PHONY: help setup test replay chaos crash bench lint lock

help:
	@echo "make setup   a .venv with everything locked; apt packages when root"
	@echo "make replay  replay 10,000 Services into the real kernel"
	@echo "make test    all tests"
	@echo "make chaos   the release gate: every fault under load, in modes nftables and iptables"
	@echo "make crash   200 deaths of recorder and broker by kill -9: nothing lost, nothing doubled"
	@echo "make bench   benchmarks, side by side with their references"
	@echo "make lint    style and import directions"
	@echo "make lock    requirements.lock anew from pyproject.toml"

setup: .venv/.ready

.venv/.ready: pyproject.toml requirements.lock scripts/setup.sh
	bash scripts/setup.sh
	touch $@

test: setup
	.venv/bin/python -m tests

replay: setup
	.venv/bin/harness replay recordings/10k-svc.jsonl

chaos: setup
	.venv/bin/harness chaos run release-gate --mode nftables --out build/gate-nftables
	.venv/bin/harness chaos run release-gate --mode iptables --out build/gate-iptables

crash: setup
	.venv/bin/python -m tests.record.crashes --kills 200

bench: setup
	.venv/bin/python -m pytest benchmarks --benchmark-only

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

lock: setup
	.venv/bin/pip-compile --quiet --generate-hashes --extra chaos --extra dev --strip-extras --allow-unsafe --no-emit-find-links \
		--no-emit-index-url --no-emit-trusted-host --no-header --output-file requirements.lock pyproject.toml
