# make run   set up, then start the page and its worker
# make test  set up, then run all tests
# Both install into .venv, once; they install again only when the requirements change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint format bench bench-page quality chaos fuzz screenshots clean

run: $(VENV)/runtime.stamp
	$(BIN)/python main.py $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks $(ARGS)

bench-page: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.page

quality: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.quality $(ARGS)

chaos: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.chaos $(ARGS)

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.fuzz $(ARGS)

screenshots: $(VENV)/dev.stamp
	$(BIN)/python docs/take_screenshots.py

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/dev.stamp: requirements-dev.txt requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/runtime.stamp
