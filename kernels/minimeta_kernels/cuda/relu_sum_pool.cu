// Max-pooling of the sum of two ReLUs, in windows of 2 x 2. Equations: reference/relu_sum_pool.py
//
// x1, x2 [B, H, W, C]. A block has a row of windows, a thread one channel of a window after another.
#include "device.cuh"

// Where the pixels of a row's n-th window and channel are, q = 0 to 3, row by row; some are beyond the edge.
struct Window {
    int64 corner;
    int width, channels;
    bool lower, right;
    __device__ Window(int n, int height, int width, int channels) : width(width), channels(channels) {
        const int down = (height + 1) / 2, i = blockIdx.x % down * 2, j = n / channels * 2;
        corner = (((int64)(blockIdx.x / down) * height + i) * width + j) * channels + n % channels;
        lower = i + 1 < height, right = j + 1 < width;
    }
    __device__ bool has(int q) const { return (lower || q < 2) && (right || q % 2 == 0); }
    __device__ int64 at(int q) const { return corner + ((int64)(q / 2) * width + q % 2) * channels; }
};

template <class S>
__device__ S relu(S x) { return x < S(0) ? S(0) : x; }  // NaN stays

template <class S>
__device__ S largest(Window window, In<S> x1, In<S> x2) {
    S best = 0;
#pragma unroll
    for (int q = 0; q < 4; q++) {
        if (!window.has(q)) continue;
        S sum = relu(x1[window.at(q)]) + relu(x2[window.at(q)]);
        if (sum > best || sum != sum) best = sum;
    }
    return best;
}

// y [B, ceil(H / 2), ceil(W / 2), C]
template <class S>
__global__ void __launch_bounds__(128)
relu_sum_pool(TAKES(x1), TAKES(x2), GIVES(y), int height, int width, int channels) {
    const int row = (width + 1) / 2 * channels;
    for (int n = threadIdx.x; n < row; n += blockDim.x) {
        Window window(n, height, width, channels);
        GIVEN(y).write((int64)blockIdx.x * row + n, largest(window, TAKEN(x1), TAKEN(x2)));
    }
}

// The gradient goes to the first of a window's pixels that are the largest, and there to those of two above zero.
template <class S>
__global__ void __launch_bounds__(128)
relu_sum_pool_vjp(TAKES(g), TAKES(x1), TAKES(x2), GIVES(to_x1), GIVES(to_x2), int height, int width, int channels) {
    const int row = (width + 1) / 2 * channels;
    for (int n = threadIdx.x; n < row; n += blockDim.x) {
        Window window(n, height, width, channels);
        S best = largest(window, TAKEN(x1), TAKEN(x2)), left = TAKEN(g)[(int64)blockIdx.x * row + n], none = 0;
#pragma unroll
        for (int q = 0; q < 4; q++) {
            if (!window.has(q)) continue;
            const int64 at = window.at(q);
            S first = TAKEN(x1)[at], second = TAKEN(x2)[at];
            bool won = relu(first) + relu(second) == best;
            GIVEN(to_x1).write(at, won && first > none ? left : none);
            GIVEN(to_x2).write(at, won && second > none ? left : none);
            if (won) left = none;
        }
    }
}
