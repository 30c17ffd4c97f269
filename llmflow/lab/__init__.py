"""The traffic lab: real servers and clients over real stacks, with impairment and ground truth.

Nothing on the line from captures to labels imports this room, and nothing of it imports scapy.
"""
