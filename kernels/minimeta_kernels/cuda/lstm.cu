// The cell of an LSTM behind its matrix product, and its gradient. Equations: reference/lstm.py. One thread a unit.
#include "device.cuh"

template <class S>
struct Activations {
    S i, f, o, u;
    __device__ Activations(In<S> gates, int units)
        : i(sigmoid(gates[0])), f(sigmoid(gates[units])), o(sigmoid(gates[2 * units])),
          u(hyperbolic_tangent(gates[3 * units])) {}
};

// gates [N, 4 H], c [N, H] -> h, c' [N, H]
template <class S>
__global__ void __launch_bounds__(128)
lstm_cell(TAKES(gates), TAKES(c), GIVES(h), GIVES(c_new), int64 count, int units) {
    int64 n = (int64)blockIdx.x * 128 + threadIdx.x;
    if (n >= count) return;
    Activations<S> a(TAKEN(gates) + (n / units * 4 * units + n % units), units);
    S cell = a.f * TAKEN(c)[n] + a.i * a.u;
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
    Activations<S> a(TAKEN(gates) + first, units);
    S cell = TAKEN(c)[n], g = TAKEN(g_h).at_or_zero(n), one = 1;
    S q = hyperbolic_tangent(a.f * cell + a.i * a.u);
    S pulled = TAKEN(g_c).at_or_zero(n) + g * a.o * (one - q * q);
    Out<S> to = GIVEN(to_gates) + first;
    to.write(0, pulled * a.u * a.i * (one - a.i));
    to.write(units, pulled * cell * a.f * (one - a.f));
    to.write(2 * units, g * q * a.o * (one - a.o));
    to.write(3 * units, pulled * a.i * (one - a.u * a.u));
    GIVEN(to_c).write(n, pulled * a.f);
}
