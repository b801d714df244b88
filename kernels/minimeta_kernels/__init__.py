"""The hot paths of minimeta, each with several implementations and one table that says which runs.

    minimeta_kernels.explain("l1", x, y)      # what would run on these arrays, and why not the others
    minimeta_kernels.use("reference")         # from here on; `with use("reference"):` for a while
    minimeta_kernels.table()                  # every kernel and its implementations
    with minimeta_kernels.recordable():       # as in a CUDA graph, which holds no call of cuBLAS

Usable without the rest of minimeta: `minimeta_kernels.call("sqeuclidean", x, y)`.
"""

from minimeta_kernels.registry import call, explain, recordable, register, table, use

__all__ = ["call", "explain", "recordable", "register", "table", "use"]
