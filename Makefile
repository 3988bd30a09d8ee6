# Two commands do everything: `make book` and `make test`. Python 3.11, make and pip are all they need.
PYTHON ?= $(or $(shell command -v python3.11),python3)
BIN := .venv/bin
PORT ?= 8000

# CamVid, where it lies beside the project: chapter 7 and the tests use it, and do without it where it is missing.
ifeq ($(origin SEGFORMER_EDU_DATA),undefined)
  ifneq ($(wildcard ../shared/camvid),)
    export SEGFORMER_EDU_DATA := $(abspath ../shared/camvid)
  endif
endif

# What `make colab` runs the chapters with: Colab's Python where it is installed; COLAB_TORCH=2.13.0 takes another torch.
COLAB_PYTHON ?= $(or $(shell python3.13 -c "import sys; print(sys.executable)" 2>/dev/null),$(PYTHON))

.PHONY: help book serve test lint generate results colab links clean

help:
	@echo "make book      build the environment, execute every chapter that has not run, render the book"
	@echo "make serve     the same, then serve it on http://localhost:$(PORT)"
	@echo "make test      the environment, and everything that CI checks"
	@echo "make lint      ruff: format and lint, library, tests and notebooks; mypy: types; Harper: spelling and grammar"
	@echo "make generate  write what follows from the repository's address and the version: badges, links, citation"
	@echo "make results   make the measured results anew that are older than their code; name those that take long"
	@echo "make colab     run every chapter as Google Colab would, with its versions"
	@echo "make links     ask every external link whether it still leads somewhere; needs the network"
	@echo "make clean     delete what was built; the environment too"

.venv/.ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

book: .venv/.ready
	$(BIN)/python tools/book.py

serve: book
	@echo "Open http://localhost:$(PORT) (Ctrl-C stops it)"
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

# The chapters run once, as for `make book`, which then renders the book from those very runs.
test: .venv/.ready lint
	$(BIN)/python tools/browser.py
	$(BIN)/python -m pytest --numprocesses 2 tests --ignore tests/book
	$(BIN)/python tools/chapters.py --pairs
	$(BIN)/python tools/book.py
	$(BIN)/python -m pytest --numprocesses 2 tests/book

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/prose.py

generate: .venv/.ready
	$(BIN)/python tools/generate.py

results: .venv/.ready
	$(BIN)/python tools/results.py

colab: .venv/.ready
	$(BIN)/python tools/colab.py --python $(COLAB_PYTHON) $(if $(COLAB_TORCH),--torch $(COLAB_TORCH))

links: .venv/.ready
	$(BIN)/python tools/links.py

clean:
	rm -rf _build .venv .pytest_cache .hypothesis .ruff_cache .mypy_cache *.egg-info
