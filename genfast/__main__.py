"""python -m genfast: the `genfast` command."""

from .cli import main

main()
