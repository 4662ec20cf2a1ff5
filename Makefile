# Every target makes what it needs: Python 3.11 to 3.13, make, git and a package registry are enough.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
POETRY := scripts/setup_environment.sh poetry
QUICK_RUN := runs/quickstart
MODEL := $(QUICK_RUN)/model.onnx
MODELS := $(MODEL)
# The end-to-end test leaves its model here, for the check of the wheel.
TEST_MODEL := build/tiny_model.onnx
# Targets take turns: the check of the wheel wants a model that the tests leave.
.NOTPARALLEL:
# Nothing a target starts reports to its makers or asks the network for news.
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make or update the development environment in .venv, Poetry included
	@scripts/setup_environment.sh

.PHONY: test
test: lint pytest check-wheel ## set up and pass every check: hooks, dependencies, tests, the built wheel

.PHONY: quickstart
quickstart: setup ## set up, download CMUdict, train the quick preset, evaluate it, predict new words
	$(BIN)/g2p download-data
	$(BIN)/g2p preprocess
# The second time there is a run, which is gone on with or, where it has ended, exported again.
	if [ -d $(QUICK_RUN)/checkpoints ]; then $(BIN)/g2p train resume=$(QUICK_RUN); \
	else $(BIN)/g2p train experiment=quick paths.run_dir=$(QUICK_RUN); fi
	$(BIN)/g2p evaluate --model $(QUICK_RUN)/model.onnx --part test
	$(BIN)/g2p infer --model $(QUICK_RUN)/model.onnx kubernetes tensorrt blockchain

.PHONY: lint
lint: setup ## run every hook of pre-commit on every file, and look for missing and unused dependencies
	$(BIN)/pre-commit run --all-files --show-diff-on-failure
	$(BIN)/deptry .
	$(POETRY) check --lock

.PHONY: pytest
pytest: setup ## run the tests, one process per core; make pytest ARGS="-k lexicon" for some of them
	@mkdir -p build
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile $(ARGS) 2>&1 | tee build/pytest.log

.PHONY: wheel
wheel: setup ## build the wheel and the source archive into dist/
	$(POETRY) build --clean

.PHONY: check-wheel
check-wheel: wheel ## install the wheel alone in a new environment, and predict with it from an empty folder
	scripts/check_wheel.sh $(TEST_MODEL)

.PHONY: lock
lock: ## write poetry.lock anew after a change of pyproject.toml; LOCK_ARGS=--regenerate takes the newest versions
	$(POETRY) lock $(LOCK_ARGS)
	@repeated=$$(awk '/^name = /{print $$3}' poetry.lock | sort | uniq -d); \
	if [ -n "$$repeated" ]; then \
	  echo "locked in two versions:" $$repeated "- constrain them in the group one-version-each of pyproject.toml" >&2; \
	  exit 1; \
	fi

.PHONY: benchmark
benchmark: setup ## measure models beside what people use now; make benchmark MODELS="runs/mine/model.onnx runs/other/model.onnx"
	$(BIN)/g2p preprocess
	$(BIN)/python -m benchmarks.comparison $(MODELS) $(ARGS)

.PHONY: benchmark-serve
benchmark-serve: setup ## measure a model in Triton; make benchmark-serve MODEL=runs/mine/model.onnx
	$(BIN)/python -m benchmarks.serving --model $(MODEL) $(ARGS)

.PHONY: clean
clean: ## remove what was built and cached; .venv, data and runs stay
	rm -rf build dist .pytest_cache .hypothesis
	find . \( -name .venv -o -name .poetry -o -name .benchmark -o -name .git \) -prune -o -type d -name __pycache__ -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## also remove the environments .venv and .poetry, .triton and .benchmark
	rm -rf .venv .poetry .triton .benchmark
