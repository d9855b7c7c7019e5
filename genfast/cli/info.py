"""genfast info"""

import json as json_module


def info(json: bool = False) -> None:
    """Print versions, the instruction set in use, and whether the CUDA kernels are live or why not.

    Args:
        json: Print JSON instead of a table.
    """
    from .._info import info as get_info

    report = get_info()
    print(json_module.dumps(report) if json else report)
