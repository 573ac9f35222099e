"""Take runs out of one log, and into another: ``lines`` is the format, ``exports`` writes it, ``imports`` reads it."""
