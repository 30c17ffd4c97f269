"""What the wire says in clear: names, protocols, versions. A witness, never a feature."""
