"""Bytes to packet columns: sources, record framing, link types, and the account of every packet."""
