// The cell of an LSTM, of one unit. Equations: reference/lstm.py
#include "device.cuh"

// A unit's share of what has four blocks: pre-activations, their gradients, weights.
template <class S>
struct alignas(16) Gates {
    S i, f, o, u;
};

// The unit's in z [4 H], whose first place is the unit's.
template <class S>
__device__ Gates<S> gates_at(In<S> z, int units) { return {z[0], z[units], z[2 * units], z[3 * units]}; }

template <class S>
__device__ void write_gates(Out<S> to, int units, Gates<S> z) {
    to.write(0, z.i), to.write(units, z.f), to.write(2 * units, z.o), to.write(3 * units, z.u);
}

template <class S>
struct Activations {
    S i, f, o, u;
    __device__ Activations(Gates<S> z)
        : i(sigmoid(z.i)), f(sigmoid(z.f)), o(sigmoid(z.o)), u(hyperbolic_tangent(z.u)) {}

    __device__ S next(S c) const { return f * c + i * u; }

    // The gradient by the pre-activations for the cotangent g of h; to_c, that of c', becomes that of c.
    __device__ Gates<S> pull(S g, S c, S& to_c) const {
        S q = hyperbolic_tangent(next(c)), one = 1, pulled = to_c + g * o * (one - q * q);
        to_c = pulled * f;
        return {pulled * u * i * (one - i), pulled * c * f * (one - f), g * q * o * (one - o),
                pulled * i * (one - u * u)};
    }
};
