# Every target is one command that could be typed. `make` alone prints this help.
PROFILE ?= quick
SEEDS ?=
WORKERS ?=
EXECUTOR ?=
ADDRESS ?=
ONLY ?=
TIME_LIMIT ?=
DRY_RUN ?=
WANDB ?=
SOURCE ?=
RUN ?=
PYTHON ?=
VENV ?= .venv

BIN := $(VENV)/bin
STAMP := $(VENV)/set-up
SUITES := digits mnist fashion-mnist svhn cifar10 cifar100 network
SWEEP = $(strip $(BIN)/fedbench sweep benchmarks/$(1).yaml --profile $(PROFILE) \
	$(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--workers $(WORKERS)) \
	$(if $(EXECUTOR),--executor $(EXECUTOR)) $(if $(ADDRESS),--address $(ADDRESS)) \
	$(foreach wish,$(ONLY),--only '$(wish)') $(if $(TIME_LIMIT),--time-limit $(TIME_LIMIT)) \
	$(if $(filter-out 0,$(DRY_RUN)),--dry-run) $(if $(filter-out 0,$(WANDB)),--wandb))

.DEFAULT_GOAL := help
.PHONY: help setup bench $(addprefix bench-,$(SUITES)) validate paper-tables docs test test-all test-thorough lint type wheel check speed report clean-runs

help: ## print this help
	@printf 'make TARGET [NAME=value ...]\n\n'
	@printf 'for make bench-...: PROFILE=smoke|quick|published|standard|paper SEEDS=3 WORKERS=n TIME_LIMIT=170m\n'
	@printf '  DRY_RUN=1 ONLY="method=fedavg,ensemble beta=0.1" EXECUTOR=local|ray ADDRESS=host:port WANDB=1\n\n'
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

setup: $(STAMP) ## install everything into .venv (VENV=.venv-3.12 PYTHON=python3.12: another beside it)

$(STAMP): pyproject.toml constraints.txt scripts/setup
	@PYTHON='$(PYTHON)' VENV='$(VENV)' bash scripts/setup
	@touch $@

bench: bench-digits ## run the embedded default suite: no download, a quarter of an hour on two cores

bench-digits: $(STAMP) ## scikit-learn's digits
	$(call SWEEP,digits)

bench-mnist: $(STAMP) ## MNIST (FEDBENCH_DATA, or downloaded; the next ones likewise)
	$(call SWEEP,mnist)

bench-fashion-mnist: $(STAMP) ## Fashion-MNIST
	$(call SWEEP,fashion_mnist)

bench-svhn: $(STAMP) ## Street View House Numbers
	$(call SWEEP,svhn)

bench-cifar10: $(STAMP) ## CIFAR-10
	$(call SWEEP,cifar10)

bench-cifar100: $(STAMP) ## CIFAR-100
	$(call SWEEP,cifar100)

bench-network: $(STAMP) ## NSL-KDD's network flows (below FEDBENCH_DATA; see docs/network.md)
	$(call SWEEP,network)

validate: $(STAMP) ## check every suite file
	$(BIN)/fedbench validate benchmarks/*.yaml benchmarks/paper/*.yaml benchmarks/studies/*.yaml

paper-tables: $(STAMP) ## papers' tables beside ours, from committed records (SOURCE=name; RUN=1 PROFILE=quick SEEDS=3 computes what is missing first)
	$(strip $(BIN)/fedbench tables $(SOURCE) $(if $(filter-out 0,$(RUN)),--run --profile $(PROFILE) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(filter-out 0,$(DRY_RUN)),--dry-run)))

docs: $(STAMP) ## build the pages of docs/ as a site, build/site/index.html (no network to read it)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

report: $(STAMP) ## print the leaderboard of SUITE=digits again
	$(BIN)/fedbench report $(or $(SUITE),digits)

test: $(STAMP) ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m 'not slow and not thorough'

test-all: $(STAMP) ## run the tests, the slow ones too, as CI does
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup -m 'not thorough'

test-thorough: $(STAMP) ## run every test in all variants
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup

lint: $(STAMP) ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: $(STAMP) ## check types
	$(BIN)/mypy

wheel: $(STAMP) ## build the wheel, install it into an empty environment and use it
	VENV='$(VENV)' PYTHON='$(PYTHON)' bash scripts/wheel

check: lint type test ## lint, types and tests

speed: $(STAMP) ## measure the hot paths, as ratios in one run
	$(BIN)/python benchmarks/speed/startup.py
	$(BIN)/python benchmarks/speed/memory_format.py
	$(BIN)/python benchmarks/speed/heap.py
	$(BIN)/python benchmarks/speed/training.py
	$(BIN)/python benchmarks/speed/federation.py
	$(BIN)/python benchmarks/speed/journal.py
	$(BIN)/python benchmarks/speed/sweep.py
	$(BIN)/python benchmarks/speed/patches.py
	$(BIN)/python benchmarks/speed/selection.py
	$(BIN)/python benchmarks/speed/distillation.py
	$(BIN)/python benchmarks/speed/matching.py
	$(BIN)/python benchmarks/speed/generation.py

clean-runs: ## delete everything that runs have written
	rm -rf runs
