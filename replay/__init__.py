"""What the events mean: state, projections, differences. Installed and imported as ``eventlog.replay``."""

if __name__ != "eventlog.replay":
    message = f"import eventlog.replay, not {__name__}: a second copy of its classes would equal none of the first"
    raise ImportError(message)
