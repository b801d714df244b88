// Distances between the rows of x [B, Q, D] and of y [B, S, D], and their gradients. Equations: reference/pairwise.py
#include "device.cuh"

// What one coordinate of a pair adds to the sum, its slope in x, and what is made of the sum. The slope in y is that in x
// with x and y exchanged.
struct Squared {
    template <class S> static __device__ S term(S x, S y) { return (x - y) * (x - y); }
    template <class S> static __device__ S slope(S x, S y) { return (x - y) + (x - y); }
    template <class S> static __device__ S whole(S sum) { return sum; }
};
struct Euclidean : Squared {
    template <class S> static __device__ S whole(S sum) { return sum == S(0) ? S(0) : root(sum); }  // flat where rows meet
};
struct Absolute : Squared {
    template <class S> static __device__ S term(S x, S y) { return x == y ? S(0) : x < y ? y - x : x - y; }
    template <class S> static __device__ S slope(S x, S y) { return x == y ? S(0) : x < y ? S(-1) : x > y ? S(1) : x - y; }  // NaN of NaN
};
struct Product : Squared {
    template <class S> static __device__ S term(S x, S y) { return x * y; }
    template <class S> static __device__ S slope(S x, S y) { return y; }
};

constexpr int DEPTH = 32;  // coordinates, or rows, in shared memory at a time

// A tile of rows [count, DEPTH] from `first` on, zeros beyond the array, into shared memory of that many rows a line
// apart from each other.
template <class S, int COUNT, int THREADS>
__device__ void load_rows(In<S> from, int first, int rows, int column, int columns, Shared<S> to) {
    for (int i = threadIdx.x; i < COUNT * DEPTH; i += THREADS) {
        int r = i / DEPTH, k = i % DEPTH;
        bool inside = first + r < rows && column + k < columns;
        to[r * (DEPTH + 1) + k] = inside ? from[(int64)(first + r) * columns + column + k] : S(0);
    }
}

// out [B, Q, S] = the sum over d of term(x_qd, y_sd). A block makes ROWS x COLUMNS of them, a thread R x C.
template <class S, class Pair, int ROWS, int COLUMNS, int R, int C>
__global__ void __launch_bounds__(ROWS / R * COLUMNS / C)
distances(TAKES(x), TAKES(y), GIVES(out), int queries, int rows, int dims) {
    constexpr int across = COLUMNS / C, threads = ROWS / R * across;
    SharedMemory shared;
    Shared<S> xs = shared.take<S>(ROWS * (DEPTH + 1)), ys = shared.take<S>(COLUMNS * (DEPTH + 1));
    const int mine_r = threadIdx.x / across * R, mine_c = threadIdx.x % across;
    const int first_r = blockIdx.y * ROWS, first_c = blockIdx.x * COLUMNS;
    In<S> x = TAKEN(x) + (int64)blockIdx.z * queries * dims, y = TAKEN(y) + (int64)blockIdx.z * rows * dims;
    Out<S> out = GIVEN(out) + (int64)blockIdx.z * queries * rows;
    S sum[R][C];
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int c = 0; c < C; c++) sum[r][c] = 0;
    for (int d = 0; d < dims; d += DEPTH) {
        load_rows<S, ROWS, threads>(x, first_r, queries, d, dims, xs);
        load_rows<S, COLUMNS, threads>(y, first_c, rows, d, dims, ys);
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < DEPTH; k++) {
            S left[R], right[C];
#pragma unroll
            for (int r = 0; r < R; r++) left[r] = xs[(mine_r + r) * (DEPTH + 1) + k];
#pragma unroll
            for (int c = 0; c < C; c++) right[c] = ys[(mine_c + c * across) * (DEPTH + 1) + k];
#pragma unroll
            for (int r = 0; r < R; r++)
#pragma unroll
                for (int c = 0; c < C; c++) sum[r][c] += Pair::term(left[r], right[c]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int c = 0; c < C; c++) {
            int q = first_r + mine_r + r, s = first_c + mine_c + c * across;
            if (q < queries && s < rows) out.write((int64)q * rows + s, Pair::whole(sum[r][c]));
        }
}

// to_x [B, Q, D] = the sum over s of g_qs slope(x_qd, y_sd). g lies [B, Q, S], or with `turned` [B, S, Q]: so the
// gradient in y is that in x of the exchanged problem. A block makes ROWS x 32 of them, a thread R of a column.
template <class S, class Pair, int ROWS, int R>
__global__ void __launch_bounds__(ROWS / R * 32)
pulls(TAKES(g), TAKES(x), TAKES(y), GIVES(to_x), int queries, int rows, int dims, bool turned) {
    constexpr int threads = ROWS / R * 32;
    SharedMemory shared;
    Shared<S> gs = shared.take<S>(ROWS * (DEPTH + 1)), ys = shared.take<S>(DEPTH * (DEPTH + 1));
    const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * R;
    const int first = blockIdx.y * ROWS, d = blockIdx.x * 32 + lane;
    In<S> g = TAKEN(g) + (int64)blockIdx.z * queries * rows;
    In<S> x = TAKEN(x) + (int64)blockIdx.z * queries * dims, y = TAKEN(y) + (int64)blockIdx.z * rows * dims;
    Out<S> to_x = GIVEN(to_x) + (int64)blockIdx.z * queries * dims;
    S own[R], sum[R];
#pragma unroll
    for (int r = 0; r < R; r++) {
        own[r] = first + mine + r < queries && d < dims ? x[(int64)(first + mine + r) * dims + d] : S(0);
        sum[r] = 0;
    }
    for (int s = 0; s < rows; s += DEPTH) {
        for (int i = threadIdx.x; i < ROWS * DEPTH; i += threads) {
            int q = turned ? i % ROWS : i / DEPTH, k = turned ? i / ROWS : i % DEPTH;  // neighbours lie side by side
            bool inside = first + q < queries && s + k < rows;
            int64 at = turned ? (int64)(s + k) * queries + first + q : (int64)(first + q) * rows + s + k;
            gs[q * (DEPTH + 1) + k] = inside ? g[at] : S(0);
        }
        load_rows<S, DEPTH, threads>(y, s, rows, blockIdx.x * 32, dims, ys);
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < DEPTH; k++) {
            S other = ys[k * (DEPTH + 1) + lane];
#pragma unroll
            for (int r = 0; r < R; r++) sum[r] += S(gs[(mine + r) * (DEPTH + 1) + k]) * Pair::slope(own[r], other);
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < R; r++)
        if (first + mine + r < queries && d < dims) to_x.write((int64)(first + mine + r) * dims + d, sum[r]);
}

// The rows of x [N, D] at unit length, x / n, and n = sqrt(|x|^2 + eps^2) [N]. A warp a row.
template <class S>
__global__ void __launch_bounds__(128)
units(TAKES(x), GIVES(unit), GIVES(length), int64 count, int dims, REAL eps) {
    int64 row = (int64)blockIdx.x * 4 + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= count) return;  // a whole warp does
    In<S> x = TAKEN(x) + row * dims;
    S sum = 0;
    for (int d = lane; d < dims; d += 32) sum += x[d] * x[d];
    S n = root(warp_sum(sum) + S(eps * eps));
    for (int d = lane; d < dims; d += 32) (GIVEN(unit) + row * dims).write(d, x[d] / n);
    if (lane == 0) GIVEN(length).write(row, n);
}

// P(w) = (w - x (x . w)) / n of rows w [N, D] with unit rows x and lengths n: the gradient through `units`.
template <class S>
__global__ void __launch_bounds__(128)
projections(TAKES(w), TAKES(unit), TAKES(length), GIVES(out), int64 count, int dims) {
    int64 row = (int64)blockIdx.x * 4 + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= count) return;
    In<S> w = TAKEN(w) + row * dims, x = TAKEN(unit) + row * dims;
    S n = TAKEN(length)[row], along = 0;
    for (int d = lane; d < dims; d += 32) along += x[d] * w[d];
    along = warp_sum(along);
    for (int d = lane; d < dims; d += 32) (GIVEN(out) + row * dims).write(d, (w[d] - x[d] * along) / n);
}

// Of distances d: g / 2d, what `pulls` of Squared takes for their gradient; nothing from pairs that coincide.
template <class S>
__global__ void __launch_bounds__(128) halved(TAKES(g), TAKES(d), GIVES(out), int64 count) {
    int64 i = (int64)blockIdx.x * 128 + threadIdx.x;
    if (i >= count) return;
    S distance = TAKEN(d)[i];
    GIVEN(out).write(i, distance == S(0) ? S(0) : TAKEN(g)[i] / (distance + distance));
}
