/* Sums over runs of readings of a table's rows: see models/table_gradient.py.
 *
 * A run is what one learner reads of one row. It is summed up by itself before it is measured or
 * added to anything, in the order of its readings. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t width;           /* of the vectors */
    int64_t bias;            /* whether the table has one more column, for the weights alone */
    const float *vectors;    /* (P, width) */
    const int64_t *positions;/* (readings,) of vectors, run by run */
    const float *weights;    /* (readings,) */
    const int64_t *starts;   /* (runs + 1,) */
} Runs;

static void sum_run(const Runs *runs, int64_t run, float *restrict sum) {
    int64_t width = runs->width;
    float bias = 0;
    memset(sum, 0, (width + 1) * sizeof(float));
    for (int64_t reading = runs->starts[run]; reading < runs->starts[run + 1]; reading++) {
        const float *restrict vector = runs->vectors + runs->positions[reading] * width;
        float weight = runs->weights[reading];
        for (int64_t i = 0; i < width; i++) sum[i] += weight * vector[i];
        bias += weight;
    }
    sum[width] = bias;
}

/* Writes the squared norms of runs [first, last) to `squares` (runs,). 1 if there is no memory. */
int64_t cloister_run_norms(const Runs *runs, int64_t first, int64_t last, float *squares) {
    int64_t columns = runs->width + (runs->bias != 0);
    float *sum = malloc((runs->width + 1) * sizeof(float));
    if (!sum) return 1;
    for (int64_t run = first; run < last; run++) {
        float lanes[16] = {0}, square = 0;
        int64_t i = 0;
        sum_run(runs, run, sum);
        for (; i + 16 <= columns; i += 16)
            for (int lane = 0; lane < 16; lane++) lanes[lane] += sum[i + lane] * sum[i + lane];
        for (; i < columns; i++) square += sum[i] * sum[i];
        for (int lane = 0; lane < 16; lane++) square += lanes[lane];
        squares[run] = square;
    }
    free(sum);
    return 0;
}

/* Adds runs [first, last), each times its factor, to the rows `indices` (runs,) of `total`. A run
 * whose factor is zero is left out. Callers see to it that no two threads add to one row. */
int64_t cloister_add_runs(const Runs *runs, int64_t first, int64_t last, const int64_t *indices,
                          const float *factors, float *total) {
    int64_t columns = runs->width + (runs->bias != 0);
    float *sum = malloc((runs->width + 1) * sizeof(float));
    if (!sum) return 1;
    for (int64_t run = first; run < last; run++) {
        float factor = factors[run];
        if (factor == 0) continue;
        sum_run(runs, run, sum);
        float *restrict row = total + indices[run] * columns;
        for (int64_t i = 0; i < columns; i++) row[i] += factor * sum[i];
    }
    free(sum);
    return 0;
}
