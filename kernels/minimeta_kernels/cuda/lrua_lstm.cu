// An LSTM with LRUA memory whose reads come back to it. Equations: reference/lrua_lstm.py
//
// A block has an episode, from its first step to its last, and the state of cell and memory in shared memory. A step
// reads all weights once, neighbours by neighbours: forwards a thread has a column of them, backwards a warp a row.
// Their gradients are products over all steps, which are made elsewhere.
#include "lrua.cuh"
#include "lstm.cuh"

// What the cell works on, in shared memory, or the gradients by it; the host counts it (lrua_lstm.py).
template <class S>
struct Controller {
    Shared<S> inputs;  // [R W + H], r' and h'
    Shared<S> cell;    // [H]
    Shared<S> gates;   // [4 H], z

    __device__ Controller(SharedMemory& shared, int size, int units)
        : inputs(shared.take<S>(size + units)), cell(shared.take<S>(units)), gates(shared.take<S>(4 * units)) {}
};

// x [rows] times a column of a matrix with so many.
template <class S>
__device__ S times_column(Shared<S> x, In<S> matrix, int rows, int columns, int column) {
    S sum = 0;
#pragma unroll 8
    for (int k = 0; k < rows; k++) sum += S(x[k]) * matrix[(int64)k * columns + column];
    return sum;
}

// x [columns] times a row, by a warp.
template <class S>
__device__ S times_row(Shared<S> x, In<S> row, int columns) {
    S sum = 0;
    for (int k = threadIdx.x % 32; k < columns; k += 32) sum += S(x[k]) * row[k];
    return warp_sum(sum);
}

// Puts the i-th of K numbers emitted where it belongs: to the keys, the adds, both if these are the same, or the gates.
template <class S>
__device__ void place(Memory<S>& m, int i, int emits, S value) {
    const int size = m.heads * m.width, vectors = emits - m.heads;
    if (i < size) m.keys[i] = value;
    if (i >= vectors)
        m.gates[i - vectors] = value;
    else if (i >= vectors - size)
        m.adds[i - (vectors - size)] = value;
}

// What has T + 1 entries of an episode begins with the state before the first step.
template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua_lstm(TAKES(hidden), TAKES(cell), TAKES(reads), TAKES(memory), TAKES(weights), TAKES(usage), TAKES(gates),
          TAKES(recurrent), TAKES(emitting), TAKES(bias), GIVES(usage_out), GIVES(inputs), GIVES(cells),
          GIVES(preactivations), GIVES(emitted), GIVES(memories), GIVES(all_weights), int64* __restrict__ least_used,
          int steps, int rows, int width, int heads, int units, int emits, REAL decay, bool shared_rows, REAL eps) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    const int size = heads * width, on_rows = heads * rows, first = threadIdx.x;
    Controller<S> c(shared, size, units);
    const int64 b = blockIdx.x;
    load(TAKEN(reads) + b * size, size, c.inputs);
    load(TAKEN(hidden) + b * units, units, c.inputs + size);
    load(TAKEN(cell) + b * units, units, c.cell);
    load_lines(TAKEN(memory) + b * rows * width, rows, width, m.memory);
    load(TAKEN(weights) + b * on_rows, on_rows, m.weights);
    load(TAKEN(usage) + b * rows, rows, m.usage);
    __syncthreads();
    store(c.inputs, size + units, GIVEN(inputs) + b * (steps + 1) * (size + units));
    store(c.cell, units, GIVEN(cells) + b * (steps + 1) * units);
    store_lines(m.memory, rows, width, GIVEN(memories) + b * (steps + 1) * rows * width);
    store(m.weights, on_rows, GIVEN(all_weights) + b * (steps + 1) * on_rows);
    for (int t = 0; t < steps; t++) {
        const int64 step = b * steps + t, after = b * (steps + 1) + t + 1;
        Out<S> taken = GIVEN(inputs) + after * (size + units);
        for (int i = first; i < 4 * units; i += blockDim.x) {
            S z = times_column(c.inputs, TAKEN(recurrent), size + units, 4 * units, i);
            z += TAKEN(gates)[step * 4 * units + i];
            c.gates[i] = z;
            GIVEN(preactivations).write(step * 4 * units + i, z);
        }
        choose(m);
        __syncthreads();
        for (int i = first; i < units; i += blockDim.x) {
            Activations<S> a({c.gates[i], c.gates[units + i], c.gates[2 * units + i], c.gates[3 * units + i]});
            S cell = a.next(c.cell[i]), h = a.o * hyperbolic_tangent(cell);
            c.cell[i] = cell, c.inputs[size + i] = h;
            GIVEN(cells).write(after * units + i, cell);
            taken.write(size + i, h);
        }
        __syncthreads();
        for (int i = first; i < emits; i += blockDim.x) {
            S z = TAKEN(bias)[i] + times_column(c.inputs + size, TAKEN(emitting), units, emits, i);
            S value = i < emits - heads ? hyperbolic_tangent(z) : sigmoid(z);
            place(m, i, emits, value);
            GIVEN(emitted).write(step * emits + i, value);
        }
        __syncthreads();
        write_and_read(m, decay, shared_rows, eps, [&](int i, S read) { c.inputs[i] = read, taken.write(i, read); });
        store_least(m, least_used + step * heads);
        store_lines(m.memory, rows, width, GIVEN(memories) + after * rows * width);
        store(m.weights, on_rows, GIVEN(all_weights) + after * on_rows);
        __syncthreads();
    }
    store(m.usage, rows, GIVEN(usage_out) + b * rows);
}

// to_inputs [B, R W + H] are the gradients by the reads and the hidden state before the first step.
template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua_lstm_vjp(TAKES(g_hiddens), TAKES(g_all_reads), TAKES(g_hidden), TAKES(g_cell), TAKES(g_reads), TAKES(g_memory),
              TAKES(g_weights), TAKES(recurrent), TAKES(emitting), TAKES(cells), TAKES(preactivations), TAKES(emitted),
              TAKES(memories), TAKES(all_weights), const int64* __restrict__ least_used, GIVES(to_inputs),
              GIVES(to_cell), GIVES(to_memory), GIVES(to_weights), GIVES(to_gates), GIVES(to_emitted), int steps,
              int rows, int width, int heads, int units, int emits, bool shared_rows, REAL eps) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    Pulls<S> p(shared, rows, width, heads);
    const int size = heads * width, on_rows = heads * rows, vectors = emits - heads;
    const int first = threadIdx.x, lane = first % 32, warp = first / 32, warps = blockDim.x / 32;
    Controller<S> c(shared, size, units);
    Shared<S> pulled = shared.take<S>(emits);
    const int64 b = blockIdx.x;
    load_or_zero(from_place(TAKEN(g_reads), b * size), size, c.inputs);
    load_or_zero(from_place(TAKEN(g_hidden), b * units), units, c.inputs + size);
    load_or_zero(from_place(TAKEN(g_cell), b * units), units, c.cell);
    load_lines(from_place(TAKEN(g_memory), b * rows * width), rows, width, p.memory);
    load_or_zero(from_place(TAKEN(g_weights), b * on_rows), on_rows, p.weights);
    for (int t = steps - 1; t >= 0; t--) {
        const int64 step = b * steps + t, before = b * (steps + 1) + t, after = before + 1;
        __syncthreads();
        load_lines(TAKEN(memories) + after * rows * width, rows, width, m.memory);
        load(TAKEN(all_weights) + after * on_rows, on_rows, m.weights);
        load_least(least_used + step * heads, m);
        for (int i = first; i < emits; i += blockDim.x) place(m, i, emits, TAKEN(emitted)[step * emits + i]);
        for (int i = first; i < size; i += blockDim.x)
            p.reads[i] = S(c.inputs[i]) + TAKEN(g_all_reads).at_or_zero(step * size + i);
        __syncthreads();
        pull_step(
            m, p, TAKEN(all_weights) + before * on_rows, shared_rows, eps,
            [&](int i, S g) { pulled[i] = g * (S(1) - S(m.keys[i]) * S(m.keys[i])); },
            [&](int i, S g) {
                const int at = vectors - size + i;
                S by_key = at < size ? S(pulled[at]) : S(0);  // of the same number, if it is a key and an add
                pulled[at] = by_key + g * (S(1) - S(m.adds[i]) * S(m.adds[i]));
            },
            [&](int r, S g) { pulled[vectors + r] = g * S(m.gates[r]) * (S(1) - S(m.gates[r])); });
        store(pulled, emits, GIVEN(to_emitted) + step * emits);
        for (int i = warp; i < units; i += warps) {
            S sum = times_row(pulled, TAKEN(emitting) + (int64)i * emits, emits);
            if (lane == 0) c.inputs[size + i] += sum + TAKEN(g_hiddens).at_or_zero(step * units + i);
        }
        __syncthreads();
        for (int i = first; i < units; i += blockDim.x) {
            Activations<S> a(gates_at(TAKEN(preactivations) + (step * 4 * units + i), units));
            S left = c.cell[i];
            Gates<S> z = a.pull(c.inputs[size + i], TAKEN(cells)[before * units + i], left);
            c.cell[i] = left;
            c.gates[i] = z.i, c.gates[units + i] = z.f, c.gates[2 * units + i] = z.o, c.gates[3 * units + i] = z.u;
            write_gates(GIVEN(to_gates) + (step * 4 * units + i), units, z);
        }
        __syncthreads();
        for (int i = warp; i < size + units; i += warps) {
            S sum = times_row(c.gates, TAKEN(recurrent) + (int64)i * 4 * units, 4 * units);
            if (lane == 0) c.inputs[i] = sum;
        }
    }
    __syncthreads();
    store(c.inputs, size + units, GIVEN(to_inputs) + b * (size + units));
    store(c.cell, units, GIVEN(to_cell) + b * units);
    store_lines(p.memory, rows, width, GIVEN(to_memory) + b * rows * width);
    store(p.weights, on_rows, GIVEN(to_weights) + b * on_rows);
}
