# make demo: see it work.  make test: test it.  make check: what CI runs.  make bench: measure it.
# Every target installs what it needs into .venv first, under constraints.txt; nothing is installed twice.

PYTHON ?= python3.11
VENV ?= .venv
JOBS ?= 2
DEMO ?= demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
FOLDERS := engine export kernels calibration bench
SOURCES := $(shell find $(FOLDERS) -type f -not -name '*.pyc' -not -path 'bench/results/*')
PACKAGES := $(foreach folder,$(FOLDERS),-p npc_edge.$(folder))
REQUIREMENTS := pyproject.toml constraints.txt
# nnU-Net, the peer its importer is compared with, and only what its predictor imports (163 MB, half of it
# pandas): its own requirements would pull timm, torchvision and another torch, gigabytes of it.
NNUNET := nnunetv2 dynamic-network-architectures acvl-utils batchgenerators batchgeneratorsv2 blosc2 einops \
    httpx idna imageio lazy-loader msgpack ndindex numexpr pandas python-dateutil scikit-image threadpoolctl \
    tifffile tqdm

.PHONY: demo test check lint types imports tests bench clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: $(VENV)/.code
	rm -rf $(DEMO)
	$(BIN)/npc-edge phantom $(DEMO) --stage T3 --seed 20 --matrix 384 --slices 30
	$(BIN)/npc-edge run $(DEMO)/study --out $(DEMO)/result --state $(DEMO)/state
	@echo
	@echo "A synthetic head went in ($(DEMO)/study); open $(DEMO)/result/report.html in a browser."

test: $(VENV)/.dev $(VENV)/.code
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: lint types imports tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers and import-linter cannot follow an editable install: both look at the installed package,
# from a folder that holds no copy of the sources.
types: $(VENV)/.dev $(VENV)/.code
	cd $(VENV) && bin/python -m mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache $(PACKAGES)

imports: $(VENV)/.dev $(VENV)/.code
	cd $(VENV) && bin/lint-imports --config ../pyproject.toml --cache-dir ../.import_linter_cache

tests: $(VENV)/.dev $(VENV)/.code
	$(BIN)/python -W error -m pytest -n $(JOBS) --dist loadfile

bench: $(VENV)/.dev $(VENV)/.code
	$(BIN)/npc-edge bench --runs 20 --against torch --out bench/results/bench.json
	$(BIN)/python -m npc_edge.bench regression --tumour 250 --healthy 250 --jobs $(JOBS)
	$(BIN)/python -m npc_edge.bench real-heads

clean:
	rm -rf build *.egg-info $(VENV) $(DEMO)

# --- installing: a stamp for each layer, renewed when what it was made from changes ---

$(VENV)/.environment:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.plain: $(VENV)/.environment $(REQUIREMENTS)
	rm -rf build
	$(PIP) install --constraint constraints.txt .
	touch $@

# Only what a user gets is weighed, before anything else comes in: at most 800 MB, and no torch in it.
$(VENV)/.weighed: $(VENV)/.plain
	@if [ -e $(VENV)/.dev ]; then echo "not weighed: $(VENV) holds more than the plain install"; \
	else $(BIN)/python -m npc_edge.bench install-size --plain --most 800; fi
	touch $@

$(VENV)/.dev: $(VENV)/.weighed
	rm -rf build
	$(PIP) install --constraint constraints.txt '.[dev,export,monai]'
	$(PIP) install --constraint constraints.txt --no-deps $(NNUNET)
	touch $@

# A normal install is a copy: renewed whenever a source changes, without its build folder's leftovers.
$(VENV)/.code: $(VENV)/.plain $(SOURCES)
	rm -rf build
	$(PIP) install --no-deps --force-reinstall .
	rm -rf build
	touch $@
