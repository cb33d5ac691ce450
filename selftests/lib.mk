# SPDX-License-Identifier: GPL-2.0
#
# What the kernel's tools/testing/selftests/lib.mk offers, as far as these tests
# use it, so that they build and run without a kernel source.  OUTPUT is where
# programs go (default: beside their source).

OUTPUT ?= $(CURDIR)
CC ?= gcc
override OUTPUT := $(abspath $(OUTPUT))

TEST_GEN_PROGS := $(patsubst %,$(OUTPUT)/%,$(TEST_GEN_PROGS))
TEST_GEN_FILES := $(patsubst %,$(OUTPUT)/%,$(TEST_GEN_FILES))

.DEFAULT_GOAL := all
.PHONY: all run_tests clean

all: $(TEST_GEN_PROGS) $(TEST_GEN_FILES)

run_tests: all
	@../run_tests.sh $(notdir $(CURDIR)) \
		$(TEST_GEN_PROGS) $(abspath $(TEST_PROGS))

clean:
	$(RM) -r $(TEST_GEN_PROGS) $(TEST_GEN_FILES) $(EXTRA_CLEAN)
