// The cell of an LSTM behind its matrix product, and its gradient. One thread a unit.
#include "lstm.cuh"

// gates [N, 4 H], c [N, H] -> h, c' [N, H]
template <class S>
__global__ void __launch_bounds__(128)
lstm_cell(TAKES(gates), TAKES(c), GIVES(h), GIVES(c_new), int64 count, int units) {
    int64 n = (int64)blockIdx.x * 128 + threadIdx.x;
    if (n >= count) return;
    Activations<S> a(gates_at(TAKEN(gates) + (n / units * 4 * units + n % units), units));
    S cell = a.next(TAKEN(c)[n]);
    GIVEN(c_new).write(n, cell);
    GIVEN(h).write(n, a.o * hyperbolic_tangent(cell));
}

// The gradients by gates and c; either cotangent may be missing.
template <class S>
__global__ void __launch_bounds__(128)
lstm_cell_vjp(TAKES(g_h), TAKES(g_c), TAKES(gates), TAKES(c), GIVES(to_gates), GIVES(to_c), int64 count, int units) {
    int64 n = (int64)blockIdx.x * 128 + threadIdx.x;
    if (n >= count) return;
    int64 first = n / units * 4 * units + n % units;
    Activations<S> a(gates_at(TAKEN(gates) + first, units));
    S pulled = TAKEN(g_c).at_or_zero(n);
    write_gates(GIVEN(to_gates) + first, units, a.pull(TAKEN(g_h).at_or_zero(n), TAKEN(c)[n], pulled));
    GIVEN(to_c).write(n, pulled);
}
