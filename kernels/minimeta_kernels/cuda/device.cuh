// What all kernels share. The same source is compiled for a GPU by NVRTC, and with -DSHIM for a CPU by g++ (shim.h).
//
// A kernel is a template over its number type S, `float`, `double`, or `Dual` of one of them: a number with its
// derivative along one direction. The gradient of a gradient is the gradient's own code run on dual numbers, because
// the Hessian of <g, f(x)> is symmetric; see the README.

#ifdef SHIM
#include "shim.h"
using shim::Shared;
#else
template <class T>
using Shared = T*;
extern __shared__ __align__(16) unsigned char shared_memory[];
#endif

typedef long long int64;  // of positions in arrays

// ---------------------------------------------------------------- shared memory

// Hands out a block's shared memory piece by piece, whose size the host counts (`held` in the .py files).
class SharedMemory {
  public:
    template <class T>
    __device__ Shared<T> take(int count) {
        taken_ = (taken_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
#ifdef SHIM
        Shared<T> found{taken_};
#else
        Shared<T> found = reinterpret_cast<T*>(shared_memory + taken_);
#endif
        taken_ += count * sizeof(T);
        return found;
    }

  private:
    size_t taken_ = 0;
};

// ---------------------------------------------------------------- dual numbers

template <class R>
struct Dual {
    R value, tangent;

    __device__ Dual() {}
    __device__ Dual(R value, R tangent = 0) : value(value), tangent(tangent) {}
};

#define DUAL template <class R> __device__ __forceinline__
DUAL Dual<R> operator+(Dual<R> a, Dual<R> b) { return {a.value + b.value, a.tangent + b.tangent}; }
DUAL Dual<R> operator-(Dual<R> a, Dual<R> b) { return {a.value - b.value, a.tangent - b.tangent}; }
DUAL Dual<R> operator-(Dual<R> a) { return {-a.value, -a.tangent}; }
DUAL Dual<R> operator*(Dual<R> a, Dual<R> b) { return {a.value * b.value, a.tangent * b.value + a.value * b.tangent}; }
DUAL Dual<R> operator/(Dual<R> a, Dual<R> b) {
    R ratio = a.value / b.value;
    return {ratio, (a.tangent - ratio * b.tangent) / b.value};
}
DUAL Dual<R>& operator+=(Dual<R>& a, Dual<R> b) { return a = a + b; }
DUAL bool operator<(Dual<R> a, Dual<R> b) { return a.value < b.value; }
DUAL bool operator>(Dual<R> a, Dual<R> b) { return a.value > b.value; }
DUAL bool operator==(Dual<R> a, Dual<R> b) { return a.value == b.value; }

// Functions of one number: of a dual one by their slope.
__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
DUAL Dual<R> exponential(Dual<R> x) { R y = exponential(x.value); return {y, y * x.tangent}; }
__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }
DUAL Dual<R> root(Dual<R> x) { R y = root(x.value); return {y, x.tangent / (2 * y)}; }
__device__ inline float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ inline double hyperbolic_tangent(double x) { return tanh(x); }
DUAL Dual<R> hyperbolic_tangent(Dual<R> x) {
    R y = hyperbolic_tangent(x.value);
    return {y, (1 - y * y) * x.tangent};
}
#undef DUAL

// 1 / (1 + exp(-x)), with exp of negative numbers only: it does not overflow and keeps small values exact.
template <class S>
__device__ S sigmoid(S x) {
    bool below = x < S(0);
    S raised = exponential(below ? x : -x);
    return (below ? raised : S(1)) / (S(1) + raised);
}

// The numbers behind S, and arrays of S: of dual numbers two arrays, values and tangents, the second where there is one.
template <class S> struct Real { typedef S type; };
template <class R> struct Real<Dual<R>> { typedef R type; };

template <class S>
struct In {
    const S* values;
    __device__ In(const S* values, const S* tangents) : values(values) {}
    __device__ S operator[](int64 i) const { return values[i]; }
    __device__ In operator+(int64 i) const { return {values + i, nullptr}; }
    __device__ S at_or_zero(int64 i) const { return values ? values[i] : S(0); }
};
template <class R>
struct In<Dual<R>> {
    const R *values, *tangents;
    __device__ In(const R* values, const R* tangents) : values(values), tangents(tangents) {}
    __device__ Dual<R> operator[](int64 i) const { return {values[i], tangents ? tangents[i] : R(0)}; }
    __device__ In operator+(int64 i) const { return {values + i, tangents ? tangents + i : nullptr}; }
    __device__ Dual<R> at_or_zero(int64 i) const { return values ? (*this)[i] : Dual<R>(0); }
};

template <class S>
struct Out {
    S* values;
    __device__ Out(S* values, S* tangents) : values(values) {}
    __device__ void write(int64 i, S value) const { values[i] = value; }
    __device__ Out operator+(int64 i) const { return {values + i, nullptr}; }
};
template <class R>
struct Out<Dual<R>> {
    R *values, *tangents;  // either may be missing
    __device__ Out(R* values, R* tangents) : values(values), tangents(tangents) {}
    __device__ void write(int64 i, Dual<R> value) const {
        if (values) values[i] = value.value;
        if (tangents) tangents[i] = value.tangent;
    }
    __device__ Out operator+(int64 i) const { return {values ? values + i : nullptr, tangents ? tangents + i : nullptr}; }
};

// A kernel's parameters, and the arrays made of them.
#define REAL typename Real<S>::type
#define TAKES(name) const REAL *__restrict__ name##_values, const REAL *__restrict__ name##_tangents
#define GIVES(name) REAL *__restrict__ name##_values, REAL *__restrict__ name##_tangents
#define TAKEN(name) In<S>(name##_values, name##_tangents)
#define GIVEN(name) Out<S>(name##_values, name##_tangents)

// ---------------------------------------------------------------- sums over a warp, always in the same order

template <class R>
__device__ R lane_xor(R value, int bits) { return __shfl_xor_sync(0xffffffffu, value, bits); }
template <class R>
__device__ Dual<R> lane_xor(Dual<R> x, int bits) { return {lane_xor(x.value, bits), lane_xor(x.tangent, bits)}; }

template <class S>
__device__ S warp_sum(S value) {
    for (int bits = 16; bits; bits /= 2) value = value + lane_xor(value, bits);
    return value;
}
template <class S>
__device__ S warp_largest(S value) {
    for (int bits = 16; bits; bits /= 2) {
        S other = lane_xor(value, bits);
        if (other > value) value = other;
    }
    return value;
}
