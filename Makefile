# `make demo` and `make test` are all a newcomer needs: each creates the environment first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow test-gpu test-peers check format bench bench-stagewise bench-joint bench-exploration bench-peers coverage clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/widthwise prune

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

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

# make bench-stagewise DATA=parquet:DIR; hours, see docs/stagewise.md. Killed, the same command goes on.
PART     ?= all
SETTINGS ?= cpu
DATA     ?= cifar10
bench-stagewise: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.stagewise $(PART) --data $(DATA) --settings $(SETTINGS) --docs docs

# make bench-joint DATA=parquet:DIR; hours, see docs/joint.md. Killed, the same command goes on.
bench-joint: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.joint $(PART) --data $(DATA) --settings $(SETTINGS) --docs docs

# make bench-exploration DATA=parquet:DIR WEIGHTS=FILE; hours, see docs/exploration.md. Killed, the same command goes on.
bench-exploration: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.exploration $(PART) --data $(DATA) --weights $(WEIGHTS) --settings $(SETTINGS) --docs docs

# make bench-peers DATA=parquet:DIR WEIGHTS=FILE; hours, see docs/peers.md. Killed, the same command goes on.
bench-peers: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers run --data $(DATA) --weights $(WEIGHTS) --settings $(SETTINGS) --docs docs

coverage: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers]'
	$(BIN)/python -m benchmarks.coverage

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
