// Memory with least recently used access: sequences of steps, and the halves of a step.
//
// All steps are one launch: what binds is how long a step takes from its first to its last barrier.
#include "lrua.cuh"

template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua(TAKES(memory), TAKES(weights), TAKES(usage), TAKES(keys), TAKES(adds), TAKES(gates), GIVES(reads), GIVES(memory_out),
     GIVES(weights_out), GIVES(usage_out), GIVES(memories), GIVES(all_weights), int64* __restrict__ least_used, int steps,
     int rows, int width, int heads, REAL decay, bool shared_rows, REAL eps) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    const int64 b = blockIdx.x;
    load_lines(TAKEN(memory) + b * rows * width, rows, width, m.memory);
    load(TAKEN(weights) + b * heads * rows, heads * rows, m.weights);
    load(TAKEN(usage) + b * rows, rows, m.usage);
    for (int t = 0; t < steps; t++) {
        const int64 step = b * steps + t;
        load(TAKEN(keys) + step * heads * width, heads * width, m.keys);
        load(TAKEN(adds) + step * heads * width, heads * width, m.adds);
        load(TAKEN(gates) + step * heads, heads, m.gates);
        __syncthreads();
        choose(m);
        __syncthreads();
        write_and_read(m, decay, shared_rows, eps, into(GIVEN(reads) + step * heads * width));
        store_least(m, least_used + step * heads);
        store_lines(m.memory, rows, width, GIVEN(memories) + step * rows * width);
        store(m.weights, heads * rows, GIVEN(all_weights) + step * heads * rows);
        __syncthreads();
    }
    if (steps == 0) __syncthreads();
    store_lines(m.memory, rows, width, GIVEN(memory_out) + b * rows * width);
    store(m.weights, heads * rows, GIVEN(weights_out) + b * heads * rows);
    store(m.usage, rows, GIVEN(usage_out) + b * rows);
}

template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua_write(TAKES(memory), TAKES(weights), TAKES(usage), TAKES(adds), TAKES(gates), GIVES(memory_out), GIVES(write_weights),
           int64* __restrict__ least_used, int rows, int width, int heads, bool shared_rows) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    const int64 b = blockIdx.x;
    load_lines(TAKEN(memory) + b * rows * width, rows, width, m.memory);
    load(TAKEN(weights) + b * heads * rows, heads * rows, m.weights);
    load(TAKEN(usage) + b * rows, rows, m.usage);
    load(TAKEN(adds) + b * heads * width, heads * width, m.adds);
    load(TAKEN(gates) + b * heads, heads, m.gates);
    __syncthreads();
    choose(m);
    __syncthreads();
    weigh_writes(m, shared_rows);
    write(m);
    __syncthreads();
    store_lines(m.memory, rows, width, GIVEN(memory_out) + b * rows * width);
    store(m.written, heads * rows, GIVEN(write_weights) + b * heads * rows);
    store_least(m, least_used + b * heads);
}

template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua_read(TAKES(memory), TAKES(keys), GIVES(reads), GIVES(weights), int rows, int width, int heads, REAL eps) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    const int64 b = blockIdx.x;
    load_lines(TAKEN(memory) + b * rows * width, rows, width, m.memory);
    load(TAKEN(keys) + b * heads * width, heads * width, m.keys);
    __syncthreads();
    weigh_reads(m, eps);
    read(m, into(GIVEN(reads) + b * heads * width));
    store(m.weights, heads * rows, GIVEN(weights) + b * heads * rows);
}

template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua_vjp(TAKES(g_reads), TAKES(g_memory), TAKES(g_weights), TAKES(weights), TAKES(keys), TAKES(adds), TAKES(gates),
         TAKES(memories), TAKES(all_weights), const int64* __restrict__ least_used, GIVES(to_memory), GIVES(to_weights),
         GIVES(to_keys), GIVES(to_adds), GIVES(to_gates), int steps, int rows, int width, int heads, bool shared_rows,
         REAL eps) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    Pulls<S> p(shared, rows, width, heads);
    const int64 b = blockIdx.x;
    const int on_heads = heads * width, on_rows = heads * rows;
    load_lines(from_place(TAKEN(g_memory), b * rows * width), rows, width, p.memory);
    load_or_zero(from_place(TAKEN(g_weights), b * on_rows), on_rows, p.weights);
    for (int t = steps - 1; t >= 0; t--) {
        const int64 step = b * steps + t;
        load_lines(TAKEN(memories) + step * rows * width, rows, width, m.memory);
        load(TAKEN(all_weights) + step * on_rows, on_rows, m.weights);
        load(TAKEN(keys) + step * on_heads, on_heads, m.keys);
        load(TAKEN(adds) + step * on_heads, on_heads, m.adds);
        load(TAKEN(gates) + step * heads, heads, m.gates);
        load_or_zero(from_place(TAKEN(g_reads), step * on_heads), on_heads, p.reads);
        load_least(least_used + step * heads, m);
        __syncthreads();
        pull_step(m, p, t ? TAKEN(all_weights) + (step - 1) * on_rows : TAKEN(weights) + b * on_rows, shared_rows, eps,
                  into(GIVEN(to_keys) + step * on_heads), into(GIVEN(to_adds) + step * on_heads),
                  into(GIVEN(to_gates) + step * heads));
    }
    if (steps == 0) __syncthreads();
    store_lines(p.memory, rows, width, GIVEN(to_memory) + b * rows * width);
    store(p.weights, on_rows, GIVEN(to_weights) + b * on_rows);
}

template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua_write_vjp(TAKES(g_memory), TAKES(g_write_weights), TAKES(weights), TAKES(adds), TAKES(gates),
               const int64* __restrict__ least_used, GIVES(to_memory), GIVES(to_weights), GIVES(to_adds), GIVES(to_gates),
               int rows, int width, int heads, bool shared_rows) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    Pulls<S> p(shared, rows, width, heads);
    const int64 b = blockIdx.x;
    const int on_heads = heads * width, on_rows = heads * rows;
    load_lines(from_place(TAKEN(g_memory), b * rows * width), rows, width, p.memory);
    load_or_zero(from_place(TAKEN(g_write_weights), b * on_rows), on_rows, p.weights);
    load(TAKEN(weights) + b * on_rows, on_rows, m.weights);
    load(TAKEN(adds) + b * on_heads, on_heads, m.adds);
    load(TAKEN(gates) + b * heads, heads, m.gates);
    load_least(least_used + b * heads, m);
    __syncthreads();
    pull_write(m, p, shared_rows, into(GIVEN(to_adds) + b * on_heads), into(GIVEN(to_gates) + b * heads));
    store_lines(p.memory, rows, width, GIVEN(to_memory) + b * rows * width);
    store(p.weights, on_rows, GIVEN(to_weights) + b * on_rows);
}

template <class S>
__global__ void __launch_bounds__(1024, 1)
lrua_read_vjp(TAKES(g_reads), TAKES(g_weights), TAKES(memory), TAKES(keys), GIVES(to_memory), GIVES(to_keys), int rows,
              int width, int heads, REAL eps) {
    SharedMemory shared;
    Memory<S> m(shared, rows, width, heads);
    Pulls<S> p(shared, rows, width, heads);
    const int64 b = blockIdx.x;
    const int on_heads = heads * width, on_rows = heads * rows;
    for (int i = threadIdx.x; i < rows * width; i += blockDim.x) p.memory[i / width * m.line + i % width] = S(0);
    load_or_zero(from_place(TAKEN(g_weights), b * on_rows), on_rows, p.weights);
    load_or_zero(from_place(TAKEN(g_reads), b * on_heads), on_heads, p.reads);
    load_lines(TAKEN(memory) + b * rows * width, rows, width, m.memory);
    load(TAKEN(keys) + b * on_heads, on_heads, m.keys);
    __syncthreads();
    weigh_reads(m, eps);
    pull_read(m, p, eps, into(GIVEN(to_keys) + b * on_heads));
    store_lines(p.memory, rows, width, GIVEN(to_memory) + b * rows * width);
}
