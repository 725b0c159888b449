# What one does with a checkout. Each target makes the virtual environment that it needs: .venv, from .ci/requirements.txt for what
# runs, tests/requirements*.txt for what tests, checks and draws.

BIN := .venv/bin
# Compiled modules are kept, whatever the caller's environment says: else each worker rewrites every assert of every test again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest $(REPORT)
# Which tests, in words of pytest's: make check TESTS="-k merge"
TESTS :=
# How they are reported: make test REPORT="--brief --no-skips"
REPORT :=
# What of the tests runs in a minute on two processors, less on idle ones: a file at a time in the order given, the long ones first, and more
# at once than there are processors, since many wait. And what of them is measured: unit tests cover what simulations go through a
# million times.
QUICK := -n 4 --dist loadfile --no-loadscope-reorder --hypothesis-profile=quick -m "not long"
MEASURED := tests/unit tests/fuzz
# All others. Those with daemons of their own two files at a time, in a folder with a short name, since that of a socket has an end;
# those with networks or a systemd of their own one after the other, since they look at times.
LONG := -m "long or hypothesis"

.DEFAULT_GOAL := help
.PHONY: help demo test check coverage simulation long together alone packages style bench generate deb

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/for-running ## a mesh of three nodes on this machine that tells its story; Ctrl-C ends it
	@$(BIN)/python bin/bddemo

ifeq ($(TESTS),)
test: packages style coverage simulation long ## everything that can be tested here (as root: installs the Debian packages it needs)

check: style ## format, style, types and the quick tests: to run before each commit
	@$(PYTEST) $(QUICK) tests/simulation $(MEASURED)

coverage: .venv/for-tests ## what of the code the quick tests run, by folder; fails below a floor
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(REPORT) $(QUICK) $(MEASURED)
	@$(BIN)/python -W ignore -m coverage combine --quiet # what a killed child had begun to write is passed over
	@$(BIN)/python -W ignore -m coverage json --quiet
	@$(BIN)/python -m tests.coverage_floor

simulation: .venv/for-tests
	@$(PYTEST) $(QUICK) tests/simulation
else
test: packages style
	@$(PYTEST) $(TESTS) tests

check: style
	@$(PYTEST) $(TESTS) $(QUICK) tests/simulation $(MEASURED)
endif

long: together alone

together: .venv/for-tests
	@temporary=$$(mktemp -d /tmp/pytest-XXXXXX); \
	  $(PYTEST) $(LONG) -n 2 --dist loadfile --basetemp=$$temporary $(addprefix tests/,unit fuzz simulation hostile mesh install web); status=$$?; \
	  rm -rf $$temporary; exit $$status

alone: .venv/for-tests
	@$(PYTEST) $(LONG) $(addprefix tests/,netns system)

packages:
	@.ci/debian

style: .venv/for-tests
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy --no-error-summary

# Parts for `bench`, as in: make bench PARTS="lookups soak", or PARTS=--all
PARTS :=

bench: .venv/for-tests ## measure, each figure beside its floor or a peer in the same run (as root: installs Serf and etcd)
	@.ci/debian .ci/debian-packages-bench "the comparisons with Serf and etcd are left out"
	@$(BIN)/python tests/bench $(PARTS)

generate: .venv/for-pictures ## write what is made: samples, protocol tables, man pages, pictures of a real mesh, curves of large ones
	@$(BIN)/python -m docs.made.generate
	@$(BIN)/python -m docs.made.pictures
	@$(BIN)/python -m docs.made.curves

deb: ## a Debian package in dist/, of Debian 12's own Python packages
	@.ci/deb

.venv/for-running: .ci/requirements.txt
	@.ci/venv .ci/requirements.txt
	@touch $@

.venv/for-pictures: .venv/for-tests tests/requirements-pictures.txt
	@.ci/venv tests/requirements-pictures.txt
	@touch $@

.venv/for-tests: .ci/requirements.txt tests/requirements.txt
	@.ci/venv tests/requirements.txt
	@touch $@
