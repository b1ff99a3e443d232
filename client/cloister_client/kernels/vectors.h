/* What the kernels compute with: vectors as wide as the machine's, tiles of products, the sigmoid. */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE__)
#include <xmmintrin.h>
/* Gradients that fade over many steps become subnormal, which costs a hundred times as much. */
#define FLUSH_SUBNORMALS unsigned kept_control = _mm_getcsr(); _mm_setcsr(kept_control | 0x8040)
#define RESTORE _mm_setcsr(kept_control)
#else
#define FLUSH_SUBNORMALS (void)0
#define RESTORE (void)0
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define ROWS 8
#else
#define LANES 8
#define ROWS 4
#endif
#define PANEL (2 * LANES)

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define ALWAYS static inline __attribute__((always_inline))

static inline int64_t round_up(int64_t count, int64_t whole) { return (count + whole - 1) / whole * whole; }

/* Adds Σ_k a[row·by_row + k·by_step] · b[k·b_row + ...] to `rows` rows of `out`. Both numbers are
 * constants where it is called, so that the sums stay in registers. */
ALWAYS void add_tile(int rows, int vectors, int64_t depth, const float *a, int64_t by_row,
                     int64_t by_step, const float *b, int64_t b_row, float *out, int64_t out_row) {
    vec sum[ROWS][8];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) sum[row][v] = *(const vec *)(out + row * out_row + v * LANES);
    for (int64_t k = 0; k < depth; k++) {
        vec line[8];
        for (int v = 0; v < vectors; v++) line[v] = *(const vec *)(b + k * b_row + v * LANES);
        for (int row = 0; row < rows; row++) {
            float scalar = a[row * by_row + k * by_step];
            for (int v = 0; v < vectors; v++) sum[row][v] += scalar * line[v];
        }
    }
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < vectors; v++) *(vec *)(out + row * out_row + v * LANES) = sum[row][v];
}

/* x within [low, high]; NaN stays. */
ALWAYS vec clamp(vec x, vec low, vec high) {
#if defined(__AVX512F__)
    return (vec)_mm512_max_ps((__m512)low, _mm512_min_ps((__m512)high, (__m512)x));
#else
    ivec below = x < low, above = x > high;
    return (vec)(((ivec)x & ~(below | above)) | ((ivec)low & below) | ((ivec)high & above));
#endif
}

/* 1 / (1 + exp(-x)); the exponential by Cody and Waite's reduction and a polynomial of degree 6. */
ALWAYS vec sigmoid(vec x) {
    const vec zero = {0};
    vec y = clamp(-x, zero - 87, zero + 87);
    vec shifted = y * 1.44269504f + 12582912.0f;
    vec n = shifted - 12582912.0f;
    vec r = y - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = zero + 1.3888889e-3f;
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec power = (((ivec)shifted - 0x4b400000) + 127) << 23;
    return 1.0f / (1.0f + p * (vec)power);
}
