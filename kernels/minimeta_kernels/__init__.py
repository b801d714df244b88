"""Fast kernels behind minimeta.ops.fused: one operation, many implementations."""
