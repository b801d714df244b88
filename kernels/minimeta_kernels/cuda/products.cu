// Sums of products over an index: of matrices, and of convolutions, whose patches are never laid out in memory.
//
//     out [task, m, n] = the sum over k of left(m, k) right(k, n)
//
// A problem says what `left` and `right` are. It decodes m once per thread and k once per piece of the sum, as divisions
// are what indices cost. A block makes a tile of the results, a thread some of them in registers.
#include "device.cuh"

// Of images [T, B, H, W, C], weights [T, kh, kw, C, O] and results [T, B, H', W', O].
struct Geometry {
    int images, height, width, channels, outputs, kernel_h, kernel_w, stride_h, stride_w, top, left, out_h, out_w;

    __device__ int64 image_size() const { return (int64)images * height * width * channels; }
    __device__ int64 weight_size() const { return (int64)kernel_h * kernel_w * channels * outputs; }
    __device__ int64 result_size() const { return (int64)images * out_h * out_w * outputs; }
};
#define GEOMETRY                                                                                                         \
    int images, int height, int width, int channels, int outputs, int kernel_h, int kernel_w, int stride_h, int stride_w, \
        int top, int left, int out_h, int out_w
#define GEOMETRY_GIVEN                                                                                                  \
    Geometry{images, height, width, channels, outputs, kernel_h, kernel_w, stride_h, stride_w, top, left, out_h, out_w}

struct Place {  // a pixel of an image, or a place in a filter and a channel
    int image, i, j, channel;
};

__device__ inline Place place_in_result(const Geometry& g, int n) {
    return {n / (g.out_w * g.out_h), n / g.out_w % g.out_h, n % g.out_w, 0};
}
__device__ inline Place place_in_filter(const Geometry& g, int n, int channels) {
    return {0, n / channels / g.kernel_w, n / channels % g.kernel_w, n % channels};
}

// x under the place `tap` of the filter when that lies at `pixel` of the result; zero beyond the image.
template <class S>
__device__ S under(const Geometry& g, const S* x, Place pixel, Place tap) {
    int i = pixel.i * g.stride_h - g.top + tap.i, j = pixel.j * g.stride_w - g.left + tap.j;
    if (i < 0 || i >= g.height || j < 0 || j >= g.width) return 0;
    return x[(((int64)pixel.image * g.height + i) * g.width + j) * g.channels + tap.channel];
}

// y [pixels, O] = patches of x [pixels, taps] w [taps, O]
template <class S>
struct Forward {
    Geometry g;
    const S *x, *w;
    __device__ Forward(Geometry g, int64 t, const S* x, const S* w)
        : g(g), x(x + t * g.image_size()), w(w + t * g.weight_size()) {}
    __device__ int rows() const { return g.images * g.out_h * g.out_w; }
    __device__ int columns() const { return g.outputs; }
    __device__ int terms() const { return g.kernel_h * g.kernel_w * g.channels; }
    __device__ Place row(int m) const { return place_in_result(g, m); }
    __device__ Place term(int k) const { return place_in_filter(g, k, g.channels); }
    __device__ S left(Place pixel, Place tap) const { return under(g, x, pixel, tap); }
    __device__ S right(int k, Place, int n) const { return w[(int64)k * g.outputs + n]; }
};

// The gradient by x [pixels, C] = patches of g [pixels, taps] w turned [taps, C]
template <class S>
struct ByData {
    Geometry g;
    const S *y, *w;
    __device__ ByData(Geometry g, int64 t, const S* y, const S* w)
        : g(g), y(y + t * g.result_size()), w(w + t * g.weight_size()) {}
    __device__ int rows() const { return g.images * g.height * g.width; }
    __device__ int columns() const { return g.channels; }
    __device__ int terms() const { return g.kernel_h * g.kernel_w * g.outputs; }
    __device__ Place row(int m) const { return {m / (g.width * g.height), m / g.width % g.height, m % g.width, 0}; }
    __device__ Place term(int k) const { return place_in_filter(g, k, g.outputs); }
    __device__ S left(Place pixel, Place tap) const {
        int i = pixel.i + g.top - tap.i, j = pixel.j + g.left - tap.j;
        if (i < 0 || j < 0 || i % g.stride_h || j % g.stride_w) return 0;
        i /= g.stride_h, j /= g.stride_w;
        if (i >= g.out_h || j >= g.out_w) return 0;
        return y[(((int64)pixel.image * g.out_h + i) * g.out_w + j) * g.outputs + tap.channel];
    }
    __device__ S right(int, Place tap, int n) const {
        return w[((int64)(tap.i * g.kernel_w + tap.j) * g.channels + n) * g.outputs + tap.channel];
    }
};

// The gradient by w [taps, O] = patches of x turned [taps, pixels] g [pixels, O]
template <class S>
struct ByWeight {
    Geometry g;
    const S *x, *y;
    __device__ ByWeight(Geometry g, int64 t, const S* x, const S* y)
        : g(g), x(x + t * g.image_size()), y(y + t * g.result_size()) {}
    __device__ int rows() const { return g.kernel_h * g.kernel_w * g.channels; }
    __device__ int columns() const { return g.outputs; }
    __device__ int terms() const { return g.images * g.out_h * g.out_w; }
    __device__ Place row(int m) const { return place_in_filter(g, m, g.channels); }
    __device__ Place term(int k) const { return place_in_result(g, k); }
    __device__ S left(Place tap, Place pixel) const { return under(g, x, pixel, tap); }
    __device__ S right(int k, Place, int n) const { return y[(int64)k * g.outputs + n]; }
};

// Matrices a [T, M, K] and b [T, K, N] in any layout: their steps from one matrix, row and column to the next.
struct Layout {
    int64 item, row, column;
};
template <class S>
struct Matrices {
    int m, n, k;
    Layout of_a, of_b;
    const S *a, *b;
    __device__ int rows() const { return m; }
    __device__ int columns() const { return n; }
    __device__ int terms() const { return k; }
    __device__ int row(int m) const { return m; }
    __device__ int term(int k) const { return k; }
    __device__ S left(int m, int k) const { return a[m * of_a.row + k * of_a.column]; }
    __device__ S right(int k, int, int n) const { return b[k * of_b.row + n * of_b.column]; }
};

constexpr int TILE_M = 64, TILE_N = 64, TILE_K = 16, OWN_M = 8, OWN_N = 4, THREADS = TILE_M / OWN_M * TILE_N / OWN_N;

// A block's tile. In shared memory pieces lie by their terms, a number more than a tile apart.
template <class S, class Problem>
__device__ void tile(const Problem& problem, S* out) {
    SharedMemory shared;
    Shared<S> lefts = shared.take<S>(TILE_K * (TILE_M + 1)), rights = shared.take<S>(TILE_K * (TILE_N + 1));
    constexpr int at_once = THREADS / TILE_K, each = TILE_M / at_once;
    const int rows = problem.rows(), columns = problem.columns(), terms = problem.terms();
    const int first_m = blockIdx.y * TILE_M, first_n = blockIdx.x * TILE_N;
    const int load_k = threadIdx.x % TILE_K, load_m = threadIdx.x / TILE_K;
    decltype(problem.row(0)) loaded[each];
#pragma unroll
    for (int r = 0; r < each; r++) loaded[r] = problem.row(min(first_m + load_m + r * at_once, rows - 1));
    const int mine_m = threadIdx.x / (TILE_N / OWN_N) * OWN_M, mine_n = threadIdx.x % (TILE_N / OWN_N);
    S sum[OWN_M][OWN_N];
#pragma unroll
    for (int i = 0; i < OWN_M; i++)
#pragma unroll
        for (int j = 0; j < OWN_N; j++) sum[i][j] = 0;
    for (int k = 0; k < terms; k += TILE_K) {
        bool inside = k + load_k < terms;
        auto term = problem.term(min(k + load_k, terms - 1));
#pragma unroll
        for (int r = 0; r < each; r++) {
            int m = load_m + r * at_once;
            lefts[load_k * (TILE_M + 1) + m] = inside && first_m + m < rows ? problem.left(loaded[r], term) : S(0);
        }
        for (int i = threadIdx.x; i < TILE_K * TILE_N; i += THREADS) {
            int of_k = i / TILE_N, n = i % TILE_N;
            bool there = k + of_k < terms && first_n + n < columns;
            rights[of_k * (TILE_N + 1) + n] =
                there ? problem.right(k + of_k, problem.term(k + of_k), first_n + n) : S(0);
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < TILE_K; d++) {
            S left[OWN_M], right[OWN_N];
#pragma unroll
            for (int i = 0; i < OWN_M; i++) left[i] = lefts[d * (TILE_M + 1) + mine_m + i];
#pragma unroll
            for (int j = 0; j < OWN_N; j++) right[j] = rights[d * (TILE_N + 1) + mine_n + j * (TILE_N / OWN_N)];
#pragma unroll
            for (int i = 0; i < OWN_M; i++)
#pragma unroll
                for (int j = 0; j < OWN_N; j++) sum[i][j] += left[i] * right[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN_M; i++)
#pragma unroll
        for (int j = 0; j < OWN_N; j++) {
            int m = first_m + mine_m + i, n = first_n + mine_n + j * (TILE_N / OWN_N);
            if (m < rows && n < columns) out[(int64)m * columns + n] = sum[i][j];
        }
}

template <class S, template <class> class Problem>
__global__ void __launch_bounds__(THREADS)
convolution(TAKES(a), TAKES(b), GIVES(out), GEOMETRY) {
    Problem<S> problem(GEOMETRY_GIVEN, blockIdx.z, a_values, b_values);
    tile<S>(problem, out_values + (int64)blockIdx.z * problem.rows() * problem.columns());
}

template <class S>
__global__ void __launch_bounds__(THREADS)
matmul(TAKES(a), TAKES(b), GIVES(out), int m, int n, int k, int64 a_item, int64 a_row, int64 a_column, int64 b_item,
       int64 b_row, int64 b_column) {
    const int64 t = blockIdx.z;
    Matrices<S> problem{m, n, k, {a_item, a_row, a_column}, {b_item, b_row, b_column}, a_values + t * a_item, b_values + t * b_item};
    tile<S>(problem, out_values + t * m * n);
}
