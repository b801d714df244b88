// Batch norm by each task's own statistics, ReLU, and max-pooling in windows of SIDE x SIDE, 1 or 2. Equations:
// reference/batch_norm.py and norm_relu_pool.py
//
// x [T, B, H, W, C]. What is summed has a block for 32 channels of a task: a warp reads neighbours, its threads have a
// channel each, and the warps' sums are added up in order.
#include "device.cuh"

constexpr int WARPS = 16;

// Every warp's part of a sum, of its lane's channel, becomes the whole of it. Takes WARPS * 32 of shared memory.
template <class S>
__device__ S block_sum(S part, Shared<S> parts) {
    parts[threadIdx.x] = part;
    __syncthreads();
    S sum = 0;
    for (int w = 0; w < WARPS; w++) sum += S(parts[w * 32 + threadIdx.x % 32]);
    __syncthreads();
    return sum;
}

// Mean and (biased) variance [T, C] of x [T, pixels, C], by two passes: sums of squares would cancel.
template <class S>
__global__ void __launch_bounds__(WARPS * 32)
statistics(TAKES(x), GIVES(mean), GIVES(var), int pixels, int channels) {
    SharedMemory shared;
    Shared<S> parts = shared.take<S>(WARPS * 32);
    const int warp = threadIdx.x / 32, c = blockIdx.x * 32 + threadIdx.x % 32;
    const bool inside = c < channels;
    const int64 t = blockIdx.y;
    In<S> own = TAKEN(x) + (t * pixels * channels + (inside ? c : 0));
    S sum = 0;
    for (int p = warp; p < pixels; p += WARPS) sum += own[(int64)p * channels];
    S middle = block_sum(sum, parts) / S(pixels), squares = 0;
    for (int p = warp; p < pixels; p += WARPS) {
        S d = own[(int64)p * channels] - middle;
        squares += d * d;
    }
    S spread = block_sum(squares, parts) / S(pixels);
    if (warp == 0 && inside) {
        GIVEN(mean).write(t * channels + c, middle);
        GIVEN(var).write(t * channels + c, spread);
    }
}

// One channel's batch norm.
template <class S>
struct Norm {
    S mean, r, gamma, beta;
    __device__ Norm(In<S> mean, In<S> var, In<S> gamma, In<S> beta, int64 at, REAL eps)
        : mean(mean[at]), r(S(1) / root(var[at] + S(eps))), gamma(gamma[at]), beta(beta[at]) {}
    __device__ S hat(S x) const { return (x - mean) * r; }
    __device__ S of(S x) const { return hat(x) * gamma + beta; }
};
#define TAKES_NORM TAKES(mean), TAKES(var), TAKES(gamma), TAKES(beta)
#define NORM(at) Norm<S>(TAKEN(mean), TAKEN(var), TAKEN(gamma), TAKEN(beta), at, eps)

// pooled and the winners' inputs, top [T, B, H / SIDE, W / SIDE, C]; a thread each.
template <class S, int SIDE>
__global__ void __launch_bounds__(128)
normalise(TAKES(x), TAKES_NORM, GIVES(pooled), GIVES(top), int64 count, int images, int height, int width, int channels,
          REAL eps) {
    int64 n = (int64)blockIdx.x * 128 + threadIdx.x;
    if (n >= count) return;
    const int across = width / SIDE, down = height / SIDE;
    const int c = n % channels, j = n / channels % across, i = n / channels / across % down;
    const int64 image = n / channels / across / down;
    Norm<S> norm = NORM(image / images * channels + c);
    In<S> window = TAKEN(x) + (((image * height + i * SIDE) * width + j * SIDE) * channels + c);
    S best = 0, winner = 0;
#pragma unroll
    for (int q = 0; q < SIDE * SIDE; q++) {
        S pixel = window[((int64)(q / SIDE) * width + q % SIDE) * channels], z = norm.of(pixel);
        if (q == 0 || z > best) best = z, winner = pixel;
    }
    GIVEN(pooled).write(n, best < S(0) ? S(0) : best);
    GIVEN(top).write(n, winner);
}

// Sums [T, C] over windows of g where they are alive, and of g x_hat: the gradients by beta and gamma.
template <class S>
__global__ void __launch_bounds__(WARPS * 32)
sums(TAKES(g), TAKES(top), TAKES_NORM, GIVES(g_gamma), GIVES(g_beta), int windows, int channels, REAL eps) {
    SharedMemory shared;
    Shared<S> parts = shared.take<S>(WARPS * 32);
    const int warp = threadIdx.x / 32, c = blockIdx.x * 32 + threadIdx.x % 32;
    const bool inside = c < channels;
    const int64 t = blockIdx.y;
    Norm<S> norm = NORM(t * channels + (inside ? c : 0));
    const int64 first = t * windows * channels + (inside ? c : 0);
    In<S> own_g = TAKEN(g) + first, own_top = TAKEN(top) + first;
    S sum = 0, along = 0;
    for (int w = warp; w < windows; w += WARPS) {
        S winner = own_top[(int64)w * channels];
        if (norm.of(winner) > S(0)) {
            S pulled = own_g[(int64)w * channels];
            sum += pulled, along += pulled * norm.hat(winner);
        }
    }
    sum = block_sum(sum, parts), along = block_sum(along, parts);
    if (warp == 0 && inside) {
        GIVEN(g_gamma).write(t * channels + c, along);
        GIVEN(g_beta).write(t * channels + c, sum);
    }
}

// The gradient by x: gamma r (g - mean(g) - x_hat mean(g x_hat)), g at the winners; a thread a pixel.
template <class S, int SIDE>
__global__ void __launch_bounds__(128)
spread(TAKES(g), TAKES(top), TAKES(x), TAKES_NORM, TAKES(g_gamma), TAKES(g_beta), GIVES(to_x), int64 count, int images,
       int height, int width, int channels, REAL eps) {
    int64 n = (int64)blockIdx.x * 128 + threadIdx.x;
    if (n >= count) return;
    const int across = width / SIDE, down = height / SIDE;
    const int c = n % channels, j = n / channels % width, i = n / channels / width % height;
    const int64 image = n / channels / width / height, of = image / images * channels + c;
    Norm<S> norm = NORM(of);
    S own = TAKEN(x)[n], pulled = 0;
    if (i / SIDE < down && j / SIDE < across) {
        int64 window = ((image * down + i / SIDE) * across + j / SIDE) * channels + c;
        S winner = TAKEN(top)[window];
        bool won = own == winner && norm.of(winner) > S(0);
        In<S> corner = TAKEN(x) + (((image * height + i / SIDE * SIDE) * width + j / SIDE * SIDE) * channels + c);
        for (int q = 0; q < i % SIDE * SIDE + j % SIDE; q++)  // of equals the first
            if (corner[((int64)(q / SIDE) * width + q % SIDE) * channels] == winner) won = false;
        if (won) pulled = TAKEN(g)[window];
    }
    S pixels = (REAL)((int64)images * height * width);
    S centred = pulled - TAKEN(g_beta)[of] / pixels - norm.hat(own) * TAKEN(g_gamma)[of] / pixels;
    GIVEN(to_x).write(n, norm.gamma * norm.r * centred);
}
