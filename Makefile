# MegaTux. `make` shows the targets; every target installs what it needs and is not there already.

PREFIX  ?= /usr/local
DESTDIR ?=

BUN_VERSION := 1.4.5
BUN   := .build/bun/node_modules/.bin/bun
TOOLS := $(notdir $(wildcard tools/mt-*/main.ts))
NAMES := $(sort $(patsubst tools/%/main.ts,%,$(wildcard tools/mt-*/main.ts)))
BINARIES := $(NAMES:%=dist/%) dist/mt
SOURCES := $(shell find tools shared -name '*.ts' 2>/dev/null)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
COMPILE := $(BUN) build --compile --minify --bytecode --format=esm --external better-sqlite3 \
  --no-compile-autoload-dotenv --no-compile-autoload-bunfig --define MT_COMMIT='"$(COMMIT)"'

.DEFAULT_GOAL := help
.PHONY: help build check test bench demo install clean deps

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(BINARIES) dist/mt-launch ## one binary a tool into dist/, and dist/mt, all of them in one

check: .build/packages ## types, lint and format
	$(BUN) x tsc -p .
	$(BUN) x biome ci --error-on-warnings .

test: build deps ## unit tests, tests of the compiled binaries, one end-to-end run
	@test/run

bench: build deps ## the numbers of SPECIFICATION.md, each beside its best peer
	@test/bench/run

demo: build deps ## the main job: Abilene, 11 routers and 44 guests on 4 hosts, up, checked, down
	@examples/demo

install: build ## into DESTDIR and PREFIX: one binary, a link a tool, man pages
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 755 dist/mt dist/mt-launch $(DESTDIR)$(PREFIX)/bin/
	for tool in $(NAMES); do ln -sf mt $(DESTDIR)$(PREFIX)/bin/$$tool; done

clean: ## remove what was built (guests' images and running experiments stay)
	rm -rf dist .build

deps: .build/deps

# What the machine must have: checked each time, installed where it is missing, named where it cannot be.
.build/deps: .ci/deps
	@.ci/deps
	@mkdir -p $(@D) && touch $@

$(BUN):
	@npm install --silent --no-fund --no-audit --prefix .build/bun bun@$(BUN_VERSION) || \
	  { echo "Cannot install Bun $(BUN_VERSION): npm install --prefix .build/bun bun@$(BUN_VERSION)" >&2; exit 69; }

.build/packages: package.json bun.lockb | $(BUN)
	@$(BUN) install --frozen-lockfile --silent || \
	  { echo "Cannot install the packages: $(BUN) install" >&2; exit 69; }
	@touch $@

dist/mt-launch: tools/mt-launch
	@install -D -m 755 $< $@

dist/mt: $(SOURCES) .build/packages | $(BUN)
	@mkdir -p dist
	$(COMPILE) tools/mt/main.ts --outfile $@ >/dev/null

dist/mt-%: $(SOURCES) .build/packages | $(BUN)
	@mkdir -p dist
	$(COMPILE) tools/mt-$*/main.ts --outfile $@ >/dev/null
