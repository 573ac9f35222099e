"""The ``eventlog`` command. Installed and imported as ``eventlog.cli``."""

if __name__ != "eventlog.cli":
    message = f"import eventlog.cli, not {__name__}: a second copy of its classes would equal none of the first"
    raise ImportError(message)
