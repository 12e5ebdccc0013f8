# Every target is one command that could be typed. `make` alone prints this help.
PROFILE ?= quick
SEEDS ?=
WORKERS ?= 0
PYTHON ?=

BIN := .venv/bin
STAMP := .venv/set-up
SWEEP = $(BIN)/fedbench sweep benchmarks/$(1).yaml --profile $(PROFILE) --workers $(WORKERS) $(if $(SEEDS),--seeds $(SEEDS))
SUITES := digits cifar10

.DEFAULT_GOAL := help
.PHONY: help setup bench $(addprefix bench-,$(SUITES)) test test-all lint type check speed report clean-runs

help: ## print this help
	@printf 'make TARGET [PROFILE=smoke|quick|standard|paper] [SEEDS=n] [WORKERS=n]\n\n'
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## install everything into .venv (other targets do so as well)

$(STAMP): pyproject.toml constraints.txt scripts/setup
	@PYTHON='$(PYTHON)' bash scripts/setup
	@touch $@

bench: bench-digits ## run the embedded default suite: no download, minutes on two cores

bench-digits: $(STAMP) ## scikit-learn's digits
	$(call SWEEP,digits)

bench-cifar10: $(STAMP) ## CIFAR-10 (FEDBENCH_DATA, or downloaded)
	$(call SWEEP,cifar10)

report: $(STAMP) ## print the leaderboard of SUITE=digits again
	$(BIN)/fedbench report $(or $(SUITE),digits)

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m 'not slow'

test-all: $(STAMP) ## run the tests, the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(STAMP) ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: $(STAMP) ## check types
	$(BIN)/mypy

check: lint type test ## lint, types and tests

speed: $(STAMP) ## measure the hot paths, as ratios in one run
	$(BIN)/python benchmarks/speed/training.py
	$(BIN)/python benchmarks/speed/federation.py

clean-runs: ## delete everything that runs have written
	rm -rf runs
