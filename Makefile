# MegaTux. `make` shows the targets; every target installs what it needs and is not there already.

PREFIX  ?= /usr/local
DESTDIR ?=

BUN_VERSION := 1.4.5
BUN   := .build/bun/node_modules/.bin/bun
# Its name has the version: another BUN_VERSION is another file, so Bun is installed again.
BUN_STAMP := .build/bun/version-$(BUN_VERSION)
# In node_modules, so that it is removed with them.
PACKAGES := node_modules/.megatux
# SQLite for Node, compiled once a checkout, for one test. Tools run on Bun, which has its own.
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
# All sources under these directories: a tool is built again when one of its own or of shared/ has changed.
sources = $(shell find $(1) -name '*.ts' 2>/dev/null)
SHARED := $(call sources,shared) build/entry.ts $(PACKAGES) .build/commit

.DEFAULT_GOAL := help
.PHONY: help build check test soak bench demo man install clean deps deps-test FORCE
.DELETE_ON_ERROR:

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(BINARIES) $(SCRIPTS) ## one binary a tool into dist/, and dist/mt, all of them in one

check: $(PACKAGES) ## types, lint, imports, format; whether man pages and schemas agree with their sources
	$(BUN) x tsc -p .
	$(BUN) x biome ci --error-on-warnings .
	$(BUN) man/generate.ts --check

test: build deps-test $(SQLITE) ## unit tests, tests of the compiled binaries, one end-to-end run
	@test/run

soak: build deps-test ## tests of many rounds, for a nightly run: hosts that die, commands that run twice at once
	@MT_TEST_ROUNDS=40 node node_modules/vitest/vitest.mjs run --project soak

bench: build deps-test ## the numbers of SPECIFICATION.md, each beside its best peer
	@test/bench/run

demo: build deps ## Abilene, 11 routers and 44 guests on 4 emulated hosts: up, checked, down
	@examples/demo

man: $(PACKAGES) ## write the generated parts of the man pages, mt-records(5) and schemas/
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

# Programs that the machine must have: checked each time, since a checkout may move to another machine; installed
# where they are missing, or named where they cannot be installed.
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

# -O0, since its test need not be fast: half a minute, a third of what -O3 takes. Where it cannot be compiled the test says so.
$(SQLITE): $(PACKAGES)
	@[ -e $@ ] || CFLAGS=-O0 CXXFLAGS=-O0 timeout 600 npm rebuild better-sqlite3 --build-from-source >.build/sqlite.log 2>&1 || \
	  echo "Cannot compile better-sqlite3 (.build/sqlite.log): its test under Node is left out" >&2
	@[ ! -e $@ ] || touch $@

# Changes only when the commit does, so that --version is right and nothing is built in vain.
.build/commit: FORCE
	@mkdir -p $(@D); echo $(COMMIT) | cmp -s - $@ || echo $(COMMIT) >$@

dist/mt-launch: tools/mt-launch/mt-launch
	@install -D -m 755 $< $@

# Tools that are not written yet are left out of `mt`, which says so when they are called.
MISSING = $(filter-out $(NAMES),$(shell sed -n 's/^ *"\(mt-[a-z]*\)":.*/\1/p' tools/mt/tools.ts))

dist/mt: $(call sources,tools) $(SHARED)
	@mkdir -p dist
	$(COMPILE) $(MISSING:%=--external '*/%/main.ts') tools/mt/main.ts --outfile $@.new >/dev/null
	@$(BUN) build/entry.ts $@.new && mv $@.new $@

.SECONDEXPANSION:
dist/mt-%: $$(call sources,tools/mt-$$*) $(SHARED)
	@mkdir -p dist
	$(COMPILE) tools/mt-$*/main.ts --outfile $@.new >/dev/null
	@$(BUN) build/entry.ts $@.new && mv $@.new $@
