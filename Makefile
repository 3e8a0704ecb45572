# SPDX-License-Identifier: Apache-2.0
# For a machine without ROS 2: everything goes into .venv, nothing outside this folder is touched.
# With ROS 2 installed, use colcon instead (README.md).

PYTHON ?= python3
ARGS ?=
# Parallel workers for the tests without ROS nodes; 0 runs them one by one.
TEST_JOBS ?= 2

# The machine that `make gpu-wheels` is for: the version of its Python, the compute capability of its GPU (90: H100).
GPU_PYTHON ?= 3.12
GPU_ARCH ?= 90
GPU_WHEELS ?= gpu-wheels

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --prefer-binary
PACKAGES := genmimic genmimic_ros genmimic_train

# Colcon installs the messages straight into the virtual environment, where the ROS wheels live: its Python finds them
# with nothing to source. The Python packages stay in this folder (GENMIMIC_DEVELOP), other files are links to it.
COLCON_ENV := AMENT_PREFIX_PATH=$(CURDIR)/$(VENV) CMAKE_PREFIX_PATH=$(CURDIR)/$(VENV) PATH=$(CURDIR)/$(BIN):$$PATH
COLCON := env -u PYTHONPATH -u MAKEFLAGS -u MAKELEVEL $(COLCON_ENV) $(BIN)/colcon --log-base $(VENV)/log
COLCON_BASE := --merge-install --install-base $(VENV) --build-base $(VENV)/build
# Quiet unless it fails.
COLCON_BUILD = $(COLCON) build $(COLCON_BASE) --symlink-install --cmake-args -DGENMIMIC_DEVELOP=ON -DBUILD_TESTING=ON \
	-DGENMIMIC_TEST_JOBS=$(TEST_JOBS) -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python >$(VENV)/build.log 2>&1 \
	|| { cat $(VENV)/build.log >&2; echo "make: the build failed (its output is above)" >&2; exit 1; }

# What the built package is made of: interfaces and recipes by content, installed folders by their lists of files.
# (`test` itself is also the name of a target here, hence the filter.)
INSTALLED := $(wildcard launch config motions policies rviz foxglove urdf test)
BUILD_INPUTS := CMakeLists.txt package.xml $(wildcard msg/*.msg srv/*.srv) genmimic_ros/__init__.py \
	$(filter-out test,$(shell find $(INSTALLED) -type d -not -name __pycache__ -not -path '*/.*' 2>/dev/null))

.DEFAULT_GOAL := help
.PHONY: help setup mimic test lint format browser-test docs docs-serve lift-setup gpu-wheels gpu-kernels clean

help:
	@echo "make setup       .venv with ROS 2 Jazzy, the libraries and the built messages (PYTHON=$(PYTHON))"
	@echo "make mimic       set up, then imitate motions/wave.npz on the simulated robot (ARGS='--viewer' and the like)"
	@echo "make test        set up what tests need and run all of them; the exit status is the verdict"
	@echo "make browser-test  click E-STOP on the viewer's page in a real Chromium, which must be installed"
	@echo "make lint        ruff and mypy"
	@echo "make format      ruff's formatter and safe fixes"
	@echo "make docs        build the documentation into site/, strictly; make docs-serve shows it while you write"
	@echo "make lift-setup  the pose landmarker in its own environment now, not when the first video is lifted"
	@echo "make gpu-wheels  what training needs on a machine with a GPU and without network (GPU_PYTHON=$(GPU_PYTHON))"
	@echo "make gpu-kernels the simulator's kernels for that GPU, compiled here (GPU_ARCH=$(GPU_ARCH))"
	@echo "make clean       remove .venv and what tests left behind"

setup: $(VENV)/.built
	@echo "Ready: $(BIN)/genmimic, $(BIN)/python"

mimic: setup
	$(BIN)/genmimic mimic motions/wave.npz $(ARGS)

# CMake looks for test folders when it configures, so this builds again: seconds, and what CI is about.
test: $(VENV)/.test-requirements $(VENV)/.built
	@rm -rf $(VENV)/build/genmimic_ros/test_results
	@echo "colcon build"
	@$(COLCON_BUILD)
	@echo "colcon test"
	@$(COLCON) test $(COLCON_BASE) --event-handlers console_direct+ --return-code-on-test-failure; status=$$?; \
	$(COLCON) test-result --test-result-base $(VENV)/build --verbose && exit $$status

browser-test: $(VENV)/.test-requirements $(VENV)/.built
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
		echo "make: no Chromium. Run: sudo apt-get install -y chromium" >&2; exit 1; }
	@$(PIP) -r requirements/browser.txt
	$(BIN)/python -m pytest test/ros/test_viewer_node.py -rs -p no:cacheprovider

lint: $(VENV)/.test-requirements
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test-requirements
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Strict: a page without a place in the navigation, a broken link and an anchor that is not there are errors. And nothing
# may be loaded from elsewhere, so that the pages work offline.
docs: $(VENV)/.docs-requirements
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@! grep -rnoE '(src|href)="(https?:)?//[^"]+\.(js|css|woff2?)|src="(https?:)?//[^"]+"' site --include='*.html' \
		|| { echo "make: the pages above load something from elsewhere" >&2; exit 1; }
	@echo "site/index.html"

lift-setup: setup
	@$(BIN)/python -c "from genmimic.lift.environment import ensure_python; print(ensure_python(print))"

# Without resolving: pip would bring a torch and its CUDA, gigabytes that the machine has. Used by tools/train_offline.
gpu-wheels: | $(VENV)/.venv
	@mkdir -p $(GPU_WHEELS)
	@$(BIN)/python -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
		--implementation cp --python-version $(GPU_PYTHON) --platform manylinux_2_28_x86_64 \
		--platform manylinux_2_27_x86_64 --platform manylinux_2_26_x86_64 --platform manylinux2014_x86_64 \
		--platform manylinux1_x86_64 --dest $(GPU_WHEELS) -r requirements/gpu.txt -r requirements/warp.txt
	@rm -rf $(GPU_WHEELS)/site
	@du -sh $(GPU_WHEELS)

gpu-kernels: $(VENV)/.test-requirements
	@$(PIP) -r requirements/warp.txt
	@$(BIN)/python -m genmimic_train.sim.warp_kernels $(GPU_ARCH) -o $(GPU_WHEELS)/kernels

docs-serve: $(VENV)/.docs-requirements
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

clean:
	rm -rf site $(VENV) *.egg-info build install log dist .pytest_cache .mypy_cache .ruff_cache
	find $(wildcard $(PACKAGES) launch test) -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each step runs again only when what it depends on has changed.

$(VENV)/.venv:
	@$(preflight)
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $(VENV)/COLCON_IGNORE $@

$(VENV)/.run-requirements: requirements/ros.txt requirements/run.txt requirements/libs.txt | $(VENV)/.venv
	@echo "Installing ROS 2 and the libraries (about 500 MB)"
	@$(PIP) -r requirements/ros.txt -r requirements/run.txt
	@command -v cmake >/dev/null || { echo "No cmake here: installing its wheel"; $(PIP) cmake==4.4.4; }
	@touch $@

$(VENV)/.test-requirements: requirements/train.txt requirements/test.txt | $(VENV)/.run-requirements
	@echo "Installing what training and tests need"
	@$(PIP) -r requirements/ros.txt -r requirements/run.txt -r requirements/train.txt -r requirements/test.txt
	@touch $@

$(VENV)/.docs-requirements: requirements/docs.txt | $(VENV)/.venv
	@$(PIP) -r requirements/docs.txt
	@touch $@

$(VENV)/.package: setup.py pyproject.toml | $(VENV)/.run-requirements
	@$(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

$(VENV)/.built: $(VENV)/.run-requirements $(VENV)/.package $(BUILD_INPUTS)
	@echo "Building the messages (colcon build)"
	@$(COLCON_BUILD)
	@touch $@

# One line for what is missing, before anything is installed.
define preflight
fail() { echo "make: $$*" >&2; exit 1; }; \
[ "$$(uname -sm)" = "Linux x86_64" ] || fail "ROS 2 wheels exist for x86_64 Linux only; here, install ROS 2 (Humble, Jazzy or Kilted) and use colcon build."; \
command -v $(PYTHON) >/dev/null || fail "no $(PYTHON). Run: sudo apt-get install -y python3 python3-venv python3-dev build-essential"; \
$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	fail "$$($(PYTHON) --version) will not do, Python 3.10 to 3.13 will. Choose one with: make PYTHON=python3.12"; \
missing=; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
$(PYTHON) -c 'import os, sysconfig; raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || \
	missing="$$missing python3-dev"; \
{ command -v "$${CC:-cc}" && command -v "$${CXX:-c++}"; } >/dev/null || missing="$$missing build-essential"; \
[ -z "$$missing" ] || fail "missing system packages. Run: sudo apt-get install -y$$missing"
endef
