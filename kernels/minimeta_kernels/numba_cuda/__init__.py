"""Three kernels as CUDA in Python, plainly: to be read, and to be compared with those of `cuda`.

They run on CuPy's arrays, and without a GPU on NumPy's in Numba's simulator (NUMBA_ENABLE_CUDASIM=1). No warp-wide
operations, which the simulator lacks; no second derivatives.
"""

from minimeta_kernels.numba_cuda import attention, lrua, pairwise

__all__ = ["attention", "lrua", "pairwise"]
