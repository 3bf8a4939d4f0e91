# make demo, make test: each sets up .venv by itself. Only Python >= 3.11 and a package index needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What is installed beside the package itself: extras of pyproject.toml.
EXTRAS ?= demo,dev

# For `make up`, which is `dcd up`: the case to run.
CONFIG ?= demo/config.yaml

.PHONY: cifar10n cifar100 domains redraws install demo up down test check lint types contracts slow \
  operated site format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: install
	$(BIN)/dcd demo $(if $(JSON),--json $(JSON))

# The comparisons on real images, from ../shared/data.
cifar10n cifar100 domains: install
	@$(BIN)/python -m benchmarks.real $@ $(if $(JSON),--json $(JSON))

# The same on splits drawn anew: twenty runs; goes on where it was ended. After a change of what is
# fitted, delete runs/redraws.
redraws: install
	@$(BIN)/python -m benchmarks.redraws --keep runs/redraws $(if $(JSON),--json $(JSON))

up: install
	@$(BIN)/dcd up $(CONFIG)

down: install
	@$(BIN)/dcd down

# A file's tests stay together: they share what they made.
test: install
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: lint types contracts test

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install
	$(BIN)/pyright

contracts: install
	$(BIN)/lint-imports

# What `make test` leaves out: needs Chromium and up to an hour on two cores. Two at a time, since
# most of them wait for processes; AGAIN=--last-failed tries what failed once more, alone.
slow: install
	$(BIN)/python -m pytest --numprocesses $(if $(AGAIN),0,2) --dist loadfile $(AGAIN) \
	  -m "(slow or s3 or browser) and not gpu and not operated"

# The stack of `make up` from end to end, about ten minutes: docs/operations.md says what was seen.
operated: install
	$(BIN)/python -m pytest -m "operated"

# The documentation as a site: site/index.html. A link that leads nowhere ends it.
site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) demo site
