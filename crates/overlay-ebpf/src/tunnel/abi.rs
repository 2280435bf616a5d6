//! Numbers of the kernel's interface to packet programs (`linux/bpf.h`, `linux/if_ether.h`).

pub(crate) const ETH_P_IP: u16 = 0x0800;
pub(crate) const ETH_P_IPV6: u16 = 0x86dd;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: i16 = 14;

/// Fields of `struct __sk_buff`.
pub(crate) mod skb {
    pub(crate) const LEN: i16 = 0;
    pub(crate) const PACKET_TYPE: i16 = 4;
    pub(crate) const PROTOCOL: i16 = 16;
    pub(crate) const VLAN_PRESENT: i16 = 20;
    pub(crate) const DATA: i16 = 76;
    pub(crate) const DATA_END: i16 = 80;
    pub(crate) const DATA_META: i16 = 140;
    pub(crate) const GSO_SIZE: i16 = 176;
}

/// Fields of `struct xdp_md`.
pub(crate) mod xdp {
    pub(crate) const DATA: i16 = 0;
    pub(crate) const DATA_END: i16 = 4;
    pub(crate) const DATA_META: i16 = 8;
}

/// Answers of a classifier: `TCX_NEXT`, which is also `TC_ACT_UNSPEC`, and `TCX_DROP`, which is also `TC_ACT_SHOT`.
pub(crate) const NEXT: i32 = -1;
pub(crate) const DROP: i32 = 2;

/// Answers of an XDP program.
pub(crate) const XDP_DROP: i32 = 1;
pub(crate) const XDP_PASS: i32 = 2;

/// `BPF_ADJ_ROOM_MAC`: behind the link-layer header.
pub(crate) const ADJ_ROOM_MAC: i32 = 1;

/// `BPF_F_ADJ_ROOM_*`.
pub(crate) const FIXED_GSO: i32 = 1 << 0;
pub(crate) const ENCAP_L3_IPV4: i32 = 1 << 1;
pub(crate) const ENCAP_L3_IPV6: i32 = 1 << 2;
pub(crate) const ENCAP_L4_UDP: i32 = 1 << 4;
pub(crate) const DECAP_L3_IPV4: i32 = 1 << 7;
pub(crate) const DECAP_L3_IPV6: i32 = 1 << 8;

/// `BPF_F_INGRESS` of `bpf_redirect`.
pub(crate) const REDIRECT_INGRESS: i32 = 1;

/// Bytes of `struct bpf_redir_neigh`.
pub(crate) const REDIR_NEIGH: i32 = 20;
