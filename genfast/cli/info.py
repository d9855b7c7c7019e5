"""genfast info"""

import json as json_module


def info(json: bool = False) -> None:
    """Print versions, the instruction set in use, and whether the CUDA kernels are live or why not.

    Args:
        json: Print JSON instead of a table.
    """
    import genfast as gf

    report = gf.info()
    print(json_module.dumps(report) if json else report)
