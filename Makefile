# The front desk. `make demo` and `make test` need Python ≥ 3.11 and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= build/demo
# Real logs and measured prompts for make bench; benchmarks/real_logs.sh says what the folder holds
DATA ?=
# Your own log for the demo: make demo LOGS=path (JSONL, CSV or Parquet), and which columns of it hold
# which fields where they are not found: MAP="model=engine user_message=payload.text"
LOGS ?=
MAP ?=
# One test process a core; a file's tests share one, and so its fixtures. The files come in the order
# of tests/conftest.py.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
# Tests start Python hundreds of times: it compiles each module once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test coverage test-fast test-litellm test-agents check format bench clean

help:
	@echo "make demo              the whole line on a simulated log: two routers, a report, decisions"
	@echo "make demo LOGS=path    the same on your own log; MAP=\"model=engine …\" names its columns"
	@echo "make test              the whole test suite"
	@echo "make test-fast         the tests that take no more than moments"
	@echo "make test-litellm      the adapters inside a real LiteLLM proxy (installs 840 MB, once)"
	@echo "make test-agents       Claude Code and Codex themselves at the gateway (installs 800 MB, once)"
	@echo "make coverage          the test suite, and which lines of the source it runs"
	@echo "make check             formatting, lint, types, import directions"
	@echo "make bench             both routers on simulated truth (docs/results/routers.md), and 100,000 inputs to the gateway"
	@echo "make bench DATA=path   real logs and measured prompts too (docs/results/real-logs.md)"
	@echo "make format            format the code"
	@echo "make clean             remove $(VENV) and build/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Turnout needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Try: make demo PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"

$(VENV)/.product: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Turnout into $(VENV) (a few minutes, once) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.product
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev
	@touch $@

# Microsoft's own Kusto parser, for the tests of the queries; they are skipped where npm is not.
$(VENV)/kusto-language: | $(BIN)/python
	@mkdir -p $@.partial && cd $@.partial && \
	  npm pack --silent @kusto/language-service-next@12.4.1 >/dev/null 2>&1 && tar -xzf *.tgz && \
	  mv ../$(notdir $@).partial ../$(notdir $@) || \
	  { rm -rf ../$(notdir $@).partial; echo "npm gave no Kusto parser: its tests are skipped"; }

# Microsoft's own server of Azure's Blob Storage, for the tests of logs there; as above.
$(VENV)/azurite: | $(BIN)/python
	@mkdir -p $@.partial && \
	  npm install --silent --no-audit --no-fund --ignore-scripts --prefix $@.partial azurite@3.35.0 \
	    >/dev/null 2>&1 && mv $@.partial $@ || \
	  { rm -rf $@.partial; echo "npm gave no Azure server: its tests are skipped"; }

# OpenAI's and Anthropic's clients for Node, for the tests of the examples; as above.
$(VENV)/node-clients: | $(BIN)/python
	@mkdir -p $@.partial && \
	  npm install --silent --no-audit --no-fund --ignore-scripts --prefix $@.partial \
	    openai@7.59.0 @anthropic-ai/sdk@1.14.0 >/dev/null 2>&1 && mv $@.partial $@ || \
	  { rm -rf $@.partial; echo "npm gave no clients for Node: their tests are skipped"; }

# The LiteLLM proxy with Turnout beside it, for the tests of the adapters. Its releases 1.82.7 and
# 1.82.8 were malware: the version is pinned.
$(VENV)/litellm/.installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.108.7' \
	  --editable .
	@touch $@

# Claude Code and Codex, for the tests that run them.
$(VENV)/agents: | $(BIN)/python
	@mkdir -p $@.partial
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix $@.partial \
	  @anthropic-ai/claude-code@2.1.332 @openai/codex@0.171.0
	node $@.partial/node_modules/@anthropic-ai/claude-code/install.cjs
	@mv $@.partial $@

demo: $(VENV)/.product
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh "$(DEMO)" "$(LOGS)" "$(MAP)"

test: $(VENV)/.dev $(VENV)/kusto-language $(VENV)/azurite $(VENV)/node-clients
	$(BIN)/python -m pytest $(PARALLEL) --durations=20

coverage: $(VENV)/.dev $(VENV)/kusto-language $(VENV)/azurite $(VENV)/node-clients
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered \
	  --cov-report=html:build/coverage

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-litellm: $(VENV)/.dev $(VENV)/litellm/.installed
	$(BIN)/python -m pytest tests/integrations/test_litellm.py

test-agents: $(VENV)/.dev $(VENV)/agents
	$(BIN)/python -m pytest tests/integrations/test_installed_agents.py

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh benchmarks/simulated_truth.sh build/bench/simulated
	@$(BIN)/python -m benchmarks.gateway_fuzz
	@[ -z "$(DATA)" ] || \
	  PATH="$(CURDIR)/$(BIN):$$PATH" sh benchmarks/real_logs.sh "$(DATA)" build/bench/real

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist
