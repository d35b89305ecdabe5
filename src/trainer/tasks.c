/* All heads on one X. */
#include "trainer/tasks.h"

hr_status hr_tasks_step(const hr_task *tasks, int count, int64_t rows, int64_t dim, const float *x, double factor, uint64_t step,
                        float *dx, float *other, double *loss)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        const hr_task *t = &tasks[i];
        const hr_head_batch batch = {.rows = rows, .x = x, .weight = t->weight, .num_positives = t->num_positives,
                                     .positives = t->positives};
        double own = 0;
        HR_TRY(hr_head_step(t->head, &batch, (float)(t->lr * factor), step, i == 0 ? dx : other, loss ? &own : NULL));
        for (int64_t j = 0; i > 0 && j < rows * dim; j++)
            dx[j] += other[j];
        sum += own;
    }
    if (loss)
        *loss = sum;
    return HR_OK;
}
