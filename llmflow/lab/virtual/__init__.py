"""HTTP/3 in virtual time: a genuine QUIC stack on both ends, a simulated path, and no waiting.

aioquic does no input or output of its own, so that its TLS 1.3, acknowledgements and loss recovery
run as they would over a network, but on a clock that jumps from event to event. One stack is not
all stacks: what comes of it adds to captures of real time, and takes the place of none.
"""

from llmflow.lab.virtual.run import run_virtual

__all__ = ["run_virtual"]
