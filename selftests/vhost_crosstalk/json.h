/* SPDX-License-Identifier: GPL-2.0 */
/* Whether a text is JSON. */
#ifndef JSON_H
#define JSON_H

/* NULL if all of @text is one value; else what is wrong, and where. */
const char *json_check(const char *text);

#endif
