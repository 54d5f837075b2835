# Needs only Python >= 3.11 with pip; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# One thread per process: a second one that waits actively halves the speed of a busy machine.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs install clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## decide a mixture on real text and show what it gained (about 20 minutes on two cores)
	$(BIN)/evermix run examples/1-pretraining.yaml

test: $(INSTALLED) ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

check: $(INSTALLED) ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED) ## run every benchmark, in order of name (hours)
	@set -e; for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python "$$script"; done

docs: $(INSTALLED) ## write docs/cli.md, docs/recipe.md and the table of docs/laws.md anew
	$(BIN)/python -m evermix.cli.reference docs

install: $(INSTALLED) ## set up .venv (the other targets do it by themselves)

clean: ## remove .venv and caches, not runs/
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# torch first and by itself: the constraint then holds whatever else would like another build of it.
# A Python without ensurepip cannot put pip into a venv; the pip outside can.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: evermix needs Python 3.11 or later. Hint: make PYTHON=python3.11")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv 2>/dev/null || \
		($(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install pip)
	@echo 'Installing into .venv, once: first torch, then everything else; a few minutes'
	@$(PYTHON) tools/install.py $(BIN)/python "$$(grep '^torch==' constraints.txt)"
	@$(PYTHON) tools/install.py $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@
