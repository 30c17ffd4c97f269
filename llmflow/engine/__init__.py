"""Runs the line: captures in, result tables out."""
