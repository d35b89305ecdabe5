# What people type. The build itself is CMakeLists.txt.
#
#   make deps    install the Debian packages that are missing (prints what it runs)
#   make         build the library, the tool and the tests
#   make demo    real data from this machine's package index: train, evaluate, predict
#   make check   every test
#   make bench   the head's step against OpenBLAS

PRESET ?= release
BUILD := build/$(PRESET)

.PHONY: all deps build demo check bench evidence clean
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
	@$(BUILD)/bench_head 256 256 65536 1
	@$(BUILD)/bench_head 256 768 65536 1

evidence: build
	@tools/evidence.sh $(BUILD) demo

clean:
	rm -rf build
