"""Scores to tables, files, pictures and pages."""
