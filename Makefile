PYTHON ?= python3
# The lowest supported packages have wheels for the lowest supported Python.
LOWEST_PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo $(PYTHON))

NEWEST := .venv/.ready
LOWEST := .venv-lowest/.ready
BENCH := .venv-bench/.ready
BENCH_LITELLM := .venv-bench-litellm/.ready
FUZZ := .venv-fuzz/.ready
# What reads our trajectories, by the Python that it needs; what cannot be installed together is apart.
RL_ENVIRONMENTS := .venv-rl-312/.ready .venv-rl-lightning-03/.ready .venv-rl-training/.ready
FUZZ_SECONDS ?= 150
# Processes of pytest-xdist, one more than the cores of a small machine: many tests wait for a server that stalls.
PARALLEL := --numprocesses 3
PIP := -m pip install --quiet --disable-pip-version-check

export QUESTION ENDPOINT

.DEFAULT_GOAL := help
.PHONY: help demo check test soak fuzz bench rl format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(NEWEST)  ## See a session answer through real vLLM, or the server at VLLM_BASE_URL (QUESTION="…" ENDPOINT=chat)
	@.venv/bin/python -m examples.demo $(if $(ENDPOINT),--endpoint "$$ENDPOINT") $(if $(QUESTION),"$$QUESTION")

check: $(NEWEST)  ## Lint, types, import rules, unit and contract tests: quick, without vLLM
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest $(PARALLEL)

test: check $(LOWEST)  ## Everything: check, the same tests with the lowest versions, and the live tests with real vLLM
	.venv-lowest/bin/pytest $(PARALLEL)
	.venv/bin/pytest tests/live -m 'live and not soak' --live-required

soak: $(NEWEST)  ## The long part: every live test at every endpoint, a thousand streams, ten thousand turns, real vLLM killed in mid-stream
	.venv/bin/pytest tests/soak -m soak
	.venv/bin/pytest tests/live -m live --live-required

fuzz: $(FUZZ)  ## Look for bytes that break us: FUZZ_SECONDS for each target (150); what is found is kept in .fuzz/
	@mkdir -p .fuzz
	@for target in stream story chat_stream chat_story completions_stream completions_story chunks cards refusal growth trajectory_files; do \
		(cd .fuzz && PYTHONPATH=.. ../.venv-fuzz/bin/python -m tests.fuzz $$target $(FUZZ_SECONDS)) || exit 1; \
	done

bench: $(BENCH) $(BENCH_LITELLM)  ## Measure the provider beside its peers; writes bench/*.json, the pictures, docs/benchmarks.md and the tables of docs/rl.md
	.venv-bench/bin/python -m bench
	.venv-bench/bin/python -m bench.prefix_cache
	.venv-bench/bin/python -m bench.drift

rl: $(NEWEST) $(RL_ENVIRONMENTS)  ## Have real trainers and readers read the trajectories of real sessions, and run Agent Lightning rollouts
	@.venv/bin/python -m tests.rl

format: $(NEWEST)  ## Sort imports and lay out the code
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

clean:  ## Remove the environments and caches (but not .vllm, the 3.4 GB of vLLM)
	rm -rf .venv .venv-bench .venv-bench-litellm .venv-fuzz .venv-lowest .venv-rl-* .rl .fuzz build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# The package is installed in place: source files need no new environment, only what pyproject.toml asks for does.
$(NEWEST): pyproject.toml
	@echo "Setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) --editable '.[dev]'
	@touch $@

$(LOWEST): pyproject.toml tests/lowest.txt
	@echo "Setting up .venv-lowest (once) ..."
	@$(LOWEST_PYTHON) -m venv --clear .venv-lowest
	@.venv-lowest/bin/python $(PIP) --editable '.[demo,test]' --constraint tests/lowest.txt
	@touch $@

$(FUZZ): pyproject.toml
	@echo "Setting up .venv-fuzz (once) ..."
	@$(PYTHON) -m venv .venv-fuzz
	@.venv-fuzz/bin/python $(PIP) --editable '.[fuzz]'
	@touch $@

$(BENCH): pyproject.toml
	@echo "Setting up .venv-bench (once) ..."
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python $(PIP) --editable '.[bench]'
	@touch $@

$(BENCH_LITELLM): pyproject.toml
	@echo "Setting up .venv-bench-litellm (once) ..."
	@$(PYTHON) -m venv .venv-bench-litellm
	@.venv-bench-litellm/bin/python $(PIP) --editable '.[bench-litellm]'
	@touch $@

# Without a Python that is new enough the environment is left out: `make rl` says so again at its end.
.venv-rl-%/.ready: pyproject.toml tests/rl/requirements/%.txt | $(NEWEST)
	@.venv/bin/python -m tests.rl.environments $*
