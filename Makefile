# make alone lists the commands.

GO ?= go
TOOL = $(GO) tool -modfile=tools/go.mod
BUF = $(GO) tool -modfile=tools/proto/go.mod buf

# The race detector needs a C compiler; without one the tests run without it.
RACE := $(if $(shell command -v gcc || command -v cc),-race)

# A short burst for each fuzz target.
FUZZTIME ?= 10s

# How many containers of each driver make leak starts; those of the native driver take minutes, Docker's more than an hour.
CYCLES ?= 10000

.DEFAULT_GOAL := help
.PHONY: help run demo build test test-short check bench bench-quick leak fmt fmt-check vet lint proto vulncheck generate fuzz engine engine-stop clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## from a fresh clone to a function that answers; serves until Ctrl-C
	@$(GO) build -o bin/quickstart ./test/quickstart && exec bin/quickstart

demo: ## the same, and end
	@$(GO) build -o bin/quickstart ./test/quickstart && exec bin/quickstart -once

build: ## bin/fnserver, and what its sandboxes begin with
	$(GO) build -o bin/fnserver ./cmd/fnserver
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/sandbox-init ./cmd/sandbox-init

test: engine ## all tests with the race detector, those with a container engine included
	@[ -n "$(RACE)" ] || echo "==> There is no C compiler: the tests run without the race detector"
	@# The end-to-end tests take longest and wait most, so they come first, beside those that need no containers.
	TINE_TEST_ENGINE=require $(GO) test $(RACE) -timeout 20m ./test/e2e $$($(GO) list ./... | grep -v -E '/driver/(docker|native)(/|$$)')
	TINE_TEST_ENGINE=require $(GO) test $(RACE) -timeout 20m ./driver/docker/... ./driver/native/...

test-short: ## all tests, without those that find no container engine
	$(GO) test ./...

check: fmt-check vet lint proto test ## what must pass before a commit: format, vet, lint, generated files, tests

bench: engine ## measure everything, for ten minutes; figures as a table and in bin/bench.json
	@$(GO) build -o bin/bench ./test/bench && exec bin/bench -install -json bin/bench.json $(BENCHFLAGS)

bench-quick: engine ## a second for each row: does the benchmark work?
	@$(GO) build -o bin/bench ./test/bench && exec bin/bench -install -quick $(BENCHFLAGS)

leak: engine ## CYCLES containers of each driver, 10000 by default, come and go and leave nothing
	TINE_TEST_ENGINE=require TINE_TEST_CYCLES=$(CYCLES) $(GO) test $(RACE) -timeout 6h -count 1 -v -run NothingLeaks ./test/e2e

fmt: ## format the code
	$(TOOL) gofumpt -w .

fmt-check:
	@files=$$($(TOOL) gofumpt -l .) || exit 1; \
	if [ -n "$$files" ]; then echo "make fmt would change:"; echo "$$files"; exit 1; fi

vet:
	$(GO) vet ./...

lint: ## golangci-lint, built from tools/go.mod at its first use
	$(TOOL) golangci-lint run

# proto/runner.binpb is the protocol as Fn's nodes speak it, and is not written again.
proto: ## the runner protocol: its style, that it is still Fn's, that what is generated from it is up to date
	$(BUF) lint proto
	$(BUF) breaking proto --against proto/runner.binpb
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	(cd internal/runnerrpc/runnerpb && $(GO) tool -modfile=../../../tools/proto/go.mod buf generate ../../../proto --template ../../../proto/buf.gen.yaml -o "$$fresh") && \
	for file in runner.pb.go runner_grpc.pb.go; do \
		cmp -s "$$fresh/$$file" internal/runnerrpc/runnerpb/$$file || { echo "make generate would change internal/runnerrpc/runnerpb/$$file"; exit 1; }; \
	done

vulncheck: ## known vulnerabilities in what we use; needs the network
	$(TOOL) govulncheck ./...

generate: ## write the generated files; tests fail when one is not up to date
	$(GO) generate ./...

fuzz: ## every fuzz target for FUZZTIME, 10s by default
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file" | while read -r target; do \
			echo "==> $$(dirname "$$file") $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done || exit 1; \
	done

engine: ## see to it that a container engine answers
	@scripts/engine.sh ensure

engine-stop: ## end the engine that make started, and no other
	@scripts/engine.sh stop

clean: ## remove what was built; data/ stays
	rm -rf bin
