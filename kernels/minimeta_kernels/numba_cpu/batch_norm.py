"""What batch norm does per channel, between its passes over the pixels: for arrays and, compiled, numbers or vectors.

d is x - mean, k is gamma r, n the number of pixels; equations: minimeta_kernels.reference.batch_norm.
"""

from __future__ import annotations

from typing import Any


def first_order(total_g: Any, total_gd: Any, k: Any, r: Any, n: Any) -> tuple[Any, Any, Any]:
    """The gradient of gamma, and level and slope of that of x, k g + level + slope d, from the sums of g and g d."""
    g_gamma = total_gd * r
    return g_gamma, -k * total_g / n, -k * r * g_gamma / n


def second_order(sums: Any, k: Any, r: Any, u_gamma: Any, u_beta: Any, n: Any) -> tuple[Any, ...]:
    """The gradient of gamma, and the factors of those of g and x, from the sums of g, g d, U, U d and g U.

    They are gg_x, gg_1, gx_g, gx_u, gx_x, gx_1 in gg = k U + gg_x d + gg_1 and gx = gx_g g + gx_u U + gx_x d + gx_1.
    """
    total_g, total_gd, total_u, total_ud, total_gu = sums
    mean_g, mean_gx, mean_u, mean_ux = total_g / n, total_gd / n * r, total_u / n, total_ud / n * r
    mean_gxd = r * (total_gu / n - mean_g * mean_u - mean_gx * mean_ux)  # mean(g xd)
    gg_x, gg_1 = (u_gamma - k * mean_ux) * r, u_beta - k * mean_u
    gx_g, gx_u = u_gamma * r - k * r * mean_ux, -k * r * mean_gx
    gx_x = (-gx_g * mean_gx + k * r * mean_ux * mean_gx - k * mean_gxd) * r
    gx_1 = -gx_g * mean_g + k * r * mean_u * mean_gx
    return mean_gxd * n, gg_x, gg_1, gx_g, gx_u, gx_x, gx_1
