# The front door for developers and CI. Each target is one script or one cargo command.
SHELL := bash
.DEFAULT_GOAL := ready

.PHONY: ready help build check test test-newest soak audit bench clean

ready: ## Check the toolchain and say what to do next (the default)
	@deploy/toolchain.sh
	@$(MAKE) --no-print-directory help

help: ## List these targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | column -ts $$'\t' 2>/dev/null \
	  || sed -nE 's/^([a-z-]+):.*## (.*)/  make \1: \2/p' $(MAKEFILE_LIST)

build: ## Build the program: target/release/spinor
	@deploy/toolchain.sh
	cargo build --release --locked

check: ## Format, lints, documentation, dependencies, scripts; needs no server
	deploy/check.sh

test: ## The checks, then all tests over private servers (installs what is missing)
	@deploy/toolchain.sh
	deploy/test.sh --check

test-newest: ## Broker and record tests on the newest servers, in a chroot (needs root); writes docs/compatibility.md
	deploy/test-newest.sh

soak: ## The long forms of the fault tests, at their real durations
	SPINOR_TEST_SOAK=1 deploy/test.sh --no-fail-fast

audit: ## Known vulnerabilities in the dependencies, where the advisory list can be had
	deploy/audit.sh

bench: ## Build the release and measure it
	cargo build --release --locked
	target/release/spinor bench

clean: ## Remove what was built; the download cache stays
	cargo clean
