# The door people use. Every target only sets up what is missing and calls the program; all logic is there.
#   make test SERIES=~/v13.mbox MATCH='*append*' ARGS='--jobs 2 --keep'
# GNU make itself ends with 2 whenever a recipe fails and prints the recipe's own exit code as "Error N";
# scripts that need that code call `npx fusegate` instead.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup test gate gate-selftest mutants check check-tree chaos stability demonstration shell bench report doctor clean

# Taken as they were typed (no expansion of `$`), and handed over through the environment, never through
# the text of a recipe: spaces, quotes and dollars in a value are just characters.
OPTIONS := PROFILE SERIES BASE SUITE MATCH ACCEL OUT TREE KERNEL JOBS ARGS
$(foreach option,$(OPTIONS),$(eval override $(option) := $$(value $(option))))
export $(OPTIONS)

FUSEGATE := @exec runner/setup/fusegate.sh

help: ## what can be made, and with which variables
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22
	@echo
	@echo '  Variables, each optional: $(OPTIONS)'
	@echo '  Example: make test SERIES=~/v13.mbox SUITE=passthrough-io ACCEL=tcg'

setup: ## install everything that make test needs, and nothing else
	@exec runner/setup/bootstrap.sh test

test: ## build the kernel with its series, boot it, run the suites, write the report
	$(FUSEGATE) test run

gate: ## build, boot and test after every patch of SERIES: which one broke what
	$(FUSEGATE) test gate

gate-selftest: ## real gates of series with known right answers, about an hour
	$(FUSEGATE) test gate-selftest

mutants: ## break the kernel on purpose, hundreds of times: which test notices?
	$(FUSEGATE) test mutants

check: ## the project's own tests: no kernel is built
	@runner/setup/bootstrap.sh check
	@PATH="$$PWD/node_modules/.bin:$$PATH" exec node runner/check/main.ts

check-tree: ## a kernel tree and a series of one's own, from end to end
	@runner/setup/bootstrap.sh test
	@PATH="$$PWD/node_modules/.bin:$$PATH" exec node runner/check/own-tree.ts

chaos: ## real machines of which everything is killed or breaks; ARGS='--kills 200 --seed N'
	@runner/setup/bootstrap.sh test
	@PATH="$$PWD/node_modules/.bin:$$PATH" exec node runner/chaos/main.ts $$ARGS

stability: ## everything RUNS times (10), stopping at the first run that is not clean
	@runner/setup/bootstrap.sh test
	@PATH="$$PWD/node_modules/.bin:$$PATH" RUNS="$(or $(RUNS),10)" exec node runner/check/stability.ts

demonstration: ## V11 of the 2021 series fails, in exactly the tests about depth
	@runner/setup/demonstration.sh

shell: ## a shell in the guest
	$(FUSEGATE) test shell

bench: ## measure build, boot and deploy against the stock tools
	$(FUSEGATE) test bench

report: ## show the last report again
	$(FUSEGATE) node report

doctor: ## what is there, what is missing, and the command that mends it
	$(FUSEGATE) node doctor

clean: ## remove left-overs of dead runs, caches and results
	$(FUSEGATE) node clean
