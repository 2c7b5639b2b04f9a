# The two commands are `make demo` and `make test`; both set .venv up first, from pyproject.toml and constraints.txt.
#
#   PYTHON=python3.12        the interpreter to use (default: the first of python3.13, 3.12, 3.11, python3 that fits)
#   TORCH_INDEX=URL          one more package index, for PyTorch. On Linux, PyPI's own build of PyTorch brings several GB of
#                            CUDA libraries; without a GPU, take TORCH_INDEX=https://download.pytorch.org/whl/cpu
#   FEDCORE_CACHE=DIR        where fetched models and data are kept (default: ~/.cache/fedcore)

SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/.installed
PYTHON ?=
TORCH_INDEX ?=

.DEFAULT_GOAL := help
.PHONY: help setup links demo demo-write test test-all docs e2e matrix images wheelhouse check-arm64 clean

help:
	@echo "make demo    set up, fetch the demo model and data, run a fleet of pruned devices (about 5 minutes)"
	@echo "make demo-write   the same with a model that writes: four devices teach SmolLM2 what kind of thing a noun is"
	@echo "make test    set up, run all checks and tests"
	@echo "make test-all   the same, and whole-process tests of rare faults"
	@echo "make docs    build the documentation site in docs/_build/html"
	@echo "make setup   only make .venv"
	@echo "make images  build the Docker images of coordinator and device"
	@echo "make e2e     build them and run the fleet of docker-compose.yml for real (needs a Docker engine; some minutes)"
	@echo "make matrix  run the device's tests under other Pythons and library versions (gigabytes, without TORCH_INDEX)"
	@echo "make wheelhouse   download the images' wheels, for builds without a network (WHEEL_MACHINE=aarch64 for arm64)"
	@echo "make check-arm64  look for a linux/arm64 wheel of everything the images install"
	@echo "make clean   remove .venv and caches (runs/ stays)"

setup: $(STAMP)

links:
	@for name in server client strategies protos; do \
		[ -f fedcore/$$name/__init__.py ] && continue; \
		echo "fedcore/$$name is not a link to ../$$name: this copy was made without symbolic links (a zip on Windows, or" \
			"git with core.symlinks=false); clone it with: git clone -c core.symlinks=true" >&2; \
		exit 1; \
	done

demo-write: setup
	$(BIN)/fedcore fetch smollm2 kind
	$(BIN)/fedcore fleet examples/write.toml

demo: setup
	$(BIN)/fedcore fetch minilm movies
	$(BIN)/fedcore fleet examples/quickstart.toml

test-all: MARKS := -m "long or not long"
test-all: test

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy examples/own_strategy.py examples/toy.py
	$(BIN)/lint-imports
	$(BIN)/python -m fedcore.protos.generate --check
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(MARKS)

docs: setup
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

e2e: setup
	$(BIN)/python -m pytest tests/e2e -m e2e

matrix: setup
	$(BIN)/python -m tests.matrix $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

DOCKER ?= docker
IMAGE_ARGUMENTS = $(foreach name,BASE TORCH_INDEX PIP_INDEX_URL PIP_NO_INDEX,$(if $($(name)),--build-arg $(name)=$($(name))))

images:
	$(DOCKER) build -f docker/Dockerfile --target coordinator $(IMAGE_ARGUMENTS) -t fedcore-coordinator .
	$(DOCKER) build -f docker/Dockerfile --target device $(IMAGE_ARGUMENTS) -t fedcore-device .

# Python and processor of the images, which need not be this machine's. setuptools builds fedcore itself, pip installs.
WHEEL_PYTHON ?= 3.11
WHEEL_MACHINE ?= x86_64
WHEEL_INDEX = $(or $(TORCH_INDEX),https://download.pytorch.org/whl/cpu)

wheelhouse: setup
	$(BIN)/python docker/requirements.py . client >wheelhouse.txt
	$(BIN)/python -m pip download --quiet --dest wheelhouse --find-links wheelhouse --extra-index-url $(WHEEL_INDEX) \
		--only-binary :all: --python-version $(WHEEL_PYTHON) --implementation cp \
		$(foreach glibc,2_28 2_27 2_17,--platform manylinux_$(glibc)_$(WHEEL_MACHINE)) \
		--platform manylinux2014_$(WHEEL_MACHINE) -c constraints.txt -r wheelhouse.txt \
		"torch==$$(sed -n 's/^torch==//p' constraints.txt)+cpu" pip 'setuptools>=77' wheel
	rm wheelhouse.txt

check-arm64: setup
	$(BIN)/python docker/check_arm64.py

clean:
	rm -rf .venv build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt | links
	@found=; old=; bare=; \
	for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
		"$$python" -c pass >/dev/null 2>&1 || continue; \
		if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then old=$$python; continue; fi; \
		if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then bare=$$python; continue; fi; \
		found=$$python; break; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
		echo "$$bare has no ensurepip, which making .venv needs. On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; \
	elif [ -z "$$found" ] && [ -n "$$old" ]; then \
		echo "Python 3.11 or newer is needed; $$old is $$("$$old" -V 2>&1). Install one, or name it: make PYTHON=..." >&2; exit 1; \
	elif [ -z "$$found" ]; then \
		echo "Found none of: $(or $(PYTHON),python3). On Debian or Ubuntu: sudo apt install python3 python3-venv" >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$("$$found" -V); the first time this downloads some 500 MB"; \
	"$$found" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e ".[all,dev]"
	@touch $@
