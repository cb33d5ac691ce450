/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_FORWARD_H
#define _CROSSTALK_FORWARD_H

struct crosstalk_endpoint;

void crosstalk_forward(struct crosstalk_endpoint *ep);

#endif /* _CROSSTALK_FORWARD_H */
