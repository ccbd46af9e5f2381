# `make demo` and `make test` are all a newcomer needs: each creates the environment first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow test-gpu test-peers check format bench bench-fnnp bench-stagewise bench-joint bench-exploration bench-peers coverage clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/widthwise prune

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

test-peers: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers]'
	$(BIN)/python -m pytest -m peers

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers]'
	$(BIN)/python -m benchmarks

# make bench-METHOD DATA=parquet:DIR [WEIGHTS=FILE]; hours, see docs/METHOD.md. Killed, the same command goes on.
PART     ?= all
SETTINGS ?= cpu
DATA     ?= cifar10
GIVEN     = --data $(DATA) $(if $(WEIGHTS),--weights $(WEIGHTS)) --settings $(SETTINGS)
bench-fnnp bench-stagewise bench-joint bench-exploration: bench-%: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.$* $(PART) $(GIVEN) --docs docs

# make bench-peers DATA=parquet:DIR WEIGHTS=FILE [MODEL=resnet56]; hours, see docs/peers.md. Killed, the same command goes
# on. Every tool has an environment of its own; the page is that of all runs with these settings, shorter and longer.
PEERS       := .venv-peers
PEER_STAMPS := $(patsubst %,$(PEERS)/%/.installed,torch_pruning modelopt widthwise)
$(PEERS)/%/.installed: benchmarks/peers/environments/%.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

bench-peers: $(STAMP) $(PEER_STAMPS)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers run $(GIVEN) \
		$(if $(MODEL),--model $(MODEL)) --python torch_pruning=$(PEERS)/torch_pruning/bin/python \
		fastnas=$(PEERS)/modelopt/bin/python widthwise=$(PEERS)/widthwise/bin/python none=$(PEERS)/widthwise/bin/python
	$(BIN)/python -m benchmarks.peers page --runs runs/peers_*_$(firstword $(subst _, ,$(SETTINGS)))* --docs docs

coverage: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers]'
	$(BIN)/python -m benchmarks.coverage

clean:
	rm -rf $(VENV) $(PEERS) .pytest_cache .mypy_cache .ruff_cache
