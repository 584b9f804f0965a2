# Everything a developer runs. `make help` lists the targets; CONTRIBUTING.md says more.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= $(shell scripts/choose_python.sh)
PYTEST_ARGS ?=
# Most of the suite is waiting: on two cores, three processes take half the time of one.
JOBS ?= $(shell cores=$$(nproc); echo $$((cores < 3 ? cores + 1 : 4)))
ARGS ?=
# At full length beside what `make promises` runs: it is counted nowhere.
LONG_TESTS := tests/fuse/test_custody_daemons.py tests/fuse/test_custody_restarts.py tests/fuse/test_fsx_writer.py tests/fuse/test_pjdfstest.py tests/fuse/test_fio_verify.py tests/fuse/write_programs
PROMISES := tests/stress tests/csi tests/images
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH_INSTALLED := .venv/.bench-installed
CLUSTER_INSTALLED := .venv/.cluster-installed
CLUSTER_DIR ?= /var/tmp/fusecache-cluster
LOCKS := requirements-build.lock requirements-dev.lock
TYPED := $(foreach directory,fusecache csi tests/support tests/bench tests/cluster_harness,$(if $(wildcard $(directory)/*.py),$(directory)))

export AWS_EC2_METADATA_DISABLED := true
# Tests start some thousand processes: each would compile its source anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo test test-long lint format crds manifests bench bench-quick promises promises-cluster images cluster cluster-install cluster-down test-cluster lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(INSTALLED) ## make .venv from the lock files (PYTHON=... chooses the interpreter)

$(INSTALLED): $(LOCKS) pyproject.toml scripts/venv.sh
	@scripts/venv.sh "$(PYTHON)"
	@touch $@

demo: $(INSTALLED) ## show the main job, end to end, on a real S3 server of its own
	@$(BIN)/fusecache demo

test: $(INSTALLED) ## run every test that needs no cluster (PYTEST_ARGS=... for some of them)
	@scripts/test_packages.sh
	@scripts/pyfuse3.sh
ifeq ($(PYTEST_ARGS),)
	@status=0; $(BIN)/python -m pytest -m alone $$(grep -rl --include='*.py' 'mark\.alone' tests) || status=$$?; \
	$(BIN)/python -m pytest -m "not alone" --numprocesses=$(JOBS) --dist=worksteal && exit $$status
else
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

lint: $(INSTALLED) ## check format, lint, types and the direction of imports
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; false; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/lint-imports

format: $(INSTALLED) ## format the code, mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

crds: $(INSTALLED) ## write the definitions (deploy/crds, chart), docs/api-reference.md and docs/options.md from csi/operator
	@$(BIN)/python -m csi.operator.crds

manifests: ## write deploy/manifests/fusecache.yaml from the chart (builds helm with Go, unless HELM=... names one)
	@scripts/manifests.sh >deploy/manifests/.new && mv deploy/manifests/.new deploy/manifests/fusecache.yaml

bench: $(BENCH_INSTALLED) ## compare with JuiceFS, rclone and tmpfs, write docs/benchmarks.md (ARGS=--quick for a part)
	@scripts/test_packages.sh
	@scripts/pyfuse3.sh
	@$(BIN)/python -m tests.bench $(ARGS)

bench-quick: $(BENCH_INSTALLED) ## compare a short run with the recorded ratios: what fell by more than 20 % (as root)
	@$(BIN)/python -m tests.bench --guard $(ARGS)

$(BENCH_INSTALLED): $(INSTALLED) requirements-bench.lock
	@scripts/pip_install.sh --require-hashes -r requirements-bench.lock
	@touch $@

promises: $(INSTALLED) ## run every bad day at full length, write docs/promises.md
	@scripts/test_packages.sh
ifeq ($(PYTEST_ARGS),)
	@export FUSECACHE_PROMISES=$$(mktemp); trap 'rm -f $$FUSECACHE_PROMISES' EXIT; status=0; \
	$(BIN)/python -m pytest $(PROMISES) --full-length --durations=30 -m timed || status=$$?; \
	$(BIN)/python -m pytest $(PROMISES) --full-length --durations=30 -m "not timed" --numprocesses=2 --dist=worksteal \
		&& [ $$status = 0 ] && $(BIN)/python -m tests.support.promises $$FUSECACHE_PROMISES
else
	@$(BIN)/python -m pytest $(PROMISES) --full-length $(PYTEST_ARGS)
endif

promises-cluster: $(CLUSTER_INSTALLED) ## run the tests that need a Kubernetes at full length, write docs/promises-cluster.md
	@export FUSECACHE_PROMISES=$$(mktemp); trap 'rm -f $$FUSECACHE_PROMISES' EXIT; \
	scripts/cluster/test.sh --full-length --durations=30 $(PYTEST_ARGS) \
		&& $(BIN)/python -m tests.support.promises $$FUSECACHE_PROMISES cluster

test-long: $(INSTALLED) ## run fsx, fio, pjdfstest, programs that write, and custody's restarts at full length
	@scripts/test_packages.sh
	@$(BIN)/python -m pytest $(LONG_TESTS) --full-length $(PYTEST_ARGS)

images: ## build the images fusecache-csi and fusecache-fuse with buildah (BASE=IMAGE for another base)
	@scripts/images.sh

cluster: $(CLUSTER_INSTALLED) ## boot a Kubernetes of three nodes on this machine (as root; CLUSTER_DIR=... holds all of it)
	@[ "$$(id -u)" != 0 ] || scripts/cluster/packages.sh
	@$(BIN)/python -m tests.cluster_harness --directory="$(CLUSTER_DIR)" up

cluster-install: $(CLUSTER_INSTALLED) ## build the images and install the chart in that Kubernetes, or in the one of KUBECONFIG
	@$(BIN)/python -m tests.support.installation "$${KUBECONFIG:-$(CLUSTER_DIR)/kubeconfig}"

cluster-down: $(INSTALLED) ## remove that Kubernetes, and everything that a start of it left
	@$(BIN)/python -m tests.cluster_harness --directory="$(CLUSTER_DIR)" down

test-cluster: $(CLUSTER_INSTALLED) ## run the tests that need a Kubernetes: KUBECONFIG's, or one booted for them and removed again
	@scripts/cluster/test.sh $(PYTEST_ARGS)

$(CLUSTER_INSTALLED): $(INSTALLED) requirements-cluster.lock
	@scripts/pip_install.sh --require-hashes -r requirements-cluster.lock
	@touch $@

lock: ## resolve the dependencies into the lock files (UPGRADE=1 takes the newest)
	@scripts/lock.sh

clean: ## remove .venv and every cache
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
