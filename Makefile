# Works with GNU make 3.81, which is what macOS has, and later.
SHELL := /bin/bash
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help

# Tools of a fixed version, built once into .cache.
GOLANGCI_VERSION := v2.15.0
BIN := $(CURDIR)/.cache/bin
GOLANGCI := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)

# All modules, a module after those that it requires.
MODULES = $(shell scripts/modules.sh)
PACKAGES = $(patsubst %,./%/...,$(MODULES))

GOFMT = unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not formatted with gofmt:"; echo "$$unformatted"; false; }

FUZZTIME ?= 30s
BENCHTIME ?= 1s
BENCH ?= .

.PHONY: help demo check test lint linter release-test fuzz bench compare cover tidy clean

help: ## Say what there is to make
	@echo "Targets:"
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1	\2/p' Makefile

demo: ## Run the example web application; ARGS="-help" lists its flags
	@cd examples && go run ./shop $(ARGS)

check: ## While you work: quick tests of the root module, vet and gofmt
	go vet ./...
	go test -skip='Mutants$$' ./...
	@$(GOFMT)

test: ## Obtain what the tests need and run all of them, with -race
	@scripts/gotest.sh

# One run for all modules: what they share is loaded and looked at once.
lint: $(GOLANGCI) ## Check format and style, and look for mistakes
	@failed=0; \
	$(GOLANGCI) run $(PACKAGES) || failed=1; \
	$(GOFMT) || failed=1; \
	exit $$failed

linter: $(GOLANGCI)

release-test: ## Release into a folder, and use that as a stranger would
	@scripts/release-test.sh

fuzz: ## Run every fuzz target for FUZZTIME=30s
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

bench: ## Run the benchmarks; BENCH=regexp selects, BENCHTIME=1s each
	go test -run='^$$' -bench='$(BENCH)' -benchmem -benchtime=$(BENCHTIME) ./...
	cd integration && go test -run='^$$' -bench='$(BENCH)' -benchtime=$(BENCHTIME) .

compare: ## Compare with other libraries and write docs/comparison.md, minutes; ARGS=-quick is a smoke run
	@cd bench && go run . $(ARGS)

cover: ## Write the coverage of the root module to .cache/cover.html
	@mkdir -p .cache
	go test -count=1 -coverpkg=./... -coverprofile=.cache/cover.out ./...
	go tool cover -html=.cache/cover.out -o .cache/cover.html
	@go tool cover -func=.cache/cover.out | tail -n 1

tidy: ## Run go mod tidy in every module, and write go.work; VERSION=v0.2.0 moves them to that one
	@scripts/tidy.sh $(VERSION)

clean: ## Remove .cache
	rm -rf .cache

$(GOLANGCI):
	@mkdir -p $(BIN)
	@echo "building golangci-lint $(GOLANGCI_VERSION), about a minute"
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
		GOBIN="$$tmp" GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) && \
		mv "$$tmp/golangci-lint" $@
