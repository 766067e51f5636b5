# make demo | make test | make lint: each sets up what it needs on a fresh Debian or Ubuntu machine.
#   VENV=<folder>   where the Python environment lives (default .venv)
#   ARGS="..."      passed on: make demo ARGS="--name mine --seed 3", make test ARGS="-k guard"
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test lint format setup system clean
help:
	@echo "make demo    the whole loop on the embedded robot, about 45 minutes on two cores; ends with runs/demo/report.html"
	@echo "make test    every test, among them one run of the whole loop with a toy budget"
	@echo "make lint    ruff and mypy"
	@echo "make format  put the code into the form that lint asks for"
	@echo "make setup   only the environment: $(VENV) and the system libraries"
	@echo "make clean   remove $(VENV) and caches (runs/ stays)"

demo: $(READY) system
	$(BIN)/prophrl demo $(ARGS)

test: $(READY) system
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(READY) system

system:
	@scripts/system_libraries

# Remade when what is to be installed changes; the stamp is written last, so an interrupted installation is taken up again.
$(READY): setup.py constraints.txt scripts/environment scripts/find_python
	scripts/environment $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
