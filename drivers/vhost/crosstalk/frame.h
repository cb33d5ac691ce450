/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _CROSSTALK_FRAME_H
#define _CROSSTALK_FRAME_H

#include <linux/if_ether.h>
#include <linux/netdev_features.h>
#include <linux/if_vlan.h>
#include <linux/types.h>
#include <linux/virtio_net.h>

#include "policy.h"

/*
 * Bytes of every frame that are read first: what is wanted of all but GSO frames
 * (Ethernet with a VLAN tag), rounded up to whole words with the usual header.
 */
#define CROSSTALK_FRAME_PEEK 20

/*
 * Bytes that a check of the deepest header needs: Ethernet with a VLAN tag, the
 * longest IPv4 and the longest TCP header.
 */
#define CROSSTALK_FRAME_HEAD (VLAN_ETH_HLEN + 60 + 60)

/*
 * Bytes that tell which of several queues a frame goes to: Ethernet with a VLAN
 * tag, the longest IPv4 header, and ports, or what is in their place.
 */
#define CROSSTALK_FRAME_FLOW (VLAN_ETH_HLEN + 60 + 8)

/**
 * struct crosstalk_frame - the beginning of a frame, read once from its sender
 * @vnet: its virtio-net header, as the sender wrote it
 * @head: the first bytes from the Ethernet header on; these, and not what the
 * sender's memory says by then, are delivered
 * @len: length of the whole frame from the Ethernet header on
 * @head_len: bytes that are in @head
 * @payload: where its payload begins, if @gso
 * @gso: whether it is to be cut into segments by whoever cannot take it whole
 * @needs: what the receiver's interface must offer to get it as it is
 * @key: its flow, if @has_key
 * @has_key: whether it belongs to a flow that may go the direct path at all
 */
struct crosstalk_frame {
	struct virtio_net_hdr_mrg_rxbuf vnet __aligned(8);
	u8 head[CROSSTALK_FRAME_HEAD] __aligned(4);
	unsigned int len;
	unsigned int head_len;
	unsigned int payload;
	bool gso;
	netdev_features_t needs;
	bool has_key;
	struct crosstalk_flow_key key;
};

bool crosstalk_frame_parse(struct crosstalk_frame *frame);

/**
 * crosstalk_frame_vnet() - the header that the receiver gets
 * @frame: parsed
 * @vnet: filled in, but for num_buffers, which is 1
 *
 * Made anew, as the tap makes it from the skb: what the sender claims beyond
 * that (a checksum that is said to be valid, say) does not pass.
 */
static inline void crosstalk_frame_vnet(const struct crosstalk_frame *frame,
					struct virtio_net_hdr_mrg_rxbuf *vnet)
{
	const struct virtio_net_hdr *hdr = &frame->vnet.hdr;

	*vnet = (struct virtio_net_hdr_mrg_rxbuf){
		.num_buffers = (__force __virtio16)cpu_to_le16(1),
	};

	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		vnet->hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		vnet->hdr.csum_start = hdr->csum_start;
		vnet->hdr.csum_offset = hdr->csum_offset;
	}
	if (frame->gso) {
		vnet->hdr.gso_type = hdr->gso_type;
		vnet->hdr.gso_size = hdr->gso_size;
		vnet->hdr.hdr_len = (__force __virtio16)
				    cpu_to_le16(frame->payload);
	}
}

#endif /* _CROSSTALK_FRAME_H */
