# MegaTux. `make` shows the targets; every target installs what it needs and is not there already.

PREFIX  ?= /usr/local
DESTDIR ?=

BUN_VERSION := 1.4.5
BUN   := .build/bun/node_modules/.bin/bun
# Tells which Bun was installed: another BUN_VERSION is another file, and installs again.
BUN_STAMP := .build/bun/version-$(BUN_VERSION)
# In node_modules, so that it goes with them.
PACKAGES := node_modules/.megatux
# SQLite for Node, compiled once a checkout: tools run on Bun, which has its own; one test is of Node's.
SQLITE := node_modules/better-sqlite3/build/Release/better_sqlite3.node
NAMES := $(sort $(patsubst tools/%/main.ts,%,$(wildcard tools/mt-*/main.ts)))
BINARIES := $(NAMES:%=dist/%) dist/mt
SCRIPTS := dist/mt-launch
SHARE = $(DESTDIR)$(PREFIX)/share
COMPLETIONS = $(addprefix $(SHARE)/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
PAGES := $(wildcard man/*.1.md man/*.5.md man/*.7.md)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
COMPILE := $(BUN) build --compile --minify --bytecode --splitting --format=esm --external better-sqlite3 \
  --no-compile-autoload-dotenv --no-compile-autoload-bunfig --define MT_COMMIT='"$(COMMIT)"'
# All sources under these directories; a tool is built again when one of its own or of shared/ changed.
sources = $(shell find $(1) -name '*.ts' 2>/dev/null)
SHARED := $(call sources,shared) build/entry.ts $(PACKAGES) .build/commit

.DEFAULT_GOAL := help
.PHONY: help build check test soak bench demo man install clean deps deps-test FORCE
.DELETE_ON_ERROR:

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(BINARIES) $(SCRIPTS) ## one binary a tool into dist/, and dist/mt, all of them in one

check: $(PACKAGES) ## types, lint, format; whether man pages and schemas are what their sources say
	$(BUN) x tsc -p .
	$(BUN) x biome ci --error-on-warnings .
	$(BUN) man/generate.ts --check

test: build deps-test $(SQLITE) ## unit tests, tests of the compiled binaries, one end-to-end run
	@test/run

soak: build deps-test ## what takes many rounds: hosts that die, two of everything at once; for a nightly run
	@MT_TEST_ROUNDS=40 node node_modules/vitest/vitest.mjs run --project soak

bench: build deps-test ## the numbers of SPECIFICATION.md, each beside its best peer
	@test/bench/run

demo: build deps ## the main job: Abilene, 11 routers and 44 guests on 4 hosts, up, checked, down
	@examples/demo

man: $(PACKAGES) ## write what is generated: tables of the man pages, mt-records(5), schemas/
	$(BUN) man/generate.ts

install: build ## into DESTDIR and PREFIX: one binary, a link a tool, man pages, completions, schemas
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 dist/mt $(SCRIPTS) $(DESTDIR)$(PREFIX)/bin/
	for tool in $(NAMES); do ln -sf mt $(DESTDIR)$(PREFIX)/bin/$$tool || exit 1; done
	for page in $(basename $(notdir $(PAGES))); do \
	  dir=$(SHARE)/man/man$${page##*.}; \
	  install -d $$dir && $(BUN) man/render.ts man/$$page.md >$$dir/$$page || exit 1; done
	install -d $(COMPLETIONS)
	for tool in $(NAMES) $(notdir $(SCRIPTS)); do \
	  dist/$$tool --completion bash >$(word 1,$(COMPLETIONS))/$$tool && \
	  dist/$$tool --completion zsh >$(word 2,$(COMPLETIONS))/_$$tool && \
	  dist/$$tool --completion fish >$(word 3,$(COMPLETIONS))/$$tool.fish || exit 1; done
	install -d $(SHARE)/megatux/schemas
	install -m 644 schemas/*.schema.json $(SHARE)/megatux/schemas/

clean: ## remove what was built (guests' images and running experiments stay)
	rm -rf dist .build

# What the machine must have: checked each time, for a checkout outlives what a machine has; installed
# where it is missing, named where it cannot be.
deps:
	@.ci/deps

deps-test:
	@.ci/deps test

$(BUN_STAMP):
	@npm install --silent --no-fund --no-audit --prefix .build/bun bun@$(BUN_VERSION) || \
	  { echo "Cannot install Bun $(BUN_VERSION): npm install --prefix .build/bun bun@$(BUN_VERSION)" >&2; exit 69; }
	@touch $@

$(PACKAGES): package.json bun.lockb $(BUN_STAMP)
	@$(BUN) install --frozen-lockfile --silent || \
	  { echo "Cannot install the packages: $(BUN) install --frozen-lockfile" >&2; exit 69; }
	@touch $@

# For the test it need not be fast, and half a minute is a third of what -O3 takes. Where it cannot be compiled the test says so.
$(SQLITE): $(PACKAGES)
	@[ -e $@ ] || CFLAGS=-O0 CXXFLAGS=-O0 timeout 600 npm rebuild better-sqlite3 --build-from-source >.build/sqlite.log 2>&1 || \
	  echo "Cannot compile better-sqlite3 (.build/sqlite.log): its test under Node is left out" >&2
	@[ ! -e $@ ] || touch $@

# Changes only where the commit did, so that --version is true and nothing is built for nothing.
.build/commit: FORCE
	@mkdir -p $(@D); echo $(COMMIT) | cmp -s - $@ || echo $(COMMIT) >$@

dist/mt-launch: tools/mt-launch/mt-launch
	@install -D -m 755 $< $@

# A tool that is not written yet is left out of `mt`, and says so when it is called.
MISSING = $(filter-out $(NAMES),$(shell sed -n 's/^ *"\(mt-[a-z]*\)":.*/\1/p' tools/mt/tools.ts))

dist/mt: $(call sources,tools) $(SHARED)
	@mkdir -p dist
	$(COMPILE) $(MISSING:%=--external '*/%/main.ts') tools/mt/main.ts --outfile $@ >/dev/null
	@$(BUN) build/entry.ts $@

.SECONDEXPANSION:
dist/mt-%: $$(call sources,tools/mt-$$*) $(SHARED)
	@mkdir -p dist
	$(COMPILE) tools/mt-$*/main.ts --outfile $@ >/dev/null
	@$(BUN) build/entry.ts $@
