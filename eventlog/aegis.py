"""The methods that people know from another memory server, on a local log (work in progress)."""
