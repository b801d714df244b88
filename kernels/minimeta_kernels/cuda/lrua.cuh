// Steps of memory with least recently used access, and their gradients. Equations and names: reference/lrua.py
//
// A block has an episode, a thread a row of its memory; there may be more threads. Rows are a number more than their
// width apart, so that threads at the same place in neighbouring rows meet in different banks. Kernels say that a
// single block is enough for a multiprocessor, __launch_bounds__(1024, 1): else they are held to half of the registers.
#include "device.cuh"

// What a step works on, in shared memory; the host counts it (lrua.py).
template <class S>
struct Memory {
    int rows, width, heads, line;
    Shared<S> memory;            // [N][W + 1]
    Shared<S> weights, written;  // [R][N], of the read before and of the write
    Shared<S> usage;             // [N]
    Shared<S> keys, adds;        // [R][W]
    Shared<S> gates, lengths;    // [R], lengths are squares of the keys'
    Shared<S> scores;            // [R][N]
    Shared<S> totals;            // [R]
    Shared<int> least;           // [R]

    __device__ Memory(SharedMemory& shared, int rows, int width, int heads)
        : rows(rows), width(width), heads(heads), line(width + 1), memory(shared.take<S>(rows * (width + 1))),
          weights(shared.take<S>(heads * rows)), written(shared.take<S>(heads * rows)), usage(shared.take<S>(rows)),
          keys(shared.take<S>(heads * width)), adds(shared.take<S>(heads * width)), gates(shared.take<S>(heads)),
          lengths(shared.take<S>(heads)), scores(shared.take<S>(heads * rows)), totals(shared.take<S>(heads)),
          least(shared.take<int>(heads)) {}
};

// Of an array that may be missing.
template <class S>
__device__ In<S> from_place(In<S> array, int64 at) { return array.values ? array + at : array; }

// What writes numbers to an array, by their places.
template <class S>
__device__ auto into(Out<S> array) {
    return [=](int i, S value) { array.write(i, value); };
}

template <class S>
__device__ void load(In<S> from, int count, Shared<S> to) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}
template <class S>
__device__ void load_or_zero(In<S> from, int count, Shared<S> to) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = from.at_or_zero(i);
}
template <class S>
__device__ void load_lines(In<S> from, int count, int width, Shared<S> to) {
    for (int i = threadIdx.x; i < count * width; i += blockDim.x)
        to[i / width * (width + 1) + i % width] = from.at_or_zero(i);
}
template <class S>
__device__ void store(Shared<S> from, int count, Out<S> to) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) to.write(i, from[i]);
}
template <class S>
__device__ void store_lines(Shared<S> from, int count, int width, Out<S> to) {
    for (int i = threadIdx.x; i < count * width; i += blockDim.x)
        to.write(i, from[i / width * (width + 1) + i % width]);
}

// totals [heads] = the sums over rows of values [heads][rows], of times [rows] if there are such. A warp a head.
template <class S>
__device__ void sum_rows(Shared<S> values, int heads, int rows, Shared<S> totals) {
    for (int r = threadIdx.x / 32; r < heads; r += blockDim.x / 32) {
        S sum = 0;
        for (int n = threadIdx.x % 32; n < rows; n += 32) sum += S(values[r * rows + n]);
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) totals[r] = sum;
    }
}

// The squares of the lengths of keys [heads][width]. A warp a head.
template <class S>
__device__ void measure(Shared<S> keys, int heads, int width, Shared<S> lengths) {
    for (int r = threadIdx.x / 32; r < heads; r += blockDim.x / 32) {
        S sum = 0;
        for (int m = threadIdx.x % 32; m < width; m += 32) sum += S(keys[r * width + m]) * S(keys[r * width + m]);
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) lengths[r] = sum;
    }
}

// Whether head r writes to row n for its being little used.
template <class S>
__device__ bool is_target(const Memory<S>& m, int r, int n, bool shared_rows) {
    if (!shared_rows) return m.least[r] == n;
    for (int k = 0; k < m.heads; k++)
        if (m.least[k] == n) return true;
    return false;
}

// The rows of least usage, in the order of (usage, index): a row's rank is how many come before it.
template <class S>
__device__ void choose(Memory<S>& m) {
    int n = threadIdx.x;
    if (n >= m.rows) return;
    S mine = m.usage[n];
    int rank = 0;
    for (int j = 0; j < m.rows; j++) {
        S other = m.usage[j];
        rank += other < mine || (other == mine && j < n);
    }
    if (rank < m.heads) m.least[rank] = n;
}

template <class S>
__device__ void weigh_writes(Memory<S>& m, bool shared_rows) {
    int n = threadIdx.x;
    if (n >= m.rows) return;
    for (int r = 0; r < m.heads; r++) {
        S gate = m.gates[r], target = is_target(m, r, n, shared_rows) ? 1 : 0;
        m.written[r * m.rows + n] = gate * S(m.weights[r * m.rows + n]) + (S(1) - gate) * target;
    }
}

template <class S>
__device__ void write(Memory<S>& m) {
    int n = threadIdx.x;
    if (n >= m.rows) return;
    bool erased = m.least[0] == n;
    for (int i = 0; i < m.width; i++) {
        S sum = erased ? S(0) : S(m.memory[n * m.line + i]);
        for (int r = 0; r < m.heads; r++) sum += S(m.written[r * m.rows + n]) * S(m.adds[r * m.width + i]);
        m.memory[n * m.line + i] = sum;
    }
}

// K_rn and its c, of one row with all keys; `use(r, dot product, c)`.
template <class S, class Use>
__device__ void compare(const Memory<S>& m, int n, REAL eps, Use use) {
    S squares = 0;
    for (int i = 0; i < m.width; i++) squares += S(m.memory[n * m.line + i]) * S(m.memory[n * m.line + i]);
    for (int r = 0; r < m.heads; r++) {
        S dot = 0;
        for (int i = 0; i < m.width; i++) dot += S(m.keys[r * m.width + i]) * S(m.memory[n * m.line + i]);
        use(r, dot, S(1) / root(S(m.lengths[r]) * squares + S(eps)), squares);
    }
}

// weights = softmax(K), of cosines, so that no largest need be taken off. Ends at a barrier.
template <class S>
__device__ void weigh_reads(Memory<S>& m, REAL eps) {
    int n = threadIdx.x;
    measure(m.keys, m.heads, m.width, m.lengths);
    __syncthreads();
    if (n < m.rows)
        compare(m, n, eps, [&](int r, S dot, S c, S) { m.scores[r * m.rows + n] = exponential(c * dot); });
    __syncthreads();
    sum_rows(m.scores, m.heads, m.rows, m.totals);
    __syncthreads();
    if (n < m.rows)
        for (int r = 0; r < m.heads; r++) m.weights[r * m.rows + n] = S(m.scores[r * m.rows + n]) / S(m.totals[r]);
    __syncthreads();
}

// reads = weights M; `use(i, number)` for each of them [heads][width].
template <class S, class Use>
__device__ void read(Memory<S>& m, Use use) {
    for (int i = threadIdx.x; i < m.heads * m.width; i += blockDim.x) {
        int r = i / m.width, k = i % m.width;
        S sum = 0;
        for (int j = 0; j < m.rows; j++) sum += S(m.weights[r * m.rows + j]) * S(m.memory[j * m.line + k]);
        use(i, sum);
    }
}

// A step's second part, when rows are chosen and a barrier is passed: the write, the read, and the usage by both.
template <class S, class Use>
__device__ void write_and_read(Memory<S>& m, REAL decay, bool shared_rows, REAL eps, Use use_reads) {
    const int n = threadIdx.x;
    weigh_writes(m, shared_rows);
    write(m);
    __syncthreads();
    weigh_reads(m, eps);
    read(m, use_reads);
    if (n >= m.rows) return;
    S used = S(decay) * S(m.usage[n]);
    for (int r = 0; r < m.heads; r++) used += S(m.weights[r * m.rows + n]) + S(m.written[r * m.rows + n]);
    m.usage[n] = used;
}

template <class S>
__device__ void store_least(const Memory<S>& m, int64* to) {
    for (int r = threadIdx.x; r < m.heads; r += blockDim.x) to[r] = m.least[r];
}

// ---------------------------------------------------------------- gradients

// Besides the step's own: what is pulled on, and by what.
template <class S>
struct Pulls {
    Shared<S> memory;   // [N][W + 1]
    Shared<S> weights;  // [R][N], of the read, then of the write
    Shared<S> reads;    // [R][W]
    Shared<S> shrink;   // [R][N]
    Shared<S> shrunk;   // [R]

    __device__ Pulls(SharedMemory& shared, int rows, int width, int heads)
        : memory(shared.take<S>(rows * (width + 1))), weights(shared.take<S>(heads * rows)),
          reads(shared.take<S>(heads * width)), shrink(shared.take<S>(heads * rows)), shrunk(shared.take<S>(heads)) {}
};

// Through the read: from p.reads and p.weights, onto p.memory and, by a function, keys. Ends at a barrier.
//
// m.weights are the read's. With c = 1 / sqrt(|k|^2 |m|^2 + eps) and K = c k.m:
//     dK = c d(k.m) - K c^2 (|m|^2 k.dk + |k|^2 m.dm)
template <class S, class Use>
__device__ void pull_read(Memory<S>& m, Pulls<S>& p, REAL eps, Use use_keys) {
    const int n = threadIdx.x, rows = m.rows, width = m.width, heads = m.heads;
    measure(m.keys, heads, width, m.lengths);
    if (n < rows)
        for (int r = 0; r < heads; r++) {
            S attended = p.weights[r * rows + n];
            for (int i = 0; i < width; i++) attended += S(p.reads[r * width + i]) * S(m.memory[n * m.line + i]);
            p.weights[r * rows + n] = attended;
            m.scores[r * rows + n] = S(m.weights[r * rows + n]) * attended;
        }
    __syncthreads();
    sum_rows(m.scores, heads, rows, m.totals);
    __syncthreads();
    if (n < rows) {
        S pulled_back = 0;
        compare(m, n, eps, [&](int r, S dot, S c, S squares) {
            int at = r * rows + n;
            S slope = S(m.weights[at]) * (S(p.weights[at]) - S(m.totals[r]));
            S shrink = c * c * (c * dot) * slope;
            m.scores[at] = c * slope;
            p.shrink[at] = shrink * squares;
            pulled_back += shrink * S(m.lengths[r]);
        });
        for (int i = 0; i < width; i++) {
            S sum = p.memory[n * m.line + i];
            for (int r = 0; r < heads; r++)
                sum += S(m.weights[r * rows + n]) * S(p.reads[r * width + i]) +
                       S(m.scores[r * rows + n]) * S(m.keys[r * width + i]);
            p.memory[n * m.line + i] = sum - pulled_back * S(m.memory[n * m.line + i]);
        }
    }
    __syncthreads();
    sum_rows(p.shrink, heads, rows, p.shrunk);
    __syncthreads();
    for (int i = threadIdx.x; i < heads * width; i += blockDim.x) {
        int r = i / width, k = i % width;
        S sum = 0;
        for (int j = 0; j < rows; j++) sum += S(m.scores[r * rows + j]) * S(m.memory[j * m.line + k]);
        use_keys(i, sum - S(p.shrunk[r]) * S(m.keys[i]));
    }
    __syncthreads();
}

// Through the write: from p.memory and p.weights (of the write), onto p.memory, p.weights (of the read before), and, by
// functions, adds and gates. m.weights are those before, m.least the rows that were chosen. Ends at a barrier.
template <class S, class UseAdds, class UseGates>
__device__ void pull_write(Memory<S>& m, Pulls<S>& p, bool shared_rows, UseAdds use_adds, UseGates use_gates) {
    const int n = threadIdx.x, rows = m.rows, width = m.width, heads = m.heads;
    weigh_writes(m, shared_rows);
    if (n < rows)
        for (int r = 0; r < heads; r++) {
            int at = r * rows + n;
            S pulled = p.weights[at], target = is_target(m, r, n, shared_rows) ? 1 : 0;
            for (int i = 0; i < width; i++) pulled += S(m.adds[r * width + i]) * S(p.memory[n * m.line + i]);
            m.scores[at] = pulled * (S(m.weights[at]) - target);
            p.weights[at] = S(m.gates[r]) * pulled;
        }
    __syncthreads();
    sum_rows(m.scores, heads, rows, m.totals);
    for (int i = threadIdx.x; i < heads * width; i += blockDim.x) {
        int r = i / width, k = i % width;
        S sum = 0;
        for (int j = 0; j < rows; j++) sum += S(m.written[r * rows + j]) * S(p.memory[j * m.line + k]);
        use_adds(i, sum);
    }
    __syncthreads();
    for (int r = threadIdx.x; r < heads; r += blockDim.x) use_gates(r, S(m.totals[r]));
    if (n == m.least[0])
        for (int i = 0; i < width; i++) p.memory[n * m.line + i] = S(0);
    __syncthreads();
}

// Through a step: `before` are the read weights of the one before. Ends at a barrier.
template <class S, class UseKeys, class UseAdds, class UseGates>
__device__ void pull_step(Memory<S>& m, Pulls<S>& p, In<S> before, bool shared_rows, REAL eps, UseKeys use_keys,
                          UseAdds use_adds, UseGates use_gates) {
    const int count = m.heads * m.rows;
    pull_read(m, p, eps, use_keys);
    load(before, count, m.weights);
    for (int i = threadIdx.x; i < count; i += blockDim.x) p.weights[i] = S(0);  // usage carries no gradient
    __syncthreads();
    pull_write(m, p, shared_rows, use_adds, use_gates);
}

template <class S>
__device__ void load_least(const int64* from, Memory<S>& m) {
    for (int r = threadIdx.x; r < m.heads; r += blockDim.x) m.least[r] = (int)from[r];
}
