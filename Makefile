# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

# Where make was called: relative paths of CONFIG and OUT start there, with `make -C` too.
CALLER := $(if $(shell tr '\0' '\n' < /proc/$$PPID/cmdline 2>/dev/null | grep -E '^(-[a-zA-Z]*C|--dir)'),$(PWD),$(CURDIR))

export STATE_DIR AIRFLOW_PORT SANDBOX_PORT

# Airflow starts a process for each task; without bytecode every one of them compiles what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install run up down status logs reset airflow test test-slow lint format lock audit upgrade docs render plan new-evaluation check-evaluations gate-power history forget labels anchors prices doctor acceptance bench bench-from-nothing bench-orchestration bench-generation bench-statistics bench-parse bench-nights bench-ui bench-workers bench-scale chaos screenshots env mwaa

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

install: $(VENV)/.installed ## Make .venv from requirements-dev.txt

$(VENV)/.installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Error: Python 3.11 is needed; name it with PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	grep -A1000 '^uv==' requirements-dev.txt | awk 'NR > 1 && !/^ / {exit} {print}' > $(VENV)/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements-dev.txt
	@touch $@

run: install ## Compare models: CONFIG=file OUT=folder ENV=environment (all optional)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.run --cwd "$(CALLER)" \
		$(if $(CONFIG),--config "$(CONFIG)") $(if $(OUT),--out "$(OUT)") $(if $(ENV),--env "$(ENV)")

up down status logs reset: install
	@$(BIN)/python -m scripts.local $@
up: ## Start Airflow and the sandbox
down: ## Stop all that was started
status: ## Say what is running
logs: ## Follow the logs of Airflow and the sandbox
reset: ## Stop, and forget the local state

airflow: install ## Airflow's own command line for this copy: ARGS="dags unpause nova_llm_judge__nightly"
	@$(BIN)/python -m scripts.local airflow $(ARGS)

# Two at a time; tests/conftest.py says what must not run at once.
PARALLEL := --numprocesses 2 --dist loadgroup --no-loadscope-reorder --durations 25

test: install ## Run the tests: offline, 15 to 25 minutes on two cores
	$(BIN)/pytest -m "not slow" $(PARALLEL)

test-slow: install ## Run the tests that need a browser, a server or another Python
	$(BIN)/pytest -m slow $(PARALLEL)

bench: install ## The five benchmarks that have peers, into docs/performance.md; three quarters of an hour
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.everything $(ARGS)

bench-orchestration: install ## Measure trigger to report, beside the same work without Airflow
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.orchestration $(ARGS)

bench-from-nothing: install ## Time the README's two commands with an empty home and empty caches
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.from_nothing $(ARGS)

bench-generation: install ## Measure asking models beside seven other ways: ARGS="--only bucket"
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.generation $(ARGS)

bench-statistics: install ## Measure counting 10,000 judgments and ranking 20 models, beside inspect_ai and evalica
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.verdict $(ARGS)

bench-parse: install ## Measure parsing thirty evaluation files, beside thirty plain DAGs
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.parse $(ARGS)

bench-nights: install ## Ten evaluations, 21 nights, 5 % faults; goes on where it was: ARGS="--report"
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.nights $(ARGS)

bench-ui: install ## Measure the pages in the Airflow UI, beside loading with pandas
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.ui $(ARGS)

bench-workers: install ## Measure what a second Celery worker gains, and that a limit holds
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.workers $(ARGS)

bench-scale: install ## Measure one run of 100,000 prompts: ARGS="--prompts 1000"
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.scale $(ARGS)

chaos: install ## Whole runs, killed and disturbed by seed, into docs/reliability.md: RUNS= SEED=
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m bench.chaos \
		$(if $(RUNS),--runs "$(RUNS)") $(if $(SEED),--seed "$(SEED)") $(ARGS)

screenshots: install ## Write docs/images/ from what the running copy's UI shows
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.screenshots $(ARGS)

lint: install ## Check style, types and generated files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m scripts.schemas --check

format: install ## Put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: install ## Write docs/config.md, docs/dependencies.md and docs/schemas/
	$(BIN)/python -m scripts.schemas
	$(BIN)/python -m scripts.dependencies

render: install ## Print a resolved config and its digest: CONFIG=file ENV=environment
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.render --cwd "$(CALLER)" \
		$(if $(CONFIG),--config "$(CONFIG)") $(if $(ENV),--env "$(ENV)")

plan: install ## Prompts for a win rate, and the cost: CONFIG=file or RUN=summary.json, PROMPTS=
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.plan --cwd "$(CALLER)" \
		$(if $(CONFIG),--config "$(CONFIG)") $(if $(ENV),--env "$(ENV)") $(if $(RUN),--run "$(RUN)") \
		$(if $(PROMPTS),--prompts "$(PROMPTS)") $(if $(CONSISTENCY),--consistency "$(CONSISTENCY)") \
		$(if $(CORRELATION),--correlation "$(CORRELATION)")

new-evaluation: install ## Write a commented evaluation into dags/evaluations/: NAME=
	@$(BIN)/python -m scripts.evaluations new $(if $(NAME),--name "$(NAME)")

check-evaluations: install ## Check all evaluations, models and environments, with file and line
	@$(BIN)/python -m scripts.evaluations check

gate-power: install ## How often a gate cries wolf, how small a drop it catches: CONFIG= ENV=
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.gate_power --cwd "$(CALLER)" \
		$(if $(CONFIG),--config "$(CONFIG)") $(if $(ENV),--env "$(ENV)")

history: install ## Show an evaluation's verdicts over time: NAME= ENV=environment
	@$(BIN)/python -m scripts.history $(if $(NAME),--name "$(NAME)") $(if $(ENV),--env "$(ENV)")

anchors: install ## Freeze pairs of a run as the judge's anchors: RUN=s3://... OUT=file N=200 ENV=
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.anchors --cwd "$(CALLER)" \
		$(if $(RUN),--run "$(RUN)") $(if $(OUT),--out "$(OUT)") $(if $(N),--number "$(N)") \
		$(if $(ENV),--env "$(ENV)")

prices: install ## Write a dated price file from AWS's Price List: ENV=environment
	@$(BIN)/python -m scripts.prices $(if $(ENV),--env "$(ENV)")

forget: install ## Delete all of one run for good: RUN=URI, evaluation/folder or run id, ENV= YES=1
	@$(BIN)/python -m scripts.forget $(if $(RUN),--run "$(RUN)") $(if $(ENV),--env "$(ENV)") \
		$(if $(filter 1 yes true,$(YES)),--yes)

labels: install ## Hold the judge of a run against people's labels: RUN= FILE=filled-in form, ENV=
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.labels --cwd "$(CALLER)" \
		$(if $(RUN),--run "$(RUN)") $(if $(FILE),--file "$(FILE)") $(if $(ENV),--env "$(ENV)")

doctor: install ## Look at an AWS account, change nothing: ENV=environment CONFIG=file
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.doctor --cwd "$(CALLER)" \
		$(if $(CONFIG),--config "$(CONFIG)") $(if $(ENV),--env "$(ENV)")

acceptance: install ## Six prompts on AWS, all deleted, a bundle: ENV= MODEL= BEDROCK= MINUTES= CONFIRM=1
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m scripts.acceptance --cwd "$(CALLER)" \
		$(if $(ENV),--env "$(ENV)") $(if $(MODEL),--model "$(MODEL)") $(if $(OUT),--out "$(OUT)") \
		$(if $(BEDROCK),--bedrock "$(BEDROCK)") $(if $(MINUTES),--minutes "$(MINUTES)") \
		$(if $(COMPARE),--compare "$(COMPARE)") $(if $(filter 1 yes true,$(CONFIRM)),--yes)

env: install ## Write .env for docker-compose.yaml, with fresh keys
	@$(BIN)/python -m scripts.env

mwaa: install ## Write dist/mwaa/ for Amazon MWAA: AIRFLOW=3.3.1
	@$(BIN)/python -m scripts.mwaa $(if $(AIRFLOW),--airflow "$(AIRFLOW)")

# What tests and sandboxes sign with.
NO_SECRETS := ^(none|test|something|kept-from-nobody|of nobody|sk-secret.*|5499befb.*)$$

audit: install ## Known holes in what is locked, secrets in what is committed; needs PyPI
	git ls-files -z ':!requirements*.txt' | xargs -0 $(BIN)/detect-secrets-hook --no-verify \
		--exclude-secrets '$(NO_SECRETS)'
	$(BIN)/pip-audit --disable-pip --require-hashes --strict $(patsubst %,--requirement %, \
		requirements.txt requirements-dev.txt requirements-image.txt)

upgrade: install ## Lock the newest versions, install them and run all tests
	$(BIN)/python -m scripts.lock --upgrade
	$(MAKE) install docs lint test test-slow

lock: install ## Write requirements*.txt from requirements*.in
	$(BIN)/python -m scripts.lock
