# SPDX-License-Identifier: GPL-2.0
#
#   make                 build the modules for the running kernel
#   make KVER=release    ... for another installed kernel
#   make KDIR=directory  ... against a kernel's build directory
#   make help            everything else

ifneq ($(KDIR),)
KVER ?= $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h 2>/dev/null)
else
KVER ?= $(shell uname -r)
KDIR := $(firstword $(wildcard $(MODROOT)/lib/modules/$(KVER)/build /usr/src/linux-headers-$(KVER)))
endif
MODROOT ?=
VMLINUX ?=

# Each kernel has a build tree of its own: the sources are mirrored there, so
# that several kernels' objects never meet.
OUT := $(CURDIR)/build/$(KVER)
LAYOUT := $(OUT)/drivers/vhost/crosstalk/generated
SOURCES := Kbuild $(shell find drivers include -type f ! -name '*.o')
W ?= 1
C ?= $(if $(shell command -v sparse),1,0)

.DEFAULT_GOAL := module
.DELETE_ON_ERROR:

.PHONY: need-kernel
need-kernel:
	@[ -n "$(KVER)" ] || { echo "make: $(KDIR) is not a kernel build directory (no include/generated/utsrelease.h)" >&2; exit 1; }
	@[ -n "$(KDIR)" ] || { echo "make: no headers of kernel $(KVER): apt-get install linux-headers-$(KVER), or pass KDIR=<build directory>" >&2; exit 1; }

.PHONY: module
module: need-kernel
	@mkdir -p $(OUT)
	@for f in $(SOURCES); do \
		cmp -s $$f $(OUT)/$$f || install -D -p $$f $(OUT)/$$f; \
	done
	@drivers/vhost/crosstalk/gen-layout.sh --kver '$(KVER)' --kdir '$(KDIR)' \
		--out '$(LAYOUT)' --vmlinux '$(VMLINUX)' --modroot '$(MODROOT)'
	@# Kbuild does not see that the kernel was built again, and BTF breaks.
	@for f in '$(VMLINUX)' '$(KDIR)/Module.symvers'; do \
		[ -z "$$f" ] || find $(OUT) -name '*.ko' ! -newer "$$f" -delete; \
	done
	$(MAKE) -C $(KDIR) M=$(OUT) W=$(W) C=$(C) $(KERNEL_MAKEFLAGS) modules
	@cp $(OUT)/drivers/vhost/crosstalk/*.ko $(OUT)/
	@echo "built $(OUT)/vhost_crosstalk.ko"

.PHONY: install
install: module
	$(MAKE) -C $(KDIR) M=$(OUT) INSTALL_MOD_DIR=updates modules_install
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $(KVER)
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man7 Documentation/vhost_crosstalk.7
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man8 Documentation/crosstalk.8
	install -D -m 755 -t $(DESTDIR)/usr/sbin scripts/crosstalk

.PHONY: check quick soak demo bench vm
check:
	@scripts/check $(if $(MINUTES),--minutes $(MINUTES))

quick:
	@scripts/check --quick

soak:
	@scripts/check --soak

demo:
	@scripts/demo

bench:
	@scripts/bench

vm:
	@scripts/vm --shell

.PHONY: clean
clean:
	rm -rf build
	$(MAKE) -C selftests clean

.PHONY: help
help:
	@echo 'make [KVER=release | KDIR=dir]  build the modules into build/<release>/'
	@echo 'make install                    install them for that kernel, and crosstalk(8) (as root)'
	@echo 'make demo                       two real guests in a VM, with and without the module'
	@echo 'make check [MINUTES=n]          all tests, on every supported kernel; what n minutes'
	@echo '                                are enough for'
	@echo 'make quick                      the tests that a User Mode Linux can run, in seconds'
	@echo 'make soak                       the longest runs of the tests, for an hour or more'
	@echo 'make bench                      speed, measured in a VM'
	@echo 'make vm                         a shell in a VM with the module'
	@echo 'make clean                      remove build/ (kernels stay in the cache)'
