// SPDX-License-Identifier: GPL-2.0
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

#define MAX_DEPTH 16

static bool value(const char **p, unsigned int depth);

static void space(const char **p)
{
	*p += strspn(*p, " \t\r\n");
}

static bool token(const char **p, const char *text)
{
	size_t len = strlen(text);

	space(p);
	if (strncmp(*p, text, len))
		return false;
	*p += len;
	return true;
}

static bool string(const char **p)
{
	if (!token(p, "\""))
		return false;
	for (; **p != '"'; ++*p) {
		if ((unsigned char)**p < ' ')
			return false;
		if (**p != '\\')
			continue;
		++*p;
		if (**p == 'u') {
			if (strspn(*p + 1, "0123456789abcdefABCDEF") < 4)
				return false;
			*p += 4;
		} else if (!**p || !strchr("\"\\/bfnrt", **p)) {
			return false;
		}
	}
	++*p;
	return true;
}

static bool number(const char **p)
{
	static const char digits[] = "0123456789";
	size_t n;

	*p += **p == '-';
	n = strspn(*p, digits);
	if (!n || (**p == '0' && n > 1))
		return false;
	*p += n;
	if (**p == '.') {
		n = strspn(++*p, digits);
		if (!n)
			return false;
		*p += n;
	}
	if (**p == 'e' || **p == 'E') {
		++*p;
		*p += **p == '+' || **p == '-';
		n = strspn(*p, digits);
		if (!n)
			return false;
		*p += n;
	}
	return true;
}

static bool members(const char **p, bool named, const char *end,
		    unsigned int depth)
{
	if (token(p, end))
		return true;
	do {
		if (named && !(string(p) && token(p, ":")))
			return false;
		if (!value(p, depth + 1))
			return false;
	} while (token(p, ","));
	return token(p, end);
}

static bool value(const char **p, unsigned int depth)
{
	if (depth > MAX_DEPTH)
		return false;
	space(p);
	switch (**p) {
	case '{':
		++*p;
		return members(p, true, "}", depth);
	case '[':
		++*p;
		return members(p, false, "]", depth);
	case '"':
		return string(p);
	case 't':
		return token(p, "true");
	case 'f':
		return token(p, "false");
	case 'n':
		return token(p, "null");
	default:
		return number(p);
	}
}

const char *json_check(const char *text)
{
	static char why[64];
	const char *p = text;

	if (value(&p, 0)) {
		space(&p);
		if (!*p)
			return NULL;
	}
	snprintf(why, sizeof(why), "at \"%.32s\"", p);
	return why;
}
