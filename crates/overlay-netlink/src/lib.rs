//! Typed netlink for links, addresses, neighbours, FDB entries, routes, rules and nexthop objects.
