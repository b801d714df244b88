// Runs CUDA C++ on a CPU: one fiber per CUDA thread, block after block. What a GPU lets pass and answers with wrong
// numbers, now and then, is an error here, every time:
//
//   a barrier that not all threads of a block reach, or reach at different places; a deadlock
//   a shuffle with a lane that is not in its mask, or by lanes at different places
//   shared memory read before it is written, beyond its end, or by one thread while another writes it
//   arrays accessed beyond their ends, outputs not written, inputs written
//
// Threads and blocks run in random orders. It does not see memory fences, bank conflicts, whether vectors are aligned (no
// kernel loads any), nor how fast anything is.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <algorithm>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

using std::max;
using std::min;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    unsigned size() const { return x * y * z; }
};

namespace shim {

enum State { READY, AT_BARRIER, AT_WARP, DONE };

// A context is made once and entered by setcontext; from then on, going to and fro is a jump, which does without the
// system calls of swapcontext and is some twenty times as fast.
struct Fiber {
    ucontext_t context;
    jmp_buf resumption;
    char* stack = nullptr;
    bool made = false;
    dim3 index;
    unsigned number;       // in the block
    State state;
    const void* place;     // of the barrier or shuffle it waits at
    int line;
    unsigned mask;
    unsigned exchanges;    // shuffles so far
    unsigned warp_epoch;   // __syncwarp and shuffles so far: what separates accesses within a warp
};

inline std::vector<Fiber> fibers;
inline jmp_buf scheduler;
inline Fiber* current;
inline dim3 block_index, block_size, grid_size;
inline unsigned epoch;     // barriers of the block so far
inline uint64_t slots[64][2][32][2];
inline void (*body)(void*);
inline void* body_argument;
inline std::string error;
inline sigjmp_buf exit_point;

[[noreturn]] inline void fail(const std::string& what) {
    char where[128] = "";
    if (current)
        std::snprintf(where, sizeof where, " (block %u,%u,%u thread %u,%u,%u)", block_index.x, block_index.y,
                      block_index.z, current->index.x, current->index.y, current->index.z);
    error = what + where;
    siglongjmp(exit_point, 1);
}

// ---------------------------------------------------------------- barriers and shuffles

inline void yield() {
    if (!_setjmp(current->resumption)) _longjmp(scheduler, 1);
}

__attribute__((noinline)) inline void barrier(int line) {
    current->state = AT_BARRIER;
    current->place = __builtin_return_address(0);
    current->line = line;
    yield();
}

__attribute__((noinline)) inline void wait_for_warp(unsigned mask, int line, const void* place) {
    if (!(mask >> current->number % 32 & 1)) fail("line " + std::to_string(line) + ": a lane that is not in its own mask");
    current->state = AT_WARP;
    current->place = place;
    current->line = line;
    current->mask = mask;
    yield();
}

template <class T>
__attribute__((noinline)) T shuffle(unsigned mask, T value, int from, int line) {
    static_assert(sizeof(T) <= sizeof slots[0][0][0], "too large to shuffle");
    unsigned warp = current->number / 32, lane = current->number % 32, turn = current->exchanges++ & 1;
    if (from < 0 || from > 31 || !(mask >> from & 1))
        fail("line " + std::to_string(line) + ": a shuffle from lane " + std::to_string(from) + ", which is not in its mask");
    std::memcpy(slots[warp][turn][lane], &value, sizeof value);
    wait_for_warp(mask, line, __builtin_return_address(0));
    T result;
    std::memcpy(&result, slots[warp][turn][from], sizeof result);
    return result;
}

// ---------------------------------------------------------------- shared memory, every access of it checked

struct Cell {              // of each byte that begins a value
    bool written = false;
    unsigned writer = 0, write_epoch = ~0u, write_warp_epoch = 0;
    unsigned read_epoch = ~0u, readers = 0;        // the warps that have read it since the last barrier
    unsigned warp = 0, read_warp_epoch = 0, lanes = 0;  // the last of them, and its lanes since its last shuffle
};

inline std::vector<char> shared_bytes;
inline std::vector<Cell> cells;

// What another thread did to this value with nothing since then that keeps the two apart.
inline bool written_meanwhile(const Cell& cell) {
    if (!cell.written || cell.writer == current->number || cell.write_epoch != epoch) return false;
    return cell.writer / 32 != current->number / 32 || cell.write_warp_epoch == current->warp_epoch;
}

inline bool read_meanwhile(const Cell& cell) {
    unsigned warp = current->number / 32, lane = current->number % 32;
    if (cell.read_epoch != epoch) return false;
    if (cell.readers & ~(1u << warp)) return true;
    return cell.read_warp_epoch == current->warp_epoch && cell.lanes & ~(1u << lane);
}

inline Cell& cell_at(size_t at, size_t size) {
    if (at + size > shared_bytes.size()) fail("shared memory accessed beyond its end");
    return cells[at];
}

inline void on_read(size_t at, size_t size) {
    Cell& cell = cell_at(at, size);
    if (!cell.written) fail("shared memory read before it is written");
    if (written_meanwhile(cell)) fail("shared memory read while thread " + std::to_string(cell.writer) + " writes it");
    unsigned warp = current->number / 32, lane = current->number % 32;
    if (cell.read_epoch != epoch) cell.read_epoch = epoch, cell.readers = cell.lanes = 0;
    if (cell.warp != warp || cell.read_warp_epoch != current->warp_epoch) cell.lanes = 0;
    cell.warp = warp, cell.read_warp_epoch = current->warp_epoch;
    cell.readers |= 1u << warp, cell.lanes |= 1u << lane;
}

inline void on_write(size_t at, size_t size) {
    Cell& cell = cell_at(at, size);
    if (written_meanwhile(cell)) fail("shared memory written by thread " + std::to_string(cell.writer) + " too");
    if (read_meanwhile(cell)) fail("shared memory written while other threads read it");
    cell.written = true;
    cell.writer = current->number, cell.write_epoch = epoch, cell.write_warp_epoch = current->warp_epoch;
}

template <class T>
struct SharedValue {
    size_t at;
    operator T() const {
        on_read(at, sizeof(T));
        T value;
        std::memcpy(&value, &shared_bytes[at], sizeof value);
        return value;
    }
    T operator=(T value) const {
        on_write(at, sizeof(T));
        std::memcpy(&shared_bytes[at], &value, sizeof value);
        return value;
    }
    T operator=(const SharedValue& other) const { return *this = T(other); }
    T operator+=(T value) const { return *this = T(*this) + value; }
};

template <class T>
struct Shared {
    size_t at = 0;
    SharedValue<T> operator[](int64_t i) const { return {at + i * sizeof(T)}; }
    Shared operator+(int64_t i) const { return {at + i * sizeof(T)}; }
};

inline void begin_shared(size_t bytes) {
    shared_bytes.assign(bytes, char(0xff));  // a NaN, should anything reach it
    cells.assign(bytes, Cell{});
}

// ---------------------------------------------------------------- a block, a grid

// A fiber's life: a thread of one block after another.
inline void enter() {
    for (;;) {
        body(body_argument);
        current->state = DONE;
        yield();
    }
}

inline void make(Fiber& fiber) {
    const size_t bytes = 256 << 10;
    if (!fiber.stack) {
        void* stack = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(stack, sysconf(_SC_PAGESIZE), PROT_NONE);
        fiber.stack = static_cast<char*>(stack);
    }
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
}

// Go on with a fiber until it yields.
inline void resume(Fiber& fiber) {
    current = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.made) _longjmp(fiber.resumption, 1);
    fiber.made = true;
    setcontext(&fiber.context);
}

inline void begin_fibers(unsigned count) {
    if (fibers.size() < 1024) fibers.resize(1024);  // of which none may move later
    for (unsigned i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        fiber.number = i;
        fiber.index = dim3(i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y);
        fiber.state = READY;
        fiber.exchanges = fiber.warp_epoch = 0;
        if (!fiber.made) make(fiber);
    }
}

// Wake the lanes of a warp that all wait at one place for each other.
inline bool release_warp(unsigned first, unsigned count) {
    unsigned waiting = 0, wanted = 0;
    Fiber* any = nullptr;
    for (unsigned i = first; i < std::min(first + 32, count); i++) {
        Fiber& fiber = fibers[i];
        if (fiber.state != AT_WARP) continue;
        waiting |= 1u << i % 32;
        wanted |= fiber.mask;
        if (any && any->place != fiber.place)
            fail("lanes of a warp at lines " + std::to_string(any->line) + " and " + std::to_string(fiber.line));
        any = &fiber;
    }
    if (!waiting || waiting != wanted) return false;
    for (unsigned i = first; i < std::min(first + 32, count); i++)
        if (fibers[i].state == AT_WARP) fibers[i].state = READY, fibers[i].warp_epoch++;
    return true;
}

// Wake all threads of a block that wait at one barrier.
inline bool release_block(unsigned count) {
    Fiber* any = nullptr;
    unsigned waiting = 0, done = 0;
    for (unsigned i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        done += fiber.state == DONE;
        if (fiber.state != AT_BARRIER) continue;
        waiting++;
        if (any && any->place != fiber.place)
            fail("__syncthreads at lines " + std::to_string(any->line) + " and " + std::to_string(fiber.line));
        any = &fiber;
    }
    if (!waiting || waiting + done < count) return false;
    if (done) fail("line " + std::to_string(any->line) + ": threads have ended that a barrier waits for");
    for (unsigned i = 0; i < count; i++) fibers[i].state = READY;
    epoch++;
    return true;
}

inline void run_block(std::mt19937& random) {
    unsigned count = block_size.size();
    begin_fibers(count);
    epoch = 0;
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; i++) order[i] = i;
    for (;;) {
        std::shuffle(order.begin(), order.end(), random);
        bool moved = false, alive = false;
        for (unsigned i : order)
            if (fibers[i].state == READY) {
                moved = true;
                resume(fibers[i]);
            }
        current = nullptr;
        for (unsigned first = 0; first < count; first += 32) moved |= release_warp(first, count);
        for (unsigned i = 0; i < count; i++) alive |= fibers[i].state != DONE;
        if (!alive) return;
        moved |= release_block(count);
        if (!moved) fail("a deadlock");
    }
}

// ---------------------------------------------------------------- arrays: copies with a wall behind them

enum Mode { SCALAR, INPUT, OUTPUT };

constexpr uint32_t UNWRITTEN = 0x7fc0dead;

struct Array {
    char *region, *begin;
    size_t mapped, bytes;

    Array(const void* source, size_t bytes, bool output) : bytes(bytes) {
        size_t page = sysconf(_SC_PAGESIZE);
        mapped = (bytes + 15 + page - 1) / page * page + page;
        region = static_cast<char*>(mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        mprotect(region + mapped - page, page, PROT_NONE);
        // as far to the end as an array lies that begins like the original in its 16 bytes
        size_t start = mapped - page - bytes, align = reinterpret_cast<uintptr_t>(source) % 16;
        while (start % 16 != align) start--;
        begin = region + start;
        if (output)
            for (size_t i = 0; i + 4 <= bytes; i += 4) std::memcpy(begin + i, &UNWRITTEN, 4);
        else
            std::memcpy(begin, source, bytes);
    }
    ~Array() { munmap(region, mapped); }
    Array(const Array&) = delete;
};

inline void on_fault(int) { fail("an array accessed beyond its end"); }

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::decay_t<A>*>(arguments[I])...);
}

// Runs a grid; what went wrong, or null. `sizes` and `modes` are those of the arguments that are arrays.
template <class... A>
const char* launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, size_t shared, void** arguments,
                   const size_t* sizes, const int* modes, unsigned seed) {
    constexpr size_t count = sizeof...(A);
    std::vector<Array*> arrays(count, nullptr);
    std::vector<char*> pointers(count, nullptr);
    std::vector<void*> given(arguments, arguments + count);
    for (size_t i = 0; i < count; i++)
        if (modes[i] != SCALAR && *static_cast<char**>(arguments[i])) {
            arrays[i] = new Array(*static_cast<char**>(arguments[i]), sizes[i], modes[i] == OUTPUT);
            pointers[i] = arrays[i]->begin;
            given[i] = &pointers[i];
        }
    struct Call {
        void (*kernel)(A...);
        void** arguments;
    } wanted{kernel, given.data()};
    body_argument = &wanted;
    body = [](void* what) {
        auto wanted = static_cast<Call*>(what);
        call(wanted->kernel, wanted->arguments, std::index_sequence_for<A...>{});
    };
    grid_size = dim3(grid[0], grid[1], grid[2]);
    block_size = dim3(block[0], block[1], block[2]);
    error.clear();

    static char handler_stack[64 << 10];
    stack_t on_own_stack{handler_stack, 0, sizeof handler_stack}, stack_before;
    struct sigaction action{}, segv_before, bus_before;
    action.sa_handler = on_fault;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    sigaltstack(&on_own_stack, &stack_before);
    sigaction(SIGSEGV, &action, &segv_before);
    sigaction(SIGBUS, &action, &bus_before);

    if (sigsetjmp(exit_point, 1) == 0) {
        current = nullptr;
        if (block_size.size() > 1024) fail("a block of more than 1024 threads");
        std::mt19937 random(seed);
        std::vector<unsigned> order(grid_size.size());
        for (unsigned i = 0; i < order.size(); i++) order[i] = i;
        std::shuffle(order.begin(), order.end(), random);
        for (unsigned i : order) {
            block_index = dim3(i % grid_size.x, i / grid_size.x % grid_size.y, i / grid_size.x / grid_size.y);
            begin_shared(shared);
            run_block(random);
        }
        for (size_t i = 0; i < count; i++) {
            if (!arrays[i]) continue;
            char* original = *static_cast<char**>(arguments[i]);
            if (modes[i] == INPUT) {
                if (std::memcmp(original, arrays[i]->begin, sizes[i])) fail("argument " + std::to_string(i) + ", an input, was written");
                continue;
            }
            for (size_t at = 0; at + 4 <= sizes[i]; at += 4)
                if (!std::memcmp(arrays[i]->begin + at, &UNWRITTEN, 4))
                    fail("argument " + std::to_string(i) + ": byte " + std::to_string(at) + " was not written");
            std::memcpy(original, arrays[i]->begin, sizes[i]);
        }
    }
    sigaction(SIGSEGV, &segv_before, nullptr);
    sigaction(SIGBUS, &bus_before, nullptr);
    sigaltstack(&stack_before, nullptr);
    if (!error.empty())
        for (Fiber& fiber : fibers) fiber.made = false;  // some are in the middle of the kernel
    for (Array* array : arrays) delete array;
    return error.empty() ? nullptr : error.c_str();
}

}  // namespace shim

#define threadIdx (shim::current->index)
#define blockIdx shim::block_index
#define blockDim shim::block_size
#define gridDim shim::grid_size
#define __syncthreads() shim::barrier(__LINE__)
#define __syncwarp(...) shim::wait_for_warp(0xffffffffu, __LINE__, __builtin_return_address(0))
#define __shfl_sync(mask, value, lane) shim::shuffle(mask, value, int(lane), __LINE__)
#define __shfl_xor_sync(mask, value, bits) shim::shuffle(mask, value, int(shim::current->number % 32 ^ (bits)), __LINE__)

// One function per instance of a kernel, for the caller.
#define SHIM_EXPORT(number, ...)                                                                                      \
    extern "C" const char* run_##number(const unsigned* grid, const unsigned* block, size_t shared, void** arguments,  \
                                        const size_t* sizes, const int* modes, unsigned seed) {                        \
        return shim::launch(&__VA_ARGS__, grid, block, shared, arguments, sizes, modes, seed);                         \
    }
