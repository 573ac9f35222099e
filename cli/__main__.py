"""``python -m eventlog.cli``: the command where no script is installed."""

from eventlog.cli.main import main

main()
