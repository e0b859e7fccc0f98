# `make demo` sets up everything and runs the main job, `make test` sets up everything and passes the tests.
# `make check-fast` is a part of that, for before each commit, and `make docs` builds the documentation site.
# All work in .venv and touch nothing else but what they make.

comma := ,
PYTHON ?= python3
VENV ?= .venv
# PyTorch first and by itself: set TORCH to pick another build, e.g. one for your accelerator.
TORCH ?= torch==2.13.0
# The tests run the TensorFlow engine as well. Its build for CPUs is half the download, where there is one.
TENSORFLOW ?= $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),tensorflow-cpu,tensorflow)>=2.20,<3
# For the test of Ptychodus' stream processor, where there are wheels, and in a directory of its own: where pvapy can
# be imported, each import of ptychodus imports the whole application, and other tests see to it that ours does not.
PVAPY := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),pvapy>=5.6$(comma)<6)
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
QT_LIBRARIES := libgl1 libegl1 libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon0
# for a window on a screen that nobody has
QT_LIBRARIES += xvfb xauth libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0 \
	libxcb-shape0 libxcb-xinerama0

.PHONY: demo test check check-fast coverage docs qt-libraries clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One engine is enough for the demo: a second framework would double the download.
$(VENV)/.run: $(BIN)/python pyproject.toml shim/ptychopinn_ptychodus_attach.py
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[torch]"
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet "$(TENSORFLOW)" "keras>=3.10,<4"
	$(BIN)/python -m pip install --quiet --editable ".[torch,gui,test]"
	$(if $(PVAPY),$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/stream "$(PVAPY)")
	{ command -v xvfb-run && $(BIN)/python -c "import PyQt5.QtWidgets"; } >/dev/null 2>&1 || { \
		$(MAKE) qt-libraries && $(BIN)/python -c "import PyQt5.QtWidgets"; }
	touch $@

# The system libraries that PyQt5 opens, for the tests that drive the Ptychodus window.
qt-libraries:
	@command -v apt-get >/dev/null || { echo "PyQt5 lacks system libraries: install OpenGL (libGL.so.1)," \
		"GLib, fontconfig and D-Bus with your package manager, then run make again."; exit 1; }
	$(SUDO) apt-get update -qq
	$(SUDO) apt-get install -y -qq --no-install-recommends $(QT_LIBRARIES)

demo: $(VENV)/.run
	$(BIN)/ptychopinn-ptychodus demo

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tests at a time: as many as there are cores, but each worker may take 4 GB.
TEST_WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores : 4)))

# The tests that `make check-fast` passes: no training of a real network, no window, no Ptychodus of its own. This
# list is the one place that says which they are.
FAST_TESTS := tests/data tests/docs tests/pretraining tests/refinement/test_noise.py tests/test_config.py \
	tests/test_files.py tests/test_importing.py tests/test_installed.py tests/backends/test_registry.py \
	tests/cli/test_cli_usage.py tests/packaging tests/plugin/test_plugin_settings.py tests/ptychodus_io \
	tests/refinement/test_refusals.py tests/worker/test_learning.py

# One thread a process, unless the environment says otherwise: the suite starts many processes, and small models,
# which more threads than cores slow down several times. It passes with any number of threads; more than one wait
# for each other without keeping a core busy, as those of the plugin's workers do.
test: export OMP_WAIT_POLICY ?= PASSIVE
test check-fast: export OMP_NUM_THREADS ?= 1
test check-fast: export TF_NUM_INTRAOP_THREADS ?= 1
test check-fast: export TF_NUM_INTEROP_THREADS ?= 1
test: check
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist worksteal

check-fast: check
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist worksteal -q $(FAST_TESTS)

# All tests once more, slower, and which part of the package they execute; there is no figure that has to be reached.
coverage: export OMP_WAIT_POLICY ?= PASSIVE
coverage: export OMP_NUM_THREADS ?= 1
coverage: export TF_NUM_INTRAOP_THREADS ?= 1
coverage: export TF_NUM_INTEROP_THREADS ?= 1
coverage: $(VENV)/.test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(TEST_WORKERS) --dist worksteal -q
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

# The site, in site/. It is built from docstrings and pages; nothing of the package is imported for it.
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo_output site
