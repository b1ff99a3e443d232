/* The rows of a table that one client reads: its update of each, and its own copy. */

#pragma once

#include "vectors.h"

typedef struct {
    int64_t width, count;
    const float *common;
    float *sum;            /* where updates go at once, or NULL */
    const float **now;     /* (rows of the table,) where the client's weights are */
    int32_t *slots;        /* (rows of the table,) or -1 */
    int32_t *touched;      /* (count,) rows of the table */
    float *updates, *own;  /* (count, width) */
} Table;

/* Adds factor · from to `to`. */
ALWAYS void add_scaled(int64_t count, float factor, const float *restrict from, float *restrict to) {
    for (int64_t i = 0; i < count; i++) to[i] += factor * from[i];
}

static double squared_norm(const float *values, int64_t count) {
    vec sums = {0};
    double square = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) sums += *(vec *)(values + i) * *(vec *)(values + i);
    for (; i < count; i++) square += values[i] * values[i];
    for (int lane = 0; lane < LANES; lane++) square += sums[lane];
    return square;
}

/* 1 if there is no memory. */
static int make_table(Table *table, int64_t rows, int64_t width, const float *common, float *sum) {
    size_t floats = rows * width + 1;
    *table = (Table){.width = width, .common = common, .sum = sum};
    table->now = malloc((rows + 1) * sizeof(float *));
    table->slots = malloc((rows + 1) * sizeof(int32_t));
    table->touched = malloc((rows + 1) * sizeof(int32_t));
    /* The system gives memory for as many rows of these as are touched. */
    table->updates = malloc(floats * sizeof(float));
    table->own = malloc(floats * sizeof(float));
    if (!table->now || !table->slots || !table->touched || !table->updates || !table->own) return 1;
    for (int64_t row = 0; row < rows; row++) table->now[row] = common + row * width;
    memset(table->slots, -1, rows * sizeof(int32_t));
    return 0;
}

static void free_table(Table *table) {
    free(table->now);
    free(table->slots);
    free(table->touched);
    free(table->updates);
    free(table->own);
}

/* Where the client's update of a row is; zeros when it is asked for the first time. */
static float *update_of(Table *table, int32_t row) {
    if (table->sum) return table->sum + row * table->width;
    if (table->slots[row] < 0) {
        table->slots[row] = (int32_t)table->count;
        table->touched[table->count] = row;
        memset(table->updates + table->count * table->width, 0, table->width * sizeof(float));
        table->count++;
    }
    return table->updates + table->slots[row] * table->width;
}

/* Gives the client its own copy of every row that it has an update of. */
static void move_table(Table *table, float rate) {
    for (int64_t slot = 0; slot < table->count; slot++) {
        int32_t row = table->touched[slot];
        const float *common = table->common + row * table->width;
        const float *update = table->updates + slot * table->width;
        float *own = table->own + slot * table->width;
        for (int64_t i = 0; i < table->width; i++) own[i] = common[i] - rate * update[i];
        table->now[row] = own;
    }
}

static void add_table(const Table *table, float factor, float *total) {
    for (int64_t slot = 0; slot < table->count; slot++)
        add_scaled(table->width, factor, table->updates + slot * table->width,
                   total + table->touched[slot] * table->width);
}

static void forget_table(Table *table) {
    for (int64_t slot = 0; slot < table->count; slot++) {
        int32_t row = table->touched[slot];
        table->now[row] = table->common + row * table->width;
        table->slots[row] = -1;
    }
    table->count = 0;
}
