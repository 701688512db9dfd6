# demo, serve, test, lint: see the README. Each sets up what is missing first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
PY := .venv/bin/python

.PHONY: demo serve test lint format requirements clean

demo: .venv/ready
	@$(PY) -m local demo $(if $(IMAGES),"$(IMAGES)")

serve: .venv/ready
	@exec $(PY) -m local serve

test: .venv/ready
	@$(PY) -m pytest $(ARGS)

lint: .venv/ready
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: .venv/ready
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# Exact versions, with hashes, of everything named in the two .in files.
requirements: .venv/ready
	@local/requirements.sh

clean:
	@rm -rf .venv .local local.settings.json

.venv/ready: requirements.txt requirements-dev.txt local/azurite/package-lock.json local/setup.sh
	@local/setup.sh
