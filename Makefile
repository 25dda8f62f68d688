# Everything from a clean clone. `make help` lists it.
#
# Nothing asks a question, and whatever is installed is named first: what compiles guests (setup), cargo-deny (lint),
# cargo-fuzz (fuzz) and mdBook (book).

# One place for all that is built, whatever the environment says.
export CARGO_TARGET_DIR := $(CURDIR)/target
export SANDPOOL_GUEST_TARGET_DIR := $(CARGO_TARGET_DIR)/guests

SANDPOOL := $(CARGO_TARGET_DIR)/release/sandpool
GUESTS := $(SANDPOOL_GUEST_TARGET_DIR)/wasm32-wasip1/release
TOOLS := $(CARGO_TARGET_DIR)/tools
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
MDBOOK_VERSION := 0.5.4
# The crates that are published, but for the SDK's, which are a workspace of their own.
PUBLISHED := -p sandpool-abi -p sandpool-scheduler -p sandpool -p sandpool-cli
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= imports arena control connections limits modules records
CHAOS ?= 20
SOAK ?= 1000000
# Where the other revision of a comparison is.
BENCH_BASE := $(CARGO_TARGET_DIR)/bench-base
# The pages, as the book has them: links to what is in no book lead to the repository.
BOOK_PAGES := $(CARGO_TARGET_DIR)/book-pages
REPOSITORY := https://github.com/sandpool/sandpool
# The fuzzer's finds; the corpus in the repository is read only.
FUZZ_CORPUS := $(CARGO_TARGET_DIR)/fuzz/corpus

# Linked statically where the C library allows it: a process then has half as many mappings, and a fork copies each.
# Only the command is: rustc can't link macros that way, so that this is no setting of cargo's.
LINKING = $(shell echo 'int main(void) { return 0; }' | cc -static-pie -x c - -o /dev/null 2>/dev/null \
	&& echo -C target-feature=+crt-static)

# Each is a workspace of its own, because it is compiled for wasm.
GUEST_WORKSPACES := examples/guests host/benches/guests tests/guests
SDK := guest-sdk/rust

.DEFAULT_GOAL := help
.PHONY: help cargo setup guests demo test go lint lint-deny package book chaos storms soak fuzz memcheck miri bench bench-base bench-compare bench-inner clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

cargo:
	@command -v cargo >/dev/null || { printf '%s\n' \
		'error: cargo is not installed' 'hint: install Rust with rustup, then open a new shell' >&2; exit 1; }
	@command -v cc >/dev/null || { printf '%s\n' \
		'error: there is no C compiler' 'hint: install one; on Debian, `apt-get install gcc libc6-dev`' >&2; exit 1; }

setup: cargo ## compile Sandpool, and install what compiles guests if it is missing
	@echo 'Compiling Sandpool (some minutes the first time) and looking for what compiles guests' >&2
	@cargo rustc --release --locked -p sandpool-cli --bin sandpool -- $(LINKING)
	@report=$$($(SANDPOOL) doctor --install) || { status=$$?; printf '%s\n' "$$report" \
		'error: this machine lacks what Sandpool requires' 'hint: do what is said above, and try again' >&2; \
		exit $$status; }

guests: setup ## compile the guests of the examples and of the tests
	@for workspace in $(GUEST_WORKSPACES); do $(SANDPOOL) build "$$workspace" >/dev/null || exit; done
	@cargo run --quiet --release --locked --manifest-path tests/componentize/Cargo.toml -- \
		$(GUESTS)/component_program.wasm $(GUESTS)/component_program.component.wasm

demo: setup ## count the words of a text with many processes
	@$(SANDPOOL) build examples/guests >/dev/null
	@SANDPOOL=$(SANDPOOL) examples/wordcount/run $(GUESTS)/wordcount.wasm

# Tests are always chosen from the whole workspace: with `-p`, cargo would turn on other features, and compile wasmtime anew.
test: guests ## run every test
	cargo test --release --locked --workspace
	cargo test --release --locked --manifest-path $(SDK)/Cargo.toml --workspace

lint: cargo lint-deny ## check format, lints, documentation, and the licences of dependencies
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	@# As it is built for users, without the feature that the tests turn on.
	cargo clippy --release --locked -p sandpool-cli -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --workspace --no-deps
	@# Guests are checked for the host: not every toolchain that compiles them has a clippy.
	@for workspace in $(SDK) $(GUEST_WORKSPACES) tests/componentize tests/peers/native; do \
		echo "checking $$workspace" >&2; \
		cargo fmt --check --manifest-path "$$workspace/Cargo.toml" --all && \
		cargo clippy --release --locked --manifest-path "$$workspace/Cargo.toml" --workspace --all-targets -- -D warnings \
		|| exit; done
	RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --manifest-path $(SDK)/Cargo.toml --workspace --no-deps
	@# The manifests are complete. Without lock files, no registry is asked for crates that it doesn't have yet.
	cargo package --quiet --no-verify --allow-dirty --exclude-lockfile $(PUBLISHED)
	cargo package --quiet --no-verify --allow-dirty --exclude-lockfile --manifest-path $(SDK)/Cargo.toml --workspace

lint-deny: export PATH := $(TOOLS)/bin:$(PATH)
lint-deny: cargo
	@cargo deny --version >/dev/null 2>&1 || { \
		echo 'Installing cargo-deny $(CARGO_DENY_VERSION) in target/tools (a minute or two)' >&2; \
		env -u CARGO_TARGET_DIR cargo install --quiet --locked --debug --root $(TOOLS) cargo-deny@$(CARGO_DENY_VERSION) || { printf '%s\n' \
		'error: cargo-deny cannot be installed' 'hint: install it another way, so that `cargo deny` works' >&2; \
		exit 1; }; }
	cargo deny --log-level error check bans licenses sources
	@# The advisories come from a repository that not every machine can reach.
	@if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote -q https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; \
		then cargo deny --log-level error check advisories; \
		else echo 'skipped: the database of security advisories cannot be reached' >&2; fi

package: cargo ## make the packages of all crates that are published, and compile each; compiles everything anew
	cargo package --allow-dirty $(PUBLISHED)
	@# No registry has these two before they are published.
	cargo package --allow-dirty --manifest-path $(SDK)/Cargo.toml --workspace \
		--config 'patch.crates-io.sandpool-abi.path="$(CURDIR)/guest-sdk/abi"' \
		--config 'patch.crates-io.sandpool-scheduler.path="$(CURDIR)/guest-sdk/scheduler"'

book: cargo ## make a book of the pages of host/docs, in target/book
	@$(TOOLS)/bin/mdbook --version 2>/dev/null | grep -qx 'mdbook v$(MDBOOK_VERSION)' || { \
		echo 'Installing mdBook $(MDBOOK_VERSION) in target/tools (a minute or two)' >&2; \
		env -u CARGO_TARGET_DIR cargo install --quiet --locked --debug --root $(TOOLS) --no-default-features --features search \
			mdbook@$(MDBOOK_VERSION) || { printf '%s\n' 'error: mdBook cannot be installed' \
		'hint: read the pages in host/docs: the book has nothing else' >&2; exit 1; }; }
	@rm -rf $(BOOK_PAGES) && mkdir -p $(BOOK_PAGES) && cp host/docs/book.toml $(BOOK_PAGES) && for page in host/docs/*.md; do \
		sed 's|](\.\./\.\./|]($(REPOSITORY)/blob/main/|g' "$$page" >$(BOOK_PAGES)/$${page##*/} || exit; done
	@$(TOOLS)/bin/mdbook build --dest-dir $(CARGO_TARGET_DIR)/book $(BOOK_PAGES) && rm $(CARGO_TARGET_DIR)/book/book.toml
	@echo 'The book is in target/book: open target/book/index.html' >&2

go: setup ## compile the examples in Go, and compare what they print (installs Go below target/ if it is missing)
	@sh guest-sdk/go/test.sh $(SANDPOOL) $(TOOLS)/go

chaos: guests ## kill, stop and starve processes at random, CHAOS times (20) as long as `make test` does
	SANDPOOL_CHAOS_KILLS=$$((5000 * $(CHAOS))) SANDPOOL_CHAOS_OPERATIONS=$$((20000 * $(CHAOS))) \
		SANDPOOL_CHAOS_ROUNDS=$$((10 * $(CHAOS))) SANDPOOL_DAMAGE_CASES=$$((3000 * $(CHAOS))) SANDPOOL_TEST_DEADLINE=$$((120 * $(CHAOS))) \
		sh -c 'cargo test --release --locked --workspace --test it -- --nocapture --test-threads 1 chaos:: && \
		cargo test --release --locked --workspace --lib -- --nocapture ipc::tests::damage'

storms: guests ## end guests that keep the supervisor busy, each within a second; on a quiet machine
	SANDPOOL_STORM_SECONDS=1 SANDPOOL_STORMS=all cargo test --release --locked --workspace --test it -- --test-threads 1 storms::

soak: guests ## do SOAK (a million) tasks and processes, and print what memory and descriptors the supervisor has
	SANDPOOL_SOAK_TASKS=$(SOAK) SANDPOOL_SOAK_PROCESSES=$(SOAK) SANDPOOL_TEST_DEADLINE=86400 \
		cargo test --release --locked --workspace --test it -- --nocapture --test-threads 1 soak::

fuzz: setup ## give arbitrary bytes to FUZZ_TARGETS (all), FUZZ_SECONDS (60) each, guided by coverage
	@PATH="$(TOOLS)/bin:$$PATH"; cargo fuzz --version >/dev/null 2>&1 || { \
		echo 'Installing cargo-fuzz $(CARGO_FUZZ_VERSION) in target/tools (a minute or two)' >&2; \
		env -u CARGO_TARGET_DIR cargo install --quiet --locked --debug --root $(TOOLS) cargo-fuzz@$(CARGO_FUZZ_VERSION); }
	@# Coverage needs options of the compiler that are not stable yet.
	@for target in $(FUZZ_TARGETS); do mkdir -p "$(FUZZ_CORPUS)/$$target" && \
		PATH="$(TOOLS)/bin:$$PATH" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz \
		cargo fuzz run --fuzz-dir tests/fuzz "$$target" "$(FUZZ_CORPUS)/$$target" "tests/fuzz/corpus/$$target" \
		-- -max_total_time=$(FUZZ_SECONDS) || exit; done

memcheck: cargo ## run the library's own tests, but for models, with AddressSanitizer, which sees wrong accesses and leaks
	@# The sanitizer is an option of the compiler that is not stable yet. With a target named, macros are not instrumented.
	@# Models have a stack for each process, which it takes for the thread's, and reports when one is killed there.
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/memcheck \
		cargo test --release --locked --target $$(rustc -vV | sed -n 's/^host: //p') -p sandpool --lib \
		-- --skip ipc::tests::models

miri: cargo ## run the SDK's own tests under Miri, which sees undefined behaviour
	@cargo +nightly miri --version >/dev/null 2>&1 || { printf '%s\n' 'error: there is no Miri' \
		'hint: with rustup, `rustup toolchain install nightly --component miri,rust-src`' >&2; exit 1; }
	@# One test counts to half a million, which takes Miri very long, and nothing in it is unsafe.
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/miri cargo +nightly miri test --locked --manifest-path $(SDK)/Cargo.toml \
		--lib -- --skip pool::marks

bench: setup ## measure how fast Sandpool is, also beside CPython, C and threads (QUICK=1: roughly)
	@$(SANDPOOL) bench $(if $(QUICK),--quick)
	@SANDPOOL=$(SANDPOOL) tests/peers/run $(if $(QUICK),--quick --rounds 3)

bench-base:
	@test -n '$(BASE)' || { printf '%s\n' 'error: there is nothing to compare with' \
		'hint: name a revision, such as `make bench-compare BASE=HEAD~1`' >&2; exit 2; }
	@git cat-file -e '$(BASE)^{commit}' 2>/dev/null || { printf '%s\n' 'error: there is no revision $(BASE)' \
		'hint: `git log` lists them' >&2; exit 2; }
	@git cat-file -e '$(BASE):host/benches/guests' 2>/dev/null || { printf '%s\n' \
		'error: $(BASE) has no benchmark' 'hint: name a newer revision' >&2; exit 2; }

# A target directory of its own, because cargo takes a crate of another checkout for the one of this.
bench-compare: export SANDPOOL_BASE := $(BENCH_BASE)/target/release/sandpool
bench-compare: bench-base setup ## measure this and the revision BASE in turns; fails if a figure got worse (QUICK=1: roughly)
	@git worktree prune && if test -e $(BENCH_BASE)/checkout; \
		then git -C $(BENCH_BASE)/checkout checkout --quiet --detach '$(BASE)'; \
		else git worktree add --quiet --detach $(BENCH_BASE)/checkout '$(BASE)'; fi
	@echo 'Compiling $(BASE) (some minutes the first time)' >&2
	@# The command of older revisions is in the crate of the library.
	@cd $(BENCH_BASE)/checkout && CARGO_TARGET_DIR=$(BENCH_BASE)/target cargo rustc --quiet --release --locked \
		-p $$(test -e host/cli && echo sandpool-cli || echo sandpool) --bin sandpool -- $(LINKING)
	@base=$$($$SANDPOOL_BASE build --target-dir $(BENCH_BASE)/target/guests $(BENCH_BASE)/checkout/host/benches/guests) && \
		this=$$($(SANDPOOL) build host/benches/guests) && \
		python3 -B tests/peers/regress.py $(if $(QUICK),--quick) $(if $(FILTER),--filter '$(FILTER)') \
			$$SANDPOOL_BASE "$$base" $(SANDPOOL) "$$this"

bench-inner: cargo ## measure the pieces by themselves: queue, locks, heap, host call, instantiation, fork
	cd host/benches/inner && cargo run --release --bin inner -- --bench --noplot

clean: ## remove all that was built
	rm -rf $(CARGO_TARGET_DIR)
