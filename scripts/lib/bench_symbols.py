# SPDX-License-Identifier: GPL-2.0
"""What scripts/bench-places has to know of the kernel that was measured."""


def save_symbols(path, modules):
    """The kernel's own, and those of some modules."""
    with open("/proc/kallsyms", encoding="ascii") as f, \
            open(path, "w", encoding="ascii") as out:
        out.writelines(line for line in f if "[" not in line or
                       line.split("[")[1].rstrip("]\n") in modules)


def loaded_modules():
    """The lines of /proc/modules: name, size ... address."""
    with open("/proc/modules", encoding="ascii") as f:
        return [line.split() for line in f]
