# Everything a contributor needs. `make run` and `make test` work on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test bench lint format types clean

run: .venv/run.done  ## serve the playground on http://127.0.0.1:7860
	$(BIN)/python app.py

test: .venv/test.done lint types  ## set up what the tests need, a browser too, and run them all
	$(BIN)/python -m pytest

bench: .venv/test.done  ## measure what people wait for, on this machine
	$(BIN)/python benchmarks/page.py

lint: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test.done
	$(BIN)/mypy

format: .venv/test.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/run.done: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/test.done: .venv/run.done requirements-dev.txt tests/browser/install.py
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python tests/browser/install.py
	touch $@
