"""``python -m casinductor`` is the command line."""

from casinductor.cli.main import main

main()
