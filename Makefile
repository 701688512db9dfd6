# demo, serve, test, bench, fuzz, lint: see the README. Each sets up what is missing first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
PY := .venv/bin/python

.PHONY: demo serve test bench fuzz lint format requirements clean

demo: .venv/ready
	@$(PY) -m local demo $(if $(IMAGES),"$(IMAGES)")

serve: .venv/ready
	@exec $(PY) -m local serve

test: .venv/ready
	@$(PY) -m pytest $(ARGS)

bench: .venv/ready
	@$(PY) -m bench $(if $(ONLY),--only "$(ONLY)")

# Looks for files that break the preparation of pictures: make fuzz SECONDS=60
fuzz: .venv/ready
	@$(PY) -m tests.fuzz.fuzz_prepare --seconds $(or $(SECONDS),60)

lint: .venv/ready
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: .venv/ready
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# Exact versions, with hashes, of what the two .in files name.
COMPILE := .venv/bin/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-header \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
requirements: .venv/ready
	@$(COMPILE) --upgrade --output-file requirements.txt requirements.in
	@$(COMPILE) --upgrade --output-file requirements-dev.txt requirements-dev.in
	@sed -i.bak '1i # Made by `make requirements`.' requirements.txt requirements-dev.txt && rm requirements*.bak

clean:
	@rm -rf .venv .local local.settings.json

.venv/ready: requirements.txt requirements-dev.txt local/setup.sh \
  local/azurite/package-lock.json tests/clients/javascript/package-lock.json
	@local/setup.sh
