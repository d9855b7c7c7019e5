"""python -m genfast: the `genfast` command."""

from .cli.main import main

main()
