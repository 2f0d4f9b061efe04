# A clone, `make book` and `make test` do everything. Needs: Python 3.11 or later with its venv module, git, make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := .venv/bin
READY  := .venv/.ready
PORT   ?= 8000

# Threads that wait soon give their core away: where something else runs on it too, training is many times faster so.
# Measurements keep the default, as other programs do.
book serve test: export GOMP_SPINCOUNT := 10000

.DEFAULT_GOAL := help
.PHONY: help book serve test test-versions check bench repository clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import ensurepip, sys; assert sys.version_info >= (3, 11)' || { \
	  echo "This needs Python 3.11 or later with venv (on Debian: apt-get install python3-venv)." >&2; exit 1; }
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

book: $(READY) ## run every chapter and build _build/html/index.html
	$(BIN)/jupyter-book build . -W --keep-going

serve: book ## serve the book on localhost (PORT=8000)
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

test: check book ## check the code, build the book, run the whole test suite
	$(BIN)/python -m pytest

test-versions: $(READY) ## run the fast tests with the oldest, Colab's and the newest versions
	$(BIN)/python tools/versions.py oldest --tests
	$(BIN)/python tools/versions.py colab --tests
	$(BIN)/python tools/versions.py newest --tests

check: $(READY) ## lint, types, and no outputs in notebooks
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify --keep-id book/*.ipynb

bench: $(READY) ## measure the speed beside other libraries
	$(BIN)/python -m benchmarks

repository: $(READY) ## write the repository's address: make repository URL=https://github.com/OWNER/NAME
	$(BIN)/python tools/repository.py "$(URL)"

clean: ## remove the built book and the caches; .venv stays
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
