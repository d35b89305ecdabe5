# What people type. The build itself is CMakeLists.txt.
#
#   make deps    install the Debian packages that are missing (prints what it runs)
#   make         build the library, the tool and the tests
#   make demo    real data from this machine's package index: train, evaluate, predict
#   make check   every test
#   make bench   the head's step against OpenBLAS: a few shapes, a minute
#   make bench-kernels   every kernel against its reference: ten seconds
#   make bench-full   all shapes: bench/results/head.jsonl and docs/bench.svg, a quarter of an hour

#   make sparse-table  every sparse head on every data set of HR_DATA: docs/sparse-table.md, docs/sparse.svg; hours, resumable

PRESET ?= release
BUILD := build/$(PRESET)

.PHONY: all deps build demo check bench bench-kernels bench-full evidence sparse-table clean
all: build

deps:
	@tools/deps.sh

build: deps
	@[ -f $(BUILD)/build.ninja ] || cmake --preset $(PRESET)
	@cmake --build --preset $(PRESET)

demo: build
	@tools/demo.sh $(BUILD) demo

check: build
	@cd $(BUILD) && ctest --output-on-failure

bench: build
	@bench/run.sh --quick $(BUILD)

bench-kernels: build
	@$(BUILD)/bench_kernels

bench-full: build
	@bench/run.sh $(BUILD)

evidence: build
	@tools/evidence.sh $(BUILD) demo

sparse-table: build
	@bench/sparse/run.sh $(BUILD) sparse-table $${HR_DATA:-data} bench/results/sparse.jsonl

clean:
	rm -rf build
