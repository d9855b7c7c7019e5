"""What diffusers' schedulers remember from one call to the next, kept as views of our history.

So a scheduler can go on with its own step after any of ours, and a pipeline finds in it what it expects.
"""

MULTISTEP = ("DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler", "DEISMultistepScheduler")
SINGLESTEP, UNIPC, LMS = "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler", "LMSDiscreteScheduler"
HEUN = ("HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
REMEMBERING = (*MULTISTEP, SINGLESTEP, UNIPC, LMS, *HEUN)


def forget(scheduler):
    """As set_timesteps leaves it."""
    own = vars(scheduler)
    for name in ("model_outputs", "timestep_list"):
        if name in own:
            own[name] = [None] * scheduler.config.solver_order
    if "derivatives" in own:
        own["derivatives"] = []
    if "lower_order_nums" in own:
        own["lower_order_nums"] = 0
    for name in ("sample", "last_sample", "prev_derivative", "dt"):
        if name in own:
            own[name] = None


def remembers(scheduler):
    """Whether there is anything that the next step depends on."""
    own = vars(scheduler)
    if own.get("derivatives") or own.get("lower_order_nums"):
        return True
    outputs = own.get("model_outputs", ())
    return any(value is not None for value in (*outputs, own.get("last_sample"), own.get("dt")))


def remember(scheduler, run):
    """After a step of `run`, what the scheduler's own step would have left."""
    own, prepared = vars(scheduler), run.prepared
    count = run.next - prepared.begin  # of calls so far
    if prepared.kind in HEUN:
        own["sample"] = own["prev_derivative"] = own["dt"] = None
        if count % 2:
            own["sample"], own["prev_derivative"] = run.remembered(2)
            own["dt"] = scheduler.sigmas[run.next] - scheduler.sigmas[run.next - 1]
    elif prepared.kind == LMS:
        own["derivatives"] = run.remembered(min(count, prepared.slots))[::-1]
    elif prepared.kind == SINGLESTEP:
        _remember_stages(own, run, scheduler.config.solver_order)
    elif count < len(prepared.plan):  # the last call of all leaves nothing to a next one
        order = scheduler.config.solver_order
        values = run.remembered(min(count + (prepared.kind == UNIPC), prepared.slots))
        own["lower_order_nums"] = min(count, order)
        if prepared.kind == UNIPC:
            own["last_sample"], *values = values
            left = len(scheduler.timesteps) - run.next + 1
            own["this_order"] = min(order, count, left if scheduler.config.lower_order_final else order)
        own["model_outputs"] = [None] * (order - len(values)) + values[::-1]


def _remember_stages(own, run, order):
    """h_0 is the sample of the first call of a step, h_1 and h_2 the values of its calls."""
    row, values = run.next - run.prepared.begin - 1, []
    writes = run.prepared.plan.writes
    if writes[row].any():
        inside = 1 if writes[row, 0] else 2
        own["sample"], *values = run.remembered(1 + inside)
    own["model_outputs"] = [None] * (order - len(values)) + values
