"""The network of the lab: namespaces, access paths with impairment, capture and kernel labels."""
