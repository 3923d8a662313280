# What is built and downloaded lives outside the clone, in one place for every profile and tool.
export TIDEMILL_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidemill
export CARGO_TARGET_DIR ?= $(TIDEMILL_CACHE)/target
# A Rust that scripts/setup has just installed.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup build demo test crash compose soak fmt lint doc check-lib licences bench bench-quick

help: ## Show this
	@echo 'Tidemill: micro-batches over Kafka. Welcome! Begin with `make demo`; before a commit, `make lint test`.'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what this machine lacks: build tools, Rust, and a real Kafka for the tests
	@scripts/setup test

build: ## Build the binary
	@scripts/setup
	cargo build

demo: ## Run the demo; pass it arguments with ARGS=
	@scripts/setup
	cargo run --bin tidemill -- demo $(ARGS)

test: ## Run all tests: units, tests/, a real broker, examples, documentation; choose with ARGS=
	@scripts/setup test
	cargo test $(ARGS)

KILLS ?= 100

crash: ## Kill the service KILLS= times (100) per way of delivery, and look whether every record counts once
	@scripts/setup test
	TIDEMILL_CRASH_KILLS=$(KILLS) cargo test --test integration crash:: -- --nocapture

compose: ## Bring up docker-compose.yml with images made here, and look whether it does what it should (needs Docker)
	@scripts/setup test
	integration-tests/compose/run

SOAK_MINUTES ?= 30
SOAK_RATE ?= 20000

soak: ## Run trends over SOAK_RATE= tweets a second (20000) for SOAK_MINUTES= (30), and tell memory and lag
	@scripts/setup test
	scripts/soak $(SOAK_MINUTES) $(SOAK_RATE)

fmt: ## Format the code
	cargo fmt

lint: ## Check the format and run clippy, warnings being errors
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

doc: ## Build the documentation, warnings being errors
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps

check-lib: ## Check the library alone, without the service and SQL
	cargo clippy --lib --no-default-features -- -D warnings

licences: ## Check the licences of all dependencies
	@scripts/licences

bench: ## Measure Tidemill beside the bare readers and what PEERS_DIR= names, and on lz4; writes target/bench.json, bench-lz4.json
	scripts/bench

bench-quick: ## The same without the others, in about three minutes after the build
	scripts/bench quick
