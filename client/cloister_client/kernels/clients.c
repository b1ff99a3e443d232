/* Clients of one federated round: each one's plain descent from common weights, and their sum.
 *
 * A client's update is the sum of its steps' gradients. It is formed, measured, clipped and added
 * while it is in the cache, with copies of those rows of the tables only that the client reads. In
 * their first step clients still have the same weights and are run side by side.
 */

#include "client_steps.h"

/* Where updates are summed: like the weights, of which `turned` is the recurrent matrix. */
typedef struct {
    float *tables[TABLES], *turned;
} Sums;

/* Whether updates are gradients and nothing is done to them but to add them up. */
static int is_linear(const Round *round) { return round->steps == 1 && round->clip == 0; }

/* A client. ------------------------------------------------------------------------------------- */

/* Adds what an answer of this slope says of its item's bias and of all weights of practice. */
static void add_wide(const Round *round, int64_t answer, float slope, Work *work) {
    int64_t features = round->widths[PRACTICE];
    if (round->rows[ITEM_BIAS])
        *update_of(&work->tables[ITEM_BIAS], round->items[answer]) += slope;
    if (features)
        add_scaled(features, slope, round->practice + answer * features,
                   update_of(&work->tables[PRACTICE], 0));
    int64_t own = skill_features(round), skills = round->skills;
    for (int64_t f = 0; f < own; f++)
        for (int64_t s = 0; s < skills; s++) {
            float feature = round->skill_practice[(answer * own + f) * skills + s];
            int64_t row = round->asked[answer * skills + s] + f * round->rows[OUTPUT];
            if (feature != 0)
                *update_of(&work->tables[SKILL_PRACTICE], (int32_t)row) += slope * feature;
        }
}

/* Adds the gradient that windows [first, last) left on the tape to the client's update, of which
 * the recurrent matrix's part is `update` (U, 4U). */
static void add_gradient(const Round *round, int64_t first, int64_t last, Work *work,
                         float *update) {
    int64_t units = round->units, width = 4 * units;
    for (int64_t window = first; window < last; window++) {
        int64_t place = round->places[window] - work->base, length = round->lengths[window];
        const float *deltas = work->gates + place * width, *states = work->states + place * units;
        /* The first step's state is zero, and the last step's delta. */
        if (length > 2)
            add_lines(units, length - 2, width, states + units, 1, units, deltas + width, update);
        for (int64_t step = 0; step < length; step++) {
            int64_t answer = round->starts[window] + step, at = answer * round->skills;
            add_wide(round, answer, work->slopes[place + step], work);
            for (int64_t s = at; s < at + round->skills; s++) {
                float share = round->shares[s], slope = work->slopes[place + step] * share;
                if (share == 0) continue;
                float *output = update_of(&work->tables[OUTPUT], round->asked[s]);
                add_scaled(units, slope, states + step * units, output);
                output[units] += slope;
                if (step < length - 1)
                    add_scaled(width, share, deltas + step * width,
                               update_of(&work->tables[INPUT], round->read[s]));
            }
        }
    }
}

/* Gives the client weights of its own: the common ones less rate times its update. */
static void move(const Round *round, Work *work) {
    int64_t units = round->units, width = 4 * units;
    for (int64_t k = 0; k < units * width; k++)
        work->own_turned[k] = round->turned[k] - round->rate * work->update[k];
    for (int64_t k = 0; k < units; k += LANES)
        for (int64_t j = 0; j < width; j++)
            for (int64_t lane = 0; lane < LANES; lane++)
                work->own_matrix[j * units + k + lane] = work->own_turned[(k + lane) * width + j];
    for (int table = 0; table < TABLES; table++) move_table(&work->tables[table], round->rate);
    work->turned = work->own_turned;
    work->matrix = work->own_matrix;
}

/* min(1, clip / norm) of the client's update; zero if the norm is not finite. */
static float clip_factor(const Round *round, const Work *work) {
    if (round->clip == 0) return 1;
    double square = squared_norm(work->update, 4 * round->units * round->units);
    for (const Table *table = work->tables; table < work->tables + TABLES; table++)
        square += squared_norm(table->updates, table->count * table->width);
    if (!isfinite((float)square)) return 0;
    float factor = round->clip / (sqrtf((float)square) + round->tiny);
    return factor < 1 ? factor : 1;
}

/* Trains a client whose first step has been run, and adds its update to the sums. */
static void finish_client(const Round *round, int64_t client, Work *work, const Sums *sums) {
    int64_t first = round->clients[client], last = round->clients[client + 1];
    int64_t size = 4 * round->units * round->units;
    if (is_linear(round)) {
        add_gradient(round, first, last, work, sums->turned);
        return;
    }
    memset(work->update, 0, size * sizeof(float));
    add_gradient(round, first, last, work, work->update);
    for (int64_t step = 1; step < round->steps; step++) {
        move(round, work);
        run_windows(round, first, last, work);
        add_gradient(round, first, last, work, work->update);
    }
    float factor = round->factors[client] * clip_factor(round, work);
    if (factor != 0) {
        add_scaled(size, factor, work->update, sums->turned);
        for (int table = 0; table < TABLES; table++)
            add_table(&work->tables[table], factor, sums->tables[table]);
    }
    for (int table = 0; table < TABLES; table++) forget_table(&work->tables[table]);
    work->turned = round->turned;
    work->matrix = round->matrix;
}

/* Memory, and the kernel. ------------------------------------------------------------------------ */

static void free_tape(Work *work) {
    free(work->gates);
    free(work->cells);
    free(work->tanhs);
    free(work->states);
    free(work->slopes);
}

/* Makes a tape of at least `places`. */
static int make_tape(const Round *round, int64_t places, Work *work) {
    if (places <= work->room) return 0;
    free_tape(work);
    /* The state after the last place of all is written where the next one would be. */
    size_t floats = (places + 1) * round->units;
    work->room = places;
    work->gates = malloc(4 * floats * sizeof(float));
    work->cells = malloc(floats * sizeof(float));
    work->tanhs = malloc(floats * sizeof(float));
    work->states = malloc(floats * sizeof(float));
    work->slopes = malloc((places + 1) * sizeof(float));
    return !work->gates || !work->cells || !work->tanhs || !work->states || !work->slopes;
}

static int make_work(const Round *round, const Sums *sums, Work *work) {
    int64_t units = round->units, width = 4 * units;
    *work = (Work){.turned = round->turned, .matrix = round->matrix};
    work->update = malloc(units * width * sizeof(float));
    work->own_turned = malloc(units * width * sizeof(float));
    work->own_matrix = malloc(units * width * sizeof(float));
    /* Whole tiles of rows are computed, also where fewer are there. */
    work->gate = calloc(BLOCK * width, sizeof(float));
    work->state = calloc(BLOCK * units, sizeof(float));
    work->carried = calloc(BLOCK * units, sizeof(float));
    int failed = 0;
    for (int table = 0; table < TABLES; table++)
        failed |= make_table(&work->tables[table], round->rows[table], round->widths[table],
                             round->tables[table], is_linear(round) ? sums->tables[table] : NULL);
    return failed || !work->update || !work->own_turned || !work->own_matrix || !work->gate ||
           !work->state || !work->carried;
}

static void free_work(Work *work) {
    free(work->update);
    free(work->own_turned);
    free(work->own_matrix);
    free(work->gate);
    free(work->state);
    free(work->carried);
    for (int table = 0; table < TABLES; table++) free_table(&work->tables[table]);
    free_tape(work);
}

/* How many clients from `first` on are run side by side in their first step: at least one. */
static int64_t together(const Round *round, int64_t first, int64_t last) {
    int64_t next = first + 1;
    while (next < last && round->clients[next + 1] - round->clients[first] <= BLOCK) next++;
    return next - first;
}

/* Trains clients [first, last) and adds their updates to the sums. 1 if there is no memory. */
int64_t cloister_train_clients(const Round *round, int64_t first, int64_t last, const Sums *sums) {
    Work work;
    int failed = make_work(round, sums, &work);
    FLUSH_SUBNORMALS;
    while (!failed && first < last) {
        int64_t next = first + together(round, first, last);
        int64_t begin = round->clients[first], end = round->clients[next];
        work.base = round->places[begin];
        failed = make_tape(round, round->places[end] - work.base, &work);
        if (failed) break;
        run_windows(round, begin, end, &work);
        for (; first < next; first++) finish_client(round, first, &work, sums);
    }
    RESTORE;
    free_work(&work);
    return failed;
}
