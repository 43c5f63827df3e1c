# make run    set up .venv, then start the app at http://127.0.0.1:7860 and open the browser, if there is one
# make test   the same set-up plus the test tools, then all tests (a process per core), the types and the linter
# make properties    thousands of random plans, mixtures, shapes, paddings and caches against the oracle
# make bench   time of one decode step on a CPU, shared ÷ dense
# make fuzz   whatever a real server should refuse, a thousand times: make fuzz FUZZ_ARGS="--seed 1"
# make bench-page   how fast the page answers, in Chromium: make bench-page BENCH_ARGS="--against COMMIT"
# make findings   write again what the README says of the records, and what their answers say, after records changed
# make screenshots   take the pictures of the README again (needs Chromium)
# make clean  remove .venv
#
# make run MODEL=SmolLM2-135M-Instruct    the same with a real model, which is fetched first (98 MB)
#
# Variables, for example `make run PYTHON=python3.12 APP_ARGS="--port 8000"`:
PYTHON ?= python3
VENV ?= .venv
APP_ARGS ?= --open
# A model to start with: one that can be fetched, a bundled name, a hub id, a folder, a GGUF file.
MODEL =
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Whose records are summed up by `make findings`, and which of them the README tells of.
FINDINGS ?= $(notdir $(patsubst %/dense/,%,$(wildcard results/*/dense/)))
README_MODEL ?= SmolLM2-135M-Instruct
# More arguments for every `pip install`, for example a mirror: PIP_ARGS="--index-url https://mirror.example/simple".
PIP_ARGS ?=
# On Linux the plain torch package brings several GB of CUDA libraries. On a machine without an NVIDIA driver, torch
# comes from this index instead, if it can be reached; set it to nothing to never ask.
CPU_TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

PIP_INSTALL = $(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)

.PHONY: run test grid properties fuzz bench bench-page findings screenshots clean
.DELETE_ON_ERROR:

run: $(VENV)/run.stamp
	$(if $(MODEL),$(VENV)/bin/python -m core fetch "$(MODEL)")
	$(VENV)/bin/python -m app $(if $(MODEL),--model "$(MODEL)") $(APP_ARGS)

test: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .

properties: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest tests/core/sharing/test_properties.py tests/core/sharing/test_mixtures.py --hypothesis-profile=properties $(PYTEST_ARGS)

grid: $(VENV)/test.stamp
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m grid --whole-grid $(PYTEST_ARGS)

bench: $(VENV)/test.stamp
	$(VENV)/bin/python -m tests.benchmarks.decode_step $(BENCH_ARGS)

fuzz: $(VENV)/test.stamp
	$(VENV)/bin/python -m tests.benchmarks.fuzz $(FUZZ_ARGS)

bench-page: $(VENV)/test.stamp
	$(VENV)/bin/python -m tests.benchmarks.page $(BENCH_ARGS)

findings: $(VENV)/run.stamp
	for model in $(FINDINGS); do $(VENV)/bin/python -m core findings --model $$model --keep || exit 1; done
	$(if $(wildcard results/$(README_MODEL)),$(VENV)/bin/python -m core findings --model $(README_MODEL) --write README.md)

screenshots: $(VENV)/test.stamp
	$(VENV)/bin/python -m tests.screenshots

clean:
	rm -rf $(VENV)

# Stamps make a second run skip what is done, until the requirements change.
$(VENV)/run.stamp: requirements.txt constraints.txt
	$(call check,pass,There is no $(PYTHON): install Python 3.10 or newer and name it with make PYTHON=…)
	$(call check,import sys; assert sys.hexversion >= 0x30A0000,$(PYTHON) is older than Python 3.10: name a newer one \
with make PYTHON=…)
	$(call check,import venv; import ensurepip,$(PYTHON) cannot make virtual environments: install its venv package \
(Debian and Ubuntu: apt install python3-venv).)
	@echo "Setting up $(VENV): the first time takes a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch $$($(find_cpu_torch))
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp requirements-test.txt
	$(PIP_INSTALL) -r requirements-test.txt
	@touch $@

# Stops with a sentence when Python cannot run a statement (neither may hold a comma).
check = @$(PYTHON) -c "$(1)" 2>/dev/null || { echo "$(2)" >&2; exit 1; }

# Prints the pip argument that makes torch come from CPU_TORCH_INDEX, or nothing.
define find_cpu_torch
if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null && [ -n "$(CPU_TORCH_INDEX)" ]; then \
  $(VENV)/bin/python -c "from urllib.request import urlopen; urlopen('$(CPU_TORCH_INDEX)/torch/', timeout=5)" 2>/dev/null \
  && echo --extra-index-url $(CPU_TORCH_INDEX); fi; true
endef
