"""Operations on kernels: one fused forward, fused derivatives, and a plain composite as their oracle in tests.

Only this package knows the kernels (`minimeta_kernels`), which it calls by name; which implementation runs is theirs.
"""
