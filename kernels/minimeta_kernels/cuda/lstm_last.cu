// An LSTM read to its end, many short sequences at once. Equations: reference/lstm_last.py
//
// A block has 32 sequences, one for each lane of its warps, which share the units among them. What a step multiplies
// are rows of 32 numbers: D of x, H of h, and one of ones, whose weights are the bias. Rows are 33 numbers apart, so
// that threads at the same place in different rows meet in different banks.
#include "lstm.cuh"

constexpr int LANES = 32, WARPS = 4, LINE = LANES + 1;

// What goes through the steps, in shared memory; the host counts it (lstm_last.py).
template <class S>
struct Steps {
    int inputs, units, rows;   // D, H, D + H + 1
    int lane, warp;
    Shared<Gates<S>> weights;  // [rows][H]
    Shared<S> operands;        // [slots][rows][LINE]
    Shared<S> cells;           // [slots][H][LINE]

    __device__ Steps(SharedMemory& shared, int slots, int inputs, int units)
        : inputs(inputs), units(units), rows(inputs + units + 1), lane(threadIdx.x % LANES), warp(threadIdx.x / LANES),
          weights(shared.take<Gates<S>>(rows * units)), operands(shared.take<S>(slots * rows * LINE)),
          cells(shared.take<S>(slots * units * LINE)) {}

    __device__ Shared<S> operands_of(int slot) const { return operands + slot * rows * LINE; }
    __device__ Shared<S> hidden_of(int slot) const { return operands_of(slot) + inputs * LINE; }
    __device__ int cell_at(int slot, int unit) const { return (slot * units + unit) * LINE + lane; }

    // The weights; and the first slot's state is zero.
    __device__ void begin(In<S> w, In<S> u, In<S> b, int slots) {
        for (int i = threadIdx.x; i < rows * units; i += blockDim.x) {
            const int k = i / units, unit = i % units;
            In<S> row = k < inputs ? w + k * 4 * units : k < rows - 1 ? u + (k - inputs) * 4 * units : b;
            weights[i] = gates_at(row + unit, units);
        }
        for (int slot = warp; slot < slots; slot += WARPS) operands_of(slot)[(rows - 1) * LINE + lane] = S(1);
        for (int unit = warp; unit < units; unit += WARPS)
            hidden_of(0)[unit * LINE + lane] = S(0), cells[cell_at(0, unit)] = S(0);
    }

    // A unit's pre-activations of this lane's sequence.
    __device__ Gates<S> gates(int slot, int unit) const {
        Shared<S> operand = operands_of(slot);
        Gates<S> sum = {0, 0, 0, 0};
        for (int k = 0; k < rows; k++) add(sum, S(operand[k * LINE + lane]), Gates<S>(weights[k * units + unit]));
        return sum;
    }

    __device__ void step(int from, int to) {
        for (int unit = warp; unit < units; unit += WARPS) {
            Activations<S> a(gates(from, unit));
            S cell = a.next(cells[cell_at(from, unit)]);
            cells[cell_at(to, unit)] = cell;
            hidden_of(to)[unit * LINE + lane] = a.o * hyperbolic_tangent(cell);
        }
    }
};

template <class S>
__device__ void add(Gates<S>& sum, S times, Gates<S> z) {
    sum.i += times * z.i, sum.f += times * z.f, sum.o += times * z.o, sum.u += times * z.u;
}

template <class S>
__device__ S dot(Gates<S> a, Gates<S> b) { return a.i * b.i + a.f * b.f + a.o * b.o + a.u * b.u; }

// Rows of 32 sequences from the `first` on of [count, width]; zeros where there are no more.
template <class S>
__device__ void load_rows(In<S> from, int64 first, int64 count, int width, Shared<S> to) {
    for (int i = threadIdx.x; i < LANES * width; i += blockDim.x) {
        const int64 at = first * width + i;
        to[i % width * LINE + i / width] = at < count * width ? from[at] : S(0);
    }
}

template <class S>
__global__ void __launch_bounds__(LANES * WARPS, 4)
lstm_last(TAKES(x), TAKES(w), TAKES(u), TAKES(b), GIVES(h), int64 count, int steps, int inputs, int units) {
    SharedMemory shared;
    Steps<S> s(shared, 2, inputs, units);
    const int64 first = (int64)blockIdx.x * LANES;
    s.begin(TAKEN(w), TAKEN(u), TAKEN(b), 2);
    for (int t = 0; t < steps; t++) {
        load_rows(TAKEN(x) + t * count * inputs, first, count, inputs, s.operands_of(t % 2));
        __syncthreads();
        s.step(t % 2, (t + 1) % 2);
    }
    __syncthreads();
    Shared<S> hidden = s.hidden_of(steps % 2);
    for (int i = threadIdx.x; i < LANES * units; i += blockDim.x)
        if (first + i / units < count) GIVEN(h).write(first * units + i, hidden[i % units * LINE + i / units]);
}

// A block has 32 sequences after another; sums [blocks, D + H + 1, 4 H] are its share of the gradients by w, u and b.
template <class S>
__global__ void __launch_bounds__(LANES * WARPS, 4)
lstm_last_vjp(TAKES(g), TAKES(x), TAKES(w), TAKES(u), TAKES(b), GIVES(to_x), GIVES(sums), int64 count, int steps,
              int inputs, int units) {
    SharedMemory shared;
    const int rows = inputs + units + 1;
    Shared<Gates<S>> pulled = shared.take<Gates<S>>(units * LINE);       // [H][LINE]
    Shared<Gates<S>> to_weights = shared.take<Gates<S>>(units * rows);  // [H][rows], a thread's own
    Steps<S> s(shared, steps, inputs, units);
    Shared<S> to_h = shared.take<S>(units * LINE), to_c = shared.take<S>(units * LINE);  // [H][LINE]
    s.begin(TAKEN(w), TAKEN(u), TAKEN(b), steps);
    for (int i = threadIdx.x; i < units * rows; i += blockDim.x) to_weights[i] = Gates<S>{0, 0, 0, 0};
    for (int64 first = (int64)blockIdx.x * LANES; first < count; first += (int64)gridDim.x * LANES) {
        for (int t = 0; t < steps; t++)
            load_rows(TAKEN(x) + t * count * inputs, first, count, inputs, s.operands_of(t));
        load_rows(TAKEN(g), first, count, units, to_h);
        for (int unit = s.warp; unit < units; unit += WARPS) to_c[unit * LINE + s.lane] = S(0);
        __syncthreads();
        for (int t = 0; t + 1 < steps; t++) {
            s.step(t, t + 1);
            __syncthreads();
        }
        for (int t = steps - 1; t >= 0; t--) {
            for (int unit = s.warp; unit < units; unit += WARPS) {
                const int at = unit * LINE + s.lane;
                S left = to_c[at];
                pulled[at] = Activations<S>(s.gates(t, unit)).pull(to_h[at], s.cells[s.cell_at(t, unit)], left);
                to_c[at] = left;
            }
            __syncthreads();
            for (int k = s.warp; k < rows - 1; k += WARPS) {
                S sum = 0;
                for (int unit = 0; unit < units; unit++)
                    sum += dot(Gates<S>(pulled[unit * LINE + s.lane]), Gates<S>(s.weights[k * units + unit]));
                if (k >= inputs)
                    to_h[(k - inputs) * LINE + s.lane] = sum;
                else if (first + s.lane < count)
                    GIVEN(to_x).write((t * count + first + s.lane) * inputs + k, sum);
            }
            Shared<S> operands = s.operands_of(t);
            for (int i = threadIdx.x; i < units * rows; i += blockDim.x) {
                const int unit = i / rows, k = i % rows;
                Gates<S> sum = to_weights[i];
                for (int n = 0; n < LANES; n++) add(sum, S(operands[k * LINE + n]), Gates<S>(pulled[unit * LINE + n]));
                to_weights[i] = sum;
            }
            __syncthreads();
        }
    }
    for (int i = threadIdx.x; i < units * rows; i += blockDim.x) {
        const int64 row = (int64)blockIdx.x * rows + i % rows;
        write_gates(GIVEN(sums) + (row * 4 * units + i / rows), units, Gates<S>(to_weights[i]));
    }
}
