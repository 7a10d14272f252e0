/* A small pool of threads, and matrix products cut over it.

A job is cut into blocks. The caller and the workers claim blocks one by one; the caller
takes what nobody has claimed, so it never waits for a worker that has not begun. A worker
without a job looks for one for some microseconds, then sleeps. One job runs at a time: a
second caller computes its own job alone. */

#define _GNU_SOURCE /* affinities */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "array.h"

enum { MOST = 256 };   /* threads */
enum { LOOKS = 2000 }; /* for a job, or for the end of one, before a thread sleeps */

#define LATE 1e-3     /* seconds that a worker takes to begin if all cores are busy */
#define PATIENCE 1.0 /* seconds until it is assumed that one is free again */

/* A ticket is the number of a job, times 2^32, plus the block to claim next. */
static const uint64_t BLOCK = 0xffffffff; /* as a block: none is left */

static struct {
    atomic_flag busy; /* a job is running */
    _Atomic(uint64_t) ticket;
    _Atomic(part) function;
    _Atomic(const void *) call;
    atomic_long n, blocks, finished;
    atomic_int threads, workers, sleeping;
    pthread_mutex_t mutex;
    pthread_cond_t begun, ended;
    pthread_t known[MOST]; /* the workers */
    atomic_int core;       /* of the caller; the workers keep off it */
    _Atomic(double) called, crowded; /* when workers were woken; until when none is free */
} pool = {.busy = ATOMIC_FLAG_INIT, .ticket = BLOCK, .threads = 1,
          .mutex = PTHREAD_MUTEX_INITIALIZER, .begun = PTHREAD_COND_INITIALIZER,
          .ended = PTHREAD_COND_INITIALIZER};

static void look(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int left(uint64_t ticket) {
    return (long)(ticket & BLOCK) < atomic_load(&pool.blocks);
}

/* Claim and compute blocks until none is left; return whether there was one. */
static int work(void) {
    int found = 0;
    uint64_t ticket = atomic_load(&pool.ticket);
    while (left(ticket)) {
        /* These belong to the ticket's job if the exchange below succeeds: the next job
           changes the ticket before it changes them. */
        long n = atomic_load(&pool.n), blocks = atomic_load(&pool.blocks);
        part function = atomic_load(&pool.function);
        const void *call = atomic_load(&pool.call);
        if (!atomic_compare_exchange_strong(&pool.ticket, &ticket, ticket + 1))
            continue;
        found = 1;
        long block = (long)(ticket & BLOCK);
        function(call, n * block / blocks, n * (block + 1) / blocks);
        if (atomic_fetch_add(&pool.finished, 1) + 1 == blocks) {
            pthread_mutex_lock(&pool.mutex);
            pthread_cond_signal(&pool.ended);
            pthread_mutex_unlock(&pool.mutex);
        }
        ticket = atomic_load(&pool.ticket);
    }
    return found;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

/* Linux often wakes a thread on the core of the thread that wakes it. There it waits, up
   to 40 ms, while that thread computes. So the workers keep off the core of the caller.
   If other programs use all cores, a worker among them begins late, and ends late: then
   it is better on the core of the caller, and the system moves the other programs. */
#ifdef __linux__
static cpu_set_t cores; /* of the last caller */

static void make_room(void) {
    int core = sched_getcpu();
    double now = seconds();
    atomic_store(&pool.called, now);
    if (core == pool.core || now < atomic_load(&pool.crowded) || core < 0 ||
        pthread_getaffinity_np(pthread_self(), sizeof cores, &cores))
        return;
    pool.core = core;
    cpu_set_t others = cores;
    if (CPU_COUNT(&cores) > 1)
        CPU_CLR(core, &others);
    for (int k = 0; k < atomic_load(&pool.workers); ++k)
        pthread_setaffinity_np(pool.known[k], sizeof others, &others);
}

static void begin(void) {
    double now = seconds();
    if (pool.core < 0 || now - atomic_load(&pool.called) < LATE)
        return;
    atomic_store(&pool.crowded, now + PATIENCE);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(pool.core, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
    pool.core = -1;
}
#else
static void make_room(void) {}
static void begin(void) {}
#endif

static void *worker(void *unused) {
    for (;;) {
        for (int looks = 0; looks < LOOKS; ++looks) {
            if (work())
                looks = 0;
            look();
        }
        pthread_mutex_lock(&pool.mutex);
        atomic_fetch_add(&pool.sleeping, 1);
        while (!left(atomic_load(&pool.ticket)))
            pthread_cond_wait(&pool.begun, &pool.mutex);
        atomic_fetch_sub(&pool.sleeping, 1);
        pthread_mutex_unlock(&pool.mutex);
        begin();
    }
    return unused;
}

/* Start workers until there are `wanted`, or as many as the system gives. */
static void hire(int wanted) {
    sigset_t all, before;
    sigfillset(&all); /* signals are for the threads of Python */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (atomic_load(&pool.workers) < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, NULL))
            break;
        pthread_detach(thread);
        pool.known[atomic_fetch_add(&pool.workers, 1)] = thread;
        pool.core = -1; /* the new one may use all cores */
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Compute [0, n) by the pool, in blocks of `least` or more. */
static void run(part function, const void *call, long n, long least) {
    long blocks = least > 0 ? n / least : n, threads = atomic_load(&pool.threads);
    blocks = blocks < threads ? blocks : threads;
    if (blocks < 2 || atomic_flag_test_and_set(&pool.busy)) {
        function(call, 0, n);
        return;
    }
    hire((int)blocks - 1);
    uint64_t job = (atomic_load(&pool.ticket) & ~BLOCK) + BLOCK + 1;
    atomic_store(&pool.ticket, job | BLOCK); /* an old ticket claims nothing from here */
    atomic_store(&pool.n, n);
    atomic_store(&pool.blocks, blocks);
    atomic_store(&pool.function, function);
    atomic_store(&pool.call, call);
    atomic_store(&pool.finished, 0);
    atomic_store(&pool.ticket, job);
    make_room();
    if (atomic_load(&pool.sleeping)) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.begun);
        pthread_mutex_unlock(&pool.mutex);
    }
    work();
    for (int looks = 0; looks < LOOKS && atomic_load(&pool.finished) < blocks; ++looks)
        look();
    if (atomic_load(&pool.finished) < blocks) {
        pthread_mutex_lock(&pool.mutex);
        while (atomic_load(&pool.finished) < blocks)
            pthread_cond_wait(&pool.ended, &pool.mutex);
        pthread_mutex_unlock(&pool.mutex);
    }
    atomic_flag_clear(&pool.busy);
}

/* A child process has no workers, and no job. */
static void forked(void) {
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.begun, NULL);
    pthread_cond_init(&pool.ended, NULL);
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.sleeping, 0);
    atomic_store(&pool.ticket, atomic_load(&pool.ticket) | BLOCK);
    atomic_flag_clear(&pool.busy);
}

/* At exit the running job ends, and no other one begins. */
static void leave(void) {
    while (atomic_flag_test_and_set(&pool.busy))
        look();
}

/* --- Matrix products ------------------------------------------------------------- */

/* OpenBLAS's, with integers of 64 bits: by rows is 101, as stored 111, transposed 112. */
typedef void (*gemm32)(int, int, int, int64_t, int64_t, int64_t, float, const float *,
                       int64_t, const float *, int64_t, float, float *, int64_t);
typedef void (*gemm64)(int, int, int, int64_t, int64_t, int64_t, double, const double *,
                       int64_t, const double *, int64_t, double, double *, int64_t);
typedef void (*gemv32)(int, int, int64_t, int64_t, float, const float *, int64_t,
                       const float *, int64_t, float, float *, int64_t);
typedef void (*gemv64)(int, int, int64_t, int64_t, double, const double *, int64_t,
                       const double *, int64_t, double, double *, int64_t);
static struct {
    gemm32 sgemm;
    gemm64 dgemm;
    gemv32 sgemv;
    gemv64 dgemv;
    int copies_all; /* it copies the factors of small products too */
} blas;

typedef struct {
    char *data;
    int64_t rows, columns, step; /* of the matrix, and from line to line in entries */
    int turned;                  /* stored by columns */
} matrix;

typedef struct {
    matrix a, b, out;
    int wide; /* cut into columns, not rows */
    int dtype;
} product_call;

enum { STRIP = 16 }; /* rows or columns of a block are a multiple of this */
enum { WORK = 1 << 19 }; /* multiply-adds that are worth a thread */

static matrix transposed(matrix m) {
    return (matrix){m.data, m.columns, m.rows, m.step, !m.turned};
}

static void *entry(const matrix *m, int64_t row, int64_t column, int dtype) {
    int64_t place = m->turned ? column * m->step + row : row * m->step + column;
    return (char *)m->data + place * width(dtype);
}

/* Return some rows of a matrix, or some of its columns. */
static matrix rows_of(const matrix *m, int64_t from, int64_t count, int dtype) {
    return (matrix){entry(m, from, 0, dtype), count, m->columns, m->step, m->turned};
}

static matrix columns_of(const matrix *m, int64_t from, int64_t count, int dtype) {
    return (matrix){entry(m, 0, from, dtype), m->rows, count, m->step, m->turned};
}

/* Write a b to out, or add it. */
static void multiply(const matrix *a, const matrix *b, const matrix *out, int add,
                     int dtype) {
    int ta = a->turned ? 112 : 111, tb = b->turned ? 112 : 111;
    int64_t m = out->rows, n = out->columns, k = a->columns;
    if (n == 1) {
        int64_t stored_rows = a->turned ? k : m, stored_columns = a->turned ? m : k;
        int64_t every = b->turned ? 1 : b->step, every_out = out->turned ? 1 : out->step;
        if (dtype == FLOAT32)
            blas.sgemv(101, ta, stored_rows, stored_columns, 1, (float *)a->data, a->step,
                       (float *)b->data, every, add, (float *)out->data, every_out);
        else
            blas.dgemv(101, ta, stored_rows, stored_columns, 1, (double *)a->data, a->step,
                       (double *)b->data, every, add, (double *)out->data, every_out);
    } else if (dtype == FLOAT32)
        blas.sgemm(101, ta, tb, m, n, k, 1, (float *)a->data, a->step, (float *)b->data,
                   b->step, add, (float *)out->data, out->step);
    else
        blas.dgemm(101, ta, tb, m, n, k, 1, (double *)a->data, a->step, (double *)b->data,
                   b->step, add, (double *)out->data, out->step);
}

/* Before OpenBLAS multiplies, it copies both factors into another order; on some
   processors not for products of up to SMALL multiply-adds. If `out` has FEW rows or less,
   copying b takes longer than the product, so such pieces are faster. A transposed b also
   needs NARROW pieces (measured). */
enum { SMALL = 1000000, FEW = 32, NARROW = 32, LEAST_PIECE = 8 };

static void multiply_by_pieces(const matrix *a, const matrix *b, const matrix *out,
                               int dtype) {
    int64_t k = b->rows, n = b->columns, length = b->turned ? n : k;
    int64_t piece = SMALL / (out->rows * (b->turned ? k : n));
    piece = b->turned && piece > NARROW ? NARROW : piece - piece % LEAST_PIECE;
    if (!piece)
        piece = length;
    for (int64_t from = 0; from < length; from += piece) {
        int64_t count = length - from < piece ? length - from : piece;
        if (b->turned) { /* some columns of the result */
            matrix b_ = columns_of(b, from, count, dtype);
            matrix out_ = columns_of(out, from, count, dtype);
            multiply(a, &b_, &out_, 0, dtype);
        } else { /* some terms of each sum */
            matrix a_ = columns_of(a, from, count, dtype);
            matrix b_ = rows_of(b, from, count, dtype);
            multiply(&a_, &b_, out, from > 0, dtype);
        }
    }
}

/* Compute a part of the rows of out, or of its columns. */
static void strips(const void *call, long begin, long end) {
    const product_call *c = call;
    int64_t length = c->wide ? c->out.columns : c->out.rows;
    int64_t from = (int64_t)begin * STRIP, to = (int64_t)end * STRIP;
    int64_t count = (to < length ? to : length) - from;
    matrix a = c->a, b = c->b, out;
    if (c->wide) {
        b = columns_of(&b, from, count, c->dtype);
        out = columns_of(&c->out, from, count, c->dtype);
    } else {
        a = rows_of(&a, from, count, c->dtype);
        out = rows_of(&c->out, from, count, c->dtype);
    }
    if (!blas.copies_all && out.rows <= FEW && out.columns > 1 && !a.turned)
        multiply_by_pieces(&a, &b, &out, c->dtype);
    else
        multiply(&a, &b, &out, 0, c->dtype);
}

/* Read a matrix whose rows or columns are contiguous; return whether it is one. */
static int read_matrix(const array *x, int size, matrix *m) {
    if (x->rank != 2 || !(x->flags & ALIGNED) || x->shape[0] < 1 || x->shape[1] < 1)
        return 0;
    intptr_t rows = x->shape[0], columns = x->shape[1];
    intptr_t by_row = x->strides[0] / size, by_column = x->strides[1] / size;
    if (x->strides[0] % size || x->strides[1] % size)
        return 0;
    *m = (matrix){x->data, rows, columns, 0, 0};
    if ((by_column == 1 || columns == 1) && (by_row >= columns || rows == 1)) {
        m->step = rows > 1 ? by_row : columns;
        return 1;
    }
    if ((by_row == 1 || rows == 1) && (by_column >= rows || columns == 1)) {
        m->step = columns > 1 ? by_column : rows;
        m->turned = 1;
        return 1;
    }
    return 0;
}

static int overlap(const matrix *x, const matrix *y, int dtype) {
    const char *x_last = entry(x, x->rows - 1, x->columns - 1, dtype);
    const char *y_last = entry(y, y->rows - 1, y->columns - 1, dtype);
    return x->data <= y_last && y->data <= x_last;
}

static host shared;

/* Write a b to out; return 0, having done nothing, where np.matmul has to do it. */
int product(const void *a_object, const void *b_object, const void *out_object) {
    const array *a = array_in(&shared, a_object), *b = array_in(&shared, b_object);
    const array *out = array_in(&shared, out_object);
    product_call c;
    if (!a || !b || !out)
        return 0;
    c.dtype = dtype_of(out);
    if (c.dtype != FLOAT32 && c.dtype != FLOAT64)
        return 0;
    if (dtype_of(a) != c.dtype || dtype_of(b) != c.dtype || !(out->flags & WRITEABLE))
        return 0;
    if (!blas.sgemm)
        return 0;
    int size = width(c.dtype);
    if (!read_matrix(a, size, &c.a) || !read_matrix(b, size, &c.b) ||
        !read_matrix(out, size, &c.out) || c.out.turned)
        return 0;
    if (c.a.columns != c.b.rows || c.out.rows != c.a.rows || c.out.columns != c.b.columns ||
        overlap(&c.out, &c.a, c.dtype) || overlap(&c.out, &c.b, c.dtype))
        return 0;
    if (c.out.rows == 1) { /* a row times a matrix: the transposed, times a column */
        matrix row = c.a;
        c.a = transposed(c.b);
        c.b = transposed(row);
        c.out = transposed(c.out);
    }
    /* Each block copies one factor whole and its part of the other, so the longer side is
       cut. But the threads write to the same pages if they share the rows of `out`. */
    c.wide = c.out.columns > 3 * c.out.rows;
    int64_t length = c.wide ? c.out.columns : c.out.rows;
    int64_t each = STRIP * c.a.columns * (c.wide ? c.out.rows : c.out.columns);
    run(strips, &c, (length + STRIP - 1) / STRIP, 1 + WORK / each);
    return 1;
}

/* --- What Python calls once ------------------------------------------------------ */

void use_threads(int n) {
    atomic_store(&pool.threads, n < MOST ? n : MOST);
}

/* Return what kernels need: np.ndarray, and the pool. Products need a BLAS. */
const host *setup(void *type, void *const *products, int copies_all) {
    static int again;
    shared = (host){type, run};
    memcpy(&blas, products, 4 * sizeof *products);
    blas.copies_all = copies_all;
    if (!again && !pthread_atfork(NULL, NULL, forked) && !atexit(leave))
        again = 1;
    return &shared;
}
