"""Logs as earlier versions wrote them, the programs that were recorded, and what the logs must replay to for ever."""
