# How the project looks for its own faults (docs/reliability.md): compilers, sanitizers, coverage,
# campaigns, fuzzers. Part of the Makefile.

.PHONY: c-check sanitize-address sanitize-leak sanitize-thread valgrind coverage coverage-untraced \
    differential interrupts kills allocations concurrency soak bench-count shared-check disk-check ngram-check mutants \
    fuzz-c arm64 fuzz-vectors fuzz-files

# The C compiles without a warning, with two compilers and for other machines. Zig leaves beside the
# sources what it is told to write to /dev/null.
C_FILES := $(wildcard src_c/*.c src_c/isa/*.c src_c/disk/*.c)
C_CHECK := -std=gnu11 -O2 -Wall -Wextra -Werror -ffp-contract=off -c -o build/check.o
c-check: $(VENV)/.dev
	mkdir -p build
	for c in $(C_FILES); do gcc $(C_CHECK) $$c || exit 1; done
	for c in $(C_FILES); do $(CLANG) $(C_CHECK) $$c || exit 1; done
	for c in $(C_FILES); do for target in aarch64-linux-gnu aarch64-macos x86_64-windows-gnu x86_64-linux-musl; do \
	    $(BIN)/python -m ziglang cc -target $$target $(C_CHECK) $$c || exit 1; done; done
CLANG := $(firstword $(shell which clang clang-14 2>/dev/null) clang)

# A build under build/<sanitizer>, and the tests on it (T=kernels: a part) but for those of wheels
# and those that count on a process being fast, small or untraced, or fork beside threads.
# With a safe path, child processes import that build, and not the folder that they run in.
SANITIZED = CFLAGS="-O1 -g -fno-omit-frame-pointer -fno-wrapv $(1)" LDFLAGS="$(1)" $(BIN)/python setup.py -q build \
    --build-base build/$(2) --build-lib build/$(2)/lib
ON_BUILD = PYTHONPATH=$(CURDIR)/build/$(1)/lib PYTHONSAFEPATH=1 PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 $(2) \
    $(BIN)/pytest tests/$(T) --ignore=tests/test_package.py -m 'not long and not uninstrumented and not fork_beside_threads'

sanitize-address: $(VENV)/.dev
	$(call SANITIZED,-fsanitize=address$(COMMA)undefined -fno-sanitize-recover=undefined,address)
	$(call ON_BUILD,address,LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1)

# Leaks: of the blocks that are left at exit, those from src_c/ are faults.
sanitize-leak: $(VENV)/.dev
	$(call SANITIZED,-fsanitize=address$(COMMA)undefined -fno-sanitize-recover=undefined,address)
	rm -rf build/leaks && mkdir -p build/leaks
	$(call ON_BUILD,address,LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:log_path=build/leaks/report LSAN_OPTIONS=exitcode=0)
	$(BIN)/python tests/campaigns/plants/leaks.py build/leaks

# Left out too: shells, in which it crashes, and a table that is shared without a lock, whose rows
# are copied while they are written. Pytest must not keep what the sanitizer says.
sanitize-thread: $(VENV)/.dev
	$(call SANITIZED,-fsanitize=thread,thread)
	$(call ON_BUILD,thread,LD_PRELOAD=$$(gcc -print-file-name=libtsan.so) TSAN_OPTIONS=exitcode=66:allocator_may_return_null=1) \
	    -m 'not long and not fork and not uninstrumented and not races' --capture=sys

# Without AVX-512, which valgrind does not know.
valgrind: $(VENV)/.dev
	PYTHONMALLOC=malloc FASTEMBED_ISA=avx2 OPENBLAS_NUM_THREADS=1 \
	    valgrind --quiet --undef-value-errors=no --error-exitcode=9 --suppressions=tests/valgrind.supp \
	    $(BIN)/python -m pytest tests/functional/test_lookup.py tests/checks/test_ids.py tests/layers/test_layers.py \
	    -k 'not reference_does'
COMMA := ,

# Branches that the tests take which reach the C, two folders at a time, on all instruction sets:
# the C without inlining, so that each branch is counted where it is written. What is not taken has
# its reason in a list. T=kernels measures these alone. Tests of interrupts that trace lines
# themselves are left out.
COVERAGE_FLAGS := -O0 --coverage -fprofile-update=atomic -Dalways_inline=noinline -DCYTHON_TRACE_NOGIL=1 -w
COVERAGE := tests/campaigns/branches
COVERAGE_RUN := PYTHONPATH=$(CURDIR)/build/coverage/lib:$(CURDIR)/$(COVERAGE) PYTHONSAFEPATH=1 OPENBLAS_NUM_THREADS=1
COVERED := layers functional kernels optim io checks campaigns/test_differential.py tables \
    adapters/test_jax.py adapters/test_xla_calls.py
coverage: $(VENV)/.coverage
	$(call SANITIZED,$(COVERAGE_FLAGS),coverage)
	find build/coverage -name '*.gcda' -delete && rm -rf build/coverage/data && mkdir build/coverage/data
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(addprefix coverage-of/,$(or $(T),$(COVERED))) coverage-untraced
	$(BIN)/gcovr --root . --filter src_c/ --merge-mode-functions separate --json build/coverage/c.json \
	    --gcov-exclude-directories build/coverage/cython build/coverage/temp*/src_c
	PYTHONPATH=$(COVERAGE) $(BIN)/coverage combine --quiet --rcfile=$(COVERAGE)/coveragerc
	PYTHONPATH=tests/campaigns:$(COVERAGE) $(BIN)/python -m branches build/coverage/c.json --rcfile=$(COVERAGE)/coveragerc
coverage-of/%:
	$(COVERAGE_RUN) $(BIN)/coverage run --rcfile=$(COVERAGE)/coveragerc $(BIN)/pytest tests/$* \
	    --ignore=tests/io/shared/test_interrupts.py \
	    -m 'not long and not uninstrumented and not untraced'
coverage-untraced:
	$(COVERAGE_RUN) $(BIN)/pytest tests/kernels -m untraced

# Campaigns (docs/reliability.md). `make differential SEED=0 CASE=17` shows one case; OPS=layer,
# nearest draws these alone; FP=all sets other floating-point states of the caller; JOBS=2 runs two
# processes.
N ?= 100000
SEED ?= 0
FP ?= default
JOBS ?= 1
CAMPAIGN := PYTHONPATH=tests:tests/campaigns:tests/io/mapped:tests/io/vectors:tests/optim $(BIN)/python -m
differential: $(VENV)/.test
	$(CAMPAIGN) differential --n $(N) --seed $(SEED) $(if $(CASE),--case $(CASE)) $(if $(OPS),--ops $(OPS)) \
	    --fp-states $(FP) --jobs $(JOBS)

# Calls that write, disturbed: by signals; by kills (N of each kind); by allocations that fail, each
# in turn. CALLS=step,resize and OPTIMIZERS=Adam say which.
WRITING = $(CAMPAIGN) writing $@ --n $(N) --seed $(SEED) $(if $(CALLS),--calls '$(CALLS)') \
    $(if $(OPTIMIZERS),--optimizers $(OPTIMIZERS))
interrupts: $(VENV)/.test
	$(WRITING)
kills: $(VENV)/.test
	$(WRITING)
allocations: $(VENV)/.test
	$(WRITING)

# Many threads on one layer for MINUTES; forks and exits with threads at work. Mixed work for
# MINUTES, in which memory must stay flat.
MINUTES ?= 1
concurrency: $(VENV)/.test
	$(CAMPAIGN) sharing threads --minutes $(MINUTES) --seed $(SEED)
	$(CAMPAIGN) sharing processes --n 50 --seed $(SEED)
soak: $(VENV)/.test
	$(CAMPAIGN) sharing soak --minutes $(MINUTES) --seed $(SEED)

# Instructions of short calls and of one piece of each kernel, under callgrind, against those kept
# in tests/campaigns/counts/counts.txt; KEEP=1 keeps the new ones.
bench-count: $(VENV)/.test
	$(CAMPAIGN) counts $(if $(KEEP),--keep)

# N rows of a shared table, checked beside a trainer at full speed, with kills of it and of readers;
# and the memory of eight processes that read one of 2 GB.
shared-check: $(VENV)/.test
	$(CAMPAIGN) sharing tables --n $(N) --seed $(SEED)
	$(CAMPAIGN) sharing memory

# A table of GIGABYTES in FOLDER, whose rows are functions of their numbers, read at random beside a
# plain loop of io_uring, and searched; the file is removed.
GIGABYTES ?= 40
FOLDER ?= build
disk-check: $(VENV)/.test
	@mkdir -p $(FOLDER)
	$(CAMPAIGN) large_table $(FOLDER) --gigabytes $(GIGABYTES) --seed $(SEED) --search

# Rows of N n-grams against NumPy code written from the published formulas.
ngram-check: $(VENV)/.test
	$(CAMPAIGN) ngrams --n $(N) --seed $(SEED)

# Small changes of the C and of the checks, N of them, each of which a test should notice;
# FILES=update.c,options draws from these alone; CALLS=only replays calls, and runs no test.
mutants: $(VENV)/.test
	$(CAMPAIGN) mutation --n $(N) --seed $(SEED) $(if $(FILES),--files $(FILES)) $(if $(CALLS),--calls)

# libFuzzer on the C entry points, each harness for SECONDS, or RUNS inputs; what fails is kept in
# build/fuzz. Branches of the C guide it; those of the harnesses and operands of comparisons do not,
# which took most of the time. FUZZERS="bags lookup" runs these alone.
SECONDS ?= 60
FUZZERS := $(basename $(notdir $(wildcard tests/campaigns/fuzz/*.c)))
FUZZ_CLANG := $(firstword $(shell which clang-14 clang 2>/dev/null) clang-14)
FUZZ_FLAGS := -std=gnu11 -O2 -g -fno-omit-frame-pointer -fno-math-errno -ffp-contract=off -Wall -Wextra -Isrc_c \
    -fno-sanitize-recover=undefined -fsanitize=address,undefined
FUZZ_OBJECTS := $(patsubst src_c/%.c,build/fuzz/objects/%.o,$(C_FILES))
build/fuzz/objects/%.o: src_c/%.c $(wildcard src_c/*.h src_c/*/*)
	@mkdir -p $(@D)
	$(FUZZ_CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp -c $< -o $@
build/fuzz/harnesses/%.o: tests/campaigns/fuzz/%.c tests/campaigns/fuzz/input.h $(wildcard src_c/*.h)
	@mkdir -p $(@D)
	$(FUZZ_CLANG) $(FUZZ_FLAGS) -c $< -o $@
# This harness contains C that is to guide.
build/fuzz/harnesses/shared.o: FUZZ_FLAGS += -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp
build/fuzz/harnesses/shared.o: tests/kernels/shared_steps.h src_c/shared.c
build/fuzz/%: build/fuzz/harnesses/%.o $(FUZZ_OBJECTS)
	$(FUZZ_CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer $^ -o $@ -lm -lpthread
.SECONDARY: $(FUZZ_OBJECTS) $(FUZZERS:%=build/fuzz/harnesses/%.o)
fuzz-c: $(addprefix build/fuzz/,$(FUZZERS))
	for name in $(FUZZERS); do echo "$$name"; mkdir -p build/fuzz/corpus-$$name; \
	    ASAN_OPTIONS=quarantine_size_mb=8:malloc_context_size=3 build/fuzz/$$name -seed=$$(($(SEED) + 1)) -max_len=1024 \
	    -len_control=0 -entropic=0 $(if $(RUNS),-runs=$(RUNS),-max_total_time=$(SECONDS)) -print_final_stats=1 \
	    -verbosity=0 -artifact_prefix=build/fuzz/$$name- build/fuzz/corpus-$$name || exit 1; done

# The same harnesses on arm64, in an emulator: N random inputs each, without libFuzzer.
QEMU := qemu-aarch64
build/arm64/%: tests/campaigns/fuzz/%.c tests/campaigns/fuzz/input.h tests/campaigns/arm64/random_inputs.c $(C_FILES) \
        | $(VENV)/.dev
	@mkdir -p $(@D)
	$(BIN)/python -m ziglang cc -target aarch64-linux-musl -std=gnu11 -O2 -fno-math-errno -ffp-contract=off -Isrc_c \
	    $< tests/campaigns/arm64/random_inputs.c $(C_FILES) -o $@ -lm -lpthread
arm64: $(addprefix build/arm64/,$(FUZZERS))
	for name in $(FUZZERS); do echo "$$name"; $(QEMU) build/arm64/$$name $(N) $(SEED) || exit 1; done

# Mutated files through every reader; what fails is kept in build/fuzz-files. And files of vectors.
fuzz-vectors: $(VENV)/.test
	$(CAMPAIGN) fuzz_vectors --n $(N) --seed $(SEED)
fuzz-files: $(VENV)/.test
	$(CAMPAIGN) fuzz_files --n $(N) --seed $(SEED) $(if $(CASE),--first $(CASE) --n 1)
