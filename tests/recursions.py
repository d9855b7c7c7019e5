"""Exact recursions of a plan on Gaussian data, whose denoiser is affine."""

import numpy as np

from genfast.diffusion.process import schedules
from genfast.diffusion.process.plans import SLOTS

VP = schedules.VPLinear()
SCALE = 0.5  # standard deviation of the Gaussian data below


def gaussian(x_t, alpha, sigma, mean=0.0):
    """E[x_0 | x_t] of N(mean, SCALE^2)."""
    return mean + alpha * SCALE**2 / (alpha**2 * SCALE**2 + sigma**2) * (x_t - alpha * mean)


def moments(plan, data_mean, mean, variance, denoise=gaussian):
    """Exact mean and variance of a Plan's end on the data N(data_mean, SCALE^2), from those of its start.

    On Gaussian data D is affine in x, so the state (x, h_0..h_3) follows a linear recursion. denoise(x, alpha, sigma,
    data_mean): another affine answer of the network.
    """
    state, covariance = np.zeros(1 + SLOTS), np.zeros((1 + SLOTS, 1 + SLOTS))
    state[0], covariance[0, 0] = mean, variance
    for r in range(len(plan)):
        offset = denoise(0.0, plan.alpha[r], plan.sigma[r], data_mean)
        gain = denoise(1.0, plan.alpha[r], plan.sigma[r], data_mean) - offset
        step, shift = np.eye(1 + SLOTS), np.zeros(1 + SLOTS)
        step[0], shift[0] = [plan.a[r] + plan.b[r] * gain, *plan.e[r]], plan.b[r] * offset
        for k in np.flatnonzero(plan.writes[r]):
            step[1 + k] = [plan.p[r, k] + plan.q[r, k] * gain, *plan.m[r, k]]
            shift[1 + k] = plan.q[r, k] * offset
        state, covariance = step @ state + shift, step @ covariance @ step.T
        covariance[0, 0] += (plan.s[r] ** 2).sum()
    return state[0], covariance[0, 0]


def marginal(t, mean=0.0, schedule=VP):
    """Mean and variance of x_t of the data N(mean, SCALE^2)."""
    return schedule.alpha(t) * mean, schedule.alpha(t) ** 2 * SCALE**2 + schedule.sigma(t) ** 2
