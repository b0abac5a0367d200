# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
CORES ?= all
KIND ?= voc12
TRIALS ?= 3
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: demo study photographs test test-all lint bench bench-demo check-gpu docs site pictures clean help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: envs/requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install -r $<
	touch $@

$(VENV)/.development: envs/requirements-dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install -r $<
	touch $@

demo: $(VENV)/.runtime  ## run the whole workflow on the embedded demo
	snakemake --cores $(CORES) all

study: $(VENV)/.runtime  ## the demo at three trials and three thresholds, with the fully supervised reference
	snakemake --cores $(CORES) all --configfile config/config.yaml config/study.yaml

photographs: $(VENV)/.runtime  ## compare the methods on photographs with masks: ROOT=/path/to/VOC2012 [KIND=voc12] [TRIALS=3] [OPTIONS="--refined crf par"]
	python -m tools.photographs --root "$(ROOT)" --kind $(KIND) --trials $(TRIALS) --cores $(CORES) $(OPTIONS)

PYTEST := python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder
SLOW := workflow or browser or slurm

test: $(VENV)/.development  ## run the fast tests
	$(PYTEST) -m "not ($(SLOW))"

test-all: test  ## run all tests: also whole workflows, pages in a browser, and a real Slurm where it is installed
	$(PYTEST) -m "$(SLOW)" --durations=25

lint: $(VENV)/.development  ## formatting, linting, types
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint

docs: $(VENV)/.runtime  ## write config/README.md, config/schema.json and the rule graph of CONTRIBUTING.md anew
	python -m tools.documentation

site: $(VENV)/.development  ## make the documentation's site in site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

# The explorer opens with an image from the middle of the ranking; the threshold is lower than the best of both methods.
pictures:  ## make the pictures of README and docs from the demo's results (needs Chromium)
	cp results/demo/figures/sweep_curves.svg docs/sweep_curves.svg
	profile=$$(mktemp -d); trap 'rm -rf "$$profile"' EXIT; chromium --headless --no-sandbox --disable-gpu --hide-scrollbars \
		--no-first-run --disable-background-networking --disable-component-update --user-data-dir="$$profile" \
		--window-size=1280,945 --virtual-time-budget=6000 --screenshot=docs/explorer.png \
		"file://$(abspath results/demo/explorer.html)#t=0.3"

bench: $(VENV)/.development  ## measure the kernels against the usual implementations (10 minutes)
	python -m tools.bench --output results/bench/bench.json

bench-demo: $(VENV)/.development  ## measure the demo against the demo with the usual implementations (makes it twice)
	python -m tools.bench_demo --output results/bench/demo.json

# With `DEVICE=cpu` it shows that the check itself runs.
DEVICE ?= cuda
check-gpu: $(VENV)/.runtime  ## see that the workflow is right on this machine's GPU, and how fast (8 minutes)
	python -m tools.check_gpu --device $(DEVICE)

clean:  ## remove the demo's results
	rm -rf results/demo
