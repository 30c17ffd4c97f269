"""Packet columns to flows, and flows to turns."""
