// Attention and its gradient where an episode's keys fit in shared memory. Equations: reference/attention.py
//
// With `unit` it is cosine attention: rows are taken at unit length, and their gradients go back through that.
#include "device.cuh"

constexpr int TILE = 16;  // queries at a time

// A row for each warp in turn, at unit length or as it is, into lines of shared memory; its length beside it.
template <class S, int WARPS>
__device__ void load_lines(In<S> from, int count, int dims, bool unit, REAL eps, Shared<S> to, Shared<S> lengths) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int r = warp; r < count; r += WARPS) {
        In<S> row = from + (int64)r * dims;
        S n = 1;
        if (unit) {
            S squares = 0;
            for (int d = lane; d < dims; d += 32) squares += row[d] * row[d];
            n = root(warp_sum(squares) + S(eps * eps));
        }
        for (int d = lane; d < dims; d += 32) to[r * (dims + 1) + d] = unit ? row[d] / n : row[d];
        if (lane == 0) lengths[r] = n;
    }
}

// One warp: weights [rows] = softmax(temperature x . y_s).
template <class S>
__device__ void attend(Shared<S> x, Shared<S> ys, int rows, int dims, REAL temperature, Shared<S> weights) {
    int lane = threadIdx.x % 32;
    S largest = -(REAL)3e38;
    for (int s = lane; s < rows; s += 32) {
        S dot = 0;
        for (int d = 0; d < dims; d++) dot += S(x[d]) * S(ys[s * (dims + 1) + d]);
        dot = dot * S(temperature);
        weights[s] = dot;
        if (dot > largest) largest = dot;
    }
    largest = warp_largest(largest);
    S total = 0;
    for (int s = lane; s < rows; s += 32) {
        S raised = exponential(S(weights[s]) - largest);
        weights[s] = raised;
        total += raised;
    }
    total = warp_sum(total);
    for (int s = lane; s < rows; s += 32) weights[s] = S(weights[s]) / total;
    __syncwarp();
}

// x [B, Q, D], y [B, S, D], v [B, S, C] -> out [B, Q, C]; a block for TILE queries.
template <class S>
__global__ void __launch_bounds__(128)
attention(TAKES(x), TAKES(y), TAKES(v), GIVES(out), int queries, int rows, int dims, int values, REAL temperature,
          bool unit, REAL eps) {
    constexpr int warps = 4;
    SharedMemory shared;
    Shared<S> xs = shared.take<S>(TILE * (dims + 1)), ys = shared.take<S>(rows * (dims + 1));
    Shared<S> x_lengths = shared.take<S>(TILE), y_lengths = shared.take<S>(rows);
    Shared<S> vs = shared.take<S>(rows * values), weights = shared.take<S>(TILE * rows);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = blockIdx.x * TILE;
    const int count = min(TILE, queries - first);
    const int64 batch = blockIdx.y;
    In<S> own_v = TAKEN(v) + batch * rows * values;
    load_lines<S, warps>(TAKEN(x) + (batch * queries + first) * dims, count, dims, unit, eps, xs, x_lengths);
    load_lines<S, warps>(TAKEN(y) + batch * rows * dims, rows, dims, unit, eps, ys, y_lengths);
    for (int i = threadIdx.x; i < rows * values; i += 32 * warps) vs[i] = own_v[i];
    __syncthreads();
    Out<S> to = GIVEN(out) + (batch * queries + first) * values;
    for (int q = warp; q < count; q += warps) {
        attend<S>(xs + q * (dims + 1), ys, rows, dims, temperature, weights + q * rows);
        for (int c = lane; c < values; c += 32) {
            S sum = 0;
            for (int s = 0; s < rows; s++) sum += S(weights[q * rows + s]) * S(vs[s * values + c]);
            to.write(q * values + c, sum);
        }
    }
}

// One warp: the gradient `pulled` of a row to where it goes, through its being made of unit length.
template <class S>
__device__ void give_line(Shared<S> pulled, Shared<S> line, S length, int dims, bool unit, Out<S> to) {
    int lane = threadIdx.x % 32;
    S along = 0;
    if (unit) {
        for (int d = lane; d < dims; d += 32) along += S(line[d]) * S(pulled[d]);
        along = warp_sum(along);
    }
    for (int d = lane; d < dims; d += 32) to.write(d, unit ? (S(pulled[d]) - S(line[d]) * along) / length : S(pulled[d]));
}

// The gradients by x, y and v for the cotangent g [B, Q, C]; a block an episode, so that each sum has one owner.
template <class S>
__global__ void __launch_bounds__(256)
attention_vjp(TAKES(g), TAKES(x), TAKES(y), TAKES(v), GIVES(to_x), GIVES(to_y), GIVES(to_v), int queries, int rows,
              int dims, int values, REAL temperature, bool unit, REAL eps) {
    constexpr int warps = 8, threads = 32 * warps;
    const int line = dims + 1;
    SharedMemory shared;
    Shared<S> xs = shared.take<S>(TILE * line), ys = shared.take<S>(rows * line);
    Shared<S> x_lengths = shared.take<S>(TILE), y_lengths = shared.take<S>(rows);
    Shared<S> vs = shared.take<S>(rows * values), weights = shared.take<S>(TILE * rows);
    Shared<S> scores = shared.take<S>(TILE * rows), gs = shared.take<S>(TILE * values);
    Shared<S> to_ys = shared.take<S>(rows * line), to_vs = shared.take<S>(rows * values);
    Shared<S> pulled = shared.take<S>(warps * line);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64 batch = blockIdx.x;
    In<S> own_x = TAKEN(x) + batch * queries * dims, own_g = TAKEN(g) + batch * queries * values;
    In<S> own_v = TAKEN(v) + batch * rows * values;
    load_lines<S, warps>(TAKEN(y) + batch * rows * dims, rows, dims, unit, eps, ys, y_lengths);
    for (int i = threadIdx.x; i < rows * values; i += threads) vs[i] = own_v[i], to_vs[i] = S(0);
    for (int i = threadIdx.x; i < rows * dims; i += threads) to_ys[i / dims * line + i % dims] = S(0);
    for (int first = 0; first < queries; first += TILE) {
        const int count = min(TILE, queries - first);
        load_lines<S, warps>(own_x + (int64)first * dims, count, dims, unit, eps, xs, x_lengths);
        for (int i = threadIdx.x; i < count * values; i += threads) gs[i] = own_g[(int64)first * values + i];
        __syncthreads();
        for (int q = warp; q < count; q += warps) {
            Shared<S> w = weights + q * rows, score = scores + q * rows, sum = pulled + warp * line;
            attend<S>(xs + q * line, ys, rows, dims, temperature, w);
            S mean = 0;
            for (int s = lane; s < rows; s += 32) {
                S a = 0;
                for (int c = 0; c < values; c++) a += S(gs[q * values + c]) * S(vs[s * values + c]);
                score[s] = a;
                mean += S(w[s]) * a;
            }
            mean = warp_sum(mean);
            for (int s = lane; s < rows; s += 32) score[s] = S(temperature) * S(w[s]) * (S(score[s]) - mean);
            __syncwarp();
            for (int d = lane; d < dims; d += 32) {
                S t = 0;
                for (int s = 0; s < rows; s++) t += S(score[s]) * S(ys[s * line + d]);
                sum[d] = t;
            }
            __syncwarp();
            Out<S> to = GIVEN(to_x) + (batch * queries + first + q) * dims;
            give_line<S>(sum, xs + q * line, x_lengths[q], dims, unit, to);
            __syncwarp();
        }
        __syncthreads();
        for (int i = threadIdx.x; i < rows * dims; i += threads) {
            int s = i / dims, d = i % dims;
            S t = to_ys[s * line + d];
            for (int q = 0; q < count; q++) t += S(scores[q * rows + s]) * S(xs[q * line + d]);
            to_ys[s * line + d] = t;
        }
        for (int i = threadIdx.x; i < rows * values; i += threads) {
            S t = to_vs[i];
            for (int q = 0; q < count; q++) t += S(weights[q * rows + i / values]) * S(gs[q * values + i % values]);
            to_vs[i] = t;
        }
        __syncthreads();
    }
    if (queries == 0) __syncthreads();
    for (int s = warp; s < rows; s += warps) {
        Out<S> to = GIVEN(to_y) + (batch * rows + s) * dims;
        give_line<S>(to_ys + s * line, ys + s * line, y_lengths[s], dims, unit, to);
    }
    for (int i = threadIdx.x; i < rows * values; i += threads) GIVEN(to_v).write(batch * rows * values + i, to_vs[i]);
}
