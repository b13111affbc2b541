# Each target sets up by itself what it needs (.ci/setup), and is quick the second time.

export PATH := $(PATH):/usr/sbin:/sbin
# Tests start the daemons a thousand times: where nothing may be kept, each start compiles all of their modules.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
ARGS ?=
# Most tests wait for something: three at a time keep two cores busy.
JOBS ?= 3

.PHONY: help demo test lint test-docker lab soak bench bench-feed bench-nerve bench-series bench-synapse bench-balance bench-scale fuzz mutations clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## a fleet on this machine, until Ctrl-C; ARGS=--tour is a tour, ARGS="--registry zookeeper" takes a real ZooKeeper
	@.ci/setup run haproxy $(if $(findstring zookeeper,$(ARGS)),zookeeper)
	@$(BIN)/smartstack demo $(ARGS)

test: ## every test, on real ZooKeeper and real HAProxy; ARGS="-k name" for some
	@.ci/setup dev haproxy zookeeper prometheus browser
	@$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: ## ruff and mypy
	@.ci/setup dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-docker: ## what speaks to ZooKeeper, against one in a container; needs root
	@.ci/test-docker $(ARGS)

lab: ## break a fleet of hosts in network namespaces on purpose; needs root; ARGS=--list, ARGS=NAME, ARGS=--quick
	@.ci/setup dev haproxy zookeeper lab
	@$(BIN)/python -m tests.lab $(ARGS)

soak: ## break a fleet at random for an hour, and hold it to its promises; ARGS="--seconds 120 --seed 7" for less
	@.ci/setup dev haproxy zookeeper
	@$(BIN)/python -m tests.soak $(ARGS)

bench: ## every benchmark, in about a quarter of an hour; ARGS="hop removal" for some, ARGS=--quick to see that they work
	@.ci/setup dev haproxy zookeeper
	@$(BIN)/python -m tests.bench $(ARGS)

bench-feed: ## what the feed of requests costs, with it and without; ARGS="--rate 5000 --seconds 10" for more
	@.ci/setup dev haproxy
	@$(BIN)/python -m tests.bench.feed $(ARGS)

bench-nerve: ## what nerve costs, and how soon it tells the truth; ARGS="sizes --seconds 10" for a part
	@.ci/setup dev zookeeper
	@$(BIN)/python -m tests.bench.nerve $(ARGS)

bench-series: ## what an hour of requests costs in memory, counting one in time, and how soon a tap shows it
	@.ci/setup dev
	@$(BIN)/python -m tests.bench.series $(ARGS)

bench-synapse: ## cold start, the cost of a change, churn and a rolling deploy; ARGS="cold --services 1000" for a part
	@.ci/setup dev haproxy zookeeper
	@$(BIN)/python -m tests.bench.synapse $(ARGS)

bench-balance: ## one bad instance of five, by each way of balancing; ARGS="slow --seconds 15" for a part
	@.ci/setup dev haproxy
	@$(BIN)/python -m tests.bench.balance $(ARGS)

bench-scale: ## a real ZooKeeper under a simulated fleet; ARGS="--hosts 5000 --instances 50 --ensemble 3" for a large one
	@.ci/setup dev zookeeper
	@$(BIN)/python -m tests.bench.scale $(ARGS)

fuzz: ## hostile input by coverage, 10 s for each target; ARGS="--seconds 600 feed http" for more
	@.ci/setup dev
	@$(BIN)/python -m tests.fuzz $(ARGS)

mutations: ## break each guarantee on purpose, one line at a time, and see that its test fails; ARGS="NAME" for one
	@.ci/setup dev haproxy zookeeper
	@$(BIN)/python -m tests.mutations $(ARGS)

clean: ## remove what the other targets made here
	rm -rf .venv .demo .docker .lab .soak .fuzz build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
