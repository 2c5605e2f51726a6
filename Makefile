# Every command of the project; `make` alone lists them. The work is done by scripts/, which say in one sentence what is in the way.
.DEFAULT_GOAL := help
.PHONY: help demo demo-down run check test bench fuzz faults soak lint fmt lock secrets verify
SHELL := /bin/bash

# The inventory that `make secrets` and `make verify` work on.
SITE ?= inventories/sandbox

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Boot a throw-away host on this computer (root) and put the whole site on it
	@scripts/demo

demo-down: ## Remove the demo with every process, mount, bridge and firewall rule
	@scripts/demo-down

run: ## Start the application alone on 127.0.0.1 (any user; SQLite, no daemons)
	@scripts/run

check: ## Lint, contract tests and app tests: under 3 minutes, without root
	@scripts/check

test: ## Everything, on real hosts and daemons (root)
	@scripts/test

bench: ## Measure the chat side by side with others (quiet machine; see bench/README.md)
	@scripts/bench

fuzz: ## Give the frame parser a million random streams, and compare it with wsproto
	@scripts/fuzz

faults: ## Do 200 random faults to a site under load and judge every message
	@scripts/faults

soak: ## Hold 10,000 sockets on one worker for 10 minutes and watch its memory
	@scripts/soak

lint: ## Lint playbooks, Python, shell and JavaScript
	@scripts/bootstrap check && scripts/lint

fmt: ## Format Python and JavaScript
	@scripts/fmt

lock: ## Pin every Python dependency again, with hashes
	@scripts/lock

secrets: ## Make the secrets of a site that are missing: make secrets SITE=inventories/<site>
	@scripts/bootstrap lock && PATH=build/venv/control/bin:$$PATH ansible-playbook -i '$(SITE)' playbooks/secrets.yml

verify: ## Prove that a running site works: make verify SITE=inventories/<site>
	@scripts/bootstrap lock && PATH=build/venv/control/bin:$$PATH ansible-playbook -i '$(SITE)' playbooks/verify.yml
