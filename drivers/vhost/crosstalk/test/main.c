// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of vhost_crosstalk's inner functions, against the module that is
 * loaded.
 */

#include <linux/module.h>

MODULE_DESCRIPTION("KUnit tests of vhost_crosstalk");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS(VHOST_CROSSTALK_TEST);
