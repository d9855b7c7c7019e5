"""Check that a better solver is better where it matters: at few steps."""

from .orders import exact_flow, flow, plan_of
from .report import Record


def check_dpmpp_against_euler(name: str) -> Record:
    """DPM-Solver++(2M) in 20 steps ends closer to the exact flow than Euler in 40, on the same grid."""
    found, allowed = (
        (flow(plan_of(solver, steps, to_zero=False)) - exact_flow()).norm(dim=1).mean().item()
        for solver, steps in (("dpmpp_2m", 20), ("euler", 40))
    )
    failures = () if found < allowed else (f"the mean error is {found:.2e}, that of euler {allowed:.2e}",)
    return Record(name, "accuracy", failures, figures={"error": found, "allowed": allowed})
