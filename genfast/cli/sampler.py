"""Settings of a model's sampler on a command line."""


def require_sampler(settings: dict, prefix: str = "") -> None:
    """ValueError for a solver, steps or a guidance that no model could take, by its name after the prefix."""
    import genfast as gf

    from ..common.checks import require_choice, require_integer, require_number

    if "solver" in settings:
        require_choice(f"{prefix}solver", settings["solver"], gf.solvers.SOLVERS)
    if "steps" in settings:
        require_integer(f"{prefix}steps", settings["steps"], 1)
    if "guidance" in settings:
        require_number(f"{prefix}guidance", settings["guidance"])
