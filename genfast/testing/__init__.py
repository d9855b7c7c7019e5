"""One `Case` per op: its inputs, the op, its reference, its bytes; a count of launches; and a watch over host reads.

A new op adds a Case to one of the files here and is then tested for accuracy, bits, gradients and layout, and timed,
without touching a test.
"""

from ..common.host_reads import no_host_reads
from . import latents, networks, pairs, sampling, training
from .case import Case, to
from .launches import count_launches
from .sampling import step_table

CASES = {case.name: case for case in (*sampling.CASES, *networks.CASES, *pairs.CASES, *latents.CASES, *training.CASES)}

__all__ = ["CASES", "Case", "count_launches", "no_host_reads", "step_table", "to"]
