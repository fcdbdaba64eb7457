# Every command of the workbook. `make help` lists them.
#
#   PYTHON=python3.12   the interpreter that .venv is made from
#   TORCH=cpu           PyTorch's own CPU wheels (smaller: no CUDA libraries)
#   NB=assignment1/knn.ipynb   one notebook instead of all
#   K=knn               make learner: the tests with this word in their names
#   JOBS=1              make run: one notebook after the other, with all threads (default: one for each core)

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= default
NB     ?=
JOBS   ?=
K      ?=

# The blank edition in build/student uses the environment and the compiled layers of the workbook that wrote it.
ABOVE := $(if $(and $(wildcard .generated.json),$(wildcard ../../$(VENV)/.ready)),../..)

ifeq ($(ABOVE),)
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
else
BIN   := $(abspath $(ABOVE)/$(VENV)/bin)
READY := build/.ready
endif

.DEFAULT_GOAL := help
.PHONY: help lab run test lint data outputs results progress learner colab student bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

ifeq ($(ABOVE),)
# The stamp is written last, so an interrupted installation is finished by the next command.
$(READY): requirements.txt constraints.txt pyproject.toml setup.py $(wildcard common/layers/fast/*.pyx)
	@$(PYTHON) tools/preflight.py
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python tools/install.py $(TORCH)
	@touch $@
else
# The same sources were compiled there. Without them NumPy code serves, and says so.
$(READY): $(wildcard $(ABOVE)/common/layers/fast/*.so $(ABOVE)/common/layers/fast/*.pyd)
	@if [ -n "$^" ]; then cp $^ common/layers/fast; fi
	@mkdir -p $(@D)
	@touch $@
endif

lab: $(READY)  ## open JupyterLab here
	$(BIN)/jupyter lab

run: $(READY)  ## execute the notebooks on the pocket edition; HTML under build/html (NB=... for one, JOBS=1 in turn)
	$(BIN)/python -m tools.run $(if $(JOBS),--jobs $(JOBS)) $(NB)

test: $(READY)  ## ruff, unit tests, and every notebook with its outputs compared (nbval)
	$(BIN)/python -m tools.test

lint: $(READY)  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

data: $(READY)  ## download and verify the full editions of the data sets
	$(BIN)/python -m common.data $(DATASETS)

outputs: $(READY)  ## execute the notebooks and write their outputs into the .ipynb files (NB=... for one)
	$(BIN)/python -m tools.outputs $(NB)

results: $(READY)  ## run the notebooks on the full editions, record numbers and figures under results/ (NB=... for one)
	$(BIN)/python -m tools.results $(NB)

progress: $(READY)  ## count the functions that are written and the checks that have passed
	@$(BIN)/python -m tools.progress

learner: $(READY)  ## the tests that every correct solution passes (K=knn for those of one notebook)
	@$(BIN)/python -m pytest -q -m learner $(if $(K),-k "$(K)")

colab: $(READY)  ## write self-contained notebooks for Colab under build/colab
	$(BIN)/python -m tools.colab

student: $(READY)  ## write the blank edition under build/student
	$(BIN)/python -m tools.student

bench: $(READY)  ## run the benchmarks (ratios against peers)
	$(BIN)/python -m tools.bench

clean:  ## remove build products and the environment, keep the data and a learner's build/student
	if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name student -exec rm -rf {} +; fi
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -f common/layers/fast/*.c common/layers/fast/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
