//! What an overlay puts on the wire: MAC addresses, VNIs and encapsulation overheads, no_std.
