# demo, serve, upload, screenshot, test, bench, proof, soak, fuzz, lint, plan, snapshots: see the README. Each installs what is missing first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
PY := .venv/bin/python

.PHONY: demo serve upload screenshot test bench figures proof soak fuzz lint format plan openapi snapshots requirements clean

# A model of the stand-in's, or a real deployment at MODEL_ENDPOINT, which is paid for.
MODEL_OPTIONS = $(if $(MODEL),--model "$(MODEL)") $(if $(QUERY_MODEL),--query-model "$(QUERY_MODEL)") \
  $(if $(MODEL_ENDPOINT),--endpoint "$(MODEL_ENDPOINT)")

# Not every shell expands the ~ in IMAGES=~/Pictures.
FOLDER = $(if $(IMAGES),"$(IMAGES:~/%=$(HOME)/%)")

# make demo KEEP=1 keeps everything running, with the pictures in it
demo: .venv/ready
	@$(PY) -m local demo $(MODEL_OPTIONS) $(if $(KEEP),--keep) $(FOLDER)

serve: .venv/ready
	@exec $(PY) -m local serve $(MODEL_OPTIONS)

# Pictures for the stack that `make serve` runs: the samples, or make upload IMAGES=folder
upload: .venv/ready
	@$(PY) -m local upload $(FOLDER)

# The README's picture of the gallery, with the samples in it
screenshot: .venv/tests-ready .venv/browser/ready
	@$(PY) -m local.screenshot docs/gallery.png

# All of them, or those that ARGS names: what they cover of the code says nothing then.
test: .venv/tests-ready .venv/browser/ready .venv/clients/ready
	@$(PY) -m pytest $(if $(ARGS),--no-cov $(ARGS),--cov-fail-under=95)

# How fast and how lean: make bench, or make bench ONLY="prepare cold" for the figures whose names begin so
bench: .venv/tests-ready
	@$(PY) -m bench $(if $(ONLY),--only "$(ONLY)")

# Into the pages that name figures: those of the last make bench
figures: .venv/tests-ready
	@$(PY) -m bench.pages

# What must never be lost, under quotas, faults, kills, races and wrong settings: make proof, or make proof ONLY=quota
proof: .venv/tests-ready
	@$(PY) -m proof $(if $(ONLY),--only "$(ONLY)")

# Half an hour of everything at once: make soak, or make soak MINUTES=5
soak: .venv/tests-ready
	@$(PY) -m bench.soak --minutes $(or $(MINUTES),30)

# Searches for files that break the preparation of pictures: make fuzz SECONDS=60
fuzz: .venv/fuzz-ready
	@$(PY) -m tests.pictures.fuzz.fuzz_prepare --seconds $(or $(SECONDS),60)

lint: .venv/tests-ready .venv/checkov/ready
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@infra/lint.sh

format: .venv/tests-ready
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# How long a backlog takes and what it costs: make plan IMAGES=1000000 CAPACITY=300, or MODEL_NAME=Cohere-Embed-V5-Pro
plan: .venv/ready
	@$(PY) -m infra.plan $(foreach option,IMAGES MODEL_NAME CAPACITY TPM RPM DEPLOYMENTS SHARE TOKENS KNOWN CPU MODEL DIMENSIONS INSTANCES CALLS MEMORY SEARCHES,\
	  $(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) "$($(option))"))

# The routes in OpenAPI, for those who generate clients: after a change of a route or a version.
openapi: .venv/ready
	@$(PY) -m shared.triggers.openapi >.local/openapi.json && mv .local/openapi.json docs/openapi.json

# What Bicep says of each deployment in infra/snapshots, after a change of a template or query. Needs `bicep` on PATH.
snapshots: .venv/tests-ready
	@$(PY) -m infra.bicep snapshots

# Pins the packages in the .in files to exact versions, with hashes.
COMPILE := .venv/bin/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-header \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
REQUIREMENTS := requirements requirements-local requirements-dev requirements-fuzz requirements-clients requirements-lint
requirements: .venv/tests-ready
	@for name in $(REQUIREMENTS); do \
	  $(COMPILE) --upgrade --output-file "$$name.txt" "$$name.in" || exit 1; \
	  { echo '# Made by `make requirements`.'; cat "$$name.txt"; } >.local/pinned && mv .local/pinned "$$name.txt"; \
	done

# Not local.settings.json: it may hold somebody's key.
clean:
	@rm -rf .venv .local

# What the local stack needs, and nothing else: the demo runs wherever Python does.
.venv/ready: requirements.txt requirements-local.txt local/setup.sh local/npm.sh local/azurite/package-lock.json
	@local/setup.sh

.venv/tests-ready: requirements-dev.txt tests/setup.sh local/npm.sh tests/clients/javascript/package-lock.json \
  tests/gallery/browser/package-lock.json tests/infra/kusto/package-lock.json .venv/ready
	@tests/setup.sh

.venv/fuzz-ready: requirements-fuzz.txt .venv/tests-ready
	@$(PY) -m pip install --disable-pip-version-check --require-hashes -r requirements-fuzz.txt \
	  >.local/fuzz.log 2>&1 || (cat .local/fuzz.log >&2; exit 1)
	@touch $@

.venv/browser/ready: .venv/ready
	@local/browser.sh
	@mkdir -p .venv/browser && touch $@

# In its own environment, because these clients pin what they like, and nothing but their tests needs them.
.venv/clients/ready: requirements-clients.txt .venv/ready
	@$(PY) -m venv .venv/clients
	@.venv/clients/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements-clients.txt \
	  >.local/clients.log 2>&1 || (cat .local/clients.log >&2; exit 1)
	@touch $@

# In its own environment, because checkov pins other versions of packages that the tests use.
.venv/checkov/ready: requirements-lint.txt .venv/ready
	@$(PY) -m venv .venv/checkov
	@.venv/checkov/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements-lint.txt \
	  >.local/checkov.log 2>&1 || (cat .local/checkov.log >&2; exit 1)
	@touch $@
